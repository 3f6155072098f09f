"""The venue's rules under histories drawn by chance: what must hold after each event, whatever came before.

A script of requests, acts and passing time goes through a `Venue` with its journal. The journal is then replayed event
by event on a new market, and after each event the orders, the books and the feed are held against accounts of our own
(`Audit`), which know nothing of the rules. In the end the replayed market must be the one that lived.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import unpack
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange import dialect, itch
from exchange.acts import Bust, Correct, Halt, Mark, Release, Restate, Resume, Split, Telephone, Trade
from exchange.events import Outcome, Phase
from exchange.hours import Hours
from exchange.journal import Journal, event_of
from exchange.market import Market
from exchange.orders import (
    CancelReject,
    CancelRequest,
    Day,
    ExecType,
    Execution,
    NewOrder,
    Order,
    OrdStatus,
    ReplaceRequest,
    Report,
    Side,
    TransType,
    average,
)
from exchange.phases import next_expiry_ns
from exchange.rules import Event, apply
from exchange.venue import Conduct
from runtime.units import to_units
from tests.test_exchange_determinism import (
    ALWAYS,
    BASE,
    DELAY,
    FRIDAY_NOON,
    HOUR,
    LONG,
    MANUAL,
    PROFILE,
    STEP,
    STOP,
    STOP_LIMIT,
    TICK,
    Input,
    Stage,
    conducts,
    hours,
    perform,
    picture,
    rows,
    scripts,
    written,
)

CONTINUOUS, HELD = Phase.OPEN, {OrdStatus.SUSPENDED, OrdStatus.DONE_FOR_DAY}
LASTING, IMMEDIATE = ("1", "6"), ("3", "4")


def terms_of(order: Order) -> tuple[Any, ...]:
    """What no event may change of an order without a report."""
    kept = ("request", "quantity", "price", "cum", "leaves", "notional", "accepted", "replaced", "ended", "expires_ns")
    return (*(getattr(order, name) for name in kept), frozenset(order.marks), order.base_cum, order.renewed_at)


def status_by_rank(order: Order) -> OrdStatus:
    """OrdStatus(39): of all states that an order is in the one of the highest rank (FIX 4.2, Appendix D)."""
    true_of_it = {
        OrdStatus.PENDING_CANCEL: 12 * ("F" in order.waiting),
        OrdStatus.PENDING_REPLACE: 11 * ("G" in order.waiting),
        OrdStatus.DONE_FOR_DAY: 10 * (OrdStatus.DONE_FOR_DAY in order.marks or order.ended is OrdStatus.DONE_FOR_DAY),
        OrdStatus.CALCULATED: 9 * (OrdStatus.CALCULATED in order.marks),
        OrdStatus.FILLED: 8 * (order.accepted and order.cum == order.quantity),
        OrdStatus.STOPPED: 7 * (OrdStatus.STOPPED in order.marks),
        OrdStatus.SUSPENDED: 6 * (OrdStatus.SUSPENDED in order.marks),
        OrdStatus.CANCELED: 5 * (order.ended is OrdStatus.CANCELED),
        OrdStatus.EXPIRED: 5 * (order.ended is OrdStatus.EXPIRED),
        OrdStatus.PARTIALLY_FILLED: 4 * (order.cum > 0),
        OrdStatus.REPLACED: 3 * order.replaced,
        OrdStatus.NEW: 2 * order.accepted,
        OrdStatus.REJECTED: 2 * (order.ended is OrdStatus.REJECTED),
    }
    highest = max(true_of_it, key=lambda status: true_of_it[status])
    return highest if true_of_it[highest] else OrdStatus.PENDING_NEW


@dataclass
class Shown:
    """An order on the feed."""

    locate: int
    side: Side
    shares: int
    price: int


class Fill(NamedTuple):
    """Shares of an order on the feed that traded."""

    match: int
    order: Shown
    ref: int
    shares: int
    price: int


class Cross(NamedTuple):
    locate: int
    shares: int
    price: int


class Feed:
    """A subscriber's book: kept from the bytes alone, in the order in which orders were added."""

    def __init__(self) -> None:
        self.orders: dict[int, Shown] = {}
        self.seen = set[int]()
        self.fills: list[Fill] = []
        self.crosses: list[Cross] = []
        self.broken: list[int] = []
        self.printed: dict[int, tuple[int, int]] = {}  # match -> shares, price
        self.in_auctions = set[int]()  # matches

    def read(self, message: bytes) -> None:
        kind, locate = chr(message[0]), int.from_bytes(message[1:3])
        body = message[11:]
        if kind == "A":
            ref, side, shares, _, price = unpack(">QcI8sI", body)
            assert ref not in self.seen
            self.seen.add(ref)
            self.orders[ref] = Shown(locate, Side.BUY if side == b"B" else Side.SELL, shares, price)
        elif kind == "E":
            ref, shares, match = unpack(">QIQ", body)
            order = self.orders[ref]
            assert ref == self.queue(order.locate, order.side)[0][0], "a better resting order was passed over"
            self._trade(match, ref, shares, order.price)
        elif kind == "C":
            ref, shares, match, printable, price = unpack(">QIQcI", body)
            assert printable == b"N"
            self.in_auctions.add(match)
            self._trade(match, ref, shares, price)
        elif kind in "XD":
            ref, shares = unpack(">QI", body) if kind == "X" else (*unpack(">Q", body), 0)
            assert shares < self.orders[ref].shares
            self._take(ref, shares or self.orders[ref].shares)
        elif kind == "Q":
            shares, _, price, _, _ = unpack(">Q8sIQc", body)
            self.crosses.append(Cross(locate, shares, price))
        elif kind == "P":
            _, _, shares, _, price, match = unpack(">QcI8sIQ", body)
            self.printed[match] = shares, price
        elif kind == "B":
            self.broken += unpack(">Q", body)
        else:
            assert kind in "SRH"

    def queue(self, locate: int, side: Side) -> list[tuple[int, int, int]]:
        """(reference, shares, price) by price, then time."""
        sign = -1 if side is Side.BUY else 1
        own = [
            (ref, each.shares, each.price)
            for ref, each in self.orders.items()
            if (each.locate, each.side) == (locate, side)
        ]
        return sorted(own, key=lambda each: sign * each[2])

    def _trade(self, match: int, ref: int, shares: int, price: int) -> None:
        self.fills.append(Fill(match, self.orders[ref], ref, shares, price))
        self._take(ref, shares)

    def _take(self, ref: int, shares: int) -> None:
        order = self.orders[ref]
        assert 0 < shares <= order.shares
        order.shares -= shares
        if not order.shares:
            del self.orders[ref]


@dataclass
class Account:
    """What an order's reports add up to, since ever and since the day that began with the report `begun`."""

    shares: int = 0
    notional: int = 0
    day_shares: int = 0
    day_notional: int = 0
    begun: int = 0

    def add(self, shares: int, price: int, *, today: bool) -> None:
        self.shares += shares
        self.notional += shares * price
        if today:
            self.day_shares += shares
            self.day_notional += shares * price

    def day(self, quantity: int) -> Day | None:
        earlier = self.shares - self.day_shares
        return (
            Day(quantity - earlier, self.day_shares, rounded(self.day_notional, self.day_shares))
            if self.begun
            else None
        )


@dataclass
class Standing:
    """A trade that stands: what each side's reports, and the house's order on the feed, say of it."""

    sides: dict[Side, tuple[int, int]] = field(default_factory=dict)  # shares, price
    numbers: list[int] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)

    @property
    def shares(self) -> int:
        return next(iter(self.sides.values()))[0]


class Place(NamedTuple):
    """Where an order rests: its reference there, its price, what is left of it and what was filled."""

    ref: int
    price: int | None
    leaves: int
    filled: int


@dataclass
class Before:
    """What is remembered of the market when an event comes."""

    terms: dict[int, tuple[Any, ...]]
    queues: dict[tuple[str, Side], list[int]]  # references in the book
    places: dict[int, Place]  # of an order that rests


class Audit:
    """Our own accounts of a market, kept from events, reports and feed; `after` compares them with it."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.feed = Feed()
        self.accounts: dict[int, Account] = defaultdict(Account)
        self.trades: dict[int, Standing] = defaultdict(Standing)
        self.exec_ids = set[str]()
        self.origins: dict[int, int] = {}  # of an execution that corrects or busts: the number of the first one
        self.last: dict[int, Report] = {}  # of each order
        self.prices: dict[str, list[int]] = defaultdict(lambda: [BASE])  # the last before the event, and those in it
        self.reached = set[int]()  # stop orders whose price came
        self.told = 0

    def before(self) -> Before:
        market = self.market
        queues = {
            (symbol, side): [ref for _, ref, _ in listing.book.orders(side)]
            for symbol, listing in market.listings.items()
            for side in Side
        }
        resting = market.resting.items()
        places = {order.ref: Place(ref, order.price, order.leaves, order.cum) for ref, order in resting}
        return Before({ref: terms_of(order) for ref, order in market.orders.items()}, queues, places)

    def after(self, event: Event, before: Before, outcome: Outcome) -> None:
        for symbol, prices in self.prices.items():
            self.prices[symbol] = prices[-1:]
        if event.kind == "split":
            new, old = event.body.new, event.body.old
            self.prices[event.body.symbol] = [
                max(price * old // new // TICK, 1) * TICK for price in self.prices[event.body.symbol]
            ]
        marked = len(self.feed.fills), len(self.feed.crosses), len(self.feed.broken)
        for each in outcome.feed:
            for message in itch.encode(each, 0):
                self.feed.read(message)
        self._read_reports(event, outcome)
        traded, crossed = self.feed.fills[marked[0] :], self.feed.crosses[marked[1] :]
        self._match_feed_and_reports(traded, crossed, self.feed.broken[marked[2] :])
        if event.kind in ("phase", "resume"):
            self._check_priority(before, traded)
        self._check_crosses(traded, crossed, outcome)
        self._check_places(event, before)
        self._check_all_or_nothing(outcome)
        self._check_unreported(before, outcome)
        for order in self.market.orders.values():
            self._check_order(order)
            self._check_place(order)
        self._check_books()
        self._check_indexes(outcome)

    # Reports

    def _read_reports(self, event: Event, outcome: Outcome) -> None:
        for report in outcome.reports:
            self.told += 1
            assert report.number == self.told
            assert report.transact_time_ns == outcome.now_ns
            if report.order is not None:
                self.last[report.order.ref] = report
            if isinstance(report, Execution):
                assert report.exec_id not in self.exec_ids
                self.exec_ids.add(report.exec_id)
                self._read_execution(event, report)

    def _read_execution(self, event: Event, done: Execution) -> None:
        if not done.order.ref:
            return  # refused for its name: no order of ours
        account = self.accounts[done.order.ref]
        if done.order.renewed_at == done.number:
            account.begun, account.day_shares, account.day_notional = done.number, 0, 0
        self.origins[done.number] = done.number
        if done.exec_ref_id:
            was = self._undo(done)
            self.origins[done.number] = self.origins[was.number]
            account.add(-was.last_shares, was.last_px, today=self.origins[was.number] > account.begun)
        if done.trans_type is not TransType.BUST and done.last_shares:
            account.add(done.last_shares, done.last_px, today=self.origins[done.number] > account.begun)
            trade = self.trades[done.match]
            side = Side(done.request.side)
            assert side not in trade.sides, "both sides of a trade are buyers, or sellers"
            trade.sides[side] = done.last_shares, done.last_px
            trade.numbers.append(done.number)
            trade.owners.append(done.order.owner)
            if done.trans_type is TransType.NEW:
                self.prices[done.request.symbol].append(done.last_px)
            if done.match not in self.feed.printed:  # by hand any price will do
                self._check_limit(done)
        if done.exec_type is ExecType.RESTATED and done.restatement == "0":
            account.shares = account.shares * event.body.new // event.body.old
            account.day_shares = account.day_shares * event.body.new // event.body.old
        assert (done.cum_qty, done.avg_px) == (account.shares, rounded(account.notional, account.shares))

    def _undo(self, done: Execution) -> Execution:
        was = self.market.execution(done.exec_ref_id)
        assert was is not None
        for match, trade in list(self.trades.items()):
            if was.number in trade.numbers:
                trade.numbers.remove(was.number)
                if not trade.numbers:
                    del self.trades[match]
                return was
        raise AssertionError(f"{was.exec_id} does not stand, and is busted or corrected")

    def _check_limit(self, done: Execution) -> None:
        price = done.order.price
        if price is not None:
            assert done.last_px <= price if done.order.side is Side.BUY else done.last_px >= price

    # Trades

    def _match_feed_and_reports(self, traded: list[Fill], crossed: list[Cross], broken: list[int]) -> None:
        for match, order, _, shares, price in traded:
            sides, owners = self.trades[match].sides, self.trades[match].owners
            if match not in self.feed.in_auctions:
                assert len(set(owners)) == len(owners) or owners[0] == "", "an owner trades with himself"
                assert self._trades(order.locate), "a trade while orders only gather"
            if order.side in sides:
                assert sides[order.side] == (shares, price)
            else:  # the house's order: it gets no report
                sides[order.side] = shares, price
        for match, trade in self.trades.items():
            if match not in self.feed.printed:
                assert set(trade.sides) == set(Side), "a trade has a buyer and a seller"
            assert len(set(trade.sides.values())) == 1, "the two sides of a trade differ"
        assert all(match not in self.trades for match in broken)
        assert len(set(self.feed.broken)) == len(self.feed.broken)
        at = {(locate, price) for locate, _, price in crossed}
        assert all(
            (order.locate, price) in at for match, order, _, _, price in traded if match in self.feed.in_auctions
        )

    def _trades(self, locate: int) -> bool:
        listing = next(each for each in self.market.listings.values() if each.locate == locate)
        return self.market.phase is CONTINUOUS and not listing.halted

    def _check_priority(self, before: Before, traded: list[Fill]) -> None:
        """Nobody was passed over in an auction: of a queue, those that traded stood before those that did not."""
        filled = {each.ref for each in traded}
        filled |= {place.ref for number, place in before.places.items() if self._gained(number, before)}
        for (symbol, side), refs in before.queues.items():
            left = {ref for _, ref, _ in self.market.listings[symbol].book.orders(side)}
            served = [index for index, ref in enumerate(refs) if ref in filled]
            passed_over = [index for index, ref in enumerate(refs) if ref in left - filled]
            assert not served or not passed_over or served[-1] < passed_over[0]

    def _gained(self, number: int, before: Before) -> bool:
        return self.accounts[number].shares > before.places[number].filled

    def _check_crosses(self, traded: list[Fill], crossed: list[Cross], outcome: Outcome) -> None:
        """An auction is told as one trade: as many shares as its buyers, and its sellers, had of it."""
        one_by_one = {match for match, *_ in traded if match not in self.feed.in_auctions}
        matches = {each.match for each in outcome.reports if isinstance(each, Execution)} | {
            match for match, *_ in traded
        }
        auctioned = [self.trades[each] for each in matches - one_by_one - set(self.feed.printed) if each in self.trades]
        assert sum(shares for _, shares, _ in crossed) == sum(trade.shares for trade in auctioned)

    def _check_places(self, event: Event, before: Before) -> None:
        """Less at the same price keeps its place in the queue; anything else does not."""
        for number, was in before.places.items():
            order = self.market.orders[number]
            if order.book_ref == was.ref:
                assert order.price == was.price
                assert order.leaves <= was.leaves
            elif order.book_ref and event.kind in ("replace", "answer", "restate"):
                assert order.price != was.price or order.leaves > was.leaves

    def _check_all_or_nothing(self, outcome: Outcome) -> None:
        for report in outcome.reports:
            if isinstance(report, Execution) and report.exec_type is ExecType.NEW:
                order = report.order
                if order.request.time_in_force == "4":
                    assert order.cum in (0, order.quantity)

    def _check_unreported(self, before: Before, outcome: Outcome) -> None:
        """Without an execution report nothing happens to an order; a cancel reject changes none."""
        told = {report.order.ref for report in outcome.reports if isinstance(report, Execution)}
        for ref, was in before.terms.items():
            if ref not in told:
                assert terms_of(self.market.orders[ref]) == was

    # Orders

    def _check_order(self, order: Order) -> None:
        account = self.accounts[order.ref]
        assert (order.cum, order.notional) == (account.shares, account.notional)
        assert order.average_price == rounded(account.notional, account.shares)
        assert order.day == account.day(order.quantity)
        assert order.status is status_by_rank(order)
        assert 0 <= order.cum <= order.quantity
        if order.ended is None:
            assert order.quantity == order.cum + order.leaves
        else:
            assert order.leaves == 0
        if order.leaves == 0:
            assert not HELD & order.marks, "nothing is left to suspend or to renew"
        if order.ended is not None:
            assert not order.marks or order.marks == {OrdStatus.CALCULATED}, "what is over is nothing else any more"
        last = self.last.get(order.ref)
        if isinstance(last, Execution):
            stands = (last.cum_qty, last.leaves_qty, last.avg_px, last.day)
            assert stands == (order.cum, order.leaves, order.average_price, order.day)
        assert last is None or last.ord_status is order.status

    def _check_place(self, order: Order) -> None:
        """An open order is in one place: the book, among the stop orders, or held."""
        is_open = order.accepted and order.leaves > 0
        assert is_open == order.is_open
        assert (self.market.open.get(order.ref) is order) == is_open
        assert (self.market.resting.get(order.book_ref) is order) == bool(order.book_ref)
        if order.accepted and order.ended is None and order.request.stop_px and order.stop is None:
            if order.ref not in self.reached:
                stop = to_units(order.request.stop_px)
                assert any(reaches(order, price, stop) for price in self.prices[order.request.symbol])
            self.reached.add(order.ref)
        waits = [ref for _, _, ref in self._stops()].count(order.ref)
        assert waits == int(order.asleep)
        assert not (order.asleep and order.book_ref)
        assert not order.displayed or order.book_ref
        assert not order.book_ref or order.stop is None, "a stop order rests before its price was reached"
        if not is_open:
            assert not order.book_ref
            assert not order.asleep
            return
        assert OrdStatus.CALCULATED not in order.marks
        if OrdStatus.SUSPENDED in order.marks:
            assert not order.book_ref
            assert not order.asleep
        elif OrdStatus.DONE_FOR_DAY not in order.marks:
            assert order.book_ref or order.asleep
        assert order.request.time_in_force not in IMMEDIATE
        self._check_day(order)

    def _check_day(self, order: Order) -> None:
        phase, lasts = self.market.phase, order.request.time_in_force in LASTING
        if phase is Phase.CLOSED:
            assert lasts, "an order of the day lives after its close"
            assert OrdStatus.DONE_FOR_DAY in order.marks
        if phase is CONTINUOUS:
            assert order.request.time_in_force != "2", "an order for the opening lives after it"

    def _stops(self) -> Iterator[tuple[int, int, int]]:
        for listing in self.market.listings.values():
            for side in Side:
                yield from listing.stops._waiting[side]

    # Books

    def _check_books(self) -> None:
        market = self.market
        for symbol, listing in market.listings.items():
            trading = market.phase is CONTINUOUS and not listing.halted
            assert listing.last == self.prices[symbol][-1]
            for side in Side:
                queue = list(listing.book.orders(side))
                shown = []
                hidden = [ref for _, ref, _ in queue if ref in market.resting and not market.resting[ref].displayed]
                assert {ref for ref, order in listing.hidden.items() if order.side is side} == set(hidden)
                for price, ref, shares in queue:
                    order = market.resting.get(ref)
                    assert (order is None) == (ref in market.house)
                    if order:
                        assert (order.side, order.price, order.leaves) == (side, price, shares)
                        assert order.request.symbol == symbol
                    if order is None or order.displayed:
                        shown.append((ref, shares, price))
                    assert not trading or order is None or order.displayed
                assert shown == self.feed.queue(listing.locate, side)
            if trading:
                bid, ask = listing.book.best(Side.BUY), listing.book.best(Side.SELL)
                assert bid is None or ask is None or bid < ask
                for order in market.open.values():
                    if order.asleep and order.stop is not None and order.request.symbol == symbol:
                        assert not reaches(order, listing.last, order.stop), "a stop order sleeps on"
                for quote in listing.used_up:
                    assert listing.book.crosses(quote.side, quote.price)
            self._check_house(symbol)

    def _check_house(self, symbol: str) -> None:
        listing = self.market.listings[symbol]
        resting = {ref for side in Side for _, ref, _ in listing.book.orders(side)}
        quotes = [(quote.side, quote.price) for ref, quote in self.market.house.items() if ref in resting]
        quotes += [(quote.side, quote.price) for quote in listing.used_up]
        levels = [40 * TICK + 20 * TICK * level for level in range(listing.instrument.levels)]
        price = listing.instrument.price
        asked = [(side, price + sign * away) for away in levels for side, sign in ((Side.BUY, -1), (Side.SELL, 1))]
        asked = [(side, at) for side, at in asked if at > 0]
        assert sorted(quotes) == sorted(asked)

    def _check_indexes(self, outcome: Outcome) -> None:
        market = self.market
        assert market.sides == {match: trade.numbers for match, trade in self.trades.items()}
        waiting: dict[int, list[str]] = defaultdict(list)
        for pending in market.pending:
            if isinstance(pending.body, NewOrder):
                assert not pending.order.accepted
                assert pending.order.ended is None
            else:
                waiting[pending.order.ref].append("F" if isinstance(pending.body, CancelRequest) else "G")
        newest = {each.order.ref: each.body.cl_ord_id for each in market.pending}
        for ref, order in market.orders.items():
            assert sorted(order.waiting) == sorted(waiting.get(ref, []))
            assert order.last_name == newest.get(ref, order.request.cl_ord_id)
        dated = [order.expires_ns for order in market.open.values() if order.expires_ns is not None]
        assert next_expiry_ns(market) == min(dated, default=None)
        assert all(each > outcome.now_ns for each in dated), "an order outlives its time"


def reaches(order: Order, price: int, stop: int) -> bool:
    return price >= stop if order.side is Side.BUY else price <= stop


def rounded(notional: int, shares: int) -> int:
    """The average price, half up."""
    return (2 * notional + shares) // (2 * shares) if shares else 0


def audited(journal: Journal) -> Market:
    """The journal once more, event by event, with all that must hold after each."""
    market = Market(journal.header.feed_session)
    audit, then_ns = Audit(market), 0
    for record in journal.records():
        event = event_of(record)
        before = audit.before()
        outcome = apply(market, event, record["t"])
        assert then_ns <= record["t"], "the venue goes back in time"
        assert event.kind != "expire" or outcome.reports
        then_ns = record["t"]
        audit.after(event, before, outcome)
    return market


@settings(PROFILE, max_examples=3_000 if LONG else 250)
@given(hours, conducts, st.integers(0, 2), scripts)
def test_whatever_comes_the_venue_keeps_its_rules(
    opening: Hours, conduct: Conduct, levels: int, script: list[Input]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(Path(directory), opening, conduct, levels)
        try:
            perform(stage, script)
            replayed = audited(stage.journal)
            assert picture(replayed) == picture(stage.market)
            assert rows(replayed) == rows(stage.market)
        finally:
            stage.close()


# Rules one by one: those that were broken once, and those that chance rarely meets

BUY, SELL = Side.BUY, Side.SELL
EVENING = FRIDAY_NOON + 5 * HOUR
MONDAY = FRIDAY_NOON + 70 * HOUR


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A market that an operator opened, without the house; in the end its journal is looked through."""
    opened = Stage(tmp_path, MANUAL, Conduct(), levels=0)
    opened.enter(CONTINUOUS)
    yield opened
    opened.venue.flush()
    assert picture(audited(opened.journal)) == picture(opened.market)
    opened.close()


def trade_of(order: Order, stage: Stage, last: int = -1) -> str:
    """ExecID(17) of its newest execution."""
    return [each.exec_id for each in executions(order, stage) if each.last_shares][last]


def executions(order: Order, stage: Stage) -> list[Execution]:
    return [each for each in stage.market.reports if isinstance(each, Execution) and each.order is order]


def replace_(stage: Stage, order: Order, shares: int, **words: str) -> None:
    request = order.request
    kept = ("account", "symbol", "side", "ord_type", "time_in_force", "price", "stop_px", "expire_date", "expire_time")
    said = {name: getattr(request, name) for name in kept} | words
    stage.send(order.comp_id, ReplaceRequest(stage.name(), order.last_name, order_qty=str(shares), **said))


def cancel_(stage: Stage, order: Order) -> None:
    stage.send(order.comp_id, CancelRequest(stage.name(), order.last_name, order.request.symbol, order.request.side))


def go_to(stage: Stage, now_ns: int, *phases: Phase) -> None:
    for phase in phases:
        stage.now_ns = now_ns
        stage.venue.advance(now_ns)
        stage.enter(phase)


def test_execution_ids_count_on_and_name_the_journal(stage: Stage) -> None:
    stage.put("ANN", BUY, 10, BASE)
    stage.put("BOB", SELL, 10, BASE)
    session = stage.journal.header.feed_session
    told = [each.exec_id for each in stage.market.reports if isinstance(each, Execution)]
    assert told == [f"e{session}-{number}" for number in range(1, 5)]


def test_a_rejected_duplicate_leaves_the_first_order_as_it_was(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, BASE)
    before = terms_of(order)
    stage.send("ANN", replace(order.request, side=SELL, order_qty="99"))
    assert stage.told(order)[-1] == "80 0 0 10"
    assert (terms_of(order), stage.market.find("ANN", "c1")) == (before, order)
    other = stage.put("BOB", BUY, 10, BASE)  # names are each counterparty's own
    stage.send("BOB", replace(other.request, cl_ord_id="c1"))
    assert stage.market.find("BOB", "c1") is not order


@pytest.mark.parametrize(
    ("fills", "rounded_price"),
    [(((1, 100),), 100), (((1, 100), (1, 101)), 101), (((2, 100), (1, 101)), 100), (((1, 100), (2, 101)), 101)],
)
def test_the_average_price_is_rounded_half_up(fills: tuple[tuple[int, int], ...], rounded_price: int) -> None:
    notional = sum(shares * price for shares, price in fills)
    assert average(notional, sum(shares for shares, _ in fills)) == rounded_price


def test_prices_on_the_wire_are_made_from_integers(stage: Stage) -> None:
    for price in (BASE + 100, BASE + 150):
        stage.put("BOB", SELL, 10, price)
    order = stage.put("ANN", BUY, 15, None)
    fields = [
        dict(each.split("=", 1) for each in dialect.report(said, 0).split(dialect.SOH) if each)
        for said in executions(order, stage)
    ]
    assert [(each["31"], each["6"]) for each in fields] == [("0.00", "0.00"), ("10.01", "10.01"), ("10.015", "10.0117")]


@pytest.mark.parametrize(("shares", "filled"), [(20, 20), (21, 0)])
def test_fill_or_kill_is_all_or_nothing(stage: Stage, shares: int, filled: int) -> None:
    resting = [stage.put("BOB", SELL, 10, price) for price in (BASE, BASE + STEP, BASE + 2 * STEP)]
    order = stage.put("ANN", BUY, shares, BASE + STEP, "4")
    assert (order.cum, order.leaves, sum(each.cum for each in resting)) == (filled, 0, filled)


def test_an_order_replaced_to_less_than_it_has_ends_with_what_it_has(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 30, BASE)
    stage.put("BOB", SELL, 20, BASE)
    replace_(stage, order, 10)
    assert (stage.told(order)[-1], order.quantity, order.request.order_qty) == ("52 0 20 0", 20, "20")


def test_what_cannot_be_done_is_refused(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, BASE)
    stage.put("BOB", SELL, 5, BASE)
    told = len(stage.market.reports)
    acts: list[tuple[str, Any]] = [
        ("halt", Halt("ZZZ")),
        ("resume", Resume("AAA")),
        ("bust", Bust("nothing")),
        ("bust", Bust(executions(order, stage)[0].exec_id)),
        ("correct", Correct(trade_of(order, stage), 11, BASE)),
        ("correct", Correct(trade_of(order, stage), 5, BASE + 1)),
        ("trade", Trade(order.order_id, 6, BASE)),
        ("trade", Trade("nothing", 5, BASE)),
        ("restate", Restate(order.order_id, 4, 0, "4")),
        ("restate", Restate(order.order_id, 8, 0, "0")),
        ("mark", Mark(order.order_id, OrdStatus.FILLED)),
        ("mark", Mark(order.order_id, OrdStatus.CALCULATED)),
        ("release", Release(order.order_id)),
        ("split", Split("AAA", 2, 1)),
        ("telephone", Telephone("ANN", order.request)),
    ]
    for kind, act in acts:
        stage.operate(kind, act)
    assert sum(stage.refused.values()) == len(acts)
    assert len(stage.market.reports) == told


def test_an_order_that_was_refused_cannot_be_traded_by_hand(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, BASE, symbol="ZZZ")
    stage.operate("trade", Trade(order.order_id, 10, BASE))
    assert stage.refused["trade"] == 1


@pytest.mark.parametrize("mark", [OrdStatus.SUSPENDED, OrdStatus.STOPPED, OrdStatus.DONE_FOR_DAY])
def test_a_marked_order_that_is_cancelled_is_cancelled_and_nothing_else(stage: Stage, mark: OrdStatus) -> None:
    order = stage.put("ANN", BUY, 10, BASE, "1")
    stage.operate("mark", Mark(order.order_id, mark))
    assert order.status is mark
    cancel_(stage, order)
    assert stage.told(order)[-1] == "44 0 0 0"


def test_an_order_done_for_the_day_by_hand_is_renewed_after_the_close_and_not_before(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, BASE, "1")
    stage.operate("mark", Mark(order.order_id, OrdStatus.DONE_FOR_DAY))
    go_to(stage, EVENING, Phase.PRE_CLOSE, Phase.CLOSED)
    assert stage.told(order) == ["00 0 0 10", "33 0 0 10"]
    go_to(stage, MONDAY, CONTINUOUS)
    assert (order.status, order.displayed) == (OrdStatus.NEW, True)


def test_an_order_done_for_the_day_that_is_replaced_stays_out_of_the_market(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, BASE, "1")
    stage.operate("mark", Mark(order.order_id, OrdStatus.DONE_FOR_DAY))
    replace_(stage, order, 20)
    stage.put("BOB", SELL, 5, BASE)
    assert (order.leaves, order.book_ref, order.status) == (20, 0, OrdStatus.DONE_FOR_DAY)


def test_a_stop_order_that_is_replaced_while_it_is_held_still_waits_for_its_price(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, BASE, "1", ord_type=STOP_LIMIT, stop_px=written(3))
    stage.operate("mark", Mark(order.order_id, OrdStatus.DONE_FOR_DAY))
    replace_(stage, order, 20)
    go_to(stage, EVENING, Phase.CLOSED)
    go_to(stage, MONDAY, CONTINUOUS)
    assert (order.asleep, order.stop) == (True, BASE + 3 * STEP)


def test_a_bust_leaves_a_stop_order_waiting_and_a_suspended_one_suspended(stage: Stage) -> None:
    stop = stage.put("ANN", BUY, 10, None, ord_type=STOP, stop_px=written(3))
    held = stage.put("ANN", BUY, 10, BASE)
    stage.operate("mark", Mark(held.order_id, OrdStatus.SUSPENDED))
    for order in (stop, held):
        stage.operate("trade", Trade(order.order_id, 4, BASE))
        stage.operate("bust", Bust(trade_of(order, stage)))
    assert (stop.asleep, stop.leaves) == (True, 10)
    assert (held.status, held.leaves, held.book_ref) == (OrdStatus.SUSPENDED, 10, 0)


def test_a_bust_brings_back_a_stop_order_that_was_filled_by_hand_to_wait_again(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, None, ord_type=STOP, stop_px=written(3))
    stage.operate("trade", Trade(order.order_id, 10, BASE))
    assert order.status is OrdStatus.FILLED
    stage.operate("bust", Bust(trade_of(order, stage)))
    assert (order.asleep, order.leaves) == (True, 10)


def test_a_bust_ends_what_was_to_execute_at_once(stage: Stage) -> None:
    resting = stage.put("ANN", SELL, 30, BASE)
    taker = stage.put("BOB", BUY, 10, BASE, "3")
    stage.operate("bust", Bust(trade_of(taker, stage)))
    assert stage.told(taker)[-2:] == ["10 0 0 10", "44 0 0 0"]
    assert (resting.leaves, resting.displayed) == (30, True)


def test_an_order_till_a_time_ends_then_also_when_it_was_filled_meanwhile(stage: Stage) -> None:
    order, late = (
        stage.put("ANN", SELL, 10, BASE, "6", expire_time=at) for at in ("20261120-19:00:00", "20261120-17:30:00")
    )
    stage.put("BOB", BUY, 20, BASE, "3")
    stage.wait(HOUR)  # nobody waits for their times any more
    for each in (order, late):
        stage.operate("bust", Bust(trade_of(each, stage)))
    assert (order.is_open, late.ended) == (True, OrdStatus.EXPIRED)
    stage.wait(HOUR)
    assert order.ended is OrdStatus.EXPIRED


def test_an_order_of_a_day_that_is_over_gets_no_shares_by_a_bust_or_a_replace(stage: Stage) -> None:
    order, other = (stage.put("ANN", SELL, 10, BASE) for _ in range(2))
    stage.put("BOB", BUY, 20, BASE, "3")
    go_to(stage, EVENING, Phase.CLOSED)
    go_to(stage, MONDAY, CONTINUOUS)
    replace_(stage, other, 20)
    assert isinstance(stage.market.reports[-1], CancelReject)
    assert other.status is OrdStatus.FILLED
    stage.operate("bust", Bust(trade_of(order, stage)))
    assert stage.told(order)[-2:] == ["10 0 0 10", "CC 0 0 0"]


def test_an_order_for_the_opening_gets_no_shares_after_it(stage: Stage) -> None:
    go_to(stage, stage.now_ns, Phase.PRE_OPEN)
    order = stage.put("ANN", BUY, 10, BASE, "2")
    stage.put("BOB", SELL, 10, BASE)
    go_to(stage, stage.now_ns, CONTINUOUS)
    assert order.status is OrdStatus.FILLED
    replace_(stage, order, 20)
    assert (order.status, order.leaves) == (OrdStatus.FILLED, 0)


def test_a_lasting_order_that_comes_back_on_a_later_day_begins_that_day(stage: Stage) -> None:
    busted, replaced = (stage.put("ANN", SELL, 10, BASE, "1") for _ in range(2))
    stage.put("BOB", BUY, 20, BASE, "3")
    go_to(stage, EVENING, Phase.CLOSED)
    go_to(stage, MONDAY, CONTINUOUS)
    stage.operate("bust", Bust(trade_of(busted, stage)))
    replace_(stage, replaced, 15)
    assert (busted.day, replaced.day) == ((10, 0, 0), (5, 0, 0))
    assert stage.told(busted)[-1] == "D0 0 0 10"


def test_a_lasting_order_that_comes_back_at_night_waits_for_the_morning(stage: Stage) -> None:
    order = stage.put("ANN", SELL, 10, BASE, "1")
    crossing = stage.put("BOB", BUY, 10, BASE, "1")
    go_to(stage, EVENING, Phase.CLOSED)
    stage.operate("bust", Bust(trade_of(order, stage)))
    assert (order.status, order.book_ref, crossing.status) == (OrdStatus.DONE_FOR_DAY, 0, OrdStatus.CANCELED)
    go_to(stage, MONDAY, CONTINUOUS)
    assert (order.status, bool(order.book_ref)) == (OrdStatus.NEW, True)


def test_a_correction_belongs_to_the_day_of_what_it_corrects(stage: Stage) -> None:
    order = stage.put("ANN", SELL, 20, BASE, "1")
    stage.put("BOB", BUY, 10, BASE, "3")
    go_to(stage, EVENING, Phase.CLOSED)
    go_to(stage, MONDAY, CONTINUOUS)
    stage.operate("correct", Correct(trade_of(order, stage), 5, BASE))
    assert order.day == (15, 0, 0)
    stage.operate("bust", Bust(trade_of(order, stage)))
    assert order.day == (20, 0, 0)


def test_an_order_that_works_again_is_no_longer_calculated(stage: Stage) -> None:
    busted, replaced = (stage.put("ANN", SELL, 10, BASE) for _ in range(2))
    stage.put("BOB", BUY, 20, BASE, "3")
    for order in (busted, replaced):
        stage.operate("mark", Mark(order.order_id, OrdStatus.CALCULATED))
        assert order.status is OrdStatus.CALCULATED
    stage.operate("bust", Bust(trade_of(busted, stage)))
    replace_(stage, replaced, 15)
    assert (busted.status, replaced.status) == (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED)


def test_a_held_order_that_is_restated_to_what_it_has_is_filled(stage: Stage) -> None:
    order = stage.put("ANN", SELL, 20, BASE, "1")
    stage.put("BOB", BUY, 10, BASE)
    stage.operate("mark", Mark(order.order_id, OrdStatus.DONE_FOR_DAY))
    stage.operate("restate", Restate(order.order_id, 10, 0, "4"))
    assert stage.told(order)[-1] == "D2 0 10 0"


def test_a_split_moves_last_price_orders_and_house(tmp_path: Path) -> None:
    stage = Stage(tmp_path, MANUAL, Conduct(), levels=1)
    stage.enter(CONTINUOUS)
    order = stage.put("ANN", BUY, 10, BASE - 10 * STEP, "1")
    stage.enter(Phase.CLOSED)
    stage.operate("split", Split("AAA", 2, 1))
    listing = stage.market.listings["AAA"]
    assert (order.quantity, order.price, listing.last) == (20, (BASE - 10 * STEP) // 2, BASE // 2)
    stage.enter(CONTINUOUS)
    assert (listing.book.best(BUY), listing.book.best(SELL)) == (BASE // 2 - 40 * TICK, BASE // 2 + 40 * TICK)
    stage.venue.flush()
    audited(stage.journal)
    stage.close()


def test_a_split_wakes_no_stop_order(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, None, "1", ord_type=STOP, stop_px=written(2))
    go_to(stage, EVENING, Phase.CLOSED)
    stage.operate("split", Split("AAA", 2, 1))
    go_to(stage, MONDAY, CONTINUOUS)
    assert (order.asleep, order.stop) == (True, (BASE + 2 * STEP) // 2)


def test_stop_orders_reached_by_one_trade_come_to_market_oldest_first(stage: Stage) -> None:
    first, second = (
        stage.put("ANN", BUY, 10, None, ord_type=STOP, stop_px=written(price), account="y") for price in (3, 2)
    )
    stage.put("BOB", SELL, 20, BASE + 3 * STEP)
    stage.put("ANN", BUY, 10, BASE + 3 * STEP)
    assert (first.cum, second.cum) == (10, 0)


def test_a_stop_order_that_trades_wakes_the_next(stage: Stage) -> None:
    for price in (1, 2, 3):
        stage.put("BOB", SELL, 10, BASE + price * STEP)
    last, first = (
        stage.put("ANN", BUY, 10, None, ord_type=STOP, stop_px=written(price), account="y") for price in (2, 1)
    )
    stage.put("ANN", BUY, 10, BASE + STEP)
    assert (first.average_price, last.average_price) == (BASE + 2 * STEP, BASE + 3 * STEP)


def test_a_split_keeps_the_days_of_an_order_apart(stage: Stage) -> None:
    order = stage.put("ANN", SELL, 40, BASE, "1")
    stage.put("BOB", BUY, 10, BASE, "3")
    go_to(stage, EVENING, Phase.CLOSED)
    go_to(stage, MONDAY, Phase.PRE_OPEN)
    go_to(stage, MONDAY, Phase.CLOSED)
    stage.operate("split", Split("AAA", 2, 1))
    assert (order.average_price, order.day) == (BASE // 2, Day(60, 0, 0))
    go_to(stage, MONDAY, CONTINUOUS)
    stage.put("BOB", BUY, 5, BASE, "3")
    assert order.day == Day(60, 5, BASE // 2)


def test_the_house_stays_away_from_orders_that_gather_unseen_so_that_the_feed_tells_who_was_first(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, MANUAL, Conduct(), levels=1)
    stage.enter(CONTINUOUS)
    bid = stage.market.listings["AAA"].book.best(BUY)
    assert bid is not None
    stage.put("BOB", SELL, 40, bid)  # uses up the house's bid, which cannot return while this rests
    stage.enter(Phase.PRE_OPEN)
    order = stage.put("ANN", BUY, 10, bid, "1")
    for phase in (Phase.CLOSED, Phase.PRE_OPEN, CONTINUOUS):
        stage.enter(phase)
    assert order.displayed
    stage.venue.flush()
    audited(stage.journal)
    stage.close()


def test_a_split_leaves_a_price_of_a_tick_at_least_and_none_that_the_feed_cannot_carry(stage: Stage) -> None:
    go_to(stage, EVENING, Phase.CLOSED)
    for _ in range(3):
        stage.operate("split", Split("AAA", 100, 1))
    assert stage.market.listings["AAA"].last == TICK
    for _ in range(5):
        stage.operate("split", Split("BBB", 1, 100))
    assert stage.refused["split"] == 3
    assert stage.market.listings["BBB"].last == BASE * 10_000


def test_a_trade_in_shares_that_were_split_since_is_not_busted(stage: Stage) -> None:
    order = stage.put("ANN", SELL, 10, BASE, "1")
    stage.put("BOB", BUY, 10, BASE)
    go_to(stage, EVENING, Phase.CLOSED)
    stage.operate("split", Split("AAA", 2, 1))
    stage.operate("bust", Bust(trade_of(order, stage)))
    assert stage.refused["bust"] == 1


def test_what_is_asked_about_a_pending_order_waits_for_it_also_when_the_clock_was_set_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ALWAYS, Conduct(answer_delay_ns=DELAY))
    order = stage.put("ANN", BUY, 10, BASE)
    stage.close()
    stage.conduct = Conduct()
    stage.open(FRIDAY_NOON - HOUR)
    stage.now_ns -= HOUR
    order = stage.market.orders[order.ref]
    cancel_(stage, order)
    assert order.status is OrdStatus.PENDING_CANCEL
    stage.wait(2 * HOUR)
    assert [each.split()[0] for each in stage.told(order)] == ["AA", "66", "06", "44"]
    stage.close()
