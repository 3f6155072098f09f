"""`openbell ledger`: its commands get their names here."""

import typer

from ops.ledger_acts import deposit, journal, open_account, reconcile, reverse, settle, withdraw
from ops.ledger_options import NEGATIVE
from ops.ledger_reads import balances, entries, holds, statement

app = typer.Typer(help="Accounts, balances and entries.", no_args_is_help=True, rich_markup_mode=None)

app.command("open")(open_account)
for moves in (deposit, withdraw):
    app.command(context_settings=NEGATIVE)(moves)
for command in (balances, holds, entries, statement, journal, reverse, settle, reconcile):
    app.command()(command)
