"""MoldUDP64 1.0: packets, and one session's messages put back in order.

A packet is a header (session, 10 bytes; number of its first message; count of messages; big-endian) and messages, each
behind its length. Count 0 is a heartbeat and 0xFFFF the end of the session; both carry the number that comes next. A
request is a header alone: from which message, and how many.

Pure: times are arguments, nanoseconds of one monotonic clock.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from struct import Struct
from typing import Final

HEADER: Final = Struct(">10s Q H")
END_OF_SESSION: Final = 0xFFFF

CHUNK: Final = 30  # messages per request: what a packet of 1,400 bytes surely holds of the order messages
PIPELINE: Final = 16  # requests on their way at once
RETRY_MIN_NS: Final = 50_000_000
RETRY_MAX_NS: Final = 1_000_000_000
BACK_NS: Final = 2_000_000_000  # two heartbeats, so that one overtaken by messages proves nothing


class Malformed(ValueError):
    """The datagram is no MoldUDP64 packet."""


@dataclass(frozen=True, slots=True)
class Packet:
    """`sequence` is the number of the first message; without messages, of the one that comes next."""

    session: bytes
    sequence: int
    messages: list[bytes]

    @property
    def end(self) -> int:
        """The number after the last message."""
        return self.sequence + len(self.messages)


def parse(datagram: bytes) -> Packet:
    """Malformed unless the messages fill the datagram exactly."""
    if len(datagram) < HEADER.size:
        raise Malformed("shorter than a header")
    session, sequence, count = HEADER.unpack_from(datagram)
    if not sequence:
        raise Malformed("messages are numbered from 1")
    messages = []
    at, length = HEADER.size, len(datagram)
    for _ in range(0 if count == END_OF_SESSION else count):
        if at + 2 > length:
            raise Malformed("fewer messages than the header says")
        start = at + 2
        at = start + (datagram[at] << 8 | datagram[at + 1])
        messages.append(datagram[start:at])
    if at != length:
        raise Malformed("the messages do not fill the datagram")
    return Packet(session, sequence, messages)


@dataclass(frozen=True, slots=True)
class _Asked:
    end: int
    at_ns: int


class Sequencer:
    """Hands out each message of a session once and in order; knows what is missing and what to ask for.

    Any number of lines may feed it. It follows the session that the feed is in: another one is believed when two
    packets in a row come from it, since a stray one must not cost the book. `generation` counts the times that
    everything began again at message 1: at a new session, or when the venue keeps saying that it has sent less than
    was received.
    """

    def __init__(self, window: int, counts: Counter[str]) -> None:
        """`window`: how many messages past a gap are kept until it is closed."""
        self.session: bytes | None = None
        self.generation = 0
        self.expected = 1
        self.target = 1  # the number after the newest message known to exist
        self._window = window
        self._counts = counts
        self._early: dict[int, bytes] = {}
        self._asked: dict[int, _Asked] = {}
        self._retry_ns = RETRY_MIN_NS
        self._stranger: bytes | None = None
        self._back_since_ns: int | None = None

    @property
    def behind(self) -> bool:
        return self.expected < self.target

    def on_feed(self, packet: Packet, now_ns: int) -> list[bytes]:
        """The messages that are now in order."""
        if packet.session != self.session and not self._joins(packet):
            self._counts["wrong_session"] += 1
            return []
        self._stranger = None
        if not packet.messages:
            self._on_heartbeat(packet.sequence, now_ns)
            return []
        return self._take(packet)

    def on_answer(self, packet: Packet) -> list[bytes]:
        """The same, for the answer to a request."""
        if packet.session != self.session:
            self._counts["wrong_session"] += 1
            return []
        if packet.messages:  # an empty answer leaves the request to its timer, or the two sides would spin
            self._asked.pop(packet.sequence, None)
        return self._take(packet)

    def requests(self, now_ns: int) -> list[bytes]:
        """Packets to send to the re-request server: the first gaps, a bounded number of requests at a time, each
        repeated after a time that doubles, up to a second, while nothing comes."""
        if not self.behind or self.session is None:
            self._asked.clear()
            return []
        self._forget(now_ns)
        room = PIPELINE - len(self._asked)
        if room < PIPELINE // 2:  # looking for gaps costs a walk: not for each packet
            return []
        requests = list(islice(self._gaps(), room))
        self._asked.update((first, _Asked(end, now_ns)) for first, end in requests)
        self._counts["requests"] += len(requests)
        return [HEADER.pack(self.session, first, end - first) for first, end in requests]

    def _joins(self, packet: Packet) -> bool:
        if self.session is not None and packet.session != self._stranger:
            self._stranger = packet.session
            return False
        self.session = packet.session
        self._begin_again(packet.sequence)
        return True

    def _begin_again(self, target: int) -> None:
        self.generation += 1
        self.expected, self.target = 1, target
        self._early.clear()
        self._asked.clear()
        self._retry_ns = RETRY_MIN_NS
        self._back_since_ns = None

    def _on_heartbeat(self, next_number: int, now_ns: int) -> None:
        if next_number >= self.target:
            self._raise_target(next_number)
        elif self._back_since_ns is None:
            self._back_since_ns = now_ns
        elif now_ns - self._back_since_ns >= BACK_NS:
            self._go_back(next_number)

    def _go_back(self, next_number: int) -> None:
        """A number too high came from nowhere; or the venue has lost messages that we applied."""
        self._counts["went_back"] += 1
        self._back_since_ns = None
        self.target = next_number
        self._early.clear()
        if next_number < self.expected:
            self._begin_again(next_number)

    def _raise_target(self, number: int) -> None:
        if not self.behind and number > self.expected:
            self._counts["gaps"] += 1
        self.target = number
        self._back_since_ns = None

    def _take(self, packet: Packet) -> list[bytes]:
        if packet.end <= self.expected:
            self._counts["duplicates"] += len(packet.messages)
            return []
        if packet.sequence > self.expected:
            self._keep(packet)
            return []
        ready = packet.messages[self.expected - packet.sequence :]
        self._counts["duplicates"] += len(packet.messages) - len(ready)
        self.expected = packet.end
        if self._early:
            self._drain(ready)
        self._retry_ns = RETRY_MIN_NS
        if self.expected >= self.target:
            self.target = self.expected
            self._back_since_ns = None
        return ready

    def _keep(self, packet: Packet) -> None:
        if packet.end > self.target:
            self._raise_target(packet.end)
        limit = self.expected + self._window
        for number, message in enumerate(packet.messages[: max(0, limit - packet.sequence)], packet.sequence):
            self._early[number] = message

    def _drain(self, ready: list[bytes]) -> None:
        for number in range(self.expected - len(ready), self.expected):
            self._early.pop(number, None)
        while (message := self._early.pop(self.expected, None)) is not None:
            ready.append(message)
            self.expected += 1

    def _forget(self, now_ns: int) -> None:
        """Drops requests that are answered, and those that no answer will come to."""
        late = [first for first, asked in self._asked.items() if now_ns - asked.at_ns >= self._retry_ns]
        if late:
            self._retry_ns = min(2 * self._retry_ns, RETRY_MAX_NS)
        self._asked = {
            first: asked for first, asked in self._asked.items() if first not in late and asked.end > self.expected
        }

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """(first, end) of what is neither here nor asked for, in pieces of CHUNK, as far as the window reaches."""
        limit = min(self.target, self.expected + min(self._window, 2 * PIPELINE * CHUNK))
        number = self.expected
        while number < limit:
            if number in self._asked:
                number = self._asked[number].end
            elif number in self._early:
                number += 1
            else:
                end = number + 1
                while end < min(limit, number + CHUNK) and end not in self._early and end not in self._asked:
                    end += 1
                yield number, end
                number = end
