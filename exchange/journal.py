"""The venue's journal: JSON lines, appended before anything is answered. Its shape is in README.md."""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Lock
from typing import Any, Final

from exchange.market import Instrument, Outcome
from exchange.orders import Execution, NewOrder

VERSION: Final = 1
_REQUEST_FIELDS: Final = tuple(field.name for field in fields(NewOrder))
_INSTRUMENT_FIELDS: Final = tuple(field.name for field in fields(Instrument))

Record = dict[str, Any]


class JournalError(Exception):
    """The journal cannot be used; the text says which one, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line. `feed_session` (ten characters) names this journal on the feed and in the venue's ids."""

    venue: str
    feed_session: str
    created_ns: int


class Journal:
    """One file, one process. A line is one write, so what `append` returned from survives a kill of the process.

    Threads may append at the same time. OSError from `append` means that the line may be there in part: from then on
    every append fails, the process must end, and the next start cuts the line.
    """

    def __init__(self, path: Path, venue: str, now_ns: int) -> None:
        """Opens or creates. JournalError if another process has it, or it is no journal of this venue."""
        self._path = path
        self._lock = Lock()
        self._broken = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"{path} is in use: stop the other venue, or choose another data_dir") from None
        _cut_torn_line(self._file)
        if not os.fstat(self._file).st_size:
            self._write_header(venue, now_ns)
        self.header = self._read_header(venue)

    def append(self, record: Record) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._broken:
                raise OSError(f"{self._path} failed before")
            self._broken = True
            written = os.write(self._file, line)
            if written != len(line):
                raise OSError(f"{self._path} took {written} of {len(line)} bytes")
            self._broken = False

    def records(self) -> Iterator[Record]:
        """Every line after the header, from the first on. JournalError on one that cannot be read."""
        with self._path.open("rb") as lines:
            next(lines)
            for number, line in enumerate(lines, start=2):
                yield _parse(line, f"{self._path} line {number}")

    def close(self) -> None:
        os.close(self._file)

    def _write_header(self, venue: str, now_ns: int) -> None:
        # Ten hexadecimal digits of hundredths of a second: until the year 2318, and new for each journal.
        feed_session = format(now_ns // 10_000_000, "010x")
        self.append({"version": VERSION, "venue": venue, "feed_session": feed_session, "t": now_ns})

    def _read_header(self, venue: str) -> Header:
        with self._path.open("rb") as lines:
            record = _parse(next(lines), f"{self._path} line 1")
        if record.get("version") != VERSION or record.get("venue") != venue:
            raise JournalError(
                f"{self._path} is no journal of {venue} in version {VERSION}: choose another data_dir or move it away"
            )
        return Header(record["venue"], record["feed_session"], record["t"])


def order_record(n: int, comp_id: str, request: NewOrder, is_open: bool, decided_ns: int, outcome: Outcome) -> Record:
    came = {name: getattr(request, name) for name in _REQUEST_FIELDS}
    return _record(n, comp_id, {"kind": "order", **came, "open": is_open}, decided_ns, outcome)


def instrument_record(n: int, instrument: Instrument, outcome: Outcome) -> Record:
    values = {name: getattr(instrument, name) for name in _INSTRUMENT_FIELDS}
    return _record(n, "", {"kind": "instrument", **values}, outcome.now_ns, outcome)


def sent_record(handed_over: dict[str, int]) -> Record:
    return {"sent": handed_over}


def read_request(came: Record) -> NewOrder:
    return NewOrder(**{name: came[name] for name in _REQUEST_FIELDS})


def read_instrument(came: Record) -> Instrument:
    return Instrument(**{name: came[name] for name in _INSTRUMENT_FIELDS})


def result(outcome: Outcome) -> Record:
    """What an event led to, as its line holds it: enough to tell whether a replay leads to the same."""
    return {"out": [_row(execution) for execution in outcome.executions], "feed": len(outcome.feed)}


def _record(n: int, comp_id: str, came: Record, decided_ns: int, outcome: Outcome) -> Record:
    return {"n": n, "t": outcome.now_ns, "decided": decided_ns, "session": comp_id, "in": came, **result(outcome)}


def _row(done: Execution) -> Record:
    order = done.order
    return {
        "number": done.number,
        "exec_id": done.exec_id,
        "exec_trans_type": "0",
        "exec_type": done.exec_type,
        "ord_status": done.ord_status,
        "order_id": order.order_id,
        "cl_ord_id": order.request.cl_ord_id,
        "comp_id": order.comp_id,
        "account": order.request.account,
        "symbol": order.request.symbol,
        "side": order.request.side,
        "last_shares": done.last_shares,
        "last_px": done.last_px,
        "cum_qty": done.cum_qty,
        "leaves_qty": done.leaves_qty,
        "ord_rej_reason": order.refusal.code if order.refusal else None,
        "text": order.refusal.text if order.refusal else "",
        "trade_date": done.trade_date,
        "transact_time_ns": done.transact_time_ns,
    }


def _parse(line: bytes, where: str) -> Record:
    try:
        record = json.loads(line)
    except ValueError as problem:
        raise JournalError(f"{where} is damaged ({problem}): restore the file; the venue will not guess") from None
    if not isinstance(record, dict):
        raise JournalError(f"{where} is not an object: this is no journal")
    return record


def _cut_torn_line(file: int) -> None:
    """A kill in mid-write leaves a last line without its end. Nothing was answered for it, so it never happened."""
    size = end = os.fstat(file).st_size
    while end:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(file, end)
