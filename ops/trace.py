"""`openbell trace ORDER`: the order's spans as a waterfall, the entries it led to at its end.

Made from the stored rows, like the exported spans, so it is complete whatever is sampled and wherever OTLP goes.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from ops import spans
from ops.failure import Failure
from ops.ledger_show import amount, kind_name
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import command, console, table
from ops.spans import SQL, Span
from runtime import db, ids
from runtime.settings import Settings, load
from runtime.units import CASH, to_decimal

BAR_CHARACTERS = 40
FLOW = (
    (SQL.order_rows, spans.of_order),
    (SQL.order_transactions, spans.of_transaction),
    (SQL.order_routes, spans.of_route),
    (SQL.order_executions, spans.of_execution),
)


@dataclass(frozen=True, slots=True)
class Trace:
    """Spans in the order of the tree, each with its depth; entries in the order of the ledger."""

    order_id: str
    trace_id: str
    spans: list[tuple[int, Span]]
    entries: list[db.Row]


def trace(order_id: str, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Show what an order went through, as a waterfall."""
    found = asyncio.run(read(load(data.resolve()), order_id))
    if as_json:
        print_json(as_data(found))
    else:
        show(found, console())


async def read(settings: Settings, order_id: str) -> Trace:
    """Failure if there is no such order."""
    try:
        connection = await asyncpg.connect(settings.secret("database_admin"), timeout=5)
    except db.UNREACHABLE:
        raise Failure(f"PostgreSQL does not answer; start the brokerage with: {command('up', settings.data)}") from None
    try:
        made = [span for query, make in FLOW for row in await connection.fetch(query, order_id) for span in make(row)]
        entries = await connection.fetch(SQL.order_entries, order_id)
    finally:
        await connection.close()
    if not made:
        raise Failure(f"there is no order {order_id}; list them with: {command('orders', settings.data)}")
    return Trace(order_id, made[0].trace_id.hex(), tree(made), entries)


def tree(made: Sequence[Span]) -> list[tuple[int, Span]]:
    """Depth first, children by start. A span whose parent is not among them is a root."""
    known = {span.span_id for span in made}

    def below(parent: bytes | None, depth: int) -> list[tuple[int, Span]]:
        children = [span for span in made if (span.parent_span_id if span.parent_span_id in known else None) == parent]
        children.sort(key=lambda span: span.start_ns)
        return [row for span in children for row in [(depth, span), *below(span.span_id, depth + 1)]]

    return below(None, 0)


def as_data(found: Trace) -> dict[str, Any]:
    return {
        "order_id": found.order_id,
        "trace_id": found.trace_id,
        "spans": [
            {
                "name": span.name,
                "service": span.service,
                "span_id": span.span_id.hex(),
                "parent_span_id": span.parent_span_id.hex() if span.parent_span_id else None,
                "start_ns": span.start_ns,
                "end_ns": span.end_ns,
                "attributes": span.attributes,
            }
            for _, span in found.spans
        ],
        "entries": [
            {
                "transaction_id": ids.transaction_id(row["log_partition"], row["position"]),
                "kind": kind_name(row["kind"]),
                "account_id": row["account_id"],
                "path": row["path"],
                "asset": row["asset"],
                "amount": to_decimal(row["amount"]) if row["asset"] == CASH else str(row["amount"]),
            }
            for row in found.entries
        ],
    }


def show(found: Trace, out: Console) -> None:
    first = min(span.start_ns for _, span in found.spans)
    last = max(span.end_ns for _, span in found.spans)
    out.print(f"Trace {found.trace_id} of {found.order_id}, {(last - first) / 1e6:.1f} ms")
    rows = table("span", "service", "from ms", "took ms", "", right=("from ms", "took ms"))
    for depth, span in found.spans:
        start, took = (span.start_ns - first) / 1e6, (span.end_ns - span.start_ns) / 1e6
        rows.add_row("  " * depth + span.name, span.service, f"{start:.2f}", f"{took:.2f}", bar(span, first, last))
    out.print(rows)
    out.print()
    out.print(entries_table(found.entries))


def bar(span: Span, first_ns: int, last_ns: int) -> str:
    """At least one mark, where the span lies in the whole."""
    whole = max(last_ns - first_ns, 1)
    start = (span.start_ns - first_ns) * BAR_CHARACTERS // whole
    start = min(start, BAR_CHARACTERS - 1)
    length = max((span.end_ns - span.start_ns) * BAR_CHARACTERS // whole, 1)
    return " " * start + "█" * min(length, BAR_CHARACTERS - start)


def entries_table(entries: Sequence[db.Row]) -> Table:
    rows = table("transaction", "kind", "account", "path", "debit", "credit", right=("debit", "credit"))
    for row in entries:
        debit = amount(row["asset"], -row["amount"]) if row["amount"] < 0 else ""
        credit = amount(row["asset"], row["amount"]) if row["amount"] > 0 else ""
        transaction = ids.transaction_id(row["log_partition"], row["position"])
        rows.add_row(transaction, kind_name(row["kind"]), row["account_id"], row["path"], debit, credit)
    return rows


def fix_messages(settings: Settings, order_id: str) -> list[tuple[str, str]]:
    """(time, message with | between fields) of an order, both directions, from the engines' message logs."""
    wanted = f"\x0111={ids.cl_ord_id(ids.OrderId(order_id), 0)}\x01"
    logs = sorted((settings.data / "fix").glob("**/*messages*.log"))
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines() if wanted in line]
    parted = (line.partition(" : ") for line in sorted(lines))
    return [(time, message.replace("\x01", "|")) for time, _, message in parted]
