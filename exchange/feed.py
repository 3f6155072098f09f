"""The market-data feed: ITCH 5.0 in MoldUDP64 to one UDP destination, and the re-request server."""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import structlog

from exchange import itch, moldudp64
from exchange.events import FeedEvent
from exchange.times import since_midnight

HEARTBEAT_NS: Final = 1_000_000_000
# After a packet: a lone event never waits, a stream of them comes in fuller packets, and costs the orders less.
PAUSE_NS: Final = 2_000_000
REQUESTS_PER_TURN_MAX: Final = 64

log = structlog.get_logger()


class Stream:
    """The session's messages from its first on: a pure function of the journal, so a restart numbers them alike.

    Kept in memory, about 75 bytes each.
    """

    def __init__(self, session: str, created_ns: int) -> None:
        """`session`: ten ASCII characters. `created_ns`: when the session began, for the System Events."""
        self.session = session.encode("ascii")
        began = since_midnight(created_ns)
        self.messages = [
            itch.system_event(itch.START_OF_MESSAGES, began),
            itch.system_event(itch.START_OF_SYSTEM_HOURS, began),
        ]

    def extend(self, now_ns: int, events: list[FeedEvent]) -> None:
        timestamp = since_midnight(now_ns)
        for event in events:
            self.messages.extend(itch.encode(event, timestamp))

    def packet(self, sequence: int, count: int) -> tuple[bytes, int]:
        """A MoldUDP64 packet from message `sequence` on, and how many messages it carries."""
        return moldudp64.packet(self.session, self.messages, sequence, count)


@dataclass(frozen=True, slots=True)
class Addresses:
    """`destination` may be a multicast group; `rerequest` is where re-requests are served."""

    destination: tuple[str, int]
    rerequest: tuple[str, int]


class Feed:
    """Sends what is published, in order; what `stream` held before the start is left to re-requests.

    Driven by the sessions' loop: `flush` after each turn, `tick` when `wait_ns` says so, `serve` when `rerequest` can
    be read. Nothing here waits or raises: a full socket buffer or a missing network costs packets, which can be asked
    for again, never an order.
    """

    def __init__(self, stream: Stream, addresses: Addresses, fresh: bool, steady: Callable[[], int]) -> None:
        """`fresh`: nothing of the stream was ever sent. OSError if the re-request port is taken."""
        self._stream = stream
        self._next = 1 if fresh else len(stream.messages) + 1
        self._destination = addresses.destination
        self._steady = steady
        self._line = _sender(addresses.destination[0])
        self.rerequest = _receiver(addresses.rerequest)
        self._heartbeat_ns = self._pause_ends_ns = steady()
        self._unreachable = ""

    def publish(self, now_ns: int, events: list[FeedEvent]) -> None:
        self._stream.extend(now_ns, events)

    def flush(self) -> None:
        """Sends what was published, unless the last packet is too fresh."""
        if self._next <= len(self._stream.messages) and self._steady() >= self._pause_ends_ns:
            self._send_published()

    def wait_ns(self) -> int:
        """How long until `tick` has something to do."""
        waits = self._next <= len(self._stream.messages)
        return (self._pause_ends_ns if waits else self._heartbeat_ns) - self._steady()

    def tick(self) -> None:
        self.flush()
        if self._steady() >= self._heartbeat_ns:
            self._send(self._next, 0)

    def stop(self) -> None:
        """Sends what was published, then closes."""
        self._send_published()
        self._line.close()
        self.rerequest.close()

    def serve(self) -> None:
        """Answers re-requests, a bounded number at once."""
        for _ in range(REQUESTS_PER_TURN_MAX):
            try:
                datagram, asker = self.rerequest.recvfrom(2048)
            except BlockingIOError:
                return
            request = moldudp64.read_request(datagram)
            if request and request.session == self._stream.session:
                self._answer(request, asker)

    def _send_published(self) -> None:
        while self._next <= len(self._stream.messages):
            self._next += self._send(self._next, len(self._stream.messages))
        self._pause_ends_ns = self._steady() + PAUSE_NS

    def _send(self, sequence: int, count: int) -> int:
        packet, fitted = self._stream.packet(sequence, count)
        self._heartbeat_ns = self._steady() + HEARTBEAT_NS
        try:
            self._line.sendto(packet, self._destination)
        except OSError as problem:
            self._lost(problem)
        else:
            self._unreachable = ""
        return fitted

    def _lost(self, problem: OSError) -> None:
        """Told once per kind of trouble, not once per packet."""
        if str(problem) != self._unreachable:
            self._unreachable = str(problem)
            log.warning("feed packets are lost", destination=self._destination, problem=str(problem))

    def _answer(self, request: moldudp64.Request, asker: tuple[str, int]) -> None:
        if request.sequence > len(self._stream.messages):
            return
        packet, _ = self._stream.packet(request.sequence, request.messages)
        try:
            self.rerequest.sendto(packet, asker)
        except OSError as problem:
            log.warning("re-request not answered", asker=asker, problem=str(problem))


def _sender(host: str) -> socket.socket:
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.setblocking(False)
    if ip_address(socket.gethostbyname(host)).is_multicast:
        line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("b", 1))
        line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, struct.pack("b", 1))
    return line


def _receiver(address: tuple[str, int]) -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.bind(address)
    except OSError:
        receiver.close()
        raise
    receiver.setblocking(False)
    return receiver
