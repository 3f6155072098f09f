"""The venue's journal: JSON lines, written before anything is answered. Its shape is in README.md."""

import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import orjson

from exchange.acts import Telephone
from exchange.events import Outcome
from exchange.orders import NO_ORDER_ID, CancelReject, Execution, NewOrder, Report
from exchange.rules import RULES, Event

VERSION: Final = 2
_FEED_SESSION: Final = re.compile(r"[0-9a-f]{10}")

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
    """One file, one process. What `flush` returned from survives a kill of the process.

    OSError from `flush` means that the last lines may be there in part: from then on every flush fails, the process
    must end, and the next start cuts the torn line.
    """

    def __init__(self, path: Path, venue: str, now_ns: int) -> None:
        """Opens or creates. JournalError if another process has it, or it is no journal of this venue."""
        self._path = path
        self._lines: list[bytes] = []
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
        """To be written with the next flush."""
        self._lines.append(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def flush(self) -> None:
        """Writes what was appended, in one write."""
        if not self._lines:
            return
        lines = b"".join(self._lines)
        self._lines.clear()
        if self._broken:
            raise OSError(f"{self._path} failed before")
        self._broken = True
        written = os.write(self._file, lines)
        if written != len(lines):
            raise OSError(f"{self._path} took {written} of {len(lines)} bytes")
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
        self.flush()

    def _read_header(self, venue: str) -> Header:
        with self._path.open("rb") as lines:
            record = _parse(next(lines), f"{self._path} line 1")
        if record.get("version") != VERSION or record.get("venue") != venue:
            raise JournalError(
                f"{self._path} is no journal of {venue} in version {VERSION}: choose another data_dir. A brokerage "
                "remembers this one: start that anew too"
            )
        feed_session, created_ns = record.get("feed_session"), record.get("t")
        if not _FEED_SESSION.fullmatch(str(feed_session)) or not isinstance(created_ns, int):
            raise JournalError(f"{self._path} line 1 is damaged: restore the file")
        return Header(venue, str(feed_session), created_ns)


def record_of(n: int, event: Event, decided_ns: int, outcome: Outcome) -> Record:
    """An event as its line."""
    came: Record = {"kind": event.kind, **_values(event.body)}
    if event.refused:
        came["refused"] = True
    if event.delayed:
        came["delayed"] = True
    if event.key:
        came["key"] = event.key
    return {
        "n": n,
        "t": outcome.now_ns,
        "decided": decided_ns,
        "session": event.session,
        "in": came,
        **result(outcome),
    }


def event_of(record: Record) -> Event:
    """The event of a line. KeyError or TypeError if it is none."""
    came = dict(record["in"])
    kind = came.pop("kind")
    refused, delayed = came.pop("refused", False), came.pop("delayed", False)
    key = came.pop("key", "")
    return Event(kind, _body(RULES[kind].body, came), record["session"], refused, delayed, key)


def result(outcome: Outcome) -> Record:
    """What an event led to, as its line holds it: enough to tell whether a replay leads to the same."""
    return {"out": [row_of(report) for report in outcome.reports], "feed": len(outcome.feed)}


def row_of(report: Report) -> Record:
    """A report as a row of `out`."""
    return _reject_row(report) if isinstance(report, CancelReject) else _execution_row(report)


def _execution_row(done: Execution) -> Record:
    request = done.request
    return {
        "number": done.number,
        "msg_type": "8",
        "exec_id": done.exec_id,
        "exec_trans_type": done.trans_type,
        "exec_type": done.exec_type,
        "ord_status": done.ord_status,
        "order_id": done.order.order_id,
        "cl_ord_id": request.cl_ord_id,
        "orig_cl_ord_id": done.orig_cl_ord_id,
        "exec_ref_id": done.exec_ref_id,
        "comp_id": done.order.comp_id,
        "account": request.account,
        "symbol": request.symbol,
        "side": request.side,
        "last_shares": done.last_shares,
        "last_px": done.last_px,
        "cum_qty": done.cum_qty,
        "leaves_qty": done.leaves_qty,
        "ord_rej_reason": done.refusal.code if done.refusal else None,
        "text": done.text,
        "match": done.match,
        "trade_date": done.trade_date,
        "transact_time_ns": done.transact_time_ns,
    }


def _reject_row(reject: CancelReject) -> Record:
    return {
        "number": reject.number,
        "msg_type": "9",
        "order_id": reject.order.order_id if reject.order else NO_ORDER_ID,
        "cl_ord_id": reject.cl_ord_id,
        "orig_cl_ord_id": reject.orig_cl_ord_id,
        "ord_status": reject.ord_status,
        "comp_id": reject.comp_id,
        "response_to": reject.response_to,
        "cxl_rej_reason": reject.refusal.code,
        "text": reject.text,
        "last_shares": 0,
        "transact_time_ns": reject.transact_time_ns,
    }


def _values(body: Any) -> Record:
    """Its fields; those that say nothing ("", 0 or False) are left out."""
    kind = type(body)
    return {name: value for name in _NAMES[kind] if (value := getattr(body, name))}


def _body(kind: type, came: Record) -> Any:
    if kind is Telephone:
        came = came | {"order": _body(NewOrder, came["order"])}
    return kind(**(_EMPTY[kind] | came))


_BODIES: Final = (NewOrder, *(rule.body for rule in RULES.values()))
_NAMES: Final = {kind: tuple(field.name for field in fields(kind)) for kind in _BODIES}
_NOTHING: Final[dict[Any, Any]] = {str: "", int: 0, bool: False}
_EMPTY: Final = {
    kind: {field.name: _NOTHING[field.type] for field in fields(kind) if field.type is not NewOrder} for kind in _BODIES
}


def _parse(line: bytes, where: str) -> Record:
    try:
        record = orjson.loads(line)
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
