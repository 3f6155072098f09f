"""Ledger's domain to its wire messages, and the stored answers."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ledger.accounts import Account, Hold, Leg
from ledger.book import (
    OF_HOLDS,
    AdjustHold,
    Book,
    BookTrade,
    CaptureHold,
    Decision,
    Deposit,
    OpenAccount,
    PlaceHold,
    PostJournal,
    ReleaseHold,
    ReversePosted,
    Withdraw,
)
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import ids, telemetry
from runtime.errors import Refusal
from runtime.units import CASH

REFUSED = b"\x0a"  # how an Answer begins whose response is `refused`, field 1


def account(found: Account) -> pb.Account:
    return pb.Account(account_id=found.account_id, customer_id=found.customer_id, opened_at_ns=found.opened_at_ns)


def balances(found: Account, as_of_position: int) -> pb.Balances:
    told = pb.Balances(account_id=found.account_id)
    _fill_balances(told, found, as_of_position)
    return told


def _fill_balances(told: pb.Balances, found: Account, as_of_position: int) -> None:
    settled = total = found.amount("cash/settled")
    for path in found.paths("cash/unsettled/"):
        amount = found.amount(path)
        total += amount
        told.unsettled.add(settle_date=path.rpartition("/")[2], amount=amount)
    told.settled = told.withdrawable = settled
    told.held = found.amount("cash/held")
    told.owed = found.amount("cash/owed")
    told.buying_power = total
    told.as_of_position = as_of_position


def positions(found: Account) -> list[pb.Position]:
    return [
        position(found, symbol) for symbol in sorted({path.rpartition("/")[2] for path in found.paths("position/")})
    ]


def position(found: Account, symbol: str) -> pb.Position:
    return pb.Position(
        symbol=symbol,
        available=found.amount(f"position/available/{symbol}"),
        held=found.amount(f"position/held/{symbol}"),
        owed=found.amount(f"position/owed/{symbol}"),
    )


def hold(found: Hold) -> pb.HoldRecord:
    told = _named_hold(found)
    _fill_hold(told, found)
    return told


def _named_hold(found: Hold) -> pb.HoldRecord:
    return pb.HoldRecord(
        hold_id=ids.hold_id(found.partition, found.position),
        account_id=found.account_id,
        order_id=found.order_id,
        asset=found.asset,
        created_at_ns=found.created_at_ns,
    )


def _fill_hold(told: pb.HoldRecord, found: Hold) -> None:
    told.remaining = found.remaining
    told.state = pb.HOLD_STATE_RELEASED if found.released else pb.HOLD_STATE_OPEN


# --- answers


def refused(refusal: Refusal) -> bytes:
    code = refusal.status.value[0]
    told = pb.Refused(reason=refusal.reason, code=code, message=refusal.message, metadata=refusal.metadata)
    return pb.Answer(refused=told).SerializeToString()


def answer(command: Any, decision: Decision, hold: Hold | None, transaction_id: str, position: int) -> bytes:
    """What is stored of a command's response: an Answer without the names that the request finds again.

    `position`: of the log, at which the balances stand.
    """
    told = pb.Answer()
    _ANSWERS[type(command)](told, command, decision, hold, transaction_id, position)
    return told.SerializeToString()


def names(stored: bytes, command: Any, book: Book) -> bytes:
    """What a stored answer leaves out: protobuf merges messages that stand one behind the other."""
    field = _FIELDS.get(type(command))
    if field is None or stored.startswith(REFUSED):
        return b""
    if type(command) is PlaceHold:
        return _names_of_hold(field, book.holds[command.order_id])
    if type(command) in OF_HOLDS:
        return _names_of_hold(field, book.hold(command.hold_id))
    return _names_of_account(field, command.account_id)


@lru_cache(10_000)
def _names_of_account(field: str, account_id: str) -> bytes:
    told = pb.Answer()
    getattr(told, field).balances.account_id = account_id
    return told.SerializeToString()


def _names_of_hold(field: str, hold: Hold) -> bytes:
    told = pb.Answer()
    response = getattr(told, field)
    response.hold.CopyFrom(_named_hold(hold))
    response.balances.account_id = hold.account_id
    return told.SerializeToString()


def _opened(told: pb.Answer, _: Any, decision: Decision, *__: Any) -> None:
    told.open_account.account.CopyFrom(account(decision.account))


def _of_money(name: str) -> Callable[..., None]:
    def fill(told: pb.Answer, _: Any, decision: Decision, __: Any, transaction_id: str, position: int) -> None:
        response = getattr(told, name)
        response.transaction_id = transaction_id
        _fill_balances(response.balances, decision.account, position)

    return fill


def _of_hold(name: str) -> Callable[..., None]:
    def fill(told: pb.Answer, _: Any, decision: Decision, held: Hold, transaction_id: str, at: int) -> None:
        response = getattr(told, name)
        response.transaction_id = transaction_id
        _fill_hold(response.hold, held)
        _fill_balances(response.balances, decision.account, at)
        if held.asset != CASH:
            response.position.CopyFrom(position(decision.account, held.asset))

    return fill


def _traded(told: pb.Answer, command: BookTrade, decision: Decision, _: Any, transaction_id: str, at: int) -> None:
    told.trade.transaction_id = transaction_id
    _fill_balances(told.trade.balances, decision.account, at)
    told.trade.position.CopyFrom(position(decision.account, command.symbol))


def _journalled(told: pb.Answer, _: Any, decision: Decision, __: Any, transaction_id: str, ___: int) -> None:
    told.journal.transaction_id = transaction_id
    legs: tuple[Leg, ...] = tuple(decision.posting.legs) if decision.posting else ()
    for leg in legs:
        told.journal.balances.add(path=leg.path, asset=leg.asset, amount=leg.account.amount(leg.path))


def _reversed(told: pb.Answer, _: Any, decision: Decision, __: Any, transaction_id: str, at: int) -> None:
    told.reverse.transaction_id = transaction_id
    if decision.account.customer_id:
        told.reverse.balances.account_id = decision.account.account_id
        _fill_balances(told.reverse.balances, decision.account, at)


# Where the names of a command's account or hold are left out of what is stored.
_FIELDS: dict[type[Any], str] = {
    Deposit: "deposit",
    Withdraw: "withdraw",
    PlaceHold: "hold",
    AdjustHold: "adjust_hold",
    CaptureHold: "capture",
    ReleaseHold: "release",
    BookTrade: "trade",
}
_ANSWERS: dict[type[Any], Callable[..., None]] = {
    OpenAccount: _opened,
    Deposit: _of_money("deposit"),
    Withdraw: _of_money("withdraw"),
    PlaceHold: _of_hold("hold"),
    AdjustHold: _of_hold("adjust_hold"),
    CaptureHold: _of_hold("capture"),
    ReleaseHold: _of_hold("release"),
    BookTrade: _traded,
    PostJournal: _journalled,
    ReversePosted: _reversed,
}


def answers(encoded: Sequence[bytes]) -> bytes:
    """A SubmitBatchResponse or SubmitStreamResponse, both of which are nothing but answers in field 1."""
    return b"".join([b"\x0a" + _varint(len(each)) + each for each in encoded])


def _varint(number: int) -> bytes:
    return bytes((number,)) if number < 128 else bytes((number & 127 | 128,)) + _varint(number >> 7)


# --- rows


def entry(row: Any) -> pb.Entry:
    return pb.Entry(
        transaction_id=ids.transaction_id(row["log_partition"], row["position"]),
        kind=row["kind"],
        account_id=row["account_id"],
        path=row["path"],
        asset=row["asset"],
        amount=row["amount"],
        balance=row["balance"],
        version=row["version"],
        recorded_at_ns=row["recorded_at_ns"],
        effective_date=row["effective_date"].isoformat(),
        order_id=row["order_id"] or "",
        execution_id=row["execution_id"] or "",
        trace_id=row["trace_id"].hex(),
    )


def statement(
    lines: Sequence[Any], entries: Sequence[Any], next_page_token: str, as_of_position: int
) -> pb.GetStatementResponse:
    """Balances that are zero are left out."""
    return pb.GetStatementResponse(
        opening=[_line(row, row["opening"]) for row in lines if row["opening"]],
        closing=[_line(row, row["closing"]) for row in lines if row["closing"]],
        entries=[entry(row) for row in entries],
        next_page_token=next_page_token,
        as_of_position=as_of_position,
    )


def _line(row: Any, amount: int) -> pb.StatementLine:
    return pb.StatementLine(path=row["path"], asset=row["asset"], amount=amount)


def transaction(row: Any, legs: list[Any]) -> pb.Transaction:
    partition, shared = row["log_partition"], dict(row)
    transaction_id = ids.transaction_id(partition, row["position"])
    held, reverses = row["hold_position"], row["reverses"]
    return pb.Transaction(
        transaction_id=transaction_id,
        position=row["position"],
        kind=row["kind"],
        effective_date=row["effective_date"].isoformat(),
        recorded_at_ns=row["recorded_at_ns"],
        requested_at_ns=row["requested_at_ns"],
        account_id=row["account_id"],
        order_id=row["order_id"] or "",
        hold_id=ids.hold_id(partition, held) if held else "",
        execution_id=row["execution_id"] or "",
        exec_id=row["exec_id"] or "",
        reverses=ids.transaction_id(partition, reverses) if reverses else "",
        memo=row["memo"] or "",
        trace_id=row["trace_id"].hex(),
        span_id=telemetry.span_id("transaction", transaction_id).hex(),
        entries=[entry({**shared, **dict(leg)}) for leg in legs],
    )
