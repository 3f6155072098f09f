"""Rows of the execution log become postings. A fill trades, a bust undoes, a correction does both; the end of an order
releases what is left of its hold.

Facts are never refused. What cannot be posted stops the log instead of being skipped.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Any, NamedTuple

import structlog

from ledger import accounts, trades
from ledger.accounts import Account, Hold, Kind, Leg, Posting
from ledger.book import Book
from ledger.trades import Trade, Traded
from openbell.ems.v1 import ems_pb2
from openbell.fix.v1 import fix_pb2
from runtime import ids
from runtime.fees import fee

# What ends an order at its venue: no fills beyond its CumQty(14) are expected. DONE_FOR_DAY is not among them.
ENDS = frozenset(
    {
        ems_pb2.EXECUTION_KIND_CANCELED,
        ems_pb2.EXECUTION_KIND_REJECTED,
        ems_pb2.EXECUTION_KIND_EXPIRED,
        ems_pb2.EXECUTION_KIND_NOT_SENT,
    }
)
TRADES = frozenset({ems_pb2.EXECUTION_KIND_FILL, ems_pb2.EXECUTION_KIND_BUST, ems_pb2.EXECUTION_KIND_CORRECT})
# OrdStatus(39) by which one of these ends its order too.
ENDED = frozenset(
    {
        fix_pb2.ORD_STATUS_FILLED,
        fix_pb2.ORD_STATUS_CANCELED,
        fix_pb2.ORD_STATUS_REJECTED,
        fix_pb2.ORD_STATUS_EXPIRED,
    }
)
REVERSALS = {ems_pb2.EXECUTION_KIND_BUST: Kind.BUST, ems_pb2.EXECUTION_KIND_CORRECT: Kind.CORRECTION}

log = structlog.get_logger()


class Execution(NamedTuple):
    """What the ledger needs of one row. `terminal`: no more fills are expected beyond cum_quantity."""

    position: int
    execution_id: str
    fills: bool
    buys: bool
    terminal: bool
    account_id: str
    order_id: str
    symbol: str
    quantity: int  # LastShares(32)
    price: int  # LastPx(31)
    cum_quantity: int
    trade_date: date | None
    trace_id: bytes
    arrived_at_ns: int  # here
    exec_id: str = ""  # ExecID(17)
    exec_ref_id: str = ""  # ExecRefID(19): what a bust or correction undoes
    reverses: Kind | None = None  # BUST or CORRECTION


class Unreferenced(Exception):
    """A bust or correction of an execution that was never posted: the log stops, somebody must look."""


def postings(book: Book, execution: Execution, today: date) -> Iterator[Posting]:
    """What the row leads to, in order. Each must be applied to the book before the next is asked for."""
    if execution.reverses is not None:
        undone = to_undo(book, execution)
        if undone is not None:
            yield from _undo(book, execution, undone)
    elif execution.fills:
        assert execution.trade_date is not None, f"{execution.execution_id}: a fill without TradeDate(75)"
        yield from _trade(book, execution, trades.clearing_date(execution.trade_date, book.house))
    hold = book.holds.get(execution.order_id)
    if hold is not None and execution.terminal:
        hold = hold._replace(done_quantity=max(execution.cum_quantity, hold.done_quantity or 0))
        yield _posting(execution, Kind.RELEASE, book.account(hold.account_id), (), today, hold)
    if hold is not None and trades.finished(book.holds[hold.order_id]):
        account = book.account(hold.account_id)
        legs, hold = accounts.release(account, book.holds[hold.order_id], book.house)
        yield _posting(execution, Kind.RELEASE, account, legs, today, hold)


def _trade(book: Book, execution: Execution, settles: date, replaces: int = 0) -> Iterator[Posting]:
    """A fill, on its trade date, and its fee. `replaces`: shares of the trade that it corrects."""
    assert execution.trade_date is not None, f"{execution.execution_id}: a fill without TradeDate(75)"
    account, house = book.account(execution.account_id), book.house
    value = execution.quantity * execution.price
    trade = Trade(execution.buys, execution.symbol, execution.quantity, value, settles)
    legs, hold = trades.post(account, book.holds.get(execution.order_id), trade, house, replaces)
    yield _posting(execution, Kind.TRADE, account, legs, execution.trade_date, hold)
    posted = Traded(book.position, trade)
    charged = fee(house.fees, execution.buys, execution.quantity, execution.price)
    if charged:
        legs, hold = trades.charge(account, book.holds.get(execution.order_id), charged, house)
        yield _posting(execution, Kind.FEE, account, legs, execution.trade_date, hold)
        posted = posted._replace(fee=charged, fee_position=book.position)
    if execution.order_id in book.traded:
        book.traded[execution.order_id][trade_name(execution.execution_id, execution.exec_id)] = posted


def to_undo(book: Book, execution: Execution) -> Traded | None:
    """The trade that ExecRefID(19) names, or what it was corrected to; None if that is busted already.

    Unreferenced if there is none.
    """
    of_order = book.traded.get(execution.order_id, {})
    found = of_order.get(trade_name(execution.execution_id, execution.exec_ref_id))
    while found is not None and found.corrected:
        found = of_order.get(trade_name(execution.execution_id, found.undone_by or ""))
    if found is None:
        raise Unreferenced(f"{execution.execution_id}: no trade with ExecID(17) {execution.exec_ref_id} was posted")
    if found.undone_by is not None:
        log.error("busted already", execution_id=execution.execution_id, exec_ref_id=execution.exec_ref_id)
        return None
    return found


def _undo(book: Book, execution: Execution, undone: Traded) -> Iterator[Posting]:
    """The reversal of a trade and of its fee; after a correction, the trade as it is now, settled on the same date."""
    assert execution.reverses is not None
    account, house, trade = book.account(execution.account_id), book.house, undone.trade
    day = execution.trade_date or trade.settles
    settles = trades.undo_date(trade, day, house)
    legs, hold = trades.undo(account, book.holds.get(execution.order_id), trade, settles, house)
    yield _posting(execution, execution.reverses, account, legs, day, hold)._replace(reverses=undone.position)
    corrects = execution.reverses == Kind.CORRECTION
    of_order = book.traded[execution.order_id]
    name = next(name for name, each in of_order.items() if each is undone)
    of_order[name] = undone._replace(undone_by=execution.exec_id, corrected=corrects)
    if undone.fee:
        legs, hold = trades.refund(account, book.holds.get(execution.order_id), trade, undone.fee, house)
        yield _posting(execution, Kind.REVERSAL, account, legs, day, hold)._replace(reverses=undone.fee_position)
    if corrects:
        yield from _trade(book, execution, settles, trade.quantity)


def trade_name(execution_id: str, exec_id: str) -> str:
    """ExecIDs(17) are unique at one venue only, that is in one partition of the execution log."""
    return f"{ids.place(execution_id)[0]} {exec_id}"


def _posting(
    execution: Execution, kind: Kind, account: Account, legs: Sequence[Leg], effective: date, hold: Hold | None
) -> Posting:
    return Posting(
        kind,
        account.account_id,
        legs,
        effective,
        execution.trace_id,
        execution.arrived_at_ns,
        execution.order_id,
        hold,
        execution.execution_id,
        execution.exec_id or None,
    )


def decode(row: ems_pb2.Execution, arrived_at_ns: int) -> Execution:
    fills = row.kind == ems_pb2.EXECUTION_KIND_FILL
    return Execution(
        position=row.position,
        execution_id=row.execution_id,
        fills=fills,
        buys=row.side == fix_pb2.SIDE_BUY,
        terminal=row.kind in ENDS or (row.kind in TRADES and row.ord_status in ENDED),
        account_id=row.account_id,
        order_id=row.order_id,
        symbol=row.symbol,
        quantity=row.last_shares,
        price=row.last_price,
        cum_quantity=row.cum_quantity,
        trade_date=date.fromisoformat(row.trade_date) if row.trade_date else None,
        trace_id=bytes.fromhex(row.trace_id),
        arrived_at_ns=arrived_at_ns,
        exec_id=row.exec_id,
        exec_ref_id=row.exec_ref_id,
        reverses=REVERSALS.get(row.kind),
    )


def read_traded(rows: Sequence[Any]) -> dict[str, dict[str, Traded]]:
    """Order id -> name of the trade -> trade, from the stored entries of those orders, in order of position.

    Rows have order_id, position, kind, exec_id, execution_id, reverses, account_id, path, asset, amount.
    """
    found: dict[str, dict[str, Traded]] = {}
    names: dict[int, str] = {}  # by the trade's position
    named: dict[str, str] = {}  # and by its execution
    for position, legs in groupby(rows, lambda row: row["position"]):
        by_path = {leg["path"]: leg for leg in legs}
        row = next(iter(by_path.values()))
        if row["execution_id"] is None:
            continue  # booked by hand: no venue can name it
        of_order = found.setdefault(row["order_id"], {})
        if row["kind"] == Kind.TRADE:
            name = names[position] = named[row["execution_id"]] = trade_name(row["execution_id"], row["exec_id"] or "")
            of_order[name] = Traded(position, _as_trade(by_path))
        elif row["kind"] == Kind.FEE:
            name = named[row["execution_id"]]
            of_order[name] = of_order[name]._replace(fee=by_path["fees"]["amount"], fee_position=position)
        elif row["kind"] in (Kind.BUST, Kind.CORRECTION):
            name, corrected = names[row["reverses"]], row["kind"] == Kind.CORRECTION
            of_order[name] = of_order[name]._replace(undone_by=row["exec_id"] or "", corrected=corrected)
    return found


def _as_trade(by_path: Mapping[str, Any]) -> Trade:
    clearing = next(path for path in by_path if path.startswith("clearing/"))
    street = next(path for path in by_path if path.startswith("street/"))
    shares = by_path[street]["amount"]
    value = abs(by_path[clearing]["amount"])
    return Trade(shares < 0, by_path[street]["asset"], abs(shares), value, date.fromisoformat(clearing[-10:]))
