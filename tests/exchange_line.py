"""What a venue process tells beside FIX: its feed's line and re-request server, and its operator's socket."""

import socket
import struct
import time
from types import TracebackType
from typing import Any, Self

from exchange.operate import ask
from tests.exchange_process import VenueProcess
from tests.fix_client import WAIT_SECONDS


class Line:
    """A receiver of the venue's UDP line, and an asker of its re-request server."""

    def __init__(self, venue: VenueProcess) -> None:
        self._line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._line.bind(("127.0.0.1", venue.feed_port))
        self._line.settimeout(5)
        self._asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._asker.connect(("127.0.0.1", venue.rerequest_port))
        self._asker.settimeout(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def packet(self) -> tuple[str, int, list[bytes]]:
        return unpack(self._line.recv(2048))

    def messages(self, count: int) -> list[bytes]:
        """The next messages, in as many packets as they come. AssertionError if they do not come in time."""
        messages: list[bytes] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while len(messages) < count:
            assert time.monotonic() < deadline, f"{count} messages, have {kinds(messages)}"
            messages += self.packet()[2]
        assert len(messages) == count, kinds(messages)
        return messages

    def heartbeat(self) -> tuple[str, int]:
        """(session, next number) of the next packet without messages."""
        while True:
            session, sequence, messages = self.packet()
            if not messages:
                return session, sequence

    def ask(self, session: str, sequence: int, count: int) -> list[bytes]:
        self.ask_bytes(struct.pack(">10sQH", session.encode(), sequence, count))
        answered, first, messages = unpack(self._asker.recv(2048))
        assert (answered, first) == (session, sequence)
        return messages

    def ask_bytes(self, datagram: bytes) -> None:
        self._asker.send(datagram)

    def everything(self, venue: VenueProcess) -> list[bytes]:
        """All messages of the feed up to now: as many as the journal counts, and the two that begin it."""
        header, *records = venue.records()
        listings = sum(record["in"]["kind"] == "instrument" for record in records)  # each is told in two messages
        return self.ask_all(header["feed_session"], 2 + listings + sum(record["feed"] for record in records))

    def ask_all(self, session: str, last: int) -> list[bytes]:
        messages: list[bytes] = []
        while len(messages) < last:
            messages += self.ask(session, len(messages) + 1, min(last - len(messages), 1000))
        return messages

    def close(self) -> None:
        self._line.close()
        self._asker.close()


def unpack(packet: bytes) -> tuple[str, int, list[bytes]]:
    """(session, number of the first message, messages)."""
    session, sequence, count = struct.unpack_from(">10sQH", packet)
    at, messages = 20, []
    for _ in range(count):
        (length,) = struct.unpack_from(">H", packet, at)
        messages.append(packet[at + 2 : at + 2 + length])
        at += 2 + length
    assert at == len(packet)
    return session.decode(), sequence, messages


def kinds(messages: list[bytes]) -> str:
    """Their type letters."""
    return "".join(chr(message[0]) for message in messages)


def operate(venue: VenueProcess, act: str, **words: Any) -> dict[str, Any]:
    """What the operator's socket answers to a request."""
    return ask(venue.journal.parent, {"act": act, **words})
