"""Ledger's domain to its wire messages, and the stored answers."""

from typing import Any

from ledger.accounts import Account, Hold
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import ids
from runtime.db import Row


def account(found: Account) -> pb.Account:
    return pb.Account(account_id=found.account_id, customer_id=found.customer_id, opened_at_ns=found.opened_at_ns)


def balances(found: Account, as_of_position: int) -> pb.Balances:
    settled = found.amount("cash/settled")
    unsettled = [
        pb.UnsettledCash(settle_date=path.rpartition("/")[2], amount=found.amount(path))
        for path in found.paths("cash/unsettled/")
    ]
    return pb.Balances(
        account_id=found.account_id,
        settled=settled,
        unsettled=unsettled,
        held=found.amount("cash/held"),
        owed=found.amount("cash/owed"),
        buying_power=settled + sum(part.amount for part in unsettled),
        withdrawable=settled,
        as_of_position=as_of_position,
    )


def positions(found: Account) -> list[pb.Position]:
    symbols = sorted({path.rpartition("/")[2] for path in found.paths("position/")})
    return [
        pb.Position(
            symbol=symbol,
            available=found.amount(f"position/available/{symbol}"),
            held=found.amount(f"position/held/{symbol}"),
            owed=found.amount(f"position/owed/{symbol}"),
        )
        for symbol in symbols
    ]


def hold(found: Hold) -> pb.HoldRecord:
    return pb.HoldRecord(
        hold_id=ids.hold_id(found.partition, found.position),
        account_id=found.account_id,
        order_id=found.order_id,
        asset=found.asset,
        remaining=found.remaining,
        state=pb.HOLD_STATE_RELEASED if found.released else pb.HOLD_STATE_OPEN,
        created_at_ns=found.created_at_ns,
    )


def entry(row: Row) -> pb.Entry:
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
    )


def transaction(row: Row, legs: list[Row]) -> pb.Transaction:
    shared: dict[str, Any] = dict(row)
    return pb.Transaction(
        transaction_id=ids.transaction_id(row["log_partition"], row["position"]),
        position=row["position"],
        kind=row["kind"],
        effective_date=row["effective_date"].isoformat(),
        recorded_at_ns=row["recorded_at_ns"],
        order_id=row["order_id"] or "",
        hold_id=row["hold_id"] or "",
        execution_id=row["execution_id"] or "",
        trace_id=row["trace_id"].hex(),
        span_id=row["span_id"].hex(),
        entries=[entry({**shared, **dict(leg)}) for leg in legs],  # type: ignore[arg-type]
    )
