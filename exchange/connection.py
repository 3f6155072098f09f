"""One TCP connection: non-blocking, with bounded buffers both ways."""

import socket
from typing import Final

from exchange.session import Session
from exchange.wire import Framer

RECEIVE_BYTES: Final = 16 * 1024  # a turn: as much as one longest message, so that nobody's flood delays the others
BACKLOG_BYTES_MAX: Final = 16 * 1024 * 1024
_PATIENCE_NS: Final = 1_000_000_000


class Connection:
    """`outbox` is what `write` is to send; of a session that is logged on it is the session's own."""

    def __init__(self, peer: socket.socket, address: str, steady_ns: int) -> None:
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = peer
        self.address = address
        self.session: Session | None = None
        self.outbox: list[bytes] = []
        self.since_ns = steady_ns  # of being what it is now: a stranger, logged on, leaving
        self._framer = Framer()
        self._waiting_since_ns = steady_ns
        self._backlog = bytearray()
        self._has_ended = False

    @property
    def is_closed(self) -> bool:
        return self.socket.fileno() < 0

    @property
    def is_behind(self) -> bool:
        """Whether something waits for room in the socket."""
        return bool(self._backlog)

    @property
    def garbled(self) -> int:
        return self._framer.garbled

    def receive(self, steady_ns: int) -> list[bytes] | None:
        """The messages that are complete now; None when the connection is gone."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        was_waiting = self._framer.is_waiting
        messages = self._framer.feed(data)
        if messages or not was_waiting:
            self._waiting_since_ns = steady_ns
        return messages

    def overdue(self, steady_ns: int) -> list[bytes]:
        """What a message has swallowed that has been under way for long; see `Framer.give_up`."""
        if not self._framer.is_waiting or steady_ns - self._waiting_since_ns < _PATIENCE_NS:
            return []
        return self._framer.give_up()

    def write(self) -> bool:
        """Sends the outbox as far as the socket takes it. False when the connection is gone, or so far behind that it
        has to go: the store has everything."""
        if self.outbox:
            self._backlog += b"".join(self.outbox)
            self.outbox.clear()
        if self._backlog:
            try:
                del self._backlog[: self.socket.send(self._backlog)]
            except BlockingIOError:
                pass
            except OSError:
                return False
        return len(self._backlog) <= BACKLOG_BYTES_MAX

    def end(self) -> bool:
        """Says that no more will be written. Closing at once could take from the counterparty what it has not read yet.
        False when the connection is gone."""
        if not self._has_ended:
            self._has_ended = True
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                return False
        return True
