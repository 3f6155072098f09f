"""The books of the model ledger: balances, holds, the log; and how cash and shares move in them.

A customer's cash is settled, unsettled by settle date, held or owed; its shares of a symbol are available, held or
owed. What a hold draws it keeps in lots: unsettled cash first, earliest date first. Lots are paid from the front; what
goes back comes off the back; what a bust gives back was paid last. What comes in pays what is owed first. Cash whose
date has settled meanwhile comes back as settled.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple

CASH = "$USD"
HOUSE = "house/0"
SETTLED, UNSETTLED = "cash/settled", "cash/unsettled/"

# Weekdays on which nothing settles. On 11 November 2025, Veterans Day, stocks trade.
HOLIDAYS = """
2025-11-11 2025-11-27 2025-12-25 2026-01-01 2026-01-19 2026-02-16 2026-04-03 2026-05-25 2026-06-19
"""

Lots = list[tuple[str, int]]  # path, amount
Legs = defaultdict[tuple[str, str], int]  # owner and path -> amount, credit positive


class Deal(NamedTuple):
    account: str
    order: str
    buys: bool
    symbol: str
    quantity: int
    price: int
    day: date


class Fees(NamedTuple):
    per_share: int = 0
    buy_per_million: int = 0
    sell_per_million: int = 0

    def of(self, deal: Deal) -> int:
        rate = self.buy_per_million if deal.buys else self.sell_per_million
        return deal.quantity * self.per_share + -(-deal.quantity * deal.price * rate // 10**10)


class Posted(NamedTuple):
    """One transaction as the log must have it."""

    kind: str
    account: str
    legs: tuple[tuple[str, str, int], ...]  # owner, path, amount; sorted
    effective: date
    recorded: date
    order: str = ""
    execution: str = ""
    reverses: int = 0


@dataclass
class Hold:
    position: int
    account: str
    order: str
    asset: str
    lots: Lots
    paid: Lots = field(default_factory=list)
    shares: int = 0  # that fills and corrections told
    expected: int | None = None  # CumQty(14), once the order has ended
    released: bool = False

    @property
    def remaining(self) -> int:
        return sum(amount for _, amount in self.lots)

    def pay(self, amount: int) -> int:
        """Takes up to `amount` off the front. What that comes to."""
        taken = _off(self.lots, 0, amount)
        self.paid += taken
        return sum(part for _, part in taken)

    def lower(self, amount: int) -> Lots:
        """Takes `amount` off the back."""
        return _off(self.lots, -1, amount)

    def unpay(self, amount: int) -> Lots:
        """Up to `amount` of what was paid, the last first. An open hold has it again."""
        back = _off(self.paid, -1, amount)
        if not self.released:
            self.lots[:0] = reversed(back)
        return back


def _off(lots: Lots, end: int, amount: int) -> Lots:
    """Takes up to `amount` from one end: 0 the front, -1 the back."""
    taken = []
    while lots and amount:
        path, there = lots[end]
        part = min(there, amount)
        amount -= part
        taken.append((path, part))
        if part == there:
            lots.pop(end)
        else:
            lots[end] = path, there - part
    return taken


def settles_on(day: date) -> bool:
    return day.weekday() < 5 and day.isoformat() not in HOLIDAYS


def later(day: date, count: int) -> date:
    """The `count`th settlement day after `day`."""
    while count:
        day += timedelta(1)
        count -= settles_on(day)
    return day


def held(asset: str) -> str:
    return "cash/held" if asset == CASH else f"position/held/{asset}"


def owed(asset: str) -> str:
    return "cash/owed" if asset == CASH else f"position/owed/{asset}"


def asset_of(path: str) -> str:
    return path.rpartition("/")[2] if path.startswith(("position/", "street/")) else CASH


def legs_of(*legs: tuple[str, str, int]) -> Legs:
    """Owner, path, amount."""
    return defaultdict(int, {(owner, path): amount for owner, path, amount in legs})


class Books:
    """Of one partition. `today` is set from outside."""

    def __init__(self, today: date) -> None:
        self.today = today
        self.accounts: list[str] = []
        self.balances: Legs = defaultdict(int)
        self.holds: dict[str, Hold] = {}  # by order
        self.log: list[Posted] = []
        self.settled_through = ""

    # --- what there is

    def of(self, account: str, path: str) -> int:
        return self.balances[account, path]

    def paths(self, account: str, prefix: str = "") -> dict[str, int]:
        """Its balances by path, zeros left out."""
        return {
            path: amount
            for (owner, path), amount in sorted(self.balances.items())
            if owner == account and amount and path.startswith(prefix)
        }

    def sources(self, account: str, asset: str) -> list[str]:
        """Where `asset` is drawn from, in order."""
        if asset != CASH:
            return [f"position/available/{asset}"]
        return [*self.paths(account, UNSETTLED), SETTLED]

    def available(self, account: str, asset: str) -> int:
        return sum(self.of(account, path) for path in self.sources(account, asset))

    def owes(self, account: str) -> bool:
        return any("/owed" in path for path in self.paths(account))

    def home(self, path: str) -> str:
        """Where cash of `path` belongs by now."""
        return SETTLED if path.startswith(UNSETTLED) and path[-10:] <= self.settled_through else path

    def due(self) -> list[tuple[str, str]]:
        """Accounts and paths of unsettled cash whose date has settled, by path and account."""
        found = [place for place, amount in self.balances.items() if amount and self.home(place[1]) != place[1]]
        return sorted(found, key=lambda place: (place[1], place[0]))

    # --- how it moves

    def post(
        self, kind: str, account: str, legs: Legs, day: date, order: str = "", execution: str = "", reverses: int = 0
    ) -> int:
        """The position it gets; 0 if no leg moves anything."""
        moved = tuple((owner, path, amount) for (owner, path), amount in sorted(legs.items()) if amount)
        sums: defaultdict[str, int] = defaultdict(int)
        for owner, path, amount in moved:
            sums[asset_of(path)] += amount
            self.balances[owner, path] += amount
            balance = self.balances[owner, path]
            assert owner == HOUSE or (balance <= 0 if "/owed" in path else balance >= 0), (owner, path, balance)
        assert not any(sums.values()), sums
        if not moved:
            return 0
        self.log.append(Posted(kind, account, moved, day, self.today, order, execution, reverses))
        return len(self.log)

    def draw(self, account: str, paths: Iterable[str], amount: int) -> tuple[Lots, int]:
        """(lots, what is missing)."""
        lots = []
        for path in paths:
            if part := min(self.of(account, path), amount):
                lots.append((path, part))
                amount -= part
        return lots, amount

    def get(self, legs: Legs, account: str, asset: str, lots: Lots) -> None:
        """What comes in: what is owed first."""
        owing = -self.of(account, owed(asset))
        for path, amount in lots:
            repaid = min(owing, amount)
            owing -= repaid
            legs[account, owed(asset)] += repaid
            legs[account, self.home(path)] += amount - repaid

    def take(self, legs: Legs, account: str, asset: str, amount: int, paths: Iterable[str]) -> None:
        """What a fact takes: from `paths`; the rest is owed."""
        lots, missing = self.draw(account, paths, amount)
        for path, part in [*lots, (owed(asset), missing)]:
            legs[account, path] -= part

    def pay(self, legs: Legs, account: str, hold: Hold | None, asset: str, amount: int) -> None:
        """What a trade takes: from the hold, from what is available, and the rest is owed."""
        by_hold = hold.pay(amount) if hold is not None else 0
        legs[account, held(asset)] -= by_hold
        self.take(legs, account, asset, amount - by_hold, self.sources(account, asset))

    def give_back(self, legs: Legs, account: str, hold: Hold | None, asset: str, amount: int, otherwise: str) -> None:
        """What a trade paid: owed first, then to its open hold, for it may fill again; else where it came from."""
        repaid = min(amount, -self.of(account, owed(asset)))
        legs[account, owed(asset)] += repaid
        back = hold.unpay(amount - repaid) if hold is not None else []
        for path, part in back:
            to = held(asset) if hold is not None and not hold.released else self.home(path)
            legs[account, to] += part
        legs[account, self.home(otherwise)] += amount - repaid - sum(part for _, part in back)

    def lower(self, legs: Legs, hold: Hold, amount: int) -> None:
        """A part of a hold goes back."""
        legs[hold.account, held(hold.asset)] -= amount
        self.get(legs, hold.account, hold.asset, hold.lower(amount))
