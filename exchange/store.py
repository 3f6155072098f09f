"""What a FIX session has to remember across a kill -9: what it sent, and which number it expects next.

`<comp_id>.out`: records, appended. The first has number 0; it says when this count of numbers began and which mark had
been reached before. `<comp_id>.in`: the next number expected, and the beginning it belongs to; so replacing `.out`,
which is one step, restarts both.

Nothing reaches a file before `flush()` and `flush_next_in()`. Written through, not synced: safe from the end of the
process, not from that of the machine. After an OSError the process must end: the files are the truth then.
"""

import os
from array import array
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

# number, bytes of the body, time (ns, UTC), mark, CRC-32 of the body; then the CRC-32 of all that, and the body
_HEAD: Final = Struct("<IIqqI")
_CRC: Final = Struct("<I")
_BODY_AT: Final = _HEAD.size + _CRC.size


class Sent(NamedTuple):
    """`body` from MsgType(35) on without the session's own fields; empty for what is never sent again."""

    number: int
    sent_ns: int
    body: str


class StoreError(OSError):
    """A file that is damaged, not only cut short at its end: what it held cannot be guessed."""


class Store:
    """`next_in`, which the session sets, and `next_out` are the next MsgSeqNum(34) of either direction; `last_mark` is
    the last mark that was not 0, whatever was reset since."""

    def __init__(self, directory: Path, comp_id: str, now_ns: int) -> None:
        """OSError if a file cannot be read or written; StoreError if it is damaged."""
        self._out = self._in = -1
        self._path = directory / f"{comp_id}.out"
        self._unflushed = bytearray()
        self._is_new = not self._path.exists()
        self._out = -1 if self._is_new else os.open(self._path, os.O_RDWR)
        self._in = os.open(directory / f"{comp_id}.in", os.O_RDWR | os.O_CREAT, 0o644)
        self._began_ns = 0
        self.last_mark = 0
        if self._is_new:
            self.reset(now_ns)
        else:
            self._load()
        self._flushed_in = self.next_in

    @property
    def next_out(self) -> int:
        return len(self._offsets) + 1

    def append(self, body: str, sent_ns: int, mark: int = 0) -> int:
        """Its number. An empty body keeps the place of an administrative message."""
        number = len(self._offsets) + 1
        self._offsets.append(self._flushed_bytes + len(self._unflushed))
        self._unflushed += _record(number, sent_ns, mark, body.encode("latin-1"))
        if mark:
            self.last_mark = mark
        return number

    def read(self, first: int, count: int) -> list[Sent]:
        """`count` from number `first` on, fewer at the end."""
        beyond = min(first + count, self.next_out)
        if first >= beyond:
            return []
        end = self._flushed_bytes + len(self._unflushed) if beyond == self.next_out else self._offsets[beyond - 1]
        data = self._bytes(self._offsets[first - 1], end)
        return [Sent(number, sent_ns, body.decode("latin-1")) for _, number, sent_ns, _, body in _records(data)]

    def reset(self, now_ns: int) -> None:
        """Once flushed, both directions start with 1 again. What was not flushed is forgotten."""
        self._began_ns = max(now_ns, self._began_ns + 1)
        self._offsets = array("Q")  # of number 1, 2 and so on
        self._flushed_bytes = 0  # where `_unflushed` goes
        self._unflushed[:] = _record(0, self._began_ns, self.last_mark, b"")
        self._is_new = True
        self.next_in = 1

    def flush(self) -> None:
        """What was appended."""
        if self._is_new:
            self._replace()
        elif self._unflushed:
            _write(self._out, self._unflushed, self._flushed_bytes)
        self._flushed_bytes += len(self._unflushed)
        self._unflushed.clear()

    def flush_next_in(self) -> None:
        """After `flush`. Lost with a kill in between, what came last is asked for again."""
        if self._flushed_in != self.next_in:
            _write(self._in, b"%020d %010d\n" % (self._began_ns, self.next_in), 0)
            self._flushed_in = self.next_in

    def close(self) -> None:
        """Without a flush."""
        for descriptor in (self._out, self._in):
            if descriptor >= 0:
                os.close(descriptor)
        self._out = self._in = -1

    def __del__(self) -> None:
        self.close()

    def _replace(self) -> None:
        new = self._path.with_suffix(".new")
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        _write(descriptor, self._unflushed, 0)
        new.replace(self._path)
        if self._out >= 0:
            os.close(self._out)
        self._out = descriptor
        self._is_new = False
        self._flushed_in = 1  # what `.in` says belongs to an earlier beginning

    def _bytes(self, start: int, end: int) -> bytes:
        flushed = self._flushed_bytes
        written = os.pread(self._out, min(end, flushed) - start, start) if start < flushed else b""
        return written + self._unflushed[max(start - flushed, 0) : max(end - flushed, 0)]

    def _load(self) -> None:
        size = os.fstat(self._out).st_size
        if size < _BODY_AT:
            raise StoreError(f"{self._path} has lost its beginning: restore it, or remove it to start the session anew")
        self._offsets = array("Q")
        with mmap(self._out, size, access=ACCESS_READ) as data:
            try:
                self._flushed_bytes = self._load_records(data)
            except StoreError as problem:
                raise StoreError(f"{self._path}, {problem}: restore the file") from None
        # What a death in the middle of a write left behind was never sent.
        os.ftruncate(self._out, self._flushed_bytes)
        self.next_in = self._load_next_in()

    def _load_records(self, data: mmap) -> int:
        """Where the last whole record ends."""
        whole = 0
        for at, number, sent_ns, mark, body in _records(data):
            if number != len(self._offsets) + (at > 0):
                raise StoreError(f"byte {at}: message {number} stands in another's place")
            if number:
                self._offsets.append(at)
            else:
                self._began_ns = sent_ns
            self.last_mark = mark or self.last_mark
            whole = at + _BODY_AT + len(body)
        return whole

    def _load_next_in(self) -> int:
        words = os.pread(self._in, 64, 0).split()
        is_ours = len(words) == 2 and words[1].isdigit() and words[0] == b"%020d" % self._began_ns
        return int(words[1]) if is_ours else 1  # what came before is asked for again, and known


def _record(number: int, sent_ns: int, mark: int, body: bytes) -> bytes:
    head = _HEAD.pack(number, len(body), sent_ns, mark, crc32(body))
    return head + _CRC.pack(crc32(head)) + body


def _records(data: bytes | mmap) -> Iterator[tuple[int, int, int, int, bytes]]:
    """(offset, number, time, mark, body) of each, up to the first that is cut short. StoreError."""
    at = 0
    while at + _BODY_AT <= len(data):
        number, length, sent_ns, mark, crc = _HEAD.unpack_from(data, at)
        if _CRC.unpack_from(data, at + _HEAD.size) != (crc32(data[at : at + _HEAD.size]),):
            raise StoreError(f"byte {at}: damaged")
        end = at + _BODY_AT + length
        if end > len(data):
            return
        body = bytes(data[at + _BODY_AT : end])
        if crc != crc32(body):
            raise StoreError(f"byte {at}: damaged")
        yield at, number, sent_ns, mark, body
        at = end


def _write(descriptor: int, data: bytes | bytearray, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
