"""`openbell status`: what runs, since when, where, and whether it works."""

import asyncio
from dataclasses import asdict

import typer
from rich.table import Table

from ops import health
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import command, console, table
from runtime.settings import load

COLUMNS = ("process", "state", "pid", "uptime", "port", "health")


def status(data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Show the processes of the brokerage."""
    settings = load(data.resolve())
    rows = asyncio.run(health.rows(settings))
    if as_json:
        found = {"data": str(settings.data), "port_base": settings.port_base, "running": bool(rows)}
        print_json(found | {"processes": [asdict(row) for row in rows]})
    elif rows:
        console().print(_table(rows))
    else:
        typer.echo(f"The brokerage in {data} does not run; start it with: {command('up', data)}")


def _table(rows: list[health.Row]) -> Table:
    shown = table(*COLUMNS)
    for row in rows:
        uptime = f"{row.uptime_seconds // 60} min {row.uptime_seconds % 60} s"
        shown.add_row(row.name, row.state.lower(), str(row.pid or ""), uptime, str(row.port or ""), row.health)
    return shown
