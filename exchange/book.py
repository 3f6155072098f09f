"""One symbol's limit order book: price, then time. No I/O and no clock.

Prices are integers of 1/10,000 dollar, quantities whole shares. An order is known by its `ref`, a number that its
caller gives to one resting order at a time.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from exchange.auction import clearing
from exchange.orders import Side

# Looking a member up in its Enum costs as much as finding an order.
_BUY: Final = Side.BUY

# The key of unpriced orders: better than any price.
_ANY_PRICE: Final = 1 << 62


class Fill(NamedTuple):
    """`shares` of the resting order `ref` traded at its own `price`; `left` of it still rest."""

    ref: int
    price: int
    shares: int
    left: int


class Trade(NamedTuple):
    """Two resting orders traded `shares` in an auction, at its price; `buy_left` and `sell_left` of them still rest."""

    buy: int
    sell: int
    shares: int
    buy_left: int
    sell_left: int


class Uncrossed(NamedTuple):
    """An auction: its one price, all shares executed, and between whom."""

    price: int
    shares: int
    trades: list[Trade]


class _Resting:
    __slots__ = ("level", "owner", "ref", "shares")

    def __init__(self, ref: int, level: "_Level", shares: int, owner: str) -> None:
        self.ref = ref
        self.level = level
        self.shares = shares
        self.owner = owner


class _Level:
    """The orders at one price, the oldest first.

    An OrderedDict, because orders leave from the front (filled) as well as from anywhere (cancelled). A dict looks for
    its first entry past all those that were taken off before it, which adds up in a long queue. A deque has to keep
    cancelled orders and be swept of them, which shows as pauses of 35 us. On a mixed flow the three are equally fast.
    """

    __slots__ = ("half", "key", "orders")

    def __init__(self, half: "_Half", key: int) -> None:
        self.half = half
        self.key = key
        self.orders: OrderedDict[int, _Resting] = OrderedDict()

    @property
    def price(self) -> int | None:
        return None if self.key == _ANY_PRICE else self.key * self.half.sign


class _Half:
    """One side. A level's key is its price signed such that the best has the greatest key, hence stands last.

    No level is empty.
    """

    __slots__ = ("keys", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.levels: dict[int, _Level] = {}

    def level(self, key: int) -> _Level:
        """The level, made if there is none: an order must follow."""
        level = self.levels.get(key)
        if level is None:
            level = self.levels[key] = _Level(self, key)
            insort(self.keys, key)
        return level

    def drop(self, key: int) -> None:
        """Takes an empty level away."""
        del self.levels[key]
        if self.keys[-1] == key:
            self.keys.pop()
        else:
            del self.keys[bisect_left(self.keys, key)]

    def best_first(self) -> Iterator[_Level]:
        for key in reversed(self.keys):
            yield self.levels[key]

    def first(self) -> _Resting:
        """The order that trades next; IndexError if none rests."""
        return next(iter(self.levels[self.keys[-1]].orders.values()))

    def totals(self) -> list[tuple[int | None, int]]:
        return [(level.price, sum(each.shares for each in level.orders.values())) for level in self.best_first()]

    def orders(self) -> Iterator[_Resting]:
        for level in self.best_first():
            yield from level.orders.values()


class Book:
    """Resting orders of one symbol. `take` first, then `rest` what is left: the caller decides whether it may rest.

    While a call phase collects, orders `rest` without `take`, may cross, and may be unpriced; `uncross` ends it.
    Nothing is taken while an unpriced order rests, for it names no price to trade at.
    """

    __slots__ = ("_asks", "_bids", "_orders")

    def __init__(self) -> None:
        self._bids = _Half(1)
        self._asks = _Half(-1)
        self._orders: dict[int, _Resting] = {}

    def __len__(self) -> int:
        """How many orders rest."""
        return len(self._orders)

    def take(self, side: Side, limit: int | None, shares: int, owner: str = "") -> list[Fill]:
        """Executes an incoming order against the other side, as far as `limit` allows (None: at any price).

        Self-trade prevention: it stops before the first resting order of the same `owner`. "" is nobody's, and never
        stops.
        """
        half = self._asks if side is _BUY else self._bids
        worst = None if limit is None else limit * half.sign
        fills: list[Fill] = []
        keys = half.keys
        while shares and keys and (worst is None or keys[-1] >= worst):
            level = half.levels[keys[-1]]
            left = self._take_level(level, shares, owner, fills)
            if level.orders:
                break
            half.drop(level.key)
            shares = left
        return fills

    def _take_level(self, level: _Level, shares: int, owner: str, fills: list[Fill]) -> int:
        """Fills the oldest first; the shares still to fill. Orders left in the level are an end to it all the same."""
        assert level.key != _ANY_PRICE, "an unpriced order trades in an auction only"
        price = level.key * level.half.sign
        orders = level.orders
        while shares and orders:
            first = next(iter(orders.values()))
            if owner and first.owner == owner:
                break
            traded = min(shares, first.shares)
            shares -= traded
            fills.append(Fill(first.ref, price, traded, self._trade(first, traded)))
        return shares

    def _trade(self, resting: _Resting, shares: int) -> int:
        """Takes shares away, and the order with the last of them; what is left. Its level stays, also when empty."""
        resting.shares -= shares
        if not resting.shares:
            del resting.level.orders[resting.ref]
            del self._orders[resting.ref]
        return resting.shares

    def takeable(self, side: Side, limit: int | None, shares: int, owner: str = "") -> int:
        """How many shares `take` would execute, `shares` at most."""
        half = self._asks if side is _BUY else self._bids
        worst = -_ANY_PRICE if limit is None else limit * half.sign
        found = 0
        for resting in half.orders():
            if found >= shares or resting.level.key < worst or (owner and resting.owner == owner):
                break
            found += resting.shares
        return min(found, shares)

    def rest(self, ref: int, side: Side, price: int | None, shares: int, owner: str = "") -> None:
        """The order joins the end of its level's queue. None: an unpriced order, which only a call phase collects."""
        assert ref not in self._orders, f"{ref} rests already"
        assert shares > 0, f"{ref} has {shares} shares"
        half = self._bids if side is _BUY else self._asks
        level = half.level(_ANY_PRICE if price is None else price * half.sign)
        level.orders[ref] = self._orders[ref] = _Resting(ref, level, shares, owner)

    def remove(self, ref: int) -> int:
        """Takes the order out; the shares that were left of it. KeyError if it does not rest."""
        resting = self._orders.pop(ref)
        level = resting.level
        del level.orders[ref]
        if not level.orders:
            level.half.drop(level.key)
        return resting.shares

    def reduce(self, ref: int, shares: int) -> int:
        """Takes some of the shares away, and the order keeps its place; what is left. KeyError if it does not rest."""
        resting = self._orders[ref]
        assert 0 < shares < resting.shares, f"{ref} has {resting.shares} left, of which not {shares} go"
        resting.shares -= shares
        return resting.shares

    def crosses(self, side: Side, price: int) -> bool:
        """Whether somebody on the other side would trade at this price."""
        half = self._asks if side is _BUY else self._bids
        return bool(half.keys) and half.keys[-1] >= price * half.sign

    def best(self, side: Side) -> int | None:
        """The best limit."""
        half = self._bids if side is _BUY else self._asks
        return next((level.price for level in half.best_first() if level.price is not None), None)

    def orders(self, side: Side) -> Iterator[tuple[int | None, int, int]]:
        """(price, reference, shares) from the best price on, the oldest first within one; unpriced ones before all."""
        for resting in (self._bids if side is _BUY else self._asks).orders():
            yield resting.level.price, resting.ref, resting.shares

    def uncross(self, reference: int, tick: int = 1) -> Uncrossed | None:
        """The auction: all that can trade at one price does, by the rules of `clearing`. None if nothing can.

        Unpriced orders go first, then the better price, then the older order; the last one may be filled in part.
        Self-trade prevention does not act: an auction has no incoming order to stop. What could not trade rests on,
        unpriced orders included.
        """
        cleared = clearing(self._bids.totals(), self._asks.totals(), reference, tick)
        if cleared is None:
            return None
        price, shares = cleared
        return Uncrossed(price, shares, self._pair(shares))

    def _pair(self, shares: int) -> list[Trade]:
        """Trades the first `shares` of each side's queue against one another.

        The last trade comes out even, for one side has no more than `shares` at the auction's price.
        """
        trades = []
        while shares:
            buy, sell = self._bids.first(), self._asks.first()
            traded = min(buy.shares, sell.shares)
            shares -= traded
            trades.append(Trade(buy.ref, sell.ref, traded, self._trade(buy, traded), self._trade(sell, traded)))
            for level in (buy.level, sell.level):
                if not level.orders:
                    level.half.drop(level.key)
        return trades
