"""The matching core against one written without regard to speed: every order looked at, every price tried."""

import gc
import itertools
import json
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange import speed
from exchange.auction import clearing
from exchange.book import Book, Fill, Trade
from exchange.orders import Side

ROOT = Path(__file__).parent.parent
BUY, SELL = Side.BUY, Side.SELL

Level = tuple[int | None, int]

sides = st.sampled_from(Side)
owners = st.sampled_from(("", "", "ann", "bob"))
prices = st.integers(95, 105)


@dataclass
class Resting:
    """An order of the naive book."""

    ref: int
    side: Side
    price: int | None
    shares: int
    owner: str = ""

    def accepts(self, price: int) -> bool:
        return self.price is None or (price <= self.price if self.side is BUY else price >= self.price)


class NaiveBook:
    """Orders in order of arrival; price-time priority is a stable sort."""

    def __init__(self) -> None:
        self.resting: list[Resting] = []

    def queue(self, side: Side) -> list[Resting]:
        sign = 1 if side is SELL else -1
        own = [order for order in self.resting if order.side is side]
        return sorted(own, key=lambda order: (order.price is not None, sign * (order.price or 0)))

    def take(self, side: Side, limit: int | None, shares: int, owner: str) -> list[Fill]:
        fills = []
        for order in self.queue(SELL if side is BUY else BUY):
            assert order.price is not None
            beyond = limit is not None and (order.price > limit if side is BUY else order.price < limit)
            if not shares or beyond or (owner and order.owner == owner):
                break
            traded = min(shares, order.shares)
            shares -= traded
            order.shares -= traded
            fills.append(Fill(order.ref, order.price, traded, order.shares))
        self.resting = [order for order in self.resting if order.shares]
        return fills

    def pair(self, shares: int) -> list[Trade]:
        """Share by share, each the oldest of the best on both sides; then runs of the same pair become one trade."""
        lined_up = [[order.ref for order in self.queue(side) for _ in range(order.shares)][:shares] for side in Side]
        left = {order.ref: order.shares for order in self.resting}
        trades = []
        for (buy, sell), run in itertools.groupby(zip(*lined_up, strict=True)):
            traded = len(list(run))
            left[buy] -= traded
            left[sell] -= traded
            trades.append(Trade(buy, sell, traded, left[buy], left[sell]))
        for order in self.resting:
            order.shares = left[order.ref]
        self.resting = [order for order in self.resting if order.shares]
        return trades


def naive_clearing(bids: list[Level], asks: list[Level], reference: int, tick: int) -> tuple[int, int] | None:
    """The rules one after the other, over every price there is."""

    def wanted(price: int) -> int:
        return sum(shares for limit, shares in bids if limit is None or limit >= price)

    def offered(price: int) -> int:
        return sum(shares for limit, shares in asks if limit is None or limit <= price)

    limits = [limit for limit, _ in bids + asks if limit is not None] + [reference]
    every = [price for price in range(min(limits), max(limits) + 1) if price % tick == 0 or price in limits]
    most = max(min(wanted(price), offered(price)) for price in every)
    if most == 0:
        return None
    every = [price for price in every if min(wanted(price), offered(price)) == most]
    least = min(abs(wanted(price) - offered(price)) for price in every)
    every = [price for price in every if abs(wanted(price) - offered(price)) == least]
    if all(wanted(price) > offered(price) for price in every):
        every = [max(every)]
    if all(wanted(price) < offered(price) for price in every):
        every = [min(every)]
    nearest = min(abs(price - reference) for price in every)
    (price,) = [price for price in every if abs(price - reference) == nearest]
    return price, most


def same(book: Book, naive: NaiveBook) -> None:
    """Both hold the same orders in the same order, and every way to ask says so."""
    assert len(book) == len(naive.resting)
    for side in Side:
        queue = naive.queue(side)
        assert list(book.orders(side)) == [(order.price, order.ref, order.shares) for order in queue]
        assert book.best(side) == next((order.price for order in queue if order.price is not None), None)
        other = SELL if side is BUY else BUY
        for price in range(94, 107):
            assert book.crosses(other, price) == any(order.accepts(price) for order in queue)


commands = st.one_of(
    st.tuples(st.just("place"), sides, prices, st.integers(1, 9), owners),
    st.tuples(st.just("place"), sides, prices, st.integers(1, 9), owners),
    st.tuples(st.just("take"), sides, st.none() | prices, st.integers(1, 30), owners),
    st.tuples(st.just("remove"), st.integers(0, 99)),
    st.tuples(st.just("reduce"), st.integers(0, 99), st.integers(1, 9)),
)


class Pair:
    """A book and the naive one, given the same commands."""

    def __init__(self) -> None:
        self.book, self.naive = Book(), NaiveBook()
        self.refs = itertools.count(1)

    def place(self, side: Side, price: int, shares: int, owner: str) -> None:
        """Trades, and rests with what is left unless it stands against itself."""
        left = shares - self.take(side, price, shares, owner)
        if left and not self.book.crosses(side, price):
            self.rest(side, price, left, owner)

    def take(self, side: Side, limit: int | None, shares: int, owner: str) -> int:
        before = list(self.book.orders(BUY)), list(self.book.orders(SELL))
        takeable = self.book.takeable(side, limit, shares, owner)
        assert before == (list(self.book.orders(BUY)), list(self.book.orders(SELL)))
        fills = self.book.take(side, limit, shares, owner)
        assert fills == self.naive.take(side, limit, shares, owner)
        taken = sum(fill.shares for fill in fills)
        assert taken == takeable <= shares
        return taken

    def rest(self, side: Side, price: int | None, shares: int, owner: str) -> None:
        ref = next(self.refs)
        self.book.rest(ref, side, price, shares, owner)
        self.naive.resting.append(Resting(ref, side, price, shares, owner))

    def remove(self, index: int) -> None:
        if self.naive.resting:
            order = self.naive.resting.pop(index % len(self.naive.resting))
            assert self.book.remove(order.ref) == order.shares

    def reduce(self, index: int, shares: int) -> None:
        if self.naive.resting:
            order = self.naive.resting[index % len(self.naive.resting)]
            if shares < order.shares:
                order.shares -= shares
                assert self.book.reduce(order.ref, shares) == order.shares


@settings(max_examples=200)
@given(st.lists(commands, min_size=10, max_size=60))
def test_orders_execute_in_price_time_order_and_never_beyond_limit_quantity_or_owner(script: list[tuple]) -> None:  # type: ignore[type-arg]
    pair = Pair()
    for name, *arguments in script:
        getattr(pair, name)(*arguments)
        same(pair.book, pair.naive)
        best_bid, best_ask = pair.book.best(BUY), pair.book.best(SELL)
        assert best_bid is None or best_ask is None or best_bid < best_ask


@pytest.mark.parametrize(
    ("owner", "limit", "shares", "fills"),
    [
        ("", None, 99, [(1, 100, 5, 0), (2, 100, 5, 0), (3, 101, 5, 0)]),
        ("cy", None, 99, [(1, 100, 5, 0), (2, 100, 5, 0), (3, 101, 5, 0)]),
        ("bob", None, 99, [(1, 100, 5, 0)]),
        ("ann", None, 99, []),
        ("cy", 100, 99, [(1, 100, 5, 0), (2, 100, 5, 0)]),
        ("cy", 99, 99, []),
        ("cy", None, 7, [(1, 100, 5, 0), (2, 100, 2, 3)]),
        ("bob", None, 5, [(1, 100, 5, 0)]),
    ],
)
def test_an_order_stops_at_its_limit_at_its_quantity_and_before_its_owners_own(
    owner: str, limit: int | None, shares: int, fills: list[tuple[int, int, int, int]]
) -> None:
    book = Book()
    for ref, price, who in ((1, 100, "ann"), (2, 100, "bob"), (3, 101, "")):
        book.rest(ref, SELL, price, 5, who)
    assert book.takeable(BUY, limit, shares, owner) == sum(fill[2] for fill in fills)
    assert book.take(BUY, limit, shares, owner) == fills


def test_an_order_that_is_gone_or_never_came_cannot_be_changed() -> None:
    book = Book()
    book.rest(1, BUY, 100, 5)
    book.rest(2, BUY, 100, 5)
    book.remove(1)
    book.take(SELL, None, 5)
    for ref in (1, 2, 3):
        with pytest.raises(KeyError):
            book.remove(ref)
        with pytest.raises(KeyError):
            book.reduce(ref, 1)
    assert len(book) == 0


@pytest.mark.parametrize(
    "broken",
    [
        lambda book: book.rest(1, SELL, 200, 5),
        lambda book: book.rest(2, BUY, 100, 0),
        lambda book: book.reduce(1, 5),
        lambda book: book.reduce(1, 0),
    ],
)
def test_what_the_venue_must_never_ask_stops_it(broken: Callable[[Book], object]) -> None:
    book = Book()
    book.rest(1, BUY, 100, 5)
    with pytest.raises(AssertionError):
        broken(book)
    assert list(book.orders(BUY)) == [(100, 1, 5)]
    assert list(book.orders(SELL)) == []


def test_nothing_is_taken_from_an_unpriced_order() -> None:
    book = Book()
    book.rest(1, BUY, None, 5)
    assert book.crosses(SELL, 10**9)
    with pytest.raises(AssertionError):
        book.take(SELL, 100, 5)
    assert book.remove(1) == 5
    assert book.take(SELL, 100, 5) == []


levels = st.lists(st.tuples(st.none() | prices, st.integers(1, 3)), max_size=6)


@settings(max_examples=1000)
@given(levels, levels, st.integers(92, 108), st.sampled_from((1, 2, 5)))
def test_the_auctions_price_is_what_its_rules_leave_of_all_prices(
    bids: list[Level], asks: list[Level], reference: int, tick: int
) -> None:
    assert clearing(bids, asks, reference, tick) == naive_clearing(bids, asks, reference, tick)
    bids, asks = ([(limit and limit // tick * tick, shares) for limit, shares in side] for side in (bids, asks))
    cleared = clearing(bids, asks, reference, tick)
    assert cleared == naive_clearing(bids, asks, reference, tick)
    assert cleared is None or cleared[0] == reference or cleared[0] % tick == 0


@pytest.mark.parametrize(
    ("rule", "bids", "asks", "reference", "cleared"),
    [
        ("nobody", [], [], 100, None),
        ("one side", [(None, 5), (101, 5)], [], 100, None),
        ("no price in common", [(99, 5)], [(100, 5)], 100, None),
        ("1 most shares", [(101, 5), (100, 5)], [(99, 5), (100, 5)], 101, (100, 10)),
        ("2 least surplus", [(102, 5), (101, 4)], [(99, 5)], 90, (102, 5)),
        ("2 in a gap, seen from below", [(104, 1), (100, 1)], [(99, 1), (105, 1)], 90, (101, 1)),
        ("2 in a gap, seen from above", [(106, 1), (100, 1)], [(99, 1), (105, 1)], 120, (104, 1)),
        ("2 in a gap, seen from its lower end", [(106, 1), (100, 1)], [(99, 1), (105, 1)], 100, (101, 1)),
        ("2 in a gap, seen from its upper end", [(106, 1), (100, 1)], [(99, 1), (105, 1)], 105, (104, 1)),
        ("3 surplus of buyers", [(104, 9)], [(100, 5)], 90, (104, 5)),
        ("3 surplus of buyers, ask above", [(104, 9)], [(100, 5), (106, 5)], 120, (104, 5)),
        ("3 surplus of sellers", [(104, 5)], [(100, 9)], 120, (100, 5)),
        ("4 nearest, within", [(104, 5)], [(100, 5)], 103, (103, 5)),
        ("4 nearest, from above", [(104, 5)], [(100, 5)], 120, (104, 5)),
        ("4 nearest, from below", [(104, 5)], [(100, 5)], 90, (100, 5)),
        ("4 surplus on either side", [(105, 2), (100, 1)], [(99, 2), (101, 1)], 90, (99, 2)),
        ("4 surplus on either side, in a gap", [(105, 2), (101, 1), (97, 9)], [(95, 2), (102, 1)], 90, (98, 2)),
        ("unpriced alone", [(None, 5)], [(None, 3)], 97, (97, 3)),
        ("unpriced buyers", [(None, 5)], [(100, 3), (101, 3)], 97, (101, 5)),
        ("unpriced buyers in surplus", [(None, 9)], [(100, 3), (101, 3)], 105, (105, 6)),
        ("unpriced sellers", [(100, 3), (99, 3)], [(None, 5)], 103, (99, 5)),
    ],
)
def test_each_rule_of_the_auction(
    rule: str, bids: list[Level], asks: list[Level], reference: int, cleared: tuple[int, int] | None
) -> None:
    assert clearing(bids, asks, reference) == cleared, rule
    assert naive_clearing(bids, asks, reference, 1) == cleared, rule


def collect(orders: list[tuple[Side, int | None, int, str]]) -> Pair:
    pair = Pair()
    for order in orders:
        pair.rest(*order)
    return pair


@settings(max_examples=300)
@given(st.lists(st.tuples(sides, st.none() | prices, st.integers(1, 9), owners), max_size=30), st.integers(92, 108))
def test_an_auction_executes_by_priority_at_one_price_and_leaves_nothing_that_could_trade(
    orders: list[tuple[Side, int | None, int, str]], reference: int
) -> None:
    pair = collect(orders)
    book, naive = pair.book, pair.naive
    terms = {order.ref: order for order in map(copy, naive.resting)}
    bids, asks = ([(order.price, order.shares) for order in naive.queue(side)] for side in Side)
    expected = naive_clearing(bids, asks, reference, 1)
    done = book.uncross(reference)
    assert (done and (done.price, done.shares)) == expected
    if done:
        assert done.trades == naive.pair(done.shares)
        assert sum(trade.shares for trade in done.trades) == done.shares
        for trade in done.trades:
            assert terms[trade.buy].side is BUY
            assert terms[trade.sell].side is SELL
            assert terms[trade.buy].accepts(done.price)
            assert terms[trade.sell].accepts(done.price)
    same(book, naive)
    best_bid, best_ask = (next(book.orders(side), None) for side in Side)
    if best_bid and best_ask:
        assert best_bid[0] is not None
        assert best_ask[0] is not None
        assert best_bid[0] < best_ask[0]
    assert book.uncross(reference) is None


def test_in_an_auction_unpriced_orders_go_first_then_price_then_time_and_the_last_is_filled_in_part() -> None:
    book = Book()
    for ref, price in ((1, 100), (2, 101), (3, None), (4, 100), (5, 99), (6, None)):
        book.rest(ref, BUY, price, 10)
    book.rest(7, SELL, None, 15)
    book.rest(8, SELL, 100, 30)
    done = book.uncross(100)
    assert done is not None
    assert (done.price, done.shares) == (100, 45)
    assert done.trades == [
        (3, 7, 10, 0, 5),
        (6, 7, 5, 5, 0),
        (6, 8, 5, 0, 25),
        (2, 8, 10, 0, 15),
        (1, 8, 10, 0, 5),
        (4, 8, 5, 5, 0),
    ]
    assert list(book.orders(BUY)) == [(100, 4, 5), (99, 5, 10)]


def test_an_auction_lets_an_owner_trade_with_itself() -> None:
    book = Book()
    book.rest(1, BUY, 100, 5, "ann")
    book.rest(2, SELL, 100, 5, "ann")
    done = book.uncross(100)
    assert done is not None
    assert done.trades == [(1, 2, 5, 0, 0)]


def test_an_auctions_price_is_on_the_tick() -> None:
    book = Book()
    for ref, (side, price) in enumerate(((BUY, 104_00), (BUY, 100_00), (SELL, 99_00), (SELL, 105_00))):
        book.rest(ref, side, price, 1)
    done = book.uncross(90_00, tick=100)
    assert done is not None
    assert done.price == 101_00


def test_the_work_of_an_auction_grows_with_its_levels_not_with_their_square() -> None:
    bids = [(price, 1) for price in range(20_000, 40_000, 2)]
    asks = [(price, 1) for price in range(1, 20_000, 2)]
    start = time.process_time()
    assert clearing(bids, asks, 1) == (19_999, 10_000)
    assert time.process_time() - start < 3  # it takes a tenth of a second; the square of it would be half a minute


def add_and_cancel_at_one_price(book: Book) -> Iterator[int]:
    book.rest(0, BUY, 100, 1)
    for ref in itertools.count(1):
        book.rest(ref, BUY, 100, 1)
        yield book.remove(ref)


def add_and_cancel_the_oldest(book: Book) -> Iterator[int]:
    for ref in range(50):
        book.rest(ref, BUY, 100, 1)
    for ref in itertools.count(50):
        book.rest(ref, BUY, 100, 1)
        yield book.remove(ref - 50)


def add_and_cancel_at_ever_new_prices(book: Book) -> Iterator[int]:
    for ref in itertools.count(1):
        book.rest(ref, SELL, ref, 1)
        yield book.remove(ref)


def add_and_take_at_ever_new_prices(book: Book) -> Iterator[int]:
    for ref in itertools.count(1):
        book.rest(ref, SELL, ref, 2)
        book.reduce(ref, 1)
        yield len(book.take(BUY, None, 1))


def collect_and_uncross(book: Book) -> Iterator[int]:
    for ref in itertools.count(1):
        book.rest(2 * ref, SELL, None, 1)
        book.rest(2 * ref + 1, BUY, ref, 1)
        done = book.uncross(ref)
        assert done is not None
        yield done.shares


@pytest.mark.parametrize(
    "acts",
    [
        add_and_cancel_at_one_price,
        add_and_cancel_the_oldest,
        add_and_cancel_at_ever_new_prices,
        add_and_take_at_ever_new_prices,
        collect_and_uncross,
    ],
)
def test_orders_that_come_and_go_leave_nothing_in_memory(acts: Callable[[Book], Iterator[int]]) -> None:
    """Nor anything for the collector to find: it does not run."""
    book = Book()
    running = acts(book)
    gc.disable()
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(2):
            assert set(itertools.islice(running, 3000)) == {1}
            tracemalloc.reset_peak()
            assert set(itertools.islice(running, 3000)) == {1}
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
        gc.enable()
    assert peaks[1] < peaks[0] + 2_000


def test_the_measured_flow_is_the_same_each_time_keeps_its_book_and_is_matched_rightly() -> None:
    flow = speed.make_flow(3000, 200, seed=7)
    assert flow == speed.make_flow(3000, 200, seed=7)
    assert flow != speed.make_flow(3000, 200, seed=8)
    book, naive = Book(), NaiveBook()
    for step in (*flow.opening, *flow.steps):
        before = {order.ref: order for order in naive.resting}
        fills = speed.play(book, step)
        if step.act is speed.Act.CANCEL:
            naive.resting.remove(before[step.ref])
        elif step.act is speed.Act.REDUCE:
            before[step.ref].shares -= step.shares
        else:
            taken = naive.take(step.side, step.price, step.shares, step.owner)
            assert len(taken) == fills
            if step.act is speed.Act.NEW:
                assert not taken
                naive.resting.append(Resting(step.ref, step.side, step.price, step.shares, step.owner))
    assert 190 < len(book) < 210
    for side in Side:
        assert list(book.orders(side)) == [(order.price, order.ref, order.shares) for order in naive.queue(side)]
    counted = Counter(step.act for step in flow.steps)
    assert all(abs(100 * counted[act] / 3000 - percent) < 4 for act, percent in speed.PERCENT.items())


def run_speed(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "exchange.speed", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_measure_prints_one_object_and_says_what_it_is_doing() -> None:
    done = run_speed("--orders", "2000", "--resting", "100", "--rounds", "3", "--json")
    result = json.loads(done.stdout)
    assert 0 < result["matching_p50_us"] <= result["matching_p99_us"] <= result["matching_max_us"]
    assert sorted(result["rounds"])[1] == result["matching_per_s"]
    assert sum(result["mix"].values()) == pytest.approx(100, abs=0.5)
    assert "round 3 of 3" in done.stderr


def test_the_measure_refuses_a_count_of_nothing() -> None:
    refused = run_speed("--orders", "0")
    assert refused.returncode == 2
    assert "'0' is not a number above 0" in refused.stderr
