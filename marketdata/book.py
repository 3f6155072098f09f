"""The venue's book, kept from its ITCH messages: orders by reference, price levels, best prices, last trade.

Pure: the same messages give the same market. A message that contradicts the book (an unknown order, more shares than
the order has) puts its symbol in doubt for the rest of the session, for no later message can tell what is right.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final

from marketdata import itch

# Times of a session rise, but for the hour by which the clock is set back in autumn: a longer fall is a midnight.
_FALL_NS: Final = 2 * 3_600 * 10**9


@dataclass(frozen=True, slots=True)
class Quote:
    """Best prices and last trade of a symbol; a price of 0 means there is none. Times are UTC nanoseconds."""

    symbol: str
    bid_price: int = 0
    bid_quantity: int = 0
    ask_price: int = 0
    ask_quantity: int = 0
    last_price: int = 0
    last_quantity: int = 0
    changed_at_ns: int = 0
    stale: bool = True


class Side:
    """Shares by price on one side of one symbol, and the best price (0: none).

    Prices wait in a heap and leave it when they are found empty at its top, so that the next best price after a
    level is used up costs no walk over all levels.
    """

    __slots__ = ("_heap", "_queued", "_sign", "best", "levels")

    def __init__(self, sign: int) -> None:
        """`sign` is 1 where the lowest price is best (asks), -1 where the highest is."""
        self.levels: dict[int, int] = {}
        self.best = 0
        self._sign = sign
        self._heap: list[int] = []
        self._queued: set[int] = set()  # a level that comes and goes must not fill the heap

    @property
    def quantity(self) -> int:
        """Shares at the best price."""
        return self.levels.get(self.best, 0)

    def add(self, price: int, shares: int) -> bool:
        """Whether the best price or its quantity changed."""
        if price in self.levels:
            self.levels[price] += shares
            return price == self.best
        self.levels[price] = shares
        if price not in self._queued:
            self._queued.add(price)
            heappush(self._heap, self._sign * price)
        if not self.best or self._sign * price < self._sign * self.best:
            self.best = price
        return price == self.best

    def take(self, price: int, shares: int) -> bool:
        """Whether the best price or its quantity changed."""
        left = self.levels[price] - shares
        if left:
            self.levels[price] = left
            return price == self.best
        del self.levels[price]
        if price != self.best:
            return False
        self.best = self._next_best()
        return True

    def _next_best(self) -> int:
        while self._heap:
            price = self._sign * self._heap[0]
            if price in self.levels:
                return price
            heappop(self._heap)
            self._queued.discard(price)
        return 0


@dataclass(slots=True)
class Listing:
    """One symbol of the venue."""

    symbol: str
    round_lot: int
    halted: bool = True  # ITCH 4.2.2: halted until a trading action says otherwise
    doubtful: bool = False
    last_price: int = 0
    last_quantity: int = 0
    changed: tuple[int, int] | None = None  # day, counted from the session's first; nanoseconds since its midnight
    bids: Side = field(default_factory=lambda: Side(-1))
    asks: Side = field(default_factory=lambda: Side(1))


@dataclass(slots=True)
class Order:
    """A displayed order."""

    listing: Listing
    side: Side
    price: int
    shares: int


class Market:
    """All symbols of one feed session.

    `changed` gathers the symbols whose quote changed, until whoever tells the subscribers empties it. `counts` and
    `skipped` (by type byte) outlive the session: the owner passes them in.
    """

    def __init__(self, counts: Counter[str], skipped: Counter[int]) -> None:
        self.listings: dict[str, Listing] = {}
        self.orders: dict[int, Order] = {}
        self.changed: set[str] = set()
        self.phase = ""  # the last system event's code
        self.day = 0
        self.time_ns = 0
        self._by_locate: dict[int, Listing] = {}
        self._counts = counts
        self._skipped = skipped

    def set_clock(self, day: int, time_ns: int) -> None:
        """The next message is known to be of this day and time."""
        self.day, self.time_ns = day, time_ns

    def apply(self, message: bytes) -> None:
        """One ITCH message. What cannot be read or contradicts the book is counted, never raised."""
        kind = message[0] if message else 0
        rule = _RULES.get(kind)
        if rule is None:
            self._skipped[kind] += 1
            return
        layout, action = rule
        if len(message) != layout.size:
            self._doubt("misshapen", self._by_locate.get(int.from_bytes(message[1:3])))
            return
        fields = layout.unpack(message)
        time_ns = fields[1] << 32 | fields[2]
        if time_ns + _FALL_NS < self.time_ns:
            self.day += 1
        self.time_ns = time_ns
        action(self, *fields)

    def _changed(self, listing: Listing) -> None:
        listing.changed = self.day, self.time_ns
        self.changed.add(listing.symbol)

    def _doubt(self, what: str, listing: Listing | None) -> None:
        self._counts[what] += 1
        if listing is not None:
            listing.doubtful = True
            self.changed.add(listing.symbol)

    def _system_event(self, locate: int, upper: int, lower: int, event: bytes) -> None:
        self.phase = event.decode("ascii", "replace")

    def _directory(self, locate: int, upper: int, lower: int, stock: bytes, round_lot: int) -> None:
        symbol = itch.symbol(stock)
        listing = self.listings.setdefault(symbol, Listing(symbol, round_lot))
        listing.round_lot = round_lot
        self._by_locate[locate] = listing
        self.changed.add(symbol)

    def _trading_action(self, locate: int, upper: int, lower: int, stock: bytes, state: bytes) -> None:
        listing = self.listings.get(itch.symbol(stock))
        if listing is None:
            self._doubt("contradictory", None)
            return
        listing.halted = state != itch.TRADING

    def _add(self, locate: int, upper: int, lower: int, reference: int, side: bytes, shares: int, price: int) -> None:
        listing = self._by_locate.get(locate)
        if listing is None or side not in (itch.BUY, itch.SELL):
            self._doubt("contradictory", listing)
            return
        self._rest(reference, Order(listing, listing.bids if side == itch.BUY else listing.asks, price, shares))

    def _rest(self, reference: int, order: Order) -> None:
        if reference in self.orders or not order.shares or not order.price:
            self._doubt("contradictory", order.listing)
            return
        self.orders[reference] = order
        if order.side.add(order.price, order.shares):
            self._changed(order.listing)

    def _executed(self, locate: int, upper: int, lower: int, reference: int, shares: int) -> None:
        order = self._reduce(locate, reference, shares)
        if order is not None:
            self._trade(order.listing, order.price, shares)

    def _executed_at(
        self, locate: int, upper: int, lower: int, reference: int, shares: int, printable: bytes, price: int
    ) -> None:
        order = self._reduce(locate, reference, shares)
        if order is not None and printable == itch.PRINTABLE:  # the rest are told again, in one cross message
            self._trade(order.listing, price, shares)

    def _cancelled(self, locate: int, upper: int, lower: int, reference: int, shares: int) -> None:
        self._reduce(locate, reference, shares)

    def _deleted(self, locate: int, upper: int, lower: int, reference: int) -> None:
        self._remove(locate, reference)

    def _replaced(
        self, locate: int, upper: int, lower: int, reference: int, new_reference: int, shares: int, price: int
    ) -> None:
        old = self._remove(locate, reference)
        if old is not None:
            self._rest(new_reference, Order(old.listing, old.side, price, shares))

    def _hidden_trade(self, locate: int, upper: int, lower: int, shares: int, price: int) -> None:
        listing = self._by_locate.get(locate)
        if listing is None or not shares:
            self._doubt("contradictory", listing)
            return
        self._trade(listing, price, shares)

    def _cross(self, locate: int, upper: int, lower: int, shares: int, price: int) -> None:
        listing = self._by_locate.get(locate)
        if listing is None:
            self._doubt("contradictory", None)
        elif shares:  # an auction in which nothing crossed is told as well, with 0 shares
            self._trade(listing, price, shares)

    def _trade(self, listing: Listing, price: int, shares: int) -> None:
        listing.last_price, listing.last_quantity = price, shares
        self._changed(listing)

    def _reduce(self, locate: int, reference: int, shares: int) -> Order | None:
        order = self.orders.get(reference)
        if order is None or not 0 < shares <= order.shares:
            self._doubt("contradictory", order.listing if order else self._by_locate.get(locate))
            return None
        order.shares -= shares
        if not order.shares:
            del self.orders[reference]
        if order.side.take(order.price, shares):
            self._changed(order.listing)
        return order

    def _remove(self, locate: int, reference: int) -> Order | None:
        order = self.orders.get(reference)
        return self._reduce(locate, reference, order.shares if order else 0)


_ACTIONS: Final[dict[str, Callable[..., None]]] = {
    "S": Market._system_event,
    "R": Market._directory,
    "H": Market._trading_action,
    "A": Market._add,
    "F": Market._add,
    "E": Market._executed,
    "C": Market._executed_at,
    "X": Market._cancelled,
    "D": Market._deleted,
    "U": Market._replaced,
    "P": Market._hidden_trade,
    "Q": Market._cross,
}
_RULES: Final[dict[int, tuple[Any, Callable[..., None]]]] = {
    ord(kind): (itch.LAYOUTS[ord(kind)], action) for kind, action in _ACTIONS.items()
}
