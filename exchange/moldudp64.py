"""MoldUDP64 1.00: numbered messages in datagrams. Pure.

A packet is a header (session 10 bytes, sequence number of the first message u64, message count u16, big-endian) and
that many messages, each after its length (u16). Count 0 is a heartbeat that names the next number. A request is a
header alone: from which message on, how many.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

HEADER: Final = Struct(">10sQH")
PACKET_BYTES_MAX: Final = 1400  # below an Ethernet frame, whatever tunnels it
_LENGTH: Final = Struct(">H")
_MESSAGES_MAX: Final = (PACKET_BYTES_MAX - HEADER.size) // _LENGTH.size
_END_OF_SESSION: Final = 0xFFFF


class Request(NamedTuple):
    """`messages` of them from number `sequence` on, which counts from 1."""

    session: bytes
    sequence: int
    messages: int


def packet(session: bytes, messages: Sequence[bytes], sequence: int, count: int) -> tuple[bytes, int]:
    """A packet of at most `count` of `messages` (the session's, the first is number 1) from `sequence` on, and how
    many fitted. A heartbeat if there are none."""
    size = HEADER.size
    parts: list[bytes] = []
    for message in messages[sequence - 1 : sequence - 1 + min(count, _MESSAGES_MAX)]:
        size += _LENGTH.size + len(message)
        if size > PACKET_BYTES_MAX:
            break
        parts += (_LENGTH.pack(len(message)), message)
    fitted = len(parts) // 2
    return HEADER.pack(session, sequence, fitted) + b"".join(parts), fitted


def read_request(datagram: bytes) -> Request | None:
    """None if the datagram is no request."""
    if len(datagram) != HEADER.size:
        return None
    request = Request(*HEADER.unpack(datagram))
    return request if request.sequence and 0 < request.messages < _END_OF_SESSION else None
