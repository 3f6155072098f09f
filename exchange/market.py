"""The venue's state, and what every rule does with it: reports, trades, an order's way into and out of a book.

Nothing here knows a clock or the outside: the same sequence of events gives the same orders, reports and feed. Which
event does what stands in `rules.py`.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heappush
from typing import Any, Final, NamedTuple, TypedDict, Unpack

from exchange.book import Book, Fill
from exchange.events import Added, Deleted, Executed, Listed, Outcome, Phase
from exchange.orders import (
    NO_ORDER_ID,
    CancelReject,
    CancelRequest,
    ExecType,
    Execution,
    NewOrder,
    Order,
    OrdStatus,
    ReplaceRequest,
    Report,
    Restatement,
    Side,
    TransType,
)
from exchange.reasons import CancelRefusal, Refusal
from exchange.stops import Stops
from exchange.times import trade_date

_HELD: Final = frozenset({OrdStatus.SUSPENDED, OrdStatus.DONE_FOR_DAY})


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


class Quote(NamedTuple):
    """One of the house's orders; it comes back whole whenever it is used up."""

    side: Side
    price: int
    shares: int


@dataclass(slots=True)
class Listing:
    """A symbol's trading. `last` is the price of its last trade, before the first one its configured price."""

    instrument: Instrument
    locate: int
    last: int
    book: Book = field(default_factory=Book)
    stops: Stops = field(default_factory=Stops)
    used_up: list[Quote] = field(default_factory=list)
    hidden: dict[int, Order] = field(default_factory=dict)  # gather unseen, by the reference in the book
    halted: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that has been acknowledged and is decided later."""

    session: str
    body: NewOrder | CancelRequest | ReplaceRequest
    refused: bool
    order: Order
    received_ns: int


class Done(NamedTuple):
    """An act of the operator, and the reports it led to."""

    kind: str
    body: Any
    reports: list[Report]


class Said(TypedDict, total=False):
    """What an ExecutionReport(8) says beyond how the order stands. `name`, `orig`: ClOrdID(11) and OrigClOrdID(41) of
    the request that is answered; `ref_id`: ExecRefID(19); `why`: ExecRestatementReason(378)."""

    trans_type: TransType
    name: str
    orig: str
    ref_id: str
    shares: int
    price: int
    match: int
    text: str
    why: Restatement | None
    refusal: Refusal


class Market:
    """All books of the venue, and every order and report it ever made.

    `feed_session` names the journal: it makes ids unique across journals of one trade date.
    """

    def __init__(self, feed_session: str) -> None:
        self._feed_session = feed_session
        self.phase = Phase.CLOSED
        self.trade_date = ""  # of the phase; "" before the first
        self.listings: dict[str, Listing] = {}
        self.orders: dict[int, Order] = {}
        self.names: dict[tuple[str, str], Order | None] = {}  # None: of a cancel or replace of no order
        self.open: dict[int, Order] = {}
        self.resting: dict[int, Order] = {}  # by the reference in the book
        self.house: dict[int, Quote] = {}
        self.pending: deque[Pending] = deque()
        self.reports: list[Report] = []
        self.sides: dict[int, list[int]] = {}  # match -> numbers of the executions that stand for it
        self.telephoned: list[Order] = []
        self.acts: dict[str, Done] = {}  # the operator's, by their keys
        self.latest: dict[str, int] = {}  # reference of each counterparty's newest order
        self.departed: dict[str, int] = {}  # and of the newest one before its last cancel on disconnect
        self.todays = set[int]()  # references of the orders that were accepted, or renewed, since the last close
        self.expiries: list[tuple[int, int]] = []  # a heap of (expires_ns, ref); what is no longer so is skipped
        self._refs = self._matches = 0

    def find(self, comp_id: str, cl_ord_id: str) -> Order | None:
        """The counterparty's order of that name or one of its requests, refused ones included."""
        return self.names.get((comp_id, cl_ord_id))

    def order(self, order_id: str) -> Order | None:
        """By OrderID(37)."""
        _, _, ref = order_id.rpartition("-")
        order = self.orders.get(_number(ref))
        return order if order is not None and order.order_id == order_id else None

    def listing_of(self, order: Order) -> Listing:
        return self.listings[order.request.symbol]

    def is_departed(self, order: Order) -> bool:
        """Whether its owner was disconnected since, and has orders cancelled then: it never comes back to market."""
        return order.ref <= self.departed.get(order.comp_id, 0)

    def is_call(self, listing: Listing) -> bool:
        """Whether orders only gather, to trade at one price later."""
        return self.phase is not Phase.OPEN or listing.halted

    def add_instrument(self, instrument: Instrument, outcome: Outcome) -> None:
        """Lists a symbol and seeds its book."""
        assert instrument.symbol not in self.listings, f"{instrument.symbol} is listed already"
        listing = Listing(instrument, len(self.listings) + 1, instrument.price)
        self.listings[instrument.symbol] = listing
        outcome.feed.append(Listed(listing.locate, instrument.symbol))
        listing.used_up = list(_house_orders(instrument))
        self.show_house(listing, outcome)

    def create(self, comp_id: str, request: NewOrder) -> Order:
        """An order that nothing has been decided about yet."""
        ref = self.next_ref()
        order = Order(comp_id, f"o{self._feed_session}-{ref}", ref, request, request.cl_ord_id)
        self.orders[ref] = order
        self.latest[comp_id] = ref
        if request.cl_ord_id:
            self.names[comp_id, request.cl_ord_id] = order
        return order

    def nameless(self, comp_id: str, request: NewOrder) -> Order:
        """An order that is refused for its name: the name belongs to another, whose state this must not touch."""
        return Order(comp_id, NO_ORDER_ID, 0, request, request.cl_ord_id)

    def expires(self, order: Order, expires_ns: int | None) -> None:
        order.expires_ns = expires_ns
        if expires_ns is not None:
            heappush(self.expiries, (expires_ns, order.ref))

    # Books

    def rest(self, order: Order, outcome: Outcome, *, shown: bool) -> None:
        """The order joins the end of its level's queue."""
        listing = self.listing_of(order)
        order.book_ref = order.place = self.next_ref()
        self.resting[order.book_ref] = listing.hidden[order.book_ref] = order
        listing.book.rest(order.book_ref, order.side, order.price, order.leaves, order.owner)
        if shown:
            self.show(order, outcome)

    def show(self, order: Order, outcome: Outcome) -> None:
        assert order.price is not None
        order.displayed = True
        listing, symbol = self.listing_of(order), order.request.symbol
        del listing.hidden[order.book_ref]
        outcome.feed.append(Added(listing.locate, order.book_ref, order.side, order.leaves, symbol, order.price))

    def wait(self, order: Order) -> None:
        """A stop order waits for its price, behind those that do."""
        order.asleep, order.place = True, self.next_ref()
        self.listing_of(order).stops.add(order)

    def withdraw(self, order: Order, outcome: Outcome) -> None:
        """Out of the book or from among the stop orders, if it is there."""
        listing = self.listing_of(order)
        if order.asleep:
            listing.stops.remove(order)
            order.asleep = False
        if not order.book_ref:
            return
        listing.book.remove(order.book_ref)
        if order.displayed:
            outcome.feed.append(Deleted(listing.locate, order.book_ref))
        self.left_book(order)

    def left_book(self, order: Order) -> None:
        del self.resting[order.book_ref]
        self.listing_of(order).hidden.pop(order.book_ref, None)
        order.book_ref, order.displayed = 0, False

    def replenish(self, listing: Listing, outcome: Outcome) -> None:
        """The house's used-up orders return, but never into a customer's resting order: one that would cross waits."""
        if listing.used_up and not self.is_call(listing):
            self.show_house(listing, outcome)

    def show_house(self, listing: Listing, outcome: Outcome) -> None:
        waiting = []
        for quote in listing.used_up:
            if listing.book.crosses(quote.side, quote.price):
                waiting.append(quote)
                continue
            ref = self.next_ref()
            self.house[ref] = quote
            listing.book.rest(ref, quote.side, quote.price, quote.shares)
            symbol = listing.instrument.symbol
            outcome.feed.append(Added(listing.locate, ref, quote.side, quote.shares, symbol, quote.price))
        listing.used_up = waiting

    def requote(self, listing: Listing, price: int, outcome: Outcome) -> None:
        """The house's liquidity lies around `price`, from when trading begins: shown before, it would seem to stand
        ahead of orders that gather unseen."""
        for ref in [ref for side in Side for _, ref, _ in listing.book.orders(side) if ref in self.house]:
            listing.book.remove(ref)
            del self.house[ref]
            outcome.feed.append(Deleted(listing.locate, ref))
        listing.instrument = replace(listing.instrument, price=price)
        listing.used_up = list(_house_orders(listing.instrument))

    # Trades

    def trade(self, order: Order, fill: Fill, listing: Listing, outcome: Outcome) -> None:
        """An incoming order executes against a resting one, at the resting one's price."""
        match = self.next_match()
        listing.last = fill.price
        outcome.feed.append(Executed(listing.locate, fill.ref, fill.shares, match))
        self.report_fill(order, fill.shares, fill.price, match, outcome)
        self.fill_resting(listing, fill, match, outcome)

    def fill_resting(self, listing: Listing, fill: Fill, match: int, outcome: Outcome) -> None:
        """What the book has told of one of its orders, the house's included."""
        order = self.resting.get(fill.ref)
        if order is not None:
            self.report_fill(order, fill.shares, fill.price, match, outcome)
            if not fill.left:
                self.left_book(order)
        elif not fill.left:
            listing.used_up.append(self.house.pop(fill.ref))

    def report_fill(self, order: Order, shares: int, price: int, match: int, outcome: Outcome) -> None:
        order.fill(shares, price)
        exec_type = ExecType.PARTIAL_FILL if order.leaves else ExecType.FILL
        done = self.report(order, exec_type, outcome, shares=shares, price=price, match=match)
        self.sides.setdefault(match, []).append(done.number)

    def end(
        self, order: Order, status: OrdStatus, outcome: Outcome, text: str = "", why: Restatement | None = None
    ) -> None:
        """The order is over, whatever was filled before; `why` where nobody asked for it."""
        self.finish(order, status, outcome)
        self.report(order, ExecType(status.value), outcome, text=text, why=why)

    def finish(self, order: Order, status: OrdStatus, outcome: Outcome) -> None:
        """As `end`, and the caller tells. What is over is neither stopped nor suspended nor renewed any more: its last
        OrdStatus(39) says how it ended."""
        self.withdraw(order, outcome)
        order.marks.clear()
        order.end(status)

    def is_held(self, order: Order) -> bool:
        """Whether an open order is kept from the market, until it is released or its next day begins."""
        return not _HELD.isdisjoint(order.marks)

    def begin_day(self, order: Order) -> None:
        """The next report is the first of a further day of this order."""
        order.marks.discard(OrdStatus.DONE_FOR_DAY)
        order.base_cum, order.base_notional = order.cum, order.notional
        order.renewed_at = len(self.reports) + 1
        self.todays.add(order.ref)

    # Reports

    def report(self, order: Order, exec_type: ExecType, outcome: Outcome, **said: Unpack[Said]) -> Execution:
        """An ExecutionReport(8) of the order as it is now."""
        if not order.leaves:  # nothing is left to suspend or to renew
            self.open.pop(order.ref, None)
            order.marks -= _HELD
        number = len(self.reports) + 1
        request, name = order.request, said.get("name", "")
        why = said.get("why")
        done = Execution(
            number=number,
            exec_id=f"e{self._feed_session}-{number}",
            order=order,
            request=replace(request, cl_ord_id=name) if name else request,
            orig_cl_ord_id=said.get("orig", ""),
            trans_type=said.get("trans_type", TransType.NEW),
            exec_type=exec_type,
            ord_status=order.status,
            exec_ref_id=said.get("ref_id", ""),
            last_shares=said.get("shares", 0),
            last_px=said.get("price", 0),
            cum_qty=order.cum,
            leaves_qty=order.leaves,
            avg_px=order.average_price,
            day=order.day,
            restatement=why.value if why else "",
            refusal=said.get("refusal"),
            text=said.get("text", ""),
            match=said.get("match", 0),
            trade_date=trade_date(outcome.now_ns),
            transact_time_ns=outcome.now_ns,
        )
        self._tell(done, outcome)
        return done

    def reject_cancel(
        self,
        session: str,
        request: CancelRequest | ReplaceRequest,
        order: Order | None,
        refusal: CancelRefusal,
        outcome: Outcome,
        text: str = "",
    ) -> None:
        """An OrderCancelReject(9). It leaves the order as it was."""
        reject = CancelReject(
            len(self.reports) + 1,
            session,
            order,
            request.cl_ord_id,
            request.orig_cl_ord_id,
            order.status if order else OrdStatus.REJECTED,
            "1" if isinstance(request, CancelRequest) else "2",
            refusal,
            text or refusal.text,
            outcome.now_ns,
        )
        self._tell(reject, outcome)

    def _tell(self, report: Report, outcome: Outcome) -> None:
        self.reports.append(report)
        outcome.reports.append(report)

    def execution(self, exec_id: str) -> Execution | None:
        """By ExecID(17)."""
        prefix, _, number = exec_id.rpartition("-")
        if prefix != f"e{self._feed_session}":
            return None
        at = _number(number) - 1
        report = self.reports[at] if 0 <= at < len(self.reports) else None
        return report if isinstance(report, Execution) and report.exec_id == exec_id else None

    def next_ref(self) -> int:
        self._refs += 1
        return self._refs

    def next_match(self) -> int:
        self._matches += 1
        return self._matches


def _number(text: str) -> int:
    """0 if it is none, or one that the venue has never counted to."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def _house_orders(instrument: Instrument) -> Iterator[Quote]:
    for level in range(instrument.levels):
        away = (instrument.first_level_ticks + level * instrument.level_step_ticks) * instrument.tick
        if instrument.price > away:
            yield Quote(Side.BUY, instrument.price - away, instrument.shares_per_level)
        yield Quote(Side.SELL, instrument.price + away, instrument.shares_per_level)
