"""Balances and holds once more, from the entries alone, pure: what is stored must agree with them."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ledger.accounts import Hold, held_path
from ledger.history import Posted
from runtime.db import Row

NO_ASSET = ""  # of a balance that is missing


class Finding(NamedTuple):
    """Something wrong: the row, as far as it can be named, and what is wrong with it."""

    position: int  # of the log, where it stands
    table: str
    key: tuple[Any, ...]
    what: str


class Stored(NamedTuple):
    """A row of balances."""

    balance_id: int
    account_id: str
    path: str
    asset: str
    balance: int
    version: int


@dataclass(slots=True)
class Running:
    """One balance: as it is stored, as the newest entry tells it, and what the entries sum up to."""

    stored: Stored
    is_held: bool
    balance: int = 0
    version: int = 0
    total: int = 0
    entries: int = 0


class Books:
    """Fed with the history in its order. Remembers each balance, and of holds only what does not come to zero yet."""

    def __init__(self) -> None:
        self._balances: dict[int, Running] = {}
        self._remaining: dict[int, int] = defaultdict(int)  # by hold: what it says it holds, less what entries say
        self._held: dict[tuple[str, str], int] = defaultdict(int)  # by account and asset: what holds say
        self._unknown: set[int] = set()  # holds that are missing, or cannot be read

    def name(self, stored: Stored) -> None:
        """A balance that later entries may move."""
        is_held = stored.path == "cash/held" or stored.path.startswith("position/held/")
        self._balances[stored.balance_id] = Running(stored, is_held)

    def hold(self, hold: Hold) -> None:
        """A hold as it is now; before the transaction that made it."""
        if hold.remaining:
            self._move(hold.position, hold.remaining)
            self._held[hold.account_id, hold.asset] += hold.remaining

    def post(self, posted: Posted) -> Iterator[Finding]:
        """The entries of one transaction."""
        position, row = posted.position, posted.row
        sums: dict[str, int] = {}
        held = 0
        for leg, balance_id, amount, balance, version in posted.legs:
            running = self._balances.get(balance_id)
            if running is None:
                yield Finding(position, "balances", (balance_id,), f"is missing: entry {leg} of {position} moves it")
                running = self._balances[balance_id] = Running(Stored(balance_id, "", "", NO_ASSET, 0, 0), False)
            elif balance != running.balance + amount or version != running.version + 1:
                yield Finding(position, "entries", (position, leg), _discontinued(running, amount, balance, version))
            running.balance, running.version = balance, version
            running.total += amount
            running.entries += 1
            sums[running.stored.asset] = sums.get(running.stored.asset, 0) + amount
            held += amount if running.is_held else 0
        for asset, total in _not_zero(sums):
            yield Finding(position, "transactions", (position,), f"its entries in {asset} sum to {total}, not to 0")
        if held and row is not None and row[8] is not None:
            self._move(row[8], -held)

    def _move(self, hold: int, amount: int) -> None:
        self._remaining[hold] += amount
        if not self._remaining[hold]:
            del self._remaining[hold]

    def made(self, posted: Posted, hold: Hold) -> Iterator[Finding]:
        """A transaction of kind HOLD, and the hold at its position."""
        position, row = posted.position, posted.row
        assert row is not None
        assets = {self._balances[leg[1]].stored.asset for leg in posted.legs if leg[1] in self._balances}
        if (row[6], row[7], row[8], assets) != (hold.account_id, hold.order_id, position, {hold.asset}):
            what = f"account, order or asset is not that of transaction {position}, which made it"
            yield Finding(position, "holds", (position,), what)

    def no_hold(self, position: int, what: str) -> Iterator[Finding]:
        """A hold that nothing can be said of: what its entries moved is not compared."""
        self._unknown.add(position)
        yield Finding(position, "holds", (position,), what)

    def finish(self, position: int) -> Iterator[Finding]:
        """What is stored against all that was posted, at the log's end."""
        sums: dict[str, int] = defaultdict(int)
        for running in self._balances.values():
            stored = running.stored
            sums[stored.asset] += running.total
            if stored.asset == NO_ASSET:
                continue
            if (running.total, running.entries) != (stored.balance, stored.version):
                yield Finding(position, "balances", (stored.account_id, stored.path), _disagrees(running))
            if running.is_held and running.total != (said := self._held.pop((stored.account_id, stored.asset), 0)):
                key = (stored.account_id, stored.asset)
                yield Finding(position, "holds", key, f"hold {said} together; the entries say {running.total}")
        for asset, total in _not_zero(sums):
            yield Finding(position, "entries", (asset,), f"all entries in {asset} sum to {total}, not to 0")
        yield from self._holds_apart(position)

    def _holds_apart(self, position: int) -> Iterator[Finding]:
        for (account, asset), said in self._held.items():
            what = f"hold {said} together; nothing ever was in {held_path(asset)}"
            yield Finding(position, "holds", (account, asset), what)
        for hold, more in self._remaining.items():
            if hold not in self._unknown:
                yield Finding(position, "holds", (hold,), f"holds {more} more than its entries moved")


def _not_zero(sums: dict[str, int]) -> list[tuple[str, int]]:
    """None, if it is not known of what some are."""
    return [] if NO_ASSET in sums else [(asset, total) for asset, total in sums.items() if total]


def read_balance(row: Row) -> Stored:
    """From link, and then the fields."""
    return Stored(*tuple(row)[1:])


def _discontinued(running: Running, amount: int, balance: int, version: int) -> str:
    name = f"{running.stored.account_id} {running.stored.path}"
    before = f"{running.balance} at version {running.version}"
    return f"{name}: {before}, moved by {amount}, is not {balance} at version {version}"


def _disagrees(running: Running) -> str:
    stored = running.stored
    return f"says {stored.balance} at version {stored.version}; its {running.entries} entries sum to {running.total}"
