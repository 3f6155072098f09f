"""What is measured, and in which order."""

import time
from collections import defaultdict
from dataclasses import dataclass, field, replace

from rich.console import Console

from ops.bench import measure
from ops.bench.bed import Bed
from ops.bench.measure import Measured
from ops.bench.traffic import Job, Shape

# Of batches just so many calls are under way at once that the ledger finds the next commands when it has committed.
SHAPES = {
    "unary_64": Shape("Capture", at_once=64, commands=1),
    "stream": Shape("SubmitStream", at_once=256, commands=1),
    "per_call_10": Shape("SubmitBatch", at_once=32, commands=10),
    "per_call_100": Shape("SubmitBatch", at_once=16, commands=100),
    "per_call_1000": Shape("SubmitBatch", at_once=4, commands=1000),
}
LARGEST = SHAPES["per_call_1000"]
REFUSED_EVERY = 100
BYTES_TRANSACTIONS = 20_000
GROW_STEP = 100_000


@dataclass(slots=True)
class Phase:
    """What the rounds gave: TPC-B's rates, and the measurements of each case, plain and with refusals."""

    tpcb: list[float] = field(default_factory=list)
    plain: dict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True)
class Rounds:
    """`job` is what every run has in common; `out` hears of each run before and after it."""

    bed: Bed
    job: Job
    count: int
    out: Console

    def measure(self, name: str) -> Phase:
        """Every case beside TPC-B, in each round."""
        phase = Phase()
        self.bed.checkpoint()  # or what was written before the phase would be paid for in it
        for number in range(1, self.count + 1):
            where = f"{name}, round {number} of {self.count}: "
            self._tell(f"{where}TPC-B")
            phase.tpcb.append(self.bed.tpcb.measure(self.job.seconds))
            self.out.print(f"{phase.tpcb[-1]:,.0f}/s")
            for case, shape in SHAPES.items():
                phase.plain[case].append(self._run(f"{where}{case}", shape, 0))
                phase.refused[case].append(self._run(f"{where}{case}, 1 % refused", shape, REFUSED_EVERY))
        return phase

    def _run(self, label: str, shape: Shape, refused_every: int) -> Measured:
        self._tell(label)
        found = measure.run(self.bed, replace(self.job, shape=shape, refused_every=refused_every))
        self.out.print(told(found))
        return found

    def _tell(self, label: str) -> None:
        self.out.print(f"{label} ... ", end="")

    def bytes_per_transaction(self, *, four_legs: bool) -> int:
        """Heaps and indexes, of transactions in large batches."""
        self._tell(f"bytes of a transaction of {'four' if four_legs else 'two'} legs")
        before = self.bed.ledger_bytes()
        job = replace(self.job, shape=LARGEST, four_legs=four_legs, commands=BYTES_TRANSACTIONS)
        made = measure.run(self.bed, job).outcome.transactions
        found = round((self.bed.ledger_bytes() - before) / made)
        self.out.print(found)
        return found

    def grow(self, transactions: int) -> None:
        """Adds so many through the ledger's own RPCs, and says after each step how far it is."""
        done, started = 0, time.monotonic()
        while done < transactions:
            step = min(GROW_STEP, transactions - done)
            done += measure.run(self.bed, replace(self.job, shape=LARGEST, commands=step)).outcome.transactions
            seconds = time.monotonic() - started
            left = seconds / done * max(transactions - done, 0)
            self.out.print(f"filling: {done:,} of {transactions:,} transactions, {left:,.0f} s to go")


def told(found: Measured) -> str:
    outcome = found.outcome
    cpu = ", ".join(f"{name} {spent:.0f}" for name, spent in found.cpu_us.items())
    rate = f"{outcome.per_s:,.0f}/s, p50 {outcome.p50_ms:.1f} ms, p99 {outcome.p99_ms:.1f} ms"
    return f"{rate}, CPU us: {cpu}; others used {found.others:.0%} of the machine"
