"""A venue's feed side for tests: sends MoldUDP64 packets on a UDP line and answers re-requests, from its own thread."""

import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests import itch_wire as wire

PACKET_BYTES_MAX = 1400


class MoldVenue:
    """`publish` appends to the session and sends; `say` appends without sending, which is a loss on the line."""

    def __init__(self, feed_port: int, rerequest_port: int, session: bytes = wire.SESSION) -> None:
        self.session = session
        self.messages: list[bytes] = []
        self.requests_seen = 0
        self.answering = True
        self._to = ("127.0.0.1", feed_port)
        self._line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server.bind(("127.0.0.1", rerequest_port))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.sendto(b"", self._server.getsockname())
        self._thread.join(5)
        self._server.close()
        self._line.close()

    def say(self, messages: Sequence[bytes]) -> int:
        """The number of the first."""
        first = len(self.messages) + 1
        self.messages += messages
        return first

    def publish(self, *messages: bytes) -> None:
        self.send(wire.packet(self.say(messages), messages, self.session))

    def heartbeat(self) -> None:
        self.send(wire.heartbeat(len(self.messages) + 1, self.session))

    def send(self, datagram: bytes) -> None:
        self._line.sendto(datagram, self._to)

    def _serve(self) -> None:
        while True:
            request, asker = self._server.recvfrom(2048)
            if not request:
                return
            self.requests_seen += 1
            if self.answering and request[:10] == self.session:
                self._server.sendto(self._answer(request), asker)

    def _answer(self, request: bytes) -> bytes:
        first, count = int.from_bytes(request[10:18]), int.from_bytes(request[18:20])
        fitting: list[bytes] = []
        for message in self.messages[first - 1 : first - 1 + count]:
            if len(wire.packet(first, [*fitting, message])) > PACKET_BYTES_MAX:
                break
            fitting.append(message)
        return wire.packet(first, fitting, self.session)
