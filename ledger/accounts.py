"""The ledger's rules, pure: what each business act moves, and what it refuses. Trades stand in trades.py.

A customer's accounts are what the broker owes the customer, so credits (positive) raise them. Paths of a customer:
cash/settled, cash/unsettled/DATE, cash/held, cash/owed; position/available/SYMBOL, position/held/SYMBOL,
position/owed/SYMBOL. Of the house, one set a partition: bank, clearing/DATE, street/SYMBOL, fees, equity.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum
from typing import NamedTuple

from ledger.reasons import Reason, refuse
from runtime.fees import FeeSchedule
from runtime.units import CASH, to_decimal

AMOUNT_MAX = 10**15  # 100 billion dollars
BALANCE_MAX = 4 * 10**18  # by commands; what a bigint has beyond is left to facts, which are never refused
UNSETTLED = "cash/unsettled/"
SETTLED = "cash/settled"


class Kind(IntEnum):
    """openbell.ledger.v1.TransactionKind."""

    DEPOSIT = 1
    WITHDRAWAL = 2
    HOLD = 3
    ADJUST = 4
    RELEASE = 5
    TRADE = 6
    CAPTURE = 7
    BUST = 8
    CORRECTION = 9
    SETTLEMENT = 10
    FEE = 11
    JOURNAL = 12
    REVERSAL = 13


@dataclass(slots=True)
class Balance:
    amount: int = 0
    version: int = 0
    balance_id: int | None = None  # None until it is stored


@dataclass(slots=True, eq=False)
class Account:
    """One account's balances by path."""

    account_id: str
    customer_id: str
    opened_at_ns: int
    balances: dict[str, Balance] = field(default_factory=dict)

    def amount(self, path: str) -> int:
        balance = self.balances.get(path)
        return balance.amount if balance else 0

    def paths(self, prefix: str) -> list[str]:
        """Paths below `prefix` that hold something, in order; dates sort by time."""
        return sorted(path for path, balance in self.balances.items() if balance.amount and path.startswith(prefix))

    @property
    def owes(self) -> bool:
        return any(balance.amount for path, balance in self.balances.items() if "/owed" in path)


@dataclass(slots=True)
class House:
    """The house's side of a partition, and what the broker has decided once for all."""

    account: Account
    settled_through: str = ""  # ISO date up to which clearing is settled
    cycle_days: int = 1
    fees: FeeSchedule = field(default_factory=FeeSchedule)


class Leg(NamedTuple):
    account: Account
    path: str
    asset: str
    amount: int  # credit positive


class Draw(NamedTuple):
    """What a hold took from one path: what it still holds of it, and what was captured."""

    path: str
    amount: int
    taken: int = 0


class Hold(NamedTuple):
    partition: int
    position: int
    account_id: str
    order_id: str
    asset: str
    draws: tuple[Draw, ...]
    created_at_ns: int
    idempotency_key: str
    captured_quantity: int = 0
    done_quantity: int | None = None
    released: bool = False

    @property
    def remaining(self) -> int:
        return self.draws[0].amount if len(self.draws) == 1 else sum([draw.amount for draw in self.draws])


class Posting(NamedTuple):
    """One transaction to be: its legs, and the hold as it stands afterwards. Without legs, the hold alone changes."""

    kind: Kind
    account_id: str
    legs: Sequence[Leg]
    effective_date: date
    trace_id: bytes
    requested_at_ns: int
    order_id: str | None = None
    hold: Hold | None = None
    execution_id: str | None = None
    exec_id: str | None = None  # ExecID(17)
    reverses: int | None = None
    memo: str | None = None


def house_id(partition: int) -> str:
    return f"house/{partition}"


def held_path(asset: str) -> str:
    return "cash/held" if asset == CASH else f"position/held/{asset}"


def owed_path(asset: str) -> str:
    return "cash/owed" if asset == CASH else f"position/owed/{asset}"


def available_paths(account: Account, asset: str) -> list[str]:
    """Where a hold draws, in order: unsettled cash first, earliest date first, so that settled stays withdrawable."""
    if asset != CASH:
        return [f"position/available/{asset}"]
    return [*account.paths(UNSETTLED), SETTLED]


def settled_path(path: str, house: House) -> str:
    """Where cash of `path` belongs by now: settled, once its date is."""
    return SETTLED if path.startswith(UNSETTLED) and path[len(UNSETTLED) :] <= house.settled_through else path


def draw(account: Account, paths: Iterable[str], amount: int) -> tuple[list[Draw], int]:
    """Takes `amount` from `paths` in order. Returns what each gives, and what could not be had."""
    draws = []
    for path in paths:
        taken = min(amount, account.amount(path))
        if taken > 0:
            draws.append(Draw(path, taken))
            amount -= taken
    return draws, amount


def debit(account: Account, asset: str, parts: Iterable[Draw]) -> list[Leg]:
    return [Leg(account, part.path, asset, -part.amount) for part in parts if part.amount]


def credit(account: Account, asset: str, parts: Sequence[Draw]) -> list[Leg]:
    """What comes in pays what is owed first, then goes where `parts` say. One leg a path."""
    owed = account.amount(owed_path(asset))
    if len(parts) == 1 and not owed:
        return [Leg(account, parts[0].path, asset, parts[0].amount)] if parts[0].amount else []
    repaid = min(sum(part.amount for part in parts), -owed)
    legs = {owed_path(asset): repaid}
    for part in parts:
        paid = min(part.amount, repaid)
        repaid -= paid
        legs[part.path] = legs.get(part.path, 0) + part.amount - paid
    return [Leg(account, path, asset, amount) for path, amount in legs.items() if amount]


def check_amount(asset: str, amount: int) -> None:
    if not 0 < amount <= AMOUNT_MAX:
        show = to_decimal if asset == CASH else str
        least, most = show(1), show(AMOUNT_MAX)
        raise refuse(Reason.INVALID_AMOUNT, f"the amount must be from {least} to {most}, not {show(amount)}")


def check_owes_nothing(account: Account, asset: str | None = None) -> None:
    """Of `asset`, or of any."""
    if account.owes if asset is None else account.amount(owed_path(asset)):
        raise refuse(
            Reason.ACCOUNT_OWES, "the account owes: deposit what is missing first", account_id=account.account_id
        )


def check_balances(legs: Iterable[Leg]) -> None:
    for account, path, _, amount in legs:
        if abs(account.amount(path) + amount) > BALANCE_MAX:
            raise refuse(Reason.BALANCE_TOO_LARGE, f"{path} would pass {BALANCE_MAX} units", path=path)


def check_open(held: Hold) -> None:
    if held.released:
        raise refuse(Reason.HOLD_RELEASED, "the hold is released", order_id=held.order_id)


def deposit(account: Account, amount: int, house: House) -> list[Leg]:
    check_amount(CASH, amount)
    return [Leg(house.account, "bank", CASH, -amount), *credit(account, CASH, [Draw(SETTLED, amount)])]


def withdrawal(account: Account, amount: int, house: House) -> list[Leg]:
    """Settled cash only; the refusal tells what else there is."""
    check_amount(CASH, amount)
    check_owes_nothing(account)
    settled = account.amount(SETTLED)
    if amount > settled:
        raise _beyond_settled(account, settled, amount)
    return [Leg(account, SETTLED, CASH, -amount), Leg(house.account, "bank", CASH, amount)]


def hold(account: Account, asset: str, amount: int) -> tuple[list[Leg], tuple[Draw, ...]]:
    """Moves what is available to held, and remembers where it came from."""
    check_amount(asset, amount)
    check_owes_nothing(account)
    draws, missing = draw(account, available_paths(account, asset), amount)
    if missing:
        raise insufficient(asset, amount - missing, amount)
    return [*debit(account, asset, draws), Leg(account, held_path(asset), asset, amount)], tuple(draws)


def adjust(account: Account, held: Hold, amount: int, house: House) -> tuple[list[Leg], Hold]:
    """The hold with `amount` from now on: more is drawn like a hold, less goes back, last drawn first."""
    check_amount(held.asset, amount)
    check_open(held)
    more = amount - held.remaining
    if more > 0:
        legs, draws = hold(account, held.asset, more)
        return legs, held._replace(draws=_joined([*held.draws, *draws]))
    kept, back = _lowered(held.draws, -more)
    return _put_back(account, held, back, house), held._replace(draws=kept)


def release(account: Account, held: Hold, house: House) -> tuple[list[Leg], Hold]:
    """Everything still held goes back where it came from; cash whose date has settled since, to settled."""
    check_open(held)
    kept, back = _lowered(held.draws, held.remaining)
    return _put_back(account, held, back, house), held._replace(draws=kept, released=True)


def capture(account: Account, held: Hold, amount: int, settles: date, house: House) -> tuple[list[Leg], Hold]:
    """A part of the hold, or all of it, is paid: cash to clearing, shares to the street."""
    check_amount(held.asset, amount)
    check_open(held)
    if amount > held.remaining:
        raise refuse(
            Reason.CAPTURE_BEYOND_HOLD,
            f"the hold holds {held.remaining} units, not {amount}",
            remaining=str(held.remaining),
        )
    draws, _ = captured(held.draws, amount)
    shares = 0 if held.asset == CASH else amount
    to = f"clearing/{settles}" if held.asset == CASH else f"street/{held.asset}"
    return [
        Leg(account, held_path(held.asset), held.asset, -amount),
        Leg(house.account, to, held.asset, amount),
    ], held._replace(draws=draws, captured_quantity=held.captured_quantity + shares)


def journal(legs: Sequence[Leg]) -> list[Leg]:
    """Any legs that balance per asset; one leg a path, so two of the same path are refused."""
    sums: dict[str, int] = {}
    for leg in legs:
        check_amount(leg.asset, abs(leg.amount))
        sums[leg.asset] = sums.get(leg.asset, 0) + leg.amount
    if len({leg.path for leg in legs}) != len(legs):
        raise refuse(Reason.INVALID_LEGS, "each path may stand in one leg only")
    for asset, total in sums.items():
        if total:
            raise refuse(Reason.UNBALANCED, f"the legs in {asset} sum to {total} units, not to zero", asset=asset)
    return list(legs)


def reversal(account: Account | None, legs: Sequence[Leg], house: House) -> list[Leg]:
    """The opposite of a deposit, withdrawal or journal. What a customer gives back must be there, settled."""
    opposite = [Leg(leg.account, leg.path, leg.asset, -leg.amount) for leg in legs if leg.account is house.account]
    if account is None:
        return opposite
    amount = -sum(leg.amount for leg in legs if leg.account is account)
    if amount > 0:
        return [*opposite, *credit(account, CASH, [Draw(SETTLED, amount)])]
    if account.amount(SETTLED) < -amount:
        raise insufficient(CASH, account.amount(SETTLED), -amount)
    return [*opposite, Leg(account, SETTLED, CASH, amount)]


def settle_cash(account: Account, path: str) -> list[Leg]:
    """Unsettled cash of a date becomes settled."""
    amount = account.amount(path)
    return [Leg(account, path, CASH, -amount), *credit(account, CASH, [Draw(SETTLED, amount)])]


def settle_clearing(house: House, path: str) -> list[Leg]:
    """The bank pays, or gets, what a clearing date comes to."""
    amount = house.account.amount(path)
    return [Leg(house.account, path, CASH, -amount), Leg(house.account, "bank", CASH, amount)]


def captured(draws: Sequence[Draw], amount: int) -> tuple[tuple[Draw, ...], int]:
    """(draws afterwards, what they gave): takes up to `amount` from the front, in the order of drawing."""
    if len(draws) == 1:
        (only,) = draws
        share = min(only.amount, amount)
        return (Draw(only.path, only.amount - share, only.taken + share),), share
    after, left = [], amount
    for part in draws:
        share = min(part.amount, left)
        left -= share
        after.append(Draw(part.path, part.amount - share, part.taken + share))
    return tuple(after), amount - left


def _joined(draws: Sequence[Draw]) -> tuple[Draw, ...]:
    """Without what is used up, and one where two of a path follow each other: raising and lowering leaves no trail."""
    joined: list[Draw] = []
    for part in draws:
        if joined and joined[-1].path == part.path:
            before = joined.pop()
            joined.append(Draw(part.path, before.amount + part.amount, before.taken + part.taken))
        elif part.amount or part.taken:
            joined.append(part)
    return tuple(joined)


def _lowered(draws: Sequence[Draw], amount: int) -> tuple[tuple[Draw, ...], list[Draw]]:
    """(draws afterwards, what goes back): takes `amount` from the back."""
    after, back = [], []
    for part in reversed(draws):
        share = min(part.amount, amount)
        amount -= share
        after.append(Draw(part.path, part.amount - share, part.taken))
        back.append(Draw(part.path, share))
    return tuple(reversed(after)), back


def _put_back(account: Account, held: Hold, back: Sequence[Draw], house: House) -> list[Leg]:
    total = sum(part.amount for part in back)
    parts = [replace_path(part, settled_path(part.path, house)) for part in back]
    return [*debit(account, held.asset, [Draw(held_path(held.asset), total)]), *credit(account, held.asset, parts)]


def replace_path(part: Draw, path: str) -> Draw:
    return Draw(path, part.amount, part.taken)


def insufficient(asset: str, available: int, wanted: int) -> Exception:
    reason = Reason.INSUFFICIENT_FUNDS if asset == CASH else Reason.INSUFFICIENT_SHARES
    show, unit = (to_decimal, " dollars") if asset == CASH else (str, f" {asset}")
    return refuse(
        reason,
        f"{show(wanted)}{unit} asked for, {show(available)} available",
        asset=asset,
        available=str(available),
        wanted=str(wanted),
    )


def _beyond_settled(account: Account, settled: int, wanted: int) -> Exception:
    """Which of the account's other cash would have been enough."""
    unsettled = sum(account.amount(path) for path in account.paths(UNSETTLED))
    if wanted <= settled + unsettled:
        reason, why = Reason.FUNDS_UNSETTLED, "the rest is not settled yet"
    elif wanted <= settled + unsettled + account.amount("cash/held"):
        reason, why = Reason.FUNDS_HELD, "the rest is held for orders, or not settled yet"
    else:
        return insufficient(CASH, settled, wanted)
    return refuse(
        reason,
        f"{to_decimal(wanted)} dollars asked for, {to_decimal(settled)} settled: {why}",
        available=str(settled),
        wanted=str(wanted),
    )
