"""`openbell bench ledger`: the ledger through its own RPCs, beside pgbench's TPC-B on the same server.

The ledger runs with everything it does for a brokerage. Every transaction touches one account, clearing/DATE.
"""

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ops.bench import bed, holders, report
from ops.bench.bed import Bed
from ops.bench.report import Found
from ops.bench.rounds import LARGEST, REFUSED_EVERY, SHAPES, Rounds
from ops.bench.tpcb import CLIENTS, SCALE
from ops.bench.traffic import Job
from ops.client import Client
from ops.options import Json, print_json
from ops.show import LINE_CHARACTERS, console
from runtime import auth, calendar

app = typer.Typer(help="The long measurements.", no_args_is_help=True, rich_markup_mode=None)

HOLDERS = 256
SETTLEMENT_DAYS = 5  # so far away that the ledger settles nothing meanwhile
SCOPES = ["operate", "hold", "read"]
SUBJECT = "operator:bench"
TOKEN_SECONDS = 86_400  # of the longest run

WORKLOAD = {
    "holders": HOLDERS,
    "refused_every": REFUSED_EVERY,
    "calls_at_once": {name: shape.at_once for name, shape in SHAPES.items()},
    "tpcb_scale": SCALE,
    "tpcb_clients": CLIENTS,
}

Seconds = Annotated[float, typer.Option("--seconds", min=0.1, help="Length of each measurement.")]
Count = Annotated[int, typer.Option("--rounds", min=1, help="Figures are medians over so many rounds.")]
Grow = Annotated[int, typer.Option("--grow", min=0, help="Transactions to add before all is measured again; 0: none.")]
PortBase = Annotated[int | None, typer.Option("--port-base", help="First of the ports to use; free ones without it.")]


@app.command("ledger")
def bench_ledger(
    seconds: Seconds = 4.0,
    rounds: Count = 3,
    grow: Grow = 5_000_000,
    port_base: PortBase = None,
    as_json: Json = False,
) -> None:
    """Measure the ledger beside TPC-B, in a temporary directory (TMPDIR: on the disk that is to be measured)."""
    arguments = {"seconds": seconds, "rounds": rounds, "grow": grow}
    progress = Console(stderr=True, highlight=False, width=LINE_CHARACTERS)
    progress.print("starting PostgreSQL and a ledger")
    with bed.running(port_base) as ground:
        found = _measure(Rounds(ground, _job(ground, seconds), rounds, progress), grow)
        machine = _machine(ground)
    if as_json:
        print_json(report.as_data(found, machine, arguments | WORKLOAD))
        return
    console().print(report.as_table(found), *report.as_lines(found), sep="\n")


def _measure(rounds: Rounds, grow: int) -> Found:
    rounds.bed.create_tpcb()
    two, four = (rounds.bytes_per_transaction(four_legs=four_legs) for four_legs in (False, True))
    fresh, grown = rounds.measure("fresh"), None
    if grow:
        rounds.grow(grow)
        grown = rounds.measure("grown")
    return Found(fresh, grown, two, four)


def _job(ground: Bed, seconds: float) -> Job:
    settings = ground.settings
    today = calendar.new_york(time.time_ns()).date()
    return Job(
        address=settings.address("ledger"),
        token=auth.mint(settings.secret("token_private.pem"), SUBJECT, SCOPES, TOKEN_SECONDS),
        shape=LARGEST,
        holders=holders.make(Client(settings, SUBJECT, SCOPES), HOLDERS),
        settle_date=calendar.settle_date(today, SETTLEMENT_DAYS).isoformat(),
        seconds=seconds,
    )


def _machine(ground: Bed) -> dict[str, Any]:
    """What was measured on. A disk that keeps nothing, as tmpfs, would make every figure worthless."""
    server = ground.server()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "postgresql": server.pop("server_version"),
        "filesystem": _filesystem(ground.settings.data),
        **server,
    }


def _filesystem(path: Path) -> str:
    command = ["stat", "--file-system", "--format=%T", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
