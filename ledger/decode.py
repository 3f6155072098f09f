"""Wire messages to what the ledger is asked."""

import hashlib
import time
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any

from ledger.book import (
    AdjustHold,
    BookTrade,
    CaptureHold,
    Command,
    Deposit,
    OpenAccount,
    PlaceHold,
    PostJournal,
    ReleaseHold,
    Request,
    ReversePosted,
    Withdraw,
    day,
)
from ledger.reasons import Reason, refuse
from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import auth, calendar, telemetry
from runtime.serve import check_text

SIDES = {fix_pb2.SIDE_BUY: True, fix_pb2.SIDE_SELL: False}


def request(message: Any, trace_id: bytes, now_ns: int) -> Request:
    """A command as it was asked, alone or in a batch. Refusal MISSING_KEY, INVALID_TEXT."""
    key = message.idempotency_key
    if not key:
        raise refuse(Reason.MISSING_KEY, "idempotency_key is missing")
    check_text("idempotency_key", key)
    name = type(message).__name__
    where, command = _DECODE[name](message)
    for field, value in zip(command._fields, command, strict=True):
        if type(value) is str:
            check_text(field, value)
    content = name.encode() + message.SerializeToString(deterministic=True)
    request_hash = hashlib.sha256(content).digest()[:16]
    return Request(_scope(type(command).__name__, where), key, request_hash, command, trace_id, now_ns)


def command(asked: pb.Command, caller: auth.Caller, trace_id: bytes, now_ns: int) -> Request:
    """One of a batch: its own scope is asked for, and it may have a trace of its own."""
    field = asked.WhichOneof("request")
    if field is None:
        raise refuse(Reason.EMPTY_COMMAND, "the command has no request")
    auth.require_scope(caller, _SCOPES[field], field)
    if asked.traceparent:
        trace_id = telemetry.parse_traceparent(asked.traceparent).trace_id
    return request(getattr(asked, field), trace_id, now_ns)


def past_date(text: str) -> date:
    """A day that has come in New York. Refusal INVALID_DATE, DATE_IN_FUTURE."""
    found, today = day(text, "settle_date"), calendar.new_york(time.time_ns()).date()
    if found > today:
        raise refuse(Reason.DATE_IN_FUTURE, f"{found} has not come: it is {today} in New York", settle_date=text)
    return found


@lru_cache(100_000)
def _scope(kind: str, where: str) -> int:
    """Two that fall together would only refuse each other's equal keys: the request's hash tells them apart."""
    return int.from_bytes(hashlib.sha256(f"{kind} {where}".encode()).digest()[:8], "big", signed=True)


def _trade(asked: pb.TradeRequest) -> tuple[str, Command]:
    return asked.account_id, BookTrade(
        asked.account_id,
        asked.order_id,
        SIDES.get(asked.side),
        asked.symbol,
        asked.quantity,
        asked.price,
        asked.trade_date,
        asked.settle_date,
    )


def _journal(asked: pb.JournalRequest) -> tuple[str, Command]:
    legs = tuple((leg.path, leg.asset, leg.amount) for leg in asked.legs)
    for path, asset, _ in legs:
        check_text("path", path)
        check_text("asset", asset)
    return "house", PostJournal(legs, asked.effective_date, asked.memo)


# Message -> where its key is unique, and the command.
_DECODE: dict[str, Callable[[Any], tuple[str, Command]]] = {
    "OpenAccountRequest": lambda asked: (asked.customer_id, OpenAccount(asked.customer_id)),
    "DepositRequest": lambda asked: (asked.account_id, Deposit(asked.account_id, asked.amount)),
    "WithdrawRequest": lambda asked: (asked.account_id, Withdraw(asked.account_id, asked.amount)),
    "HoldRequest": lambda asked: (
        asked.account_id,
        PlaceHold(asked.account_id, asked.order_id, asked.asset, asked.amount),
    ),
    "AdjustHoldRequest": lambda asked: (asked.hold_id, AdjustHold(asked.hold_id, asked.amount)),
    "CaptureRequest": lambda asked: (asked.hold_id, CaptureHold(asked.hold_id, asked.amount, asked.settle_date)),
    "ReleaseRequest": lambda asked: (asked.hold_id, ReleaseHold(asked.hold_id)),
    "TradeRequest": _trade,
    "JournalRequest": _journal,
    "ReverseRequest": lambda asked: (asked.transaction_id, ReversePosted(asked.transaction_id, asked.memo)),
}

# Command's field -> the scope that it needs, as its own RPC does.
_SCOPES = {
    "open_account": "operate",
    "deposit": "operate",
    "withdraw": "operate",
    "hold": "hold",
    "adjust_hold": "hold",
    "capture": "hold",
    "release": "hold",
    "trade": "operate",
    "journal": "operate",
    "reverse": "operate",
}
