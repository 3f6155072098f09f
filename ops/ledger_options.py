"""Arguments of the ledger's commands, and what their texts mean. Each reader's Failure says how to write it."""

import secrets
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

from openbell.ledger.v1 import ledger_pb2 as pb
from ops.failure import Failure
from runtime import ids
from runtime.units import CASH, MAX, to_units

Account = Annotated[str, typer.Argument(help="acc_...")]
Key = Annotated[str | None, typer.Option("--key", help="idempotency_key; a new one without it.")]
Memo = Annotated[str, typer.Option("--memo", help="Why; it is kept with the transaction.")]

NEGATIVE = {"ignore_unknown_options": True}  # -5 is an amount that is refused, not an option
STREET = "street/"
POSITION_DIGITS_MAX = 18  # of a transaction id too
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def key_of(given: str | None) -> str:
    return given or secrets.token_hex(8)


def to_cash(text: str) -> int:
    """Dollars as units of 1/10,000."""
    try:
        return to_units(text)
    except ValueError as problem:
        raise Failure(str(problem)) from None


def day(option: str, text: str) -> str:
    """YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise Failure(f"{option}: {text!r} is no date; write it as 2026-11-20") from None


def past(text: str) -> tuple[int, int]:
    """(position of the log, nanoseconds since 1970), one of them 0: a position, a transaction id, or a time."""
    if text.isascii() and text.isdigit() and len(text) <= POSITION_DIGITS_MAX:
        return _position(int(text)), 0
    if text.startswith("txn_"):
        return _position(_place(text)), 0
    return 0, _instant_ns(text)


def _instant_ns(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(f"--at: {text!r} is no position, transaction or time; write 7 or 2026-11-20T15:30:00Z") from None
    if instant.tzinfo is None:
        raise Failure(
            f"--at: {text} in which time zone? Write it as 2026-11-20T15:30:00Z (UTC) or 2026-11-20T10:30:00-05:00"
        )
    since_ns = (instant - EPOCH) // timedelta(microseconds=1) * 1_000
    if not 0 < since_ns <= MAX:
        raise Failure(f"--at: there is no ledger of {text}")
    return since_ns


def _place(text: str) -> int:
    try:
        return ids.place(text)[1]
    except ValueError as problem:
        raise Failure(f"--at: {problem}") from None


def _position(number: int) -> int:
    if not number:
        raise Failure("--at: positions count from 1")
    return number


def leg(text: str) -> pb.JournalLeg:
    """`bank=-100.00` in dollars, `street/AAPL=5` in shares: what is moved follows from the path."""
    path, equals, number = text.rpartition("=")
    if not equals:
        raise Failure(f"--leg {text!r}: write PATH=AMOUNT, as --leg bank=-100.00 or --leg street/AAPL=5")
    if not path.startswith(STREET):
        return pb.JournalLeg(path=path, asset=CASH, amount=to_cash(number))
    return pb.JournalLeg(path=path, asset=path.removeprefix(STREET), amount=_shares(number))


def _shares(text: str) -> int:
    try:
        shares = int(text)
    except ValueError:
        raise Failure(f"{text!r} is no whole number of shares") from None
    if abs(shares) > MAX:
        raise Failure(f"{text} shares are more than there are")
    return shares
