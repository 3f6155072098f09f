"""One symbol's limit order book: price, then time. No I/O, no clock, and no owners: who a reference belongs to, others
know.

Prices are integers of 1/10,000 dollar, quantities whole shares.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from exchange.orders import Side


class Fill(NamedTuple):
    """`shares` of the resting order `ref` traded at its own `price`; `left` of it still rest."""

    ref: int
    price: int
    shares: int
    left: int


class _Resting:
    __slots__ = ("ref", "shares")

    def __init__(self, ref: int, shares: int) -> None:
        self.ref = ref
        self.shares = shares


class _Half:
    """One side. A level's key is its price signed such that the best has the greatest key, hence stands last."""

    __slots__ = ("keys", "queues", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.queues: dict[int, deque[_Resting]] = {}

    def add(self, ref: int, price: int, shares: int) -> None:
        key = self.sign * price
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = deque()
            insort(self.keys, key)
        queue.append(_Resting(ref, shares))

    def take(self, worst: int | None, shares: int) -> list[Fill]:
        fills: list[Fill] = []
        while shares and self.keys and (worst is None or self.keys[-1] >= worst):
            key = self.keys[-1]
            queue = self.queues[key]
            shares = _take_level(queue, key * self.sign, shares, fills)
            if not queue:
                self.keys.pop()
                del self.queues[key]
        return fills


def _take_level(queue: deque[_Resting], price: int, shares: int, fills: list[Fill]) -> int:
    """Fills the oldest first; what is left to fill."""
    while shares and queue:
        first = queue[0]
        traded = min(shares, first.shares)
        first.shares -= traded
        shares -= traded
        fills.append(Fill(first.ref, price, traded, first.shares))
        if not first.shares:
            queue.popleft()
    return shares


class Book:
    """Resting orders of one symbol. `take` first, then `rest` what is left: the caller decides whether it may rest."""

    __slots__ = ("_asks", "_bids")

    def __init__(self) -> None:
        self._bids = _Half(1)
        self._asks = _Half(-1)

    def take(self, side: Side, limit: int | None, shares: int) -> list[Fill]:
        """Executes an incoming order against the other side, as far as `limit` allows (None: at any price)."""
        against = self._asks if side is Side.BUY else self._bids
        return against.take(None if limit is None else limit * against.sign, shares)

    def rest(self, ref: int, side: Side, price: int, shares: int) -> None:
        """The order joins the end of its level's queue. It must not cross the other side."""
        (self._bids if side is Side.BUY else self._asks).add(ref, price, shares)

    def crosses(self, side: Side, price: int) -> bool:
        """Whether an order would trade at once."""
        against = self._asks if side is Side.BUY else self._bids
        return bool(against.keys) and against.keys[-1] >= price * against.sign

    def orders(self, side: Side) -> Iterator[tuple[int, int, int]]:
        """(price, reference, shares) from the best price on, the oldest first within one."""
        half = self._bids if side is Side.BUY else self._asks
        for key in reversed(half.keys):
            for resting in half.queues[key]:
                yield key * half.sign, resting.ref, resting.shares
