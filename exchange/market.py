"""The venue's rules: which orders enter, what they execute against, what is said about it. No I/O, no clock.

Everything here is a function of the sequence of calls, so replaying a journal gives the same orders, executions
and feed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from exchange.book import Book, Fill
from exchange.checks import broken_rule, read_terms
from exchange.orders import (
    IMMEDIATE_OR_CANCEL,
    NO_ORDER_ID,
    ExecType,
    Execution,
    NewOrder,
    Order,
    OrdStatus,
    Side,
)
from exchange.reasons import Refusal
from exchange.times import trade_date


@dataclass(frozen=True, slots=True)
class Instrument:
    """A symbol, and the house's liquidity in it. `price` and `tick` in 1/10,000 dollar."""

    symbol: str
    price: int
    tick: int
    levels: int
    shares_per_level: int
    first_level_ticks: int
    level_step_ticks: int


class Listed(NamedTuple):
    """Feed: a symbol is traded; `locate` is its number on the feed, from 1."""

    locate: int
    symbol: str


class Added(NamedTuple):
    """Feed: an order rests in the book."""

    locate: int
    ref: int
    side: Side
    shares: int
    symbol: str
    price: int


class Executed(NamedTuple):
    """Feed: shares of a resting order traded at its price."""

    locate: int
    ref: int
    shares: int
    match: int


FeedEvent = Listed | Added | Executed


class _Quote(NamedTuple):
    """What an order adds to the book. The house's quotes come back whole whenever they are used up."""

    side: Side
    price: int
    shares: int


@dataclass(slots=True)
class _Listing:
    instrument: Instrument
    locate: int
    book: Book = field(default_factory=Book)
    used_up: list[_Quote] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What one event led to, in order."""

    now_ns: int
    executions: list[Execution] = field(default_factory=list)
    feed: list[FeedEvent] = field(default_factory=list)


class Market:
    """All books of the venue, and every order it ever heard of.

    `feed_session` names the journal: it makes ids unique across journals of one trade date.
    """

    def __init__(self, feed_session: str) -> None:
        self._feed_session = feed_session
        self._listings: dict[str, _Listing] = {}
        self._orders: dict[tuple[str, str], Order] = {}
        self._resting: dict[int, Order] = {}
        self._house: dict[int, _Quote] = {}
        self._refs = self._executions = self._matches = 0

    def instrument(self, symbol: str) -> Instrument | None:
        listing = self._listings.get(symbol)
        return listing.instrument if listing else None

    def find(self, comp_id: str, cl_ord_id: str) -> Order | None:
        """The counterparty's order, rejected ones included."""
        return self._orders.get((comp_id, cl_ord_id))

    def book(self, symbol: str) -> Book:
        """KeyError if the symbol is not traded."""
        return self._listings[symbol].book

    def add_instrument(self, instrument: Instrument, now_ns: int) -> Outcome:
        """Lists a symbol and seeds its book."""
        assert instrument.symbol not in self._listings, f"{instrument.symbol} is listed already"
        listing = self._listings[instrument.symbol] = _Listing(instrument, len(self._listings) + 1)
        outcome = Outcome(now_ns, feed=[Listed(listing.locate, instrument.symbol)])
        listing.used_up = list(_house_orders(instrument))
        self._replenish(listing, outcome)
        return outcome

    def place(self, comp_id: str, request: NewOrder, now_ns: int, is_open: bool) -> Outcome:
        """A NewOrderSingle(D): a rejection, or the order's whole way until it rests or is done."""
        outcome = Outcome(now_ns)
        listing = self._listings.get(request.symbol)
        terms = read_terms(request)
        tick = listing.instrument.tick if listing else None
        known = (comp_id, request.cl_ord_id) in self._orders
        refusal = broken_rule(request, terms, tick, known, is_open)
        if refusal:
            self._reject(comp_id, request, refusal, outcome)
            return outcome
        assert listing is not None
        assert terms.shares is not None
        order = self._enter(comp_id, request, terms.price, terms.shares)
        self._report(order, ExecType.NEW, outcome)
        self._match(order, listing, outcome)
        self._replenish(listing, outcome)
        return outcome

    def _enter(self, comp_id: str, request: NewOrder, price: int | None, shares: int) -> Order:
        ref = self._next_ref()
        order = Order(comp_id, f"o{self._feed_session}-{ref}", ref, request, price, shares)
        self._orders[comp_id, request.cl_ord_id] = order
        return order

    def _reject(self, comp_id: str, request: NewOrder, refusal: Refusal, outcome: Outcome) -> None:
        if refusal is Refusal.DUPLICATE_CL_ORD_ID:
            # The name belongs to the first order, whose state this rejection must not touch.
            order = Order(comp_id, NO_ORDER_ID, 0, request, None, 0)
        else:
            order = self._enter(comp_id, request, None, 0)
        order.status, order.refusal = OrdStatus.REJECTED, refusal
        self._report(order, ExecType.REJECTED, outcome)

    def _match(self, order: Order, listing: _Listing, outcome: Outcome) -> None:
        side = Side(order.request.side)
        for fill in listing.book.take(side, order.price, order.leaves):
            self._trade(order, fill, listing, outcome)
        if not order.leaves:
            return
        if order.price is None or order.request.time_in_force == IMMEDIATE_OR_CANCEL:
            order.leaves, order.status = 0, OrdStatus.CANCELED
            self._report(order, ExecType.CANCELED, outcome)
        else:
            self._resting[order.ref] = order
            self._rest(listing, order.ref, _Quote(side, order.price, order.leaves), outcome)

    def _trade(self, order: Order, fill: Fill, listing: _Listing, outcome: Outcome) -> None:
        self._matches += 1
        outcome.feed.append(Executed(listing.locate, fill.ref, fill.shares, self._matches))
        order.fill(fill.shares, fill.price)
        self._report_fill(order, fill, outcome)
        house = self._house.get(fill.ref)
        if house is None:
            resting = self._resting[fill.ref]
            resting.fill(fill.shares, fill.price)
            self._report_fill(resting, fill, outcome)
        if fill.left:
            return
        if house is None:
            del self._resting[fill.ref]
        else:
            del self._house[fill.ref]
            listing.used_up.append(house)

    def _replenish(self, listing: _Listing, outcome: Outcome) -> None:
        """The house's used-up orders return, but never into a customer's resting order: one that would cross waits."""
        if not listing.used_up:
            return
        waiting = []
        for house in listing.used_up:
            if listing.book.crosses(house.side, house.price):
                waiting.append(house)
                continue
            ref = self._next_ref()
            self._house[ref] = house
            self._rest(listing, ref, house, outcome)
        listing.used_up = waiting

    def _rest(self, listing: _Listing, ref: int, quote: _Quote, outcome: Outcome) -> None:
        listing.book.rest(ref, quote.side, quote.price, quote.shares)
        symbol = listing.instrument.symbol
        outcome.feed.append(Added(listing.locate, ref, quote.side, quote.shares, symbol, quote.price))

    def _report_fill(self, order: Order, fill: Fill, outcome: Outcome) -> None:
        exec_type = ExecType.PARTIAL_FILL if order.leaves else ExecType.FILL
        self._report(order, exec_type, outcome, fill.shares, fill.price)

    def _report(
        self, order: Order, exec_type: ExecType, outcome: Outcome, last_shares: int = 0, last_px: int = 0
    ) -> None:
        self._executions += 1
        execution = Execution(
            number=self._executions,
            exec_id=f"e{self._feed_session}-{self._executions}",
            order=order,
            exec_type=exec_type,
            ord_status=order.status,
            last_shares=last_shares,
            last_px=last_px,
            cum_qty=order.cum,
            leaves_qty=order.leaves,
            avg_px=order.average_price,
            trade_date=trade_date(outcome.now_ns),
            transact_time_ns=outcome.now_ns,
        )
        outcome.executions.append(execution)

    def _next_ref(self) -> int:
        self._refs += 1
        return self._refs


def _house_orders(instrument: Instrument) -> Iterator[_Quote]:
    for level in range(instrument.levels):
        away = (instrument.first_level_ticks + level * instrument.level_step_ticks) * instrument.tick
        if instrument.price > away:
            yield _Quote(Side.BUY, instrument.price - away, instrument.shares_per_level)
        yield _Quote(Side.SELL, instrument.price + away, instrument.shares_per_level)
