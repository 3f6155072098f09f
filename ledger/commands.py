"""What callers ask of the ledger, and the decision on each: pure, against balances in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from ledger import accounts
from ledger.accounts import Account, Hold, Kind, Posting, house
from ledger.reasons import Reason, refuse
from runtime import ids
from runtime.units import CASH, is_symbol


@dataclass(frozen=True, slots=True)
class OpenAccount:
    customer_id: str


@dataclass(frozen=True, slots=True)
class Deposit:
    account_id: str
    amount: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    account_id: str
    amount: int


@dataclass(frozen=True, slots=True)
class PlaceHold:
    account_id: str
    order_id: str
    asset: str
    amount: int


@dataclass(frozen=True, slots=True)
class AdjustHold:
    hold_id: str
    amount: int


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    hold_id: str


Command = OpenAccount | Deposit | Withdraw | PlaceHold | AdjustHold | ReleaseHold


@dataclass(frozen=True, slots=True)
class Request:
    """A command with what makes it happen once.

    `scope` is where `key` is unique: the command's kind, and the account, customer or hold. So a customer's keys, which
    name holds, cannot stand in the way of an operator's.
    """

    scope: str
    key: str
    request_hash: bytes
    command: Command
    trace_id: bytes
    requested_at_ns: int


@dataclass(slots=True)
class Book:
    """The balances and holds one batch needs. Nothing here is true until the batch is committed."""

    partition: int
    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)  # by order id
    order_of: dict[str, str] = field(default_factory=dict)  # hold id -> order id

    def account(self, account_id: str) -> Account:
        if account_id not in self.accounts or account_id.startswith("house/"):
            raise refuse(Reason.UNKNOWN_ACCOUNT, f"there is no account {account_id}", account_id=account_id)
        return self.accounts[account_id]

    def hold(self, hold_id: str) -> Hold:
        if hold_id not in self.order_of:
            raise refuse(Reason.UNKNOWN_HOLD, f"there is no hold {hold_id}", hold_id=hold_id)
        return self.holds[self.order_of[hold_id]]

    def keep(self, hold: Hold) -> None:
        self.holds[hold.order_id] = hold
        self.order_of[ids.hold_id(hold.partition, hold.position)] = hold.order_id

    def drop(self, hold: Hold) -> None:
        del self.holds[hold.order_id]
        del self.order_of[ids.hold_id(hold.partition, hold.position)]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command leads to. A hold to be gets its place from the posting's position."""

    account: Account
    posting: Posting | None = None
    opens: bool = False
    hold: Hold | None = None


def decide(book: Book, request: Request, effective: date, now_ns: int) -> Decision:
    """Refusal if the rules say no; the book is left as it was."""
    return _DECIDE[type(request.command)](book, request, effective, now_ns)


def _open(_: Book, request: Request, __: date, now_ns: int) -> Decision:
    command: OpenAccount = request.command  # type: ignore[assignment]
    if not command.customer_id:
        raise refuse(Reason.MISSING_CUSTOMER, "customer_id is missing")
    return Decision(Account(ids.new_account_id(now_ns), command.customer_id, now_ns), opens=True)


def _posting(
    request: Request, kind: Kind, account: Account, legs: tuple[accounts.Leg, ...], effective: date
) -> Posting:
    return Posting(kind, account.account_id, legs, effective, request.trace_id, request.requested_at_ns)


def _deposit(book: Book, request: Request, effective: date, _: int) -> Decision:
    command: Deposit = request.command  # type: ignore[assignment]
    account = book.account(command.account_id)
    legs = accounts.deposit(account, command.amount, house(book.partition))
    return Decision(account, _posting(request, Kind.DEPOSIT, account, legs, effective))


def _withdraw(book: Book, request: Request, effective: date, _: int) -> Decision:
    command: Withdraw = request.command  # type: ignore[assignment]
    account = book.account(command.account_id)
    legs = accounts.withdrawal(account, command.amount, house(book.partition))
    return Decision(account, _posting(request, Kind.WITHDRAWAL, account, legs, effective))


def _hold(book: Book, request: Request, effective: date, now_ns: int) -> Decision:
    command: PlaceHold = request.command  # type: ignore[assignment]
    account = book.account(command.account_id)
    if not command.order_id:
        raise refuse(Reason.MISSING_ORDER, "order_id is missing")
    if command.asset != CASH and not is_symbol(command.asset):
        raise refuse(Reason.INVALID_ASSET, f"{command.asset!r} is neither {CASH} nor a symbol", asset=command.asset)
    if command.order_id in book.holds:
        raise refuse(Reason.ORDER_HAS_HOLD, f"{command.order_id} has a hold already", order_id=command.order_id)
    legs, draws = accounts.hold(account, command.asset, command.amount)
    hold = Hold(book.partition, 0, account.account_id, command.order_id, command.asset, draws, now_ns, request.key)
    posting = replace(_posting(request, Kind.HOLD, account, legs, effective), order_id=command.order_id, hold=hold)
    return Decision(account, posting, hold=hold)


def _adjust(book: Book, request: Request, effective: date, _: int) -> Decision:
    command: AdjustHold = request.command  # type: ignore[assignment]
    before = book.hold(command.hold_id)
    account = book.account(before.account_id)
    legs, hold = accounts.adjust(account, before, command.amount)
    return _moved(request, Kind.ADJUST, account, legs, hold, effective)


def _release(book: Book, request: Request, effective: date, _: int) -> Decision:
    command: ReleaseHold = request.command  # type: ignore[assignment]
    before = book.hold(command.hold_id)
    account = book.account(before.account_id)
    legs, hold = accounts.release(account, before)
    return _moved(request, Kind.RELEASE, account, legs, hold, effective)


def _moved(
    request: Request, kind: Kind, account: Account, legs: tuple[accounts.Leg, ...], hold: Hold, effective: date
) -> Decision:
    posting = replace(_posting(request, kind, account, legs, effective), order_id=hold.order_id, hold=hold)
    return Decision(account, posting, hold=hold)


_DECIDE: dict[type[Any], Callable[[Book, Request, date, int], Decision]] = {
    OpenAccount: _open,
    Deposit: _deposit,
    Withdraw: _withdraw,
    PlaceHold: _hold,
    AdjustHold: _adjust,
    ReleaseHold: _release,
}
