"""`openbell audit`: what must hold, whatever has failed. Databases, the venue's own journal, and what clients kept.

The invariants are numbered as in ARCHITECTURE.md. What is still on its way looks like a violation for a moment, so the
audit looks again until it is clean or has waited long enough.
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer

import ems.config
from ledger.verify import Report
from ops import ledger_verify
from ops.failure import Failure
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import command, console, table
from runtime import db, ids
from runtime.settings import Settings, load
from runtime.units import to_decimal

SQL = db.Queries(Path(__file__).parent / "sql" / "audit.sql")
SETTLE_SECONDS = 10
POLL_SECONDS = 0.3
SHOWN_MAX = 20
SIDES = {1: "BUY", 2: "SELL"}
SPACE = re.compile(r"\s*")

INVARIANTS = {
    "I1": "no order is executed twice",
    "I2": "every fill of the venue is posted exactly once",
    "I3": "debits equal credits, per transaction and overall",
    "I4": "no customer balance is negative",
    "I7": "position = sum of executions = the venue's book",
    "I9": "nothing acknowledged is lost",
    "I11": "holds are released exactly once, when the order is done",
    "I12": "the hash chains verify",
    "I13": "every funded order joins to its ledger entries",
}

Acknowledged = Annotated[
    Path | None,
    typer.Option("--acknowledged", help="Answers that a client kept: JSON, one after another."),
]
Settle = Annotated[int, typer.Option("--settle-seconds", min=0, help="How long what is on its way may take.")]


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str
    what: str
    row: dict[str, Any]


@dataclass(slots=True)
class Evidence:
    """One look at everything: the databases in one snapshot, the journal after it."""

    connection: asyncpg.Connection
    venue_fills: list[dict[str, Any]]
    venue_orders: Counter[str]  # ClOrdID -> times accepted
    fills: list[db.Row]
    trades: list[db.Row]
    history: Report
    acknowledged: list[dict[str, Any]] = field(default_factory=list)


Check = Callable[[Evidence], Awaitable[list[Violation]]]


def audit(
    data: Data = DEFAULT_DATA,
    acknowledged: Acknowledged = None,
    settle_seconds: Settle = SETTLE_SECONDS,
    as_json: Json = False,
) -> None:
    """Prove that nothing was lost, doubled or made up."""
    settings = load(data.resolve())
    kept = read_acknowledged(acknowledged) if acknowledged else []
    counts, violations = asyncio.run(until_clean(settings, kept, settle_seconds, say=not as_json))
    if as_json:
        rows = [{"invariant": each.invariant, "what": each.what, "row": each.row} for each in violations]
        print_json({"checked": counts, "invariants": list(INVARIANTS), "violations": rows})
    else:
        _show(counts, violations)
    if violations:
        raise typer.Exit(1)


async def until_clean(
    settings: Settings, acknowledged: list[dict[str, Any]], settle_seconds: float, *, say: bool = False
) -> tuple[dict[str, int], list[Violation]]:
    deadline, said = time.monotonic() + settle_seconds, False
    while True:
        counts, violations = await look(settings, acknowledged)
        if not violations or time.monotonic() > deadline:
            return counts, violations
        if say and not said:
            typer.echo(f"{len(violations)} violations; looking again for {settle_seconds} s, some may be on their way")
            said = True
        await asyncio.sleep(POLL_SECONDS)


async def look(settings: Settings, acknowledged: list[dict[str, Any]]) -> tuple[dict[str, int], list[Violation]]:
    """What was looked at, and every violation of this moment."""
    heads = ledger_verify.signed_heads(settings)  # before the snapshot, which then has their links
    try:
        connection = await asyncpg.connect(settings.secret("database_admin"), timeout=5)
    except db.UNREACHABLE:
        raise Failure(f"PostgreSQL does not answer; start the brokerage with: {command('up', settings.data)}") from None
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            history = await ledger_verify.look(settings, connection, heads)
            evidence = await _gather(settings, connection, history, acknowledged)
            found = [violation for check in CHECKS for violation in await check(evidence)]
    finally:
        await connection.close()
    counts = {
        "venue_fills": len(evidence.venue_fills),
        "executions": len(evidence.fills),
        "trades": len(evidence.trades),
        "links": evidence.history.rows["links"],
        "acknowledged": len(acknowledged),
    }
    return counts, found


async def _gather(
    settings: Settings, connection: asyncpg.Connection, history: Report, acknowledged: list[dict[str, Any]]
) -> Evidence:
    fills, trades = await connection.fetch(SQL.fills), await connection.fetch(SQL.trades)
    comp_id = settings.section("ems", ems.config.Config).comp_id
    reports = [row for row in _journal(settings.data / "venue" / "journal.jsonl") if row["comp_id"] == comp_id]
    venue_fills = [row for row in reports if row["last_shares"]]
    accepted = Counter(row["cl_ord_id"] for row in reports if row.get("exec_type") == "0")
    return Evidence(connection, venue_fills, accepted, fills, trades, history, acknowledged)


def _journal(path: Path) -> Iterator[dict[str, Any]]:
    """The venue's reports, from its own journal. The last line may be half written."""
    if not path.exists():
        return
    with path.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield from json.loads(line).get("out", [])


def read_acknowledged(path: Path) -> list[dict[str, Any]]:
    """Orders and deposits as commands with --json print them, one after another or in lists. Failure for others."""
    decoder, kept, end = json.JSONDecoder(), [], 0
    try:
        text = path.read_text().strip()
        while end < len(text):
            value, end = decoder.raw_decode(text, end)
            kept += value if isinstance(value, list) else [value]
            end = SPACE.match(text, end).end()  # type: ignore[union-attr]  # matches nothing as well
    except (OSError, ValueError) as problem:
        raise Failure(f"cannot read {path} as JSON objects, one after another: {problem}") from None
    for row in kept:
        if not _is_answer(row):
            raise Failure(f"{path}: this is no answer with an order_id or a transaction_id: {str(row)[:80]}")
    return kept


def _is_answer(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    if isinstance(row.get("order_id"), str):
        return True
    try:
        return bool(ids.place(str(row.get("transaction_id"))))
    except ValueError:
        return False


def _violations(invariant: str, what: str, rows: Iterable[Any]) -> list[Violation]:
    return [Violation(invariant, what, {key: _plain(value) for key, value in dict(row).items()}) for row in rows]


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | str | list | type(None)) else str(value)


# --- the checks


async def no_order_twice(evidence: Evidence) -> list[Violation]:
    twice = [{"cl_ord_id": key, "accepted": times} for key, times in evidence.venue_orders.items() if times > 1]
    routes = await evidence.connection.fetch(SQL.routes)
    order_of = {row["cl_ord_id"]: row["order_id"] for row in routes}
    at_venue: Counter[str] = Counter()
    for fill in evidence.venue_fills:
        at_venue[order_of.get(fill["cl_ord_id"], fill["cl_ord_id"])] += fill["last_shares"]
    totals = {row["order_id"]: row for row in await evidence.connection.fetch(SQL.order_totals)}
    beyond = [
        {"order_id": key, "filled": filled, "quantity": totals[key]["quantity"] if key in totals else None}
        for key, filled in at_venue.items()
        if key not in totals or filled > totals[key]["quantity"]
    ]
    several = Counter(row["order_id"] for row in routes)
    routed = [{"order_id": key, "routes": times} for key, times in several.items() if times > 1]
    return [
        *_violations("I1", "the venue accepted one ClOrdID more than once", twice),
        *_violations("I1", "the venue filled more than the order, or an order that nobody placed", beyond),
        *_violations("I1", "an order was routed more than once", routed),
    ]


async def every_fill_once(evidence: Evidence) -> list[Violation]:
    at_venue = Counter((row["trade_date"], row["exec_id"]) for row in evidence.venue_fills)
    logged = Counter((str(row["trade_date"]), row["exec_id"]) for row in evidence.fills)
    executions = Counter(row["execution_id"] for row in evidence.fills)
    posted = Counter(row["execution_id"] for row in evidence.trades)
    return [
        *_violations("I2", "fills of the venue's journal against the execution log", _differences(at_venue, logged)),
        *_violations("I2", "fills of the execution log against the ledger's trades", _differences(executions, posted)),
    ]


def _differences(left: Counter[Any], right: Counter[Any]) -> list[dict[str, Any]]:
    keys = left.keys() | right.keys()
    return [
        {"key": str(key), "left": left[key], "right": right[key]}
        for key in sorted(keys)
        if not left[key] == right[key] == 1
    ]


async def balanced(evidence: Evidence) -> list[Violation]:
    ask = evidence.connection.fetch
    return [
        *_violations("I3", "a transaction does not sum to zero", await ask(SQL.unbalanced_transactions)),
        *_violations("I3", "an asset does not sum to zero", await ask(SQL.sums_by_asset)),
        *_violations("I3", "a balance is not the sum of its entries", await ask(SQL.wrong_balances)),
        *_violations("I3", "an entry does not continue its balance", await ask(SQL.broken_chains)),
    ]


async def none_negative(evidence: Evidence) -> list[Violation]:
    rows = await evidence.connection.fetch(SQL.negative_customers)
    return _violations("I4", "a customer's balance was below zero", rows)


async def positions_agree(evidence: Evidence) -> list[Violation]:
    ledger = {(row["account_id"], row["symbol"]): row["quantity"] for row in await _customer_positions(evidence)}
    for row in await evidence.connection.fetch(SQL.booked_by_hand):
        key = (row["account_id"], row["symbol"])
        ledger[key] = ledger.get(key, 0) - row["quantity"]
    logged: Counter[tuple[str, str]] = Counter()
    for row in evidence.fills:
        logged[row["account_id"], row["symbol"]] += row["last_shares"] * (1 if row["side"] == "BUY" else -1)
    venue: Counter[tuple[str, str]] = Counter()
    for fill in evidence.venue_fills:
        venue[fill["account"], fill["symbol"]] += fill["last_shares"] * (1 if fill["side"] == "1" else -1)
    keys = sorted(ledger.keys() | logged.keys() | venue.keys())
    wrong = [
        {"account_id": key[0], "symbol": key[1], "ledger": ledger.get(key, 0), "log": logged[key], "venue": venue[key]}
        for key in keys
        if not ledger.get(key, 0) == logged[key] == venue[key]
    ]
    return _violations("I7", "ledger, execution log and venue disagree on a position", wrong)


async def _customer_positions(evidence: Evidence) -> list[db.Row]:
    rows = await evidence.connection.fetch(SQL.positions)
    return [row for row in rows if not row["account_id"].startswith("house/")]


async def acknowledged_kept(evidence: Evidence) -> list[Violation]:
    kept_orders = [row for row in evidence.acknowledged if row.get("order_id")]
    kept_transactions = [row for row in evidence.acknowledged if row.get("transaction_id")]
    places = [ids.place(row["transaction_id"]) for row in kept_transactions]
    orders = await evidence.connection.fetch(SQL.acknowledged_orders, [row["order_id"] for row in kept_orders])
    stored = {row["order_id"]: dict(row) for row in orders}
    found = await evidence.connection.fetch(
        SQL.acknowledged_transactions, [place[0] for place in places], [place[1] for place in places]
    )
    known = {(row["log_partition"], row["position"]) for row in found}
    lost = [row for row in kept_orders if not _same(row, stored.get(row["order_id"]))]
    gone = [row for row, place in zip(kept_transactions, places, strict=True) if place not in known]
    return [
        *_violations("I9", "an acknowledged order is not stored, or not as acknowledged", lost),
        *_violations("I9", "an acknowledged transaction is not in the ledger", gone),
    ]


def _same(kept: dict[str, Any], stored: dict[str, Any] | None) -> bool:
    """Whether the order is as it was acknowledged, and has filled no less since."""
    if stored is None:
        return False
    shown = {
        "account_id": stored["account_id"],
        "client_order_id": stored["client_order_id"],
        "symbol": stored["symbol"],
        "side": SIDES[stored["side"]],
        "quantity": stored["quantity"],
        "limit": to_decimal(stored["limit_price"]) if stored["limit_price"] else None,
        "trace_id": stored["trace_id"],
    }
    return all(kept[name] == value for name, value in shown.items() if name in kept) and (
        kept.get("filled", 0) <= stored["cum_quantity"]
    )


async def holds_released(evidence: Evidence) -> list[Violation]:
    ask = evidence.connection.fetch
    return [
        *_violations("I11", "a done order still has its hold", await ask(SQL.open_holds_of_done_orders)),
        *_violations("I11", "an open order has lost its hold", await ask(SQL.released_holds_of_open_orders)),
        *_violations("I11", "what is held is not what the holds say", await ask(SQL.held_not_in_holds)),
    ]


async def history_verifies(evidence: Evidence) -> list[Violation]:
    rows = [finding._asdict() for finding in evidence.history.findings]
    return _violations("I12", "the ledger's history is not the one that was signed", rows)


async def orders_join_entries(evidence: Evidence) -> list[Violation]:
    rows = await evidence.connection.fetch(SQL.orders_without_entries)
    return _violations("I13", "an order has no hold with its trace in the ledger", rows)


CHECKS: tuple[Check, ...] = (
    no_order_twice,
    every_fill_once,
    balanced,
    none_negative,
    positions_agree,
    acknowledged_kept,
    holds_released,
    history_verifies,
    orders_join_entries,
)


def _show(counts: dict[str, int], violations: list[Violation]) -> None:
    rows = table("invariant", "", "violations")
    for name, text in INVARIANTS.items():
        found = str(sum(each.invariant == name for each in violations) or "none")
        unchecked = name == "I9" and not counts["acknowledged"]
        rows.add_row(name, text, "not checked without --acknowledged" if unchecked else found)
    out = console()
    out.print(rows)
    out.print(", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items()))
    for each in violations[:SHOWN_MAX]:
        shown = ", ".join(f"{key} {value}" for key, value in each.row.items())
        out.print(f"{each.invariant}: {each.what}: {shown}", style="red", soft_wrap=True)
    if len(violations) > SHOWN_MAX:
        out.print(f"... and {len(violations) - SHOWN_MAX} more; --json has them all")
