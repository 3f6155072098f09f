"""`openbell bench venue`: the venue through FIX beside a bare QuickFIX pair in the same run, and its core alone.

The pair is QuickFIX as it comes, with data dictionary and file store, and no application: each order is answered with
reports made beforehand. The same load generator drives both, in turns.
"""

import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ops.bench import venue_bed, venue_report
from ops.bench.ledger import Count, Seconds
from ops.bench.venue_rounds import CASES, Rounds
from ops.options import Json, print_json
from ops.show import LINE_CHARACTERS, console

Orders = Annotated[int, typer.Option("--orders", min=1, help="Orders for the matching core alone, in each round.")]


def bench_venue(seconds: Seconds = 3.0, rounds: Count = 3, orders: Orders = 200_000, as_json: Json = False) -> None:
    """Measure the venue beside a bare QuickFIX pair, in a temporary directory (TMPDIR: on the disk to be measured)."""
    arguments = {"seconds": seconds, "rounds": rounds, "orders": orders}
    progress = Console(stderr=True, highlight=False, width=LINE_CHARACTERS)
    progress.print("starting a venue and two bare pairs")
    with venue_bed.running() as bed:
        found = Rounds(bed, seconds, rounds, orders, progress).measure()
        machine = _machine(bed.directory)
    if as_json:
        loads = {name: asdict(load) for name, load in CASES.items()}
        print_json(venue_report.as_data(found, machine, arguments | {"loads": loads}))
        return
    console().print(venue_report.as_table(found), *venue_report.as_lines(found), sep="\n")


def _machine(directory: Path) -> dict[str, Any]:
    """What was measured on. A disk that keeps nothing, as tmpfs, would flatter the venue, which writes more."""
    command = ["stat", "--file-system", "--format=%T", str(directory)]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "quickfix": version("quickfix"),
        "filesystem": subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip(),
    }
