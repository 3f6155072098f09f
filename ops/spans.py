"""Spans of orders, made from what the logs stored: ids and times. The hot path only stamps, so no order is too many.

Every span id is computed from the entity's own id (runtime.telemetry.span_id), so each row knows its parent alone.
accept > hold; accept > route > fix out > match, fix in > post, release.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime import db, ids
from runtime.db import Row
from runtime.telemetry import span_id

SQL = db.Queries(Path(__file__).parent / "sql" / "trace.sql")

HOLD, ADJUST, RELEASE, TRADE = 3, 4, 5, 6  # openbell.ledger.v1.TransactionKind
TRANSACTION_NAMES = {HOLD: "hold", ADJUST: "adjust", RELEASE: "release", TRADE: "post"}


@dataclass(frozen=True, slots=True)
class Span:
    name: str
    service: str
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    start_ns: int
    end_ns: int
    attributes: dict[str, str] = field(default_factory=dict)


def of_order(row: Row) -> Iterator[Span]:
    """accept: from the request's arrival to its order being stored. Its parent is the client's span, if it sent one."""
    attributes = {"openbell.order_id": row["order_id"], "openbell.symbol": row["symbol"]}
    yield Span(
        "accept",
        "oms",
        row["trace_id"],
        row["span_id"],
        row["parent_span_id"],
        row["received_at_ns"],
        row["accepted_at_ns"],
        attributes,
    )


def of_transaction(row: Row) -> Iterator[Span]:
    """hold, adjust: below accept. post, release: below the execution that caused it. Others have no order."""
    if row["order_id"] is None or row["kind"] not in TRANSACTION_NAMES:
        return
    caused_by = row["execution_id"]
    parent = span_id("fix in", caused_by) if caused_by else span_id("accept", row["order_id"])
    transaction = ids.transaction_id(row["log_partition"], row["position"])
    yield Span(
        TRANSACTION_NAMES[row["kind"]],
        "ledger",
        row["trace_id"],
        span_id("transaction", transaction),
        parent,
        row["requested_at_ns"],
        row["recorded_at_ns"],
        {"openbell.transaction_id": transaction, "openbell.order_id": row["order_id"]},
    )


def of_route(row: Row) -> Iterator[Span]:
    yield Span(
        "route",
        "ems",
        row["trace_id"],
        span_id("route", row["cl_ord_id"]),
        row["parent_span_id"],
        row["received_at_ns"],
        row["written_at_ns"],
        {"openbell.order_id": row["order_id"], "fix.cl_ord_id": row["cl_ord_id"]},
    )


def of_execution(row: Row) -> Iterator[Span]:
    """fix out (with the first answer), match (with a fill), fix in."""
    execution = ids.execution_id(row["log_partition"], row["position"])
    attributes = {
        "openbell.order_id": row["order_id"],
        "openbell.execution_id": execution,
        "fix.cl_ord_id": row["cl_ord_id"],
        "fix.exec_id": row["exec_id"] or "",
        "openbell.kind": row["kind"],
    }
    if row["kind"] == "NOT_SENT":
        yield _not_sent(row, execution, attributes)
        return
    out = span_id("fix out", row["cl_ord_id"])
    if row["first"]:
        # Who sent it may have died before the answer came; then only the route's own time is known.
        sent_at_ns = row["sent_at_ns"] or row["written_at_ns"]
        yield Span(
            "fix out",
            "ems",
            row["trace_id"],
            out,
            span_id("route", row["cl_ord_id"]),
            sent_at_ns,
            row["received_at_ns"],
            {"openbell.order_id": row["order_id"], "fix.cl_ord_id": row["cl_ord_id"]},
        )
    if row["kind"] == "FILL" and row["venue_decided_ns"]:
        yield Span(
            "match",
            row["venue"],
            row["trace_id"],
            span_id("match", execution),
            out,
            row["venue_received_ns"],
            row["venue_decided_ns"],
            attributes,
        )
    yield Span(
        "fix in", "ems", row["trace_id"], row["span_id"], out, row["received_at_ns"], row["recorded_at_ns"], attributes
    )


def _not_sent(row: Row, execution: str, attributes: dict[str, str]) -> Span:
    routed = row["written_at_ns"] is not None
    parent = span_id("route", row["cl_ord_id"]) if routed else span_id("accept", row["order_id"])
    return Span(
        "not sent",
        "ems",
        row["trace_id"],
        row["span_id"],
        parent,
        row["received_at_ns"],
        row["recorded_at_ns"],
        attributes,
    )
