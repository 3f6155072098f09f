"""What callers ask of the ledger, and the balances in memory against which it is decided."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from ledger import trades
from ledger.accounts import Account, Hold, House, Kind, Leg, Posting
from ledger.reasons import Reason, refuse
from ledger.trades import Traded
from runtime import calendar, ids
from runtime.calendar_table import FIRST, LAST
from runtime.units import CASH, is_symbol


class OpenAccount(NamedTuple):
    customer_id: str


class Deposit(NamedTuple):
    account_id: str
    amount: int


class Withdraw(NamedTuple):
    account_id: str
    amount: int


class PlaceHold(NamedTuple):
    account_id: str
    order_id: str
    asset: str
    amount: int


class AdjustHold(NamedTuple):
    hold_id: str
    amount: int


class CaptureHold(NamedTuple):
    hold_id: str
    amount: int
    settle_date: str  # empty: by the cycle


class ReleaseHold(NamedTuple):
    hold_id: str


class BookTrade(NamedTuple):
    account_id: str
    order_id: str  # whose hold it draws on; may be empty
    buys: bool | None  # None: neither
    symbol: str
    quantity: int
    price: int
    trade_date: str  # empty: today
    settle_date: str  # empty: by the cycle


class PostJournal(NamedTuple):
    legs: tuple[tuple[str, str, int], ...]  # path, asset, amount
    effective_date: str  # empty: today
    memo: str


class ReversePosted(NamedTuple):
    transaction_id: str
    memo: str


Command = (
    OpenAccount
    | Deposit
    | Withdraw
    | PlaceHold
    | AdjustHold
    | CaptureHold
    | ReleaseHold
    | BookTrade
    | PostJournal
    | ReversePosted
)
OF_HOLDS = (CaptureHold, AdjustHold, ReleaseHold)
OF_ACCOUNTS = (Deposit, Withdraw, PlaceHold, BookTrade)


class Request(NamedTuple):
    """A command with what makes it happen once.

    `scope` is where `key` is unique: a hash of the command's kind and its account, customer or hold. So a customer's
    keys, which name holds, cannot stand in the way of an operator's.
    """

    scope: int
    key: str
    request_hash: bytes
    command: Command
    trace_id: bytes
    requested_at_ns: int


class Original(NamedTuple):
    """A transaction that somebody wants to reverse."""

    position: int
    kind: Kind
    legs: tuple[tuple[str, str, str, int], ...]  # account, path, asset, amount
    is_reversal: bool
    reversed: bool


@dataclass(slots=True)
class Book:
    """The balances and holds a batch needs. Nothing here is true until the batch is committed."""

    partition: int
    house: House
    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)  # by order id
    order_of: dict[int, str] = field(default_factory=dict)  # hold's position -> order id
    position: int = 0  # of the last posting applied
    traded: dict[str, dict[str, Traded]] = field(default_factory=dict)  # of orders with busts: by order id and ExecID
    originals: dict[int, Original] = field(default_factory=dict)  # to be reversed by command: by position

    def account(self, account_id: str) -> Account:
        account = self.accounts.get(account_id)
        if account is None or account is self.house.account:
            raise refuse(Reason.UNKNOWN_ACCOUNT, f"there is no account {account_id}", account_id=account_id)
        return account

    def hold(self, hold_id: str) -> Hold:
        order_id = self.order_of.get(position(self.partition, "hld", hold_id))
        if order_id is None:
            raise refuse(Reason.UNKNOWN_HOLD, f"there is no hold {hold_id}", hold_id=hold_id)
        return self.holds[order_id]

    def keep(self, hold: Hold) -> None:
        self.holds[hold.order_id] = hold
        self.order_of[hold.position] = hold.order_id

    def drop(self, hold: Hold) -> None:
        del self.holds[hold.order_id]
        del self.order_of[hold.position]


class Decision(NamedTuple):
    """What a command leads to. A hold to be gets its place from the posting's position."""

    account: Account
    posting: Posting | None = None
    more: tuple[Posting, ...] = ()  # posted after the first, of the same command


@lru_cache(100_000)
def position(partition: int, prefix: str, log_id: str) -> int:
    """Of a row of this partition's log; -1, which no row has, for an id that is not one."""
    if not log_id.startswith(prefix):
        return -1
    try:
        of, place = ids.place(log_id)
    except ValueError:
        return -1
    return place if of == partition else -1


def settle_date(given: str, traded: date, today: date, house: House) -> date:
    """The date asked for, if cash can still settle on it; by the cycle from the trade date if none is given."""
    if not given:
        return trades.clearing_date(traded, house)
    return _settle_date(given, today, house.settled_through)


@lru_cache  # thousands of captures name the same date
def _settle_date(given: str, today: date, settled_through: str) -> date:
    settles = day(given, "settle_date")
    if settles < today or given <= settled_through:
        raise refuse(Reason.SETTLE_DATE_PAST, f"the settle date {given} is past", settle_date=given)
    if not calendar.is_settlement_day(settles):
        raise refuse(Reason.NOT_A_SETTLEMENT_DAY, f"nothing settles on {given}", settle_date=given)
    return settles


def day(text: str, name: str) -> date:
    """YYYY-MM-DD within the calendar's years."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if text != day.isoformat() or not FIRST <= text <= LAST:
        raise refuse(
            Reason.INVALID_DATE,
            f"{name}: {text!r} is no date YYYY-MM-DD from {FIRST} to {LAST}",
            field=name,
        )
    return day


def check_symbol(symbol: str) -> None:
    if not is_symbol(symbol):
        raise refuse(Reason.INVALID_ASSET, f"{symbol!r} is neither {CASH} nor a symbol", asset=symbol)


def posting_of(
    request: Request,
    kind: Kind,
    account: Account,
    legs: Sequence[Leg],
    effective: date,
    order_id: str | None = None,
    hold: Hold | None = None,
) -> Posting:
    return Posting(kind, account.account_id, legs, effective, request.trace_id, request.requested_at_ns, order_id, hold)
