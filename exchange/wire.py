"""FIX 4.2 on the wire: bytes to messages to fields, and back. Pure, and bounded whatever comes in.

A message that is not framed as it says (BodyLength, CheckSum, first three fields) is garbled: it is skipped, and as its
sequence number was not counted, the session asks for it.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple
from zlib import adler32

SOH: Final = "\x01"
BEGIN_STRING: Final = "FIX.4.2"
MESSAGE_BYTES_MAX: Final = 16 * 1024

_IDENTITY: Final = (49, 56, 115, 128, 50, 142, 57, 143, 116, 144, 129, 145)
HEADER: Final = frozenset(map(str, (8, 9, 35, *_IDENTITY, 34, 43, 52, 90, 91, 97, 122, 212, 213, 347, 369, 370)))
# Length field -> its data field, which may contain SOH.
DATA_FIELDS: Final = {
    "90": "91",
    "93": "89",
    "95": "96",
    "212": "213",
    "348": "349",
    "350": "351",
    "352": "353",
    "354": "355",
    "356": "357",
    "358": "359",
    "360": "361",
    "362": "363",
    "364": "365",
    "445": "446",
}

_SOH: Final = 1
_START: Final = b"8=FIX"
_HEAD: Final = b"8=FIX.4.2\x019="
_ANY_HEAD: Final = re.compile(rb"8=FIX[.0-9T]{0,8}\x019=")
_HEAD_BYTES_MAX: Final = 16
_LENGTH_DIGITS_MAX: Final = 5
_TRAILER_BYTES: Final = 7  # 10=nnn and SOH
_CHECKSUMS: Final = tuple(b"%03d" % number for number in range(256))
_TRAILERS: Final = tuple(b"10=%03d\x01" % number for number in range(256))
_INCOMPLETE: Final = 0
_GARBLED: Final = -1
_TAGS_MAX_KEPT: Final = 64  # a longer list of tags is looked at anew each time, which bounds what is remembered
_SECOND_NS: Final = 1_000_000_000


class Framer:
    """Cuts one connection's stream into messages; however it is sliced, the same ones come out."""

    def __init__(self) -> None:
        self._rest = b""
        self.garbled = 0  # stretches skipped so far

    @property
    def is_waiting(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now. What is kept is less than MESSAGE_BYTES_MAX."""
        buffer = self._rest + data if self._rest else data
        messages = []
        at = 0
        while at < len(buffer) and (end := _frame_end(buffer, at)) != _INCOMPLETE:
            if end == _GARBLED:
                at = _next_start(buffer, at + 1)
                self.garbled += 1
                continue
            if buffer[end - 4 : end - 1] == _CHECKSUMS[_checksum(buffer[at : end - _TRAILER_BYTES])]:
                messages.append(buffer[at:end])
            else:
                self.garbled += 1
            at = end
        self._rest = buffer[at:]
        return messages

    def give_up(self) -> list[bytes]:
        """To be called when a message has been under way for long: if what looks like a next one stands in it, its
        BodyLength was a lie, and what it had swallowed is read after all.

        Not sooner, for a data field may well contain a FIX message, and that must never be taken for one.
        """
        start = self._rest.find(_START, 1)
        if start < 0:
            return []
        self.garbled += 1
        self._rest = self._rest[start:]
        return self.feed(b"")


class Message(NamedTuple):
    """`fields`: of a tag that stands twice the first counts, and the header's tags count in the header only.
    `tags` and `values`: all that is there, in the order of the wire."""

    fields: dict[str, str]
    tags: tuple[str, ...]
    values: tuple[str, ...]


def read(raw: bytes) -> Message:
    """A message as the Framer gives it. A field without `=` becomes a tag without value."""
    text = raw.decode("latin-1")
    parts = text[:-1].split(SOH)
    try:
        fields = dict([part.split("=", 1) for part in parts])  # a list is faster here than a generator
    except ValueError:
        return _read_with_care(text)
    tags = tuple(fields)
    if len(tags) != len(parts) or not (_is_plain if len(tags) <= _TAGS_MAX_KEPT else _is_plain.__wrapped__)(tags):
        return _read_with_care(text)
    return Message(fields, tags, tuple(fields.values()))


def read_fields(raw: bytes) -> dict[str, str]:
    """Tag -> value, as `Message.fields`."""
    return read(raw).fields


def frame(text: str) -> bytes:
    """The message whose fields from MsgType(35) on are `text`, each ended by SOH. UnicodeEncodeError beyond Latin-1."""
    message = f"8={BEGIN_STRING}{SOH}9={len(text)}{SOH}{text}".encode("latin-1")
    return message + _TRAILERS[_checksum(message)]


def utc_ns(text: str) -> int | None:
    """A UTCTimestamp in nanoseconds; None if it is none. Milliseconds as in FIX 4.2, or finer as many write it."""
    second = _utc_second_ns(text[:17])
    fraction = text[18:]
    if second is None or len(text) == 17:
        return second
    if text[17] != "." or len(fraction) not in (3, 6, 9) or not fraction.isdecimal():
        return None
    return second + int(fraction.ljust(9, "0"))


def _frame_end(buffer: bytes, at: int) -> int:
    """Where the message that begins at `at` ends by its BodyLength; its CheckSum is not looked at."""
    if buffer.startswith(_HEAD, at):
        digits_at = at + len(_HEAD)
    elif found := _ANY_HEAD.match(buffer, at):
        digits_at = found.end()  # another version: the session has an answer for it
    else:
        return _INCOMPLETE if _may_become_a_head(buffer[at : at + _HEAD_BYTES_MAX]) else _GARBLED
    soh_at = buffer.find(b"\x01", digits_at, digits_at + _LENGTH_DIGITS_MAX + 1)
    digits = buffer[digits_at : soh_at if soh_at >= 0 else digits_at + _LENGTH_DIGITS_MAX + 1]
    if soh_at < 0 and len(digits) <= _LENGTH_DIGITS_MAX and (digits.isdigit() or not digits):
        return _INCOMPLETE
    if soh_at < 0 or not digits.isdigit():
        return _GARBLED
    end = soh_at + 1 + int(digits) + _TRAILER_BYTES
    if end - at > MESSAGE_BYTES_MAX:
        return _GARBLED
    return _INCOMPLETE if end > len(buffer) else _checked_end(buffer, soh_at, end)


def _checked_end(buffer: bytes, length_end: int, end: int) -> int:
    """`end`, if MsgType comes third and CheckSum last; both are at the place that BodyLength says."""
    is_framed = (
        buffer.startswith(b"35=", length_end + 1)
        and buffer.startswith(b"\x0110=", end - _TRAILER_BYTES - 1)
        and buffer[end - 1] == _SOH
    )
    return end if is_framed else _GARBLED


def _may_become_a_head(beginning: bytes) -> bool:
    return len(beginning) < _HEAD_BYTES_MAX and (beginning.startswith(_START) or _START.startswith(beginning))


def _next_start(buffer: bytes, at: int) -> int:
    """The next place where a message may begin, at the latest the start of one cut off by the buffer's end."""
    start = buffer.find(_START, at)
    if start >= 0:
        return start
    for cut in range(len(_START) - 1, 0, -1):
        if len(buffer) - cut >= at and buffer.endswith(_START[:cut]):
            return len(buffer) - cut
    return len(buffer)


def _checksum(message: bytes) -> int:
    # Adler-32's lower half is 1 + the sum of the bytes while that is under 65,521: a sixth of the time of sum().
    return (adler32(message) & 0xFFFF) - 1 & 0xFF if len(message) <= 256 else sum(message) & 0xFF


@lru_cache(maxsize=256)
def _is_plain(tags: tuple[str, ...]) -> bool:
    """Whether no field may contain SOH, and the header's tags come first."""
    header = sum(tag in HEADER for tag in tags)
    return DATA_FIELDS.keys().isdisjoint(tags) and HEADER.issuperset(tags[:header])


def _read_with_care(text: str) -> Message:
    pairs = _pairs(text)
    fields: dict[str, str] = {}
    in_header = True
    for tag, value in pairs:
        in_header = in_header and tag in HEADER
        if in_header or tag not in HEADER:
            fields.setdefault(tag, value)
    return Message(fields, tuple(tag for tag, _ in pairs), tuple(value for _, value in pairs))


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    at = 0
    last_tag, last_value = "", ""
    while at < len(text):
        end = text.index(SOH, at)
        equals = text.find("=", at, end)
        tag, value_at = (text[at:equals], equals + 1) if equals >= 0 else (text[at:end], end)
        if DATA_FIELDS.get(last_tag) == tag:
            end = _data_end(text, value_at, last_value) or end
        last_tag, last_value = tag, text[value_at:end]
        pairs.append((last_tag, last_value))
        at = end + 1
    return pairs


def _data_end(text: str, at: int, length: str) -> int | None:
    """The end of a data field of that length; None if the length is not true."""
    if not length.isdecimal() or len(length) > _LENGTH_DIGITS_MAX:
        return None
    end = at + int(length)
    return end if text[end : end + 1] == SOH else None


@lru_cache(maxsize=64)
def _utc_second_ns(text: str) -> int | None:
    """YYYYMMDD-HH:MM:SS."""
    digits = text[:8] + text[9:11] + text[12:14] + text[15:]
    if len(text) != 17 or not digits.isdecimal():
        return None
    try:
        moment = datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * _SECOND_NS
