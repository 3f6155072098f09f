"""What one batch stores: its rows as the database takes them, and as the hash chain sees them.

The chain covers, in this order and sorted within each: accounts, balances (their names, not their amounts),
settlements, reconciliations, transactions with their entries, commands. `history.py` reads the same lines back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from operator import itemgetter
from typing import Any, NamedTuple

from ledger.accounts import Account, Balance, Draw, Hold, Kind, Posting
from ledger.book import Original
from runtime import chain
from runtime.db import Row

EPOCH_DAY = date(1970, 1, 1).toordinal()
HOLD_COLUMNS = (
    "position",
    "account_id",
    "order_id",
    "asset",
    "created_at_ns",
    "idempotency_key",
    "captured_quantity",
    "done_quantity",
    "released",
)
TRANSACTION_COLUMNS = (
    "position",
    "kind",
    "legs",
    "effective_date",
    "requested_at_ns",
    "recorded_at_ns",
    "account_id",
    "order_id",
    "hold_position",
    "execution_id",
    "exec_id",
    "reverses",
    "memo",
    "trace_id",
    "log_partition",
    "row_check",
)
ENTRY_COLUMNS = ("log_partition", "position", "leg", "balance_id", "amount", "balance", "version")
COMMAND_COLUMNS = ("scope", "key", "request_hash", "answer", "link", "row_check")
DRAW_COLUMNS = ("draw_paths", "draw_amounts", "taken_amounts")


class Posted(NamedTuple):
    """A transaction's row as the chain sees it, and its entries: (leg, balance, amount, amount after, version)."""

    row: tuple[Any, ...]  # TRANSACTION_COLUMNS without the last two; the date as days since 1970
    effective: date
    legs: list[tuple[int, Balance, int, int, int]]


@dataclass(slots=True)
class Batch:
    """What one transaction of the database will insert. `link`: of the chain, known once it is stored."""

    now_ns: int
    today: date
    link: int = 0
    opened: list[Account] = field(default_factory=list)
    balances: dict[tuple[str, str], tuple[str, Balance]] = field(default_factory=dict)  # new: by account and path
    posted: list[Posted] = field(default_factory=list)
    holds: dict[str, Hold] = field(default_factory=dict)  # by order id
    commands: list[tuple[int, str, bytes, bytes]] = field(default_factory=list)  # scope, key, request hash, answer
    cursors: list[tuple[str, int, int, int]] = field(default_factory=list)  # source, partition, before, after
    settled_through: date | None = None
    reconciliations: list[tuple[int, str]] = field(default_factory=list)  # executions compared, mismatches as JSON

    @property
    def chained(self) -> bool:
        """Whether it inserts anything that the chain covers."""
        return bool(
            self.opened or self.balances or self.posted or self.commands or self.settled_through or self.reconciliations
        )

    def step(self, account: Account, path: str, asset: str, amount: int) -> Balance:
        """Moves a balance; one that is new will be stored."""
        balance = account.balances.get(path)
        if balance is None:
            balance = account.balances[path] = Balance()
            self.balances[account.account_id, path] = (asset, balance)
        balance.amount += amount
        balance.version += 1
        return balance

    def post(self, position: int, posting: Posting) -> None:
        legs = []
        for number, (account, path, asset, amount) in enumerate(posting.legs, 1):
            balance = self.step(account, path, asset, amount)
            legs.append((number, balance, amount, balance.amount, balance.version))
        self.posted.append(Posted(self._row(position, posting), posting.effective_date, legs))

    def _row(self, position: int, posting: Posting) -> tuple[Any, ...]:
        return (
            position,
            int(posting.kind),
            len(posting.legs),
            posting.effective_date.toordinal() - EPOCH_DAY,
            posting.requested_at_ns,
            self.now_ns,
            posting.account_id,
            posting.order_id,
            posting.hold.position if posting.hold is not None else None,
            posting.execution_id,
            posting.exec_id,
            posting.reverses,
            posting.memo,
            posting.trace_id,
        )


class Stored(NamedTuple):
    """A batch's rows, in the order of their columns above, and the lines that the chain covers."""

    transactions: list[tuple[Any, ...]]
    entries: list[tuple[Any, ...]]
    commands: list[tuple[Any, ...]]
    lines: list[bytes]


def store(batch: Batch, partition: int) -> Stored:
    """Once every new balance has its id."""
    transactions, entries, commands = [], [], []
    lines = _names(batch)
    for row, effective, legs in batch.posted:
        position = row[0]
        told = tuple(
            [(leg, balance.balance_id, amount, after, version) for leg, balance, amount, after, version in legs]
        )
        entries += [(partition, position, *leg) for leg in told]
        line = transaction_line(row, told)
        lines.append(line)
        transactions.append((*row[:3], effective, *row[4:], partition, chain.row_check(line)))
    for command in sorted(batch.commands):
        line = chain.canonical(command)
        lines.append(line)
        commands.append((*command, batch.link, chain.row_check(line)))
    commands.sort(key=itemgetter(1, 0))  # as their primary key: what comes in order leaves full pages
    return Stored(transactions, entries, commands, lines)


def _names(batch: Batch) -> list[bytes]:
    accounts = sorted((each.account_id, each.customer_id, each.opened_at_ns) for each in batch.opened)
    balances = sorted(
        (balance.balance_id, account_id, path, asset) for (account_id, path), (asset, balance) in batch.balances.items()
    )
    settled = [(batch.settled_through.isoformat(),)] if batch.settled_through else []
    runs = [(batch.now_ns, *run) for run in batch.reconciliations]
    return [chain.canonical(row) for rows in (accounts, balances, settled, runs) for row in rows]


def transaction_line(row: Sequence[Any], legs: tuple[tuple[Any, ...], ...]) -> bytes:
    return chain.canonical((*row, legs))


def hold_row(hold: Hold) -> tuple[Any, ...]:
    """HOLD_COLUMNS, then DRAW_COLUMNS joined by blanks: what is sealed, and what the statement `save_holds` takes."""
    return (
        hold.position,
        hold.account_id,
        hold.order_id,
        hold.asset,
        hold.created_at_ns,
        hold.idempotency_key,
        hold.captured_quantity,
        hold.done_quantity,
        hold.released,
        " ".join([part.path for part in hold.draws]),
        " ".join([str(part.amount) for part in hold.draws]),
        " ".join([str(part.taken) for part in hold.draws]),
    )


def read_hold(row: Row) -> Hold:
    draws = zip(row["draw_paths"], row["draw_amounts"], row["taken_amounts"], strict=True)
    return Hold(
        row["log_partition"],
        row["position"],
        row["account_id"],
        row["order_id"],
        row["asset"],
        tuple(Draw(*draw) for draw in draws),
        row["created_at_ns"],
        row["idempotency_key"],
        row["captured_quantity"],
        row["done_quantity"],
        row["released"],
    )


def read_originals(legs: Sequence[Row]) -> dict[int, Original]:
    """Transactions by position, from their legs in order."""
    found: dict[int, Original] = {}
    for row in legs:
        leg = (row["account_id"], row["path"], row["asset"], row["amount"])
        before = found.get(row["position"])
        found[row["position"]] = Original(
            row["position"],
            Kind(row["kind"]),
            (*before.legs, leg) if before else (leg,),
            row["reverses"] is not None,
            row["reversed"],
        )
    return found
