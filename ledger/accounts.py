"""The ledger's rules, pure: what each business act moves, and what it refuses.

A customer's accounts are what the broker owes the customer, so credits (positive) raise them. Paths of a customer:
cash/settled, cash/unsettled/DATE, cash/held, cash/owed; position/available/SYMBOL, position/held/SYMBOL,
position/owed/SYMBOL. Of the house, one set a partition: bank, clearing/DATE, street/SYMBOL.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import IntEnum

from ledger.reasons import Reason, refuse
from runtime.units import CASH, to_decimal

AMOUNT_MAX = 10**15  # 100 billion dollars: far from overflowing a bigint


class Kind(IntEnum):
    """openbell.ledger.v1.TransactionKind."""

    DEPOSIT = 1
    WITHDRAWAL = 2
    HOLD = 3
    ADJUST = 4
    RELEASE = 5
    TRADE = 6


def house(partition: int) -> str:
    return f"house/{partition}"


@dataclass(slots=True)
class Balance:
    amount: int = 0
    version: int = 0
    balance_id: int | None = None  # None until it is stored


@dataclass(frozen=True, slots=True)
class Leg:
    account_id: str
    path: str
    asset: str
    amount: int  # credit positive


@dataclass(frozen=True, slots=True)
class Draw:
    """What a hold took from one path and still holds."""

    path: str
    amount: int


@dataclass(frozen=True, slots=True)
class Hold:
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
        return sum(draw.amount for draw in self.draws)


@dataclass(frozen=True, slots=True)
class Posting:
    """One transaction to be: its legs, and the hold as it stands afterwards."""

    kind: Kind
    account_id: str
    legs: tuple[Leg, ...]
    effective_date: date
    trace_id: bytes
    requested_at_ns: int
    order_id: str | None = None
    execution_id: str | None = None
    hold: Hold | None = None


@dataclass(slots=True)
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
        return sorted(path for path, balance in self.balances.items() if path.startswith(prefix) and balance.amount)

    @property
    def owes(self) -> bool:
        return any(balance.amount for path, balance in self.balances.items() if "/owed" in path)


def held_path(asset: str) -> str:
    return "cash/held" if asset == CASH else f"position/held/{asset}"


def owed_path(asset: str) -> str:
    return "cash/owed" if asset == CASH else f"position/owed/{asset}"


def available_paths(account: Account, asset: str) -> list[str]:
    """Where a hold draws, in order: unsettled cash first, earliest date first, so that settled stays withdrawable."""
    if asset != CASH:
        return [f"position/available/{asset}"]
    return [*account.paths("cash/unsettled/"), "cash/settled"]


def draw(account: Account, paths: Iterable[str], amount: int) -> tuple[list[Draw], int]:
    """Takes `amount` from `paths` in order. Returns what each gives, and what could not be had."""
    draws = []
    for path in paths:
        taken = min(amount, account.amount(path))
        if taken > 0:
            draws.append(Draw(path, taken))
            amount -= taken
    return draws, amount


def credit(account: Account, path: str, asset: str, amount: int) -> list[Leg]:
    """What comes in pays what is owed first."""
    repaid = min(amount, -account.amount(owed_path(asset)))
    legs = [
        Leg(account.account_id, owed_path(asset), asset, repaid),
        Leg(account.account_id, path, asset, amount - repaid),
    ]
    return [leg for leg in legs if leg.amount]


def check_amount(asset: str, amount: int) -> None:
    if not 0 < amount <= AMOUNT_MAX:
        show = to_decimal if asset == CASH else str
        least, most = show(1), show(AMOUNT_MAX)
        raise refuse(Reason.INVALID_AMOUNT, f"the amount must be from {least} to {most}, not {show(amount)}")


def _check_owes_nothing(account: Account) -> None:
    if account.owes:
        raise refuse(
            Reason.ACCOUNT_OWES, "the account owes: deposit what is missing first", account_id=account.account_id
        )


def deposit(account: Account, amount: int, house_id: str) -> tuple[Leg, ...]:
    check_amount(CASH, amount)
    return Leg(house_id, "bank", CASH, -amount), *credit(account, "cash/settled", CASH, amount)


def withdrawal(account: Account, amount: int, house_id: str) -> tuple[Leg, ...]:
    """Settled cash only."""
    check_amount(CASH, amount)
    _check_owes_nothing(account)
    settled = account.amount("cash/settled")
    if amount > settled:
        raise _insufficient(CASH, settled, amount)
    return Leg(account.account_id, "cash/settled", CASH, -amount), Leg(house_id, "bank", CASH, amount)


def hold(account: Account, asset: str, amount: int) -> tuple[tuple[Leg, ...], tuple[Draw, ...]]:
    """Moves what is available to held, and remembers where it came from."""
    check_amount(asset, amount)
    _check_owes_nothing(account)
    draws, missing = draw(account, available_paths(account, asset), amount)
    if missing:
        raise _insufficient(asset, amount - missing, amount)
    legs = [Leg(account.account_id, taken.path, asset, -taken.amount) for taken in draws]
    return (*legs, Leg(account.account_id, held_path(asset), asset, amount)), tuple(draws)


def adjust(account: Account, held: Hold, amount: int) -> tuple[tuple[Leg, ...], Hold]:
    """The hold with `amount` from now on: more is drawn like a hold, less goes back, last drawn first."""
    check_amount(held.asset, amount)
    if held.released:
        raise refuse(Reason.HOLD_RELEASED, "the hold is released", order_id=held.order_id)
    more = amount - held.remaining
    if more > 0:
        legs, draws = hold(account, held.asset, more)
        return legs, replace(held, draws=held.draws + draws)
    kept, back = _split(held.draws, amount)
    return _put_back(account, held, back), replace(held, draws=kept)


def release(account: Account, held: Hold) -> tuple[tuple[Leg, ...], Hold]:
    """Everything still held goes back where it came from."""
    if held.released:
        raise refuse(Reason.HOLD_RELEASED, "the hold is released", order_id=held.order_id)
    nothing = tuple(replace(taken, amount=0) for taken in held.draws)
    return _put_back(account, held, held.draws), replace(held, draws=nothing, released=True)


def buy(
    account: Account, held: Hold | None, symbol: str, quantity: int, price: int, settles: date, house_id: str
) -> tuple[tuple[Leg, ...], Hold | None]:
    """A fill of a buy: cash to clearing, shares from street. A fact: never refused, see `_pay`."""
    cost = quantity * price
    paid, after = _pay(account, held, CASH, cost, quantity)
    return (
        *paid,
        Leg(house_id, f"clearing/{settles}", CASH, cost),
        Leg(house_id, f"street/{symbol}", symbol, -quantity),
        *credit(account, f"position/available/{symbol}", symbol, quantity),
    ), after


def sell(
    account: Account, held: Hold | None, symbol: str, quantity: int, price: int, settles: date, house_id: str
) -> tuple[tuple[Leg, ...], Hold | None]:
    """A fill of a sell: shares to street, cash from clearing, unsettled until the settle date."""
    proceeds = quantity * price
    paid, after = _pay(account, held, symbol, quantity, quantity)
    return (
        *paid,
        Leg(house_id, f"street/{symbol}", symbol, quantity),
        Leg(house_id, f"clearing/{settles}", CASH, -proceeds),
        *credit(account, f"cash/unsettled/{settles}", CASH, proceeds),
    ), after


def finished(held: Hold) -> bool:
    """The order is done and all it executed is captured: what is left may go back."""
    return not held.released and held.done_quantity is not None and held.captured_quantity >= held.done_quantity


def _pay(account: Account, held: Hold | None, asset: str, amount: int, quantity: int) -> tuple[list[Leg], Hold | None]:
    """A fact draws on the hold, then on what is available, then on `owed`."""
    kept, taken = _split_front(held.draws if held else (), amount)
    captured = sum(part.amount for part in taken)
    others, missing = draw(account, available_paths(account, asset), amount - captured)
    parts = [Draw(held_path(asset), captured), *others, Draw(owed_path(asset), missing)]
    legs = [Leg(account.account_id, part.path, asset, -part.amount) for part in parts if part.amount]
    if held is None:
        return legs, None
    return legs, replace(held, draws=kept, captured_quantity=held.captured_quantity + quantity)


def _split_front(draws: Sequence[Draw], amount: int) -> tuple[tuple[Draw, ...], tuple[Draw, ...]]:
    """(kept, taken): takes `amount` from the front, in the order of drawing."""
    kept, taken = [], []
    for part in draws:
        share = min(part.amount, amount)
        amount -= share
        taken.append(Draw(part.path, share))
        kept.append(Draw(part.path, part.amount - share))
    return tuple(kept), tuple(taken)


def _split(draws: Sequence[Draw], keep: int) -> tuple[tuple[Draw, ...], tuple[Draw, ...]]:
    """(kept, back): keeps the first `keep`."""
    back, kept = _split_front(draws, keep)
    return kept, back


def _put_back(account: Account, held: Hold, back: Sequence[Draw]) -> tuple[Leg, ...]:
    """To where it came from; what is owed is paid first."""
    total = sum(part.amount for part in back)
    repaid = min(total, -account.amount(owed_path(held.asset)))
    returned, _ = _split_front(back, repaid)
    parts = [Draw(held_path(held.asset), -total), Draw(owed_path(held.asset), repaid), *returned]
    return tuple(Leg(account.account_id, part.path, held.asset, part.amount) for part in parts if part.amount)


def _insufficient(asset: str, available: int, wanted: int) -> Exception:
    reason = Reason.INSUFFICIENT_FUNDS if asset == CASH else Reason.INSUFFICIENT_SHARES
    show, unit = (to_decimal, " dollars") if asset == CASH else (str, f" {asset}")
    return refuse(
        reason,
        f"{show(wanted)}{unit} asked for, {show(available)} available",
        asset=asset,
        available=str(available),
        wanted=str(wanted),
    )
