"""When a run of the load generator stops, and what came back until then."""

import itertools
import time
from collections.abc import Iterator, Sequence

from ops.bench.traffic import Job, Message, Outcome

WARM_SECONDS = 0.3  # until all callers are at work: not measured


class Meter:
    """The clock starts when it is made. Times are those of perf_counter."""

    def __init__(self, job: Job, cycle: Sequence[Message]) -> None:
        self._job, self._cycle = job, cycle
        self._numbers = itertools.count(time.time_ns())  # later runs get higher ones: keys sort by time
        self._cpu_seconds = time.process_time()
        self._seconds = 0.0 if job.commands else job.seconds
        self._from = time.perf_counter() + (WARM_SECONDS if self._seconds else 0.0)
        self._until = self._from + self._seconds
        self._last = self._from
        self._latencies: list[float] = []
        self._transactions = self._refused = self._measured = 0

    def requests(self) -> Iterator[tuple[bytes, int]]:
        """Serialised requests, each with how many of its commands are to be refused, until time or commands end."""
        calls = -(-self._job.commands // self._job.shape.commands)
        for sent, message in enumerate(itertools.cycle(self._cycle)):
            if sent >= calls if calls else time.perf_counter() >= self._until:
                return
            yield message.numbered(next(self._numbers)), message.refused

    def note(self, sent: float, expected: int, refused: int) -> None:
        """A call that was sent at `sent` came back. ValueError if the ledger refused more or fewer than it should."""
        if refused != expected:
            raise ValueError(f"the ledger refused {refused} commands of a call, not {expected}")
        now, done = time.perf_counter(), self._job.shape.commands - refused
        self._transactions += done
        self._refused += refused
        # Of calls that all take longer than the time there is, the first one is measured.
        if self._job.commands or (self._from <= now and (now < self._until or not self._latencies)):
            self._measured += done
            self._latencies.append(now - sent)
            self._last = now

    def outcome(self) -> Outcome:
        ordered = sorted(self._latencies)
        seconds = max(self._last - self._from, self._seconds)
        p50, p99 = (round(1000 * ordered[len(ordered) * share // 100], 3) for share in (50, 99))
        used = time.process_time() - self._cpu_seconds
        return Outcome(self._transactions, self._refused, round(self._measured / seconds, 1), p50, p99, used)
