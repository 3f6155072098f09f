"""One measurement: a run of the load generator, and what it cost each process."""

import json
import os
import subprocess
from dataclasses import dataclass

from ops.bench import cpu
from ops.bench.bed import Bed
from ops.bench.traffic import Job, Outcome
from ops.failure import Failure
from ops.supervise import PYTHON

SERVERS = ("ledger", "postgres")
SPARE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Measured:
    """An outcome, CPU microseconds per transaction of `ledger`, `postgres` and `client`, and the share of the machine's
    processors that others used meanwhile."""

    outcome: Outcome
    cpu_us: dict[str, float]
    others: float


def run(bed: Bed, job: Job) -> Measured:
    """Failure unless the ledger recorded just what it acknowledged."""
    recorded = bed.transactions()
    used, (busy, available) = _used(bed), cpu.machine_seconds()
    outcome = _generate(job)
    spent = {name: seconds - used[name] for name, seconds in _used(bed).items()}
    busy, available = (after - before for after, before in zip(cpu.machine_seconds(), (busy, available), strict=True))
    bed.check()
    recorded = bed.transactions() - recorded
    if recorded != outcome.transactions:
        raise Failure(f"the ledger acknowledged {outcome.transactions} transactions and recorded {recorded}")
    others = max(0.0, busy - sum(spent.values())) / available
    spent = {name: spent[name] for name in SERVERS} | {"client": outcome.cpu_seconds}
    return Measured(outcome, {name: 1e6 * seconds / outcome.transactions for name, seconds in spent.items()}, others)


def _used(bed: Bed) -> dict[str, float]:
    return {name: cpu.seconds(bed.pids[name]) for name in SERVERS} | {"self": cpu.seconds(os.getpid())}


def _generate(job: Job) -> Outcome:
    command = [PYTHON, "-m", "ops.bench.load"]
    seconds_max = job.seconds + SPARE_SECONDS
    try:
        done = subprocess.run(
            command, input=job.to_json(), capture_output=True, text=True, timeout=seconds_max, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"the load generator has no answers after {seconds_max:.0f} s") from None
    if done.returncode != 0:
        raise Failure(f"the load generator failed: {(done.stderr.strip().splitlines() or ['silently'])[-1]}")
    return Outcome(**json.loads(done.stdout))
