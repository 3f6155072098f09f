"""One measurement: a run of the load generator against the venue or a bare pair, or of the matching core alone."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ops.bench import cpu
from ops.bench.venue_bed import Server
from ops.bench.venue_traffic import ClientJob, Load, Outcome
from ops.failure import Failure
from ops.supervise import PYTHON

SPARE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Measured:
    """An outcome, CPU microseconds an order of `server` and `client`, and the share of the machine's processors that
    others used meanwhile."""

    outcome: Outcome
    cpu_us: dict[str, float]
    others: float


def run(server: Server, load: Load, seconds: float) -> Measured:
    """Failure unless every order was answered as it should."""
    served, generated = cpu.seconds(server.process.pid), cpu.seconds(os.getpid())
    before = cpu.machine_seconds()
    job = ClientJob(server.port, str(server.client_store), load, seconds)
    outcome = _generate(server, job)
    busy, available = (now - then for now, then in zip(cpu.machine_seconds(), before, strict=True))
    server.check()
    served, generated = cpu.seconds(server.process.pid) - served, cpu.seconds(os.getpid()) - generated
    spent = {"server": served, "client": outcome.cpu_seconds}
    others = max(0.0, busy - served - generated) / available
    return Measured(outcome, {name: 1e6 * each / outcome.orders for name, each in spent.items()}, others)


def _generate(server: Server, job: ClientJob) -> Outcome:
    try:
        told = _json_of([PYTHON, "-m", "ops.bench.fix_client"], job.to_json(), job.seconds + SPARE_SECONDS)
    except Failure:
        server.check()  # if it has ended, its last words tell more
        raise
    return Outcome(**told)


def matching(orders: int) -> dict[str, Any]:
    """What the matching core says of itself: `matching_per_s`, `matching_p50_us`, `matching_p99_us`, and on what."""
    return _json_of([PYTHON, "-m", "exchange.speed", "--json", "--orders", str(orders)], "", SPARE_SECONDS)


def _json_of(command: Sequence[str], given: str, seconds_max: float) -> dict[str, Any]:
    name = command[2]
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds_max, check=False)
    except subprocess.TimeoutExpired:
        raise Failure(f"{name} has not ended after {seconds_max:.0f} s") from None
    if done.returncode != 0:
        raise Failure(f"{name} failed: {(done.stderr.strip().splitlines() or ['silently'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
