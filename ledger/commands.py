"""What is decided on each command: pure, against balances in memory. What is booked by hand stands in bookings.py."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from ledger import accounts, bookings
from ledger.accounts import Account, Hold, Kind, Leg
from ledger.book import (
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
    Request,
    ReversePosted,
    Withdraw,
    check_symbol,
    posting_of,
    settle_date,
)
from ledger.reasons import Reason, refuse
from runtime import ids
from runtime.units import CASH


def decide(book: Book, request: Request, today: date, now_ns: int) -> Decision:
    """Refusal if the rules say no; the book is left as it was."""
    decision = _DECIDE[type(request.command)](book, request, today, now_ns)
    if decision.posting is not None:
        accounts.check_balances(decision.posting.legs)
    return decision


def _open(_: Book, request: Request, __: date, now_ns: int) -> Decision:
    command: OpenAccount = request.command  # type: ignore[assignment]
    if not command.customer_id:
        raise refuse(Reason.MISSING_CUSTOMER, "customer_id is missing")
    return Decision(Account(ids.new_account_id(now_ns), command.customer_id, now_ns))


def _deposit(book: Book, request: Request, today: date, _: int) -> Decision:
    command: Deposit = request.command  # type: ignore[assignment]
    account = book.account(command.account_id)
    legs = accounts.deposit(account, command.amount, book.house)
    return Decision(account, posting_of(request, Kind.DEPOSIT, account, legs, today))


def _withdraw(book: Book, request: Request, today: date, _: int) -> Decision:
    command: Withdraw = request.command  # type: ignore[assignment]
    account = book.account(command.account_id)
    legs = accounts.withdrawal(account, command.amount, book.house)
    return Decision(account, posting_of(request, Kind.WITHDRAWAL, account, legs, today))


def _hold(book: Book, request: Request, today: date, now_ns: int) -> Decision:
    command: PlaceHold = request.command  # type: ignore[assignment]
    account = book.account(command.account_id)
    if not command.order_id:
        raise refuse(Reason.MISSING_ORDER, "order_id is missing")
    if command.asset != CASH:
        check_symbol(command.asset)
    if command.order_id in book.holds:
        raise refuse(Reason.ORDER_HAS_HOLD, f"{command.order_id} has a hold already", order_id=command.order_id)
    legs, draws = accounts.hold(account, command.asset, command.amount)
    hold = Hold(book.partition, 0, account.account_id, command.order_id, command.asset, draws, now_ns, request.key)
    return _of_hold(request, Kind.HOLD, account, legs, hold, today)


def _adjust(book: Book, request: Request, today: date, _: int) -> Decision:
    command: AdjustHold = request.command  # type: ignore[assignment]
    before = book.hold(command.hold_id)
    account = book.account(before.account_id)
    legs, hold = accounts.adjust(account, before, command.amount, book.house)
    return _of_hold(request, Kind.ADJUST, account, legs, hold, today)


def _capture(book: Book, request: Request, today: date, _: int) -> Decision:
    command: CaptureHold = request.command  # type: ignore[assignment]
    before = book.hold(command.hold_id)
    account = book.account(before.account_id)
    settles = settle_date(command.settle_date, today, today, book.house)
    legs, hold = accounts.capture(account, before, command.amount, settles, book.house)
    return _of_hold(request, Kind.CAPTURE, account, legs, hold, today)


def _release(book: Book, request: Request, today: date, _: int) -> Decision:
    command: ReleaseHold = request.command  # type: ignore[assignment]
    before = book.hold(command.hold_id)
    account = book.account(before.account_id)
    legs, hold = accounts.release(account, before, book.house)
    return _of_hold(request, Kind.RELEASE, account, legs, hold, today)


def _of_hold(request: Request, kind: Kind, account: Account, legs: Sequence[Leg], hold: Hold, today: date) -> Decision:
    return Decision(account, posting_of(request, kind, account, legs, today, hold.order_id, hold))


_DECIDE: dict[type[Any], Callable[[Book, Request, date, int], Decision]] = {
    OpenAccount: _open,
    Deposit: _deposit,
    Withdraw: _withdraw,
    PlaceHold: _hold,
    AdjustHold: _adjust,
    CaptureHold: _capture,
    ReleaseHold: _release,
    BookTrade: bookings.trade,
    PostJournal: bookings.journal,
    ReversePosted: bookings.reverse,
}
