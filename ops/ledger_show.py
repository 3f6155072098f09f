"""What the ledger answers, as rows of JSON and as tables for people."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from openbell.ledger.v1 import ledger_pb2 as pb
from ops.show import table
from runtime.units import CASH, to_decimal, to_dollars


def amount(asset: str, units: int) -> str:
    return to_dollars(units) if asset == CASH else str(units)


def plain(asset: str, units: int) -> str:
    """For programs: no commas."""
    return to_decimal(units) if asset == CASH else str(units)


def kind_name(kind: int) -> str:
    return pb.TransactionKind.Name(pb.TransactionKind.ValueType(kind)).removeprefix("TRANSACTION_KIND_").lower()


def instant(ns: int) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def cash_row(cash: pb.Balances) -> dict[str, Any]:
    return {
        "account_id": cash.account_id,
        "settled": to_decimal(cash.settled),
        "unsettled": {part.settle_date: to_decimal(part.amount) for part in cash.unsettled},
        "held": to_decimal(cash.held),
        "owed": to_decimal(cash.owed),
        "buying_power": to_decimal(cash.buying_power),
        "withdrawable": to_decimal(cash.withdrawable),
        "as_of_position": cash.as_of_position,
    }


def balances_row(cash: pb.Balances, positions: Iterable[pb.Position]) -> dict[str, Any]:
    shares = {row.symbol: {"available": row.available, "held": row.held, "owed": row.owed} for row in positions}
    return cash_row(cash) | {"positions": shares}


def balances_table(cash: pb.Balances, positions: Iterable[pb.Position]) -> Table:
    rows = table("balance", "amount", right=("amount",))
    rows.add_row("settled cash, withdrawable", to_dollars(cash.settled))
    for part in cash.unsettled:
        rows.add_row(f"unsettled cash until {part.settle_date}", to_dollars(part.amount))
    rows.add_row("buying power", to_dollars(cash.buying_power))
    rows.add_row("held for orders", to_dollars(cash.held))
    if cash.owed:
        rows.add_row("owed", to_dollars(cash.owed))
    for row in positions:
        rows.add_row(f"{row.symbol}, available / held", f"{row.available} / {row.held}")
        if row.owed:
            rows.add_row(f"{row.symbol}, owed", str(row.owed))
    return rows


def hold_row(hold: pb.HoldRecord) -> dict[str, Any]:
    return {
        "hold_id": hold.hold_id,
        "account_id": hold.account_id,
        "order_id": hold.order_id,
        "asset": hold.asset,
        "remaining": plain(hold.asset, hold.remaining),
        "created_at_ns": hold.created_at_ns,
    }


def holds_table(holds: Iterable[pb.HoldRecord]) -> Table:
    rows = table("hold", "account", "order", "since (UTC)", "asset", "remaining", right=("remaining",))
    for hold in holds:
        rows.add_row(
            hold.hold_id,
            hold.account_id,
            hold.order_id,
            instant(hold.created_at_ns),
            hold.asset,
            amount(hold.asset, hold.remaining),
        )
    return rows


def entry_row(entry: pb.Entry) -> dict[str, Any]:
    return {
        "transaction_id": entry.transaction_id,
        "kind": kind_name(entry.kind),
        "account_id": entry.account_id,
        "path": entry.path,
        "asset": entry.asset,
        "amount": plain(entry.asset, entry.amount),
        "balance": plain(entry.asset, entry.balance),
        "version": entry.version,
        "effective_date": entry.effective_date,
        "recorded_at_ns": entry.recorded_at_ns,
        "order_id": entry.order_id,
        "execution_id": entry.execution_id,
        "trace_id": entry.trace_id,
    }


def entries_table(entries: Iterable[pb.Entry]) -> Table:
    numbers = ("debit", "credit", "balance")
    rows = table("transaction", "recorded (UTC)", "effective", "kind", "account", "path", *numbers, right=numbers)
    for entry in entries:
        rows.add_row(
            entry.transaction_id,
            instant(entry.recorded_at_ns),
            entry.effective_date,
            kind_name(entry.kind),
            entry.account_id,
            entry.path,
            amount(entry.asset, -entry.amount) if entry.amount < 0 else "",
            amount(entry.asset, entry.amount) if entry.amount > 0 else "",
            amount(entry.asset, entry.balance),
        )
    return rows


def lines_row(lines: Iterable[pb.StatementLine]) -> dict[str, str]:
    return {line.path: plain(line.asset, line.amount) for line in lines}


def lines_table(opening: Iterable[pb.StatementLine], closing: Iterable[pb.StatementLine]) -> Table:
    """Every path that either side names; what a side does not name is zero there."""
    before = {line.path: line for line in opening}
    after = {line.path: line for line in closing}
    rows = table("balance", "opening", "closing", right=("opening", "closing"))
    for path in sorted(before | after):
        asset = (before | after)[path].asset
        sides = (line.amount if line else 0 for line in (before.get(path), after.get(path)))
        rows.add_row(path, *(amount(asset, units) for units in sides))
    return rows


def legs_row(legs: Iterable[pb.JournalLeg]) -> dict[str, str]:
    return {leg.path: plain(leg.asset, leg.amount) for leg in legs}


def legs_table(legs: Iterable[pb.JournalLeg]) -> Table:
    rows = table("account of the house", "balance", right=("balance",))
    for leg in legs:
        rows.add_row(leg.path, amount(leg.asset, leg.amount))
    return rows


def mismatch_row(mismatch: pb.Mismatch) -> dict[str, str]:
    return {
        "what": mismatch.what,
        "execution_id": mismatch.execution_id,
        "path": mismatch.path,
        "expected": mismatch.expected,
        "posted": mismatch.posted,
    }


def mismatches_table(mismatches: Sequence[pb.Mismatch]) -> Table:
    rows = table("what", "execution", "path", "expected", "posted", right=("expected", "posted"))
    for each in mismatches:
        rows.add_row(each.what, each.execution_id, each.path, each.expected, each.posted)
    return rows
