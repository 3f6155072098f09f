"""The `openbell` command. Each group of commands has a module; here they get their names."""

import logging
import sys

import structlog
import typer

from ops import ledger_commands, order
from ops.audit import audit
from ops.bench import ledger as bench_ledger
from ops.bench.venue import bench_venue
from ops.demo import demo
from ops.down import down
from ops.failure import Failure
from ops.ledger_verify import verify_history
from ops.quotes import quotes
from ops.status import status
from ops.token import token
from ops.trace import trace
from ops.up import up
from ops.venue import venue
from runtime.errors import Refusal
from runtime.settings import SettingsError

app = typer.Typer(
    help="openbell: the back end of a stock brokerage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (up, down, status, demo, quotes, order.orders, trace, audit, token, venue):
    app.command()(command)
ledger_commands.app.command("verify")(verify_history)
bench_ledger.app.command("venue")(bench_venue)
app.add_typer(order.app, name="order")
app.add_typer(ledger_commands.app, name="ledger")
app.add_typer(bench_ledger.app, name="bench")


def main() -> None:
    """Runs a command. What the user can act on is one line on standard error and exit 1."""
    # The libraries' progress is for the services' logs; people get the commands' own lines.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        app()
    except (Failure, Refusal, SettingsError) as problem:
        typer.echo(f"openbell: {' '.join(str(problem).split())}", err=True)
        sys.exit(1)
