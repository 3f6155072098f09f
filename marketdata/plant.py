"""What one venue's datagrams come to: the market, and whether it can be believed at this moment.

Pure: `heard_ns` and `at_ns` are a monotonic clock's, `now_ns` is UTC since 1970.
"""

from collections import Counter

from marketdata import itch
from marketdata.book import Market, Quote
from marketdata.moldudp64 import Malformed, Packet, Sequencer, parse
from marketdata.venue_time import Days


class Plant:
    """One feed: its sequence, its market, its dates and its counters."""

    def __init__(self, silence_ns: int, window: int) -> None:
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[int] = Counter()  # messages of types that no quote needs, by type byte
        self.sequencer = Sequencer(window, self.counts)
        self.market = Market(self.counts, self.skipped)
        self.ready = False  # the session's past is complete: a symbol not known now is unknown to the venue
        self._silence_ns = silence_ns
        self._days = Days()
        self._generation = 0
        self._heard_ns: int | None = None

    def on_feed(self, datagram: bytes, heard_ns: int, now_ns: int) -> None:
        """A datagram from a line of the feed. It came after `heard_ns`, perhaps long before now."""
        packet = self._read(datagram)
        if packet is None:
            return
        live = self.ready and not self.sequencer.behind
        messages = self.sequencer.on_feed(packet, heard_ns)
        if packet.session == self.sequencer.session:
            self._heard_ns = heard_ns
        self._renew()
        self._apply(messages, live, now_ns)

    def on_answer(self, datagram: bytes, now_ns: int) -> None:
        """A datagram from the re-request server."""
        packet = self._read(datagram)
        if packet is not None:
            self._apply(self.sequencer.on_answer(packet), False, now_ns)

    def fresh(self, at_ns: int) -> bool:
        """Nothing is missing, and the venue was heard within the time allowed."""
        return self._heard_ns is not None and not self.sequencer.behind and at_ns - self._heard_ns <= self._silence_ns

    def quote(self, symbol: str, at_ns: int) -> Quote:
        """The quote as far as it is known; stale and empty for a symbol that the session has not listed."""
        listing = self.market.listings.get(symbol)
        if listing is None:
            return Quote(symbol)
        return Quote(
            symbol,
            listing.bids.best,
            listing.bids.quantity,
            listing.asks.best,
            listing.asks.quantity,
            listing.last_price,
            listing.last_quantity,
            self._days.utc_ns(*listing.changed) if listing.changed else 0,
            listing.doubtful or not self.fresh(at_ns),
        )

    def take_changed(self) -> set[str]:
        """Symbols whose quote changed since the last call."""
        changed, self.market.changed = self.market.changed, set()
        return changed

    def _read(self, datagram: bytes) -> Packet | None:
        self.counts["datagrams"] += 1
        try:
            return parse(datagram)
        except Malformed:
            self.counts["malformed"] += 1
            return None

    def _renew(self) -> None:
        if self._generation != self.sequencer.generation:
            self._generation = self.sequencer.generation
            dropped = self.market.changed | self.market.listings.keys()
            self.market = Market(self.counts, self.skipped)
            self.market.changed = dropped
            self._days = Days()
            self.ready = False

    def _apply(self, messages: list[bytes], live: bool, now_ns: int) -> None:
        market = self.market
        if messages and live:
            time_ns = itch.time_ns(messages[0])
            market.set_clock(self._days.number_at(time_ns, now_ns), time_ns)
        for message in messages:
            market.apply(message)
        self.counts["messages"] += len(messages)
        if messages and not self.ready:
            self._days.anchor(market.day, market.time_ns, now_ns)
        self.ready = self.ready or (bool(market.listings) and not self.sequencer.behind)
