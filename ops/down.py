"""`openbell down`: everything of this brokerage ends, and nothing else."""

import typer

from ops import config, directory, leftover, supervise
from ops.failure import Failure
from ops.options import DEFAULT_DATA, Data
from ops.programs import leftovers
from runtime.settings import load


def down(data: Data = DEFAULT_DATA) -> None:
    """Stop the brokerage; its data stays."""
    settings = load(data.resolve())
    with directory.locked(settings.data):
        if not supervise.is_running(settings.data) and not leftovers(settings):
            typer.echo(f"The brokerage in {data} does not run.")
            return
        supervise.stop(settings.data, settings.section("ops", config.Ops).stop_seconds)
        leftover.end(leftovers(settings), supervise.KILL_SECONDS)
        left = leftovers(settings)
    if left:
        raise Failure(f"these processes do not end: {left}")
    typer.echo(f"The brokerage in {data} is stopped.")
