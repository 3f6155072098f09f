"""The market-data feed: ITCH 5.0 in MoldUDP64 to one UDP destination, and the re-request server.

It has a thread of its own. The order path only appends to a queue; a full socket buffer or a missing network costs
packets, which can be asked for again, never an order.
"""

import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Thread
from typing import Final

import structlog

from exchange import itch, moldudp64
from exchange.market import FeedEvent
from exchange.times import since_midnight

HEARTBEAT_SECONDS: Final = 1.0
# After a packet: a lone event never waits, a stream of them comes in fuller packets, and the order path is not
# interrupted for each.
PAUSE_SECONDS: Final = 0.002
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
    """Sends what is published, in order; what `stream` held before the start is left to re-requests."""

    def __init__(self, stream: Stream, addresses: Addresses, fresh: bool) -> None:
        """`fresh`: nothing of the stream was ever sent. OSError if the re-request port is taken."""
        self._stream = stream
        self._next = 1 if fresh else len(stream.messages) + 1
        self._destination = addresses.destination
        self._published: deque[tuple[int, list[FeedEvent]]] = deque()
        self._line = _sender(addresses.destination[0])
        self._rerequest = _receiver(addresses.rerequest)
        self._waker, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._asleep = self._stopping = False
        self._heartbeat_at = 0.0
        self._unreachable = ""
        self._thread = Thread(target=self._run, name="feed", daemon=True)

    def publish(self, now_ns: int, events: list[FeedEvent]) -> None:
        """From the order path: never blocks, never raises."""
        if events:
            self._published.append((now_ns, events))
            if self._asleep:
                self._rouse()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sends what was published, then closes."""
        self._stopping = True
        self._rouse()
        self._thread.join()
        for each in (self._line, self._rerequest, self._waker, self._wake):
            each.close()

    def _rouse(self) -> None:
        self._asleep = False
        try:
            self._wake.send(b"\0")
        except BlockingIOError:  # it is being woken many times over already
            return

    def _run(self) -> None:
        while not self._stopping:
            sent = self._send_published()
            if time.monotonic() >= self._heartbeat_at:
                self._send(self._next, 0)
            self._serve_requests()
            if sent:
                time.sleep(PAUSE_SECONDS)
            else:
                self._sleep()
        self._send_published()

    def _sleep(self) -> None:
        self._asleep = True
        # Looked at once more: what was published before `_asleep` was set did not wake us.
        if not self._published and not self._stopping:
            timeout = max(0.0, self._heartbeat_at - time.monotonic())
            select.select([self._waker, self._rerequest], [], [], timeout)
        self._asleep = False
        try:
            self._waker.recv(4096)
        except BlockingIOError:  # a request or the heartbeat's time ended the sleep
            return

    def _send_published(self) -> bool:
        """Whether there was anything to send."""
        while self._published:
            self._stream.extend(*self._published.popleft())
        first = self._next
        while self._next <= len(self._stream.messages):
            self._next += self._send(self._next, len(self._stream.messages))
        return self._next > first

    def _send(self, sequence: int, count: int) -> int:
        packet, fitted = self._stream.packet(sequence, count)
        self._heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
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

    def _serve_requests(self) -> None:
        for _ in range(REQUESTS_PER_TURN_MAX):
            try:
                datagram, asker = self._rerequest.recvfrom(2048)
            except BlockingIOError:
                return
            request = moldudp64.read_request(datagram)
            if request and request.session == self._stream.session:
                self._answer(request, asker)

    def _answer(self, request: moldudp64.Request, asker: tuple[str, int]) -> None:
        if request.sequence > len(self._stream.messages):
            return
        packet, _ = self._stream.packet(request.sequence, request.messages)
        try:
            self._rerequest.sendto(packet, asker)
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
