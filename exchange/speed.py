"""python -m exchange.speed: how many orders a second the matching core alone takes, and how long each.

One book, one core. It opens with `--resting` orders, and `--orders` more follow: 40 % new limit orders that rest, 35 %
cancels, 10 % reductions, 15 % orders that execute at once (their limit 3 ticks through the best price, what is left of
them dropped). New orders stand up to 100 ticks away from the other side's best price, more of them near it than far. To
keep the book at its size a new order becomes a cancel, or a cancel or reduction a new order, once the book is 1 % off.
The orders are made from `--seed` before any clock runs. A new order is offered to the other side before it rests, as a
venue does it.

Orders a second are the median of `--rounds` runs, each on a fresh book. The time of each order is taken in a run of its
own, and has the cost of reading the clock in it, which is printed. The garbage collector runs as the interpreter sets
it; only the list of orders, which a venue does not have, is hidden from it.
"""

import argparse
import gc
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from exchange.book import Book
from exchange.orders import Side


class Act(StrEnum):
    """What an order of the flow does."""

    NEW = "new"
    CANCEL = "cancel"
    REDUCE = "reduce"
    EXECUTE = "execute"


PERCENT: Final = {Act.NEW: 40, Act.CANCEL: 35, Act.REDUCE: 10, Act.EXECUTE: 15}
TICK: Final = 100
FIRST_PRICE: Final = 1_000_000
LEVELS_A_SIDE: Final = 100
THROUGH_TICKS: Final = 3
OWNERS: Final = tuple(f"account-{number}" for number in range(1000))
CLOCK_READINGS: Final = 100_000


class Step(NamedTuple):
    """One order of the flow. `shares` of a reduction go away; a cancel needs `ref` only."""

    act: Act
    ref: int
    side: Side
    price: int
    shares: int
    owner: str


@dataclass(frozen=True, slots=True)
class Flow:
    """`opening` makes the book, `steps` are measured."""

    opening: list[Step]
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class Result:
    """Orders a second, microseconds an order, and of what.

    `rounds` are the orders a second of each; `resting` and `levels` what the book had after them; `mix` is counted, in
    percent; `fills` are those of one round.
    """

    matching_per_s: int
    matching_p50_us: float
    matching_p99_us: float
    matching_max_us: float
    clock_us: float
    rounds: list[int]
    orders: int
    resting: int
    levels: int
    mix: dict[str, float]
    fills: int
    seed: int
    gc: str


class _Maker:
    """Makes a flow by playing it on a book of its own."""

    def __init__(self, resting: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._target = resting
        self._book = Book()
        self._refs: list[int] = []
        self._left: dict[int, int] = {}
        self._next_ref = 0

    def flow(self, orders: int) -> Flow:
        opening = [self._new() for _ in range(self._target)]
        acts = self._random.choices(list(PERCENT), list(PERCENT.values()), k=orders)
        return Flow(opening, [self._step(act) for act in acts])

    def _step(self, act: Act) -> Step:
        drift = len(self._book) - self._target
        if act is Act.EXECUTE and self._left:
            return self._execute()
        if act is Act.NEW and 100 * drift > self._target:
            act = Act.CANCEL
        if act is Act.NEW or 100 * drift < -self._target or not self._left:
            return self._new()
        return self._change(act)

    def _new(self) -> Step:
        side = self._random.choice((Side.BUY, Side.SELL))
        other = self._book.best(Side.SELL if side is Side.BUY else Side.BUY)
        ticks = 1 + min(self._random.randrange(LEVELS_A_SIDE) for _ in range(2))
        price = (other or FIRST_PRICE) + (-ticks if side is Side.BUY else ticks) * TICK
        self._next_ref += 1
        step = Step(Act.NEW, self._next_ref, side, price, self._lots(10), self._random.choice(OWNERS))
        play(self._book, step)
        self._refs.append(step.ref)
        self._left[step.ref] = step.shares
        return step

    def _execute(self) -> Step:
        side = self._random.choice((Side.BUY, Side.SELL))
        other = self._book.best(Side.SELL if side is Side.BUY else Side.BUY) or FIRST_PRICE
        limit = other + (THROUGH_TICKS if side is Side.BUY else -THROUGH_TICKS) * TICK
        shares = self._lots(10) if self._random.random() < 0.2 else self._lots(2)
        step = Step(Act.EXECUTE, 0, side, limit, shares, self._random.choice(OWNERS))
        for fill in self._book.take(side, limit, shares, step.owner):
            self._left[fill.ref] = fill.left
            if not fill.left:
                del self._left[fill.ref]
        return step

    def _change(self, act: Act) -> Step:
        ref = self._pick()
        left = self._left[ref]
        if act is Act.REDUCE and left > 1:
            step = Step(act, ref, Side.BUY, 0, self._random.randrange(1, left), "")
            self._left[ref] -= step.shares
        else:
            step = Step(Act.CANCEL, ref, Side.BUY, 0, 0, "")
            del self._left[ref]
        play(self._book, step)
        return step

    def _pick(self) -> int:
        """Any resting order. Those that are done leave the list when they are met."""
        while True:
            index = self._random.randrange(len(self._refs))
            ref = self._refs[index]
            if ref in self._left:
                return ref
            self._refs[index] = self._refs[-1]
            self._refs.pop()

    def _lots(self, most: int) -> int:
        return 100 * self._random.randint(1, most)


def make_flow(orders: int, resting: int, seed: int) -> Flow:
    """The same for the same arguments."""
    return _Maker(resting, seed).flow(orders)


def play(book: Book, step: Step) -> int:
    """What a venue asks of its book for one order; the fills it led to."""
    act, ref, side, price, shares, owner = step
    if act is Act.NEW:
        fills = book.take(side, price, shares, owner)
        left = shares - sum(fill.shares for fill in fills) if fills else shares
        if left:
            book.rest(ref, side, price, left, owner)
        return len(fills)
    if act is Act.CANCEL:
        book.remove(ref)
    elif act is Act.REDUCE:
        book.reduce(ref, shares)
    else:
        return len(book.take(side, price, shares, owner))
    return 0


def _opened(flow: Flow) -> Book:
    book = Book()
    for step in flow.opening:
        play(book, step)
    return book


def per_second(flow: Flow) -> int:
    """Orders a second, the whole flow timed at once."""
    book = _opened(flow)
    start = time.perf_counter_ns()
    for step in flow.steps:
        play(book, step)
    return len(flow.steps) * 10**9 // (time.perf_counter_ns() - start)


def each_ns(flow: Flow) -> list[int]:
    """The time of each order, clock included, ascending."""
    book = _opened(flow)
    times = []
    for step in flow.steps:
        start = time.perf_counter_ns()
        play(book, step)
        times.append(time.perf_counter_ns() - start)
    return sorted(times)


def _clock_ns() -> float:
    """What a pair of clock readings around nothing shows."""
    times = []
    for _ in range(CLOCK_READINGS):
        start = time.perf_counter_ns()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times)


def measure(orders: int, resting: int, rounds: int, seed: int) -> Result:
    """All of it; about five seconds with the defaults. What exists by then stays hidden from the collector."""
    _progress(f"making {orders:,} orders for a book of {resting:,}")
    flow = make_flow(orders, resting, seed)
    counted = Counter(step.act for step in flow.steps)
    book = _opened(flow)
    fills = sum(play(book, step) for step in flow.steps)
    gc.collect()
    gc.freeze()
    runs = []
    for number in range(1, rounds + 1):
        runs.append(per_second(flow))
        _progress(f"round {number} of {rounds}: {runs[-1]:,} orders/s")
    times = each_ns(flow)
    return Result(
        matching_per_s=int(statistics.median(runs)),
        matching_p50_us=_us(times[len(times) // 2]),
        matching_p99_us=_us(times[len(times) * 99 // 100]),
        matching_max_us=_us(times[-1]),
        clock_us=_us(_clock_ns()),
        rounds=runs,
        orders=orders,
        resting=len(book),
        levels=sum(len({price for price, _, _ in book.orders(side)}) for side in Side),
        mix={act.value: round(100 * counted[act] / orders, 1) for act in PERCENT},
        fills=fills,
        seed=seed,
        gc="on, thresholds " + "/".join(map(str, gc.get_threshold())),
    )


def _us(nanoseconds: float) -> float:
    return round(nanoseconds / 1000, 2)


def _progress(line: str) -> None:
    sys.stderr.write(f"exchange.speed: {line}\n")


def _line(result: Result) -> str:
    mix = ", ".join(f"{act} {percent:g} %" for act, percent in result.mix.items())
    return (
        f"matching core alone: {result.matching_per_s:,} orders/s on one core (median of {len(result.rounds)});"
        f" an order p50 {result.matching_p50_us} us, p99 {result.matching_p99_us} us, max {result.matching_max_us} us,"
        f" of which the clock {result.clock_us} us; {result.resting:,} resting on {result.levels} levels; {mix};"
        f" {result.fills:,} fills of {result.orders:,} orders; collector {result.gc}; seed {result.seed}"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="exchange.speed", description="Measures the matching core alone.")
    parser.add_argument("--orders", type=_count, default=200_000, help="how many are timed in a round")
    parser.add_argument("--resting", type=_count, default=10_000, help="how many orders rest in the book meanwhile")
    parser.add_argument("--rounds", type=_count, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result = measure(options.orders, options.resting, options.rounds, options.seed)
    print(json.dumps(asdict(result)) if options.json else _line(result))


if __name__ == "__main__":
    main()
