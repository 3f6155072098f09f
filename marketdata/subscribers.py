"""Who wants to hear of which symbols, and what each has not been told yet."""

import asyncio
from collections.abc import Iterator, Set
from contextlib import contextmanager


class Subscription:
    """The symbols that changed since its subscriber was last told: however slow he is, one entry per symbol."""

    def __init__(self, symbols: frozenset[str]) -> None:
        """`symbols` empty: all there are and will be."""
        self._symbols = symbols
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()

    def note(self, changed: Set[str]) -> None:
        self._dirty |= changed & self._symbols if self._symbols else changed
        if self._dirty:
            self._wake.set()

    async def changes(self, timeout_seconds: float) -> list[str]:
        """Symbols to tell about, sorted; none when the time passes without a change."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._wake.wait()
        except TimeoutError:
            return []
        changed, self._dirty = self._dirty, set()
        self._wake.clear()
        return sorted(changed)


class Subscribers:
    """All subscriptions of the process."""

    def __init__(self) -> None:
        self._all: set[Subscription] = set()

    def __len__(self) -> int:
        return len(self._all)

    @contextmanager
    def subscribed(self, symbols: frozenset[str]) -> Iterator[Subscription]:
        subscription = Subscription(symbols)
        self._all.add(subscription)
        try:
            yield subscription
        finally:
            self._all.discard(subscription)

    def publish(self, changed: Set[str]) -> None:
        for subscription in self._all:
            subscription.note(changed)
