"""What is measured of the venue, and in which order: each case at the bare pair, then at the venue, round by round."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from ops.bench import venue_measure
from ops.bench.venue_bed import Bed, Server
from ops.bench.venue_measure import Measured
from ops.bench.venue_traffic import Load

PLAIN = "window_64"
CASES = {
    PLAIN: Load(sessions=1, window=64),
    "window_1": Load(sessions=1, window=1),
    "sessions_4": Load(sessions=4, window=64),
    "market": Load(sessions=1, window=64, market=True),
}


@dataclass(slots=True)
class Found:
    """What the rounds gave: of each case one measurement a round at either end."""

    matching: list[dict[str, Any]] = field(default_factory=list)
    pair: dict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))
    venue: dict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True)
class Rounds:
    """`seconds` of each measurement, `orders` of the matching core's; `out` hears of each before and after it."""

    bed: Bed
    seconds: float
    count: int
    orders: int
    out: Console

    def measure(self) -> Found:
        found = Found()
        for number in range(1, self.count + 1):
            where = f"round {number} of {self.count}: "
            self._tell(f"{where}matching core alone")
            found.matching.append(venue_measure.matching(self.orders))
            self.out.print(f"{found.matching[-1]['matching_per_s']:,.0f}/s")
            for case, load in CASES.items():
                pair = self.bed.pair_twice if load.market else self.bed.pair
                found.pair[case].append(self._run(f"{where}{case}, pair", pair, load))
                found.venue[case].append(self._run(f"{where}{case}, venue", self.bed.venue, load))
        return found

    def _run(self, label: str, server: Server, load: Load) -> Measured:
        self._tell(label)
        measured = venue_measure.run(server, load, self.seconds)
        self.out.print(told(measured))
        return measured

    def _tell(self, label: str) -> None:
        self.out.print(f"{label} ... ", end="")


def told(found: Measured) -> str:
    outcome = found.outcome
    cpu = ", ".join(f"{name} {spent:.0f}" for name, spent in found.cpu_us.items())
    times = f"p50 {outcome.p50_us:,.0f} us, p99 {outcome.p99_us:,.0f} us, max {outcome.max_us:,.0f} us"
    return f"{outcome.per_s:,.0f}/s, {times}, CPU us: {cpu}; others used {found.others:.0%} of the machine"
