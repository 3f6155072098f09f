"""Rows of the execution log become postings: a fill captures and trades, the end of an order releases what is left.

Facts are never refused. What this ledger cannot post yet stops the log instead of being skipped.
"""

from dataclasses import dataclass, replace
from datetime import date

from ledger import accounts
from ledger.accounts import Hold, Kind, Posting, house
from ledger.commands import Book
from openbell.ems.v1 import ems_pb2
from openbell.fix.v1 import fix_pb2
from runtime import calendar

# What ends an order at its venue: no fills beyond its CumQty(14) are expected. DONE_FOR_DAY is not among them.
ENDS = frozenset(
    {
        ems_pb2.EXECUTION_KIND_CANCELED,
        ems_pb2.EXECUTION_KIND_REJECTED,
        ems_pb2.EXECUTION_KIND_EXPIRED,
        ems_pb2.EXECUTION_KIND_NOT_SENT,
    }
)
UNPOSTED = frozenset({ems_pb2.EXECUTION_KIND_BUST, ems_pb2.EXECUTION_KIND_CORRECT})


@dataclass(frozen=True, slots=True)
class Execution:
    """What the ledger needs of one row. `terminal`: no more fills are expected beyond cum_quantity."""

    position: int
    execution_id: str
    fills: bool
    buys: bool
    terminal: bool
    postable: bool  # False for busts and corrections
    account_id: str
    order_id: str
    symbol: str
    quantity: int  # LastShares(32)
    price: int  # LastPx(31)
    cum_quantity: int
    trade_date: date | None
    trace_id: bytes
    arrived_at_ns: int  # here


def trade(book: Book, execution: Execution, cycle_days: int) -> Posting:
    """A fill, on its trade date, settling `cycle_days` settlement days later."""
    assert execution.trade_date is not None, f"{execution.execution_id}: a fill without TradeDate(75)"
    account = book.account(execution.account_id)
    move = accounts.buy if execution.buys else accounts.sell
    settles = calendar.settle_date(execution.trade_date, cycle_days)
    legs, hold = move(
        account,
        book.holds.get(execution.order_id),
        execution.symbol,
        execution.quantity,
        execution.price,
        settles,
        house(book.partition),
    )
    return Posting(
        Kind.TRADE,
        account.account_id,
        legs,
        execution.trade_date,
        execution.trace_id,
        execution.arrived_at_ns,
        order_id=execution.order_id,
        execution_id=execution.execution_id,
        hold=hold,
    )


def ended(hold: Hold, execution: Execution) -> Hold:
    """The hold, told how much its order has executed in all."""
    return replace(hold, done_quantity=max(execution.cum_quantity, hold.done_quantity or 0))


def release(book: Book, hold: Hold, execution: Execution, effective: date) -> Posting:
    """What is left of a finished order's hold goes back."""
    account = book.account(hold.account_id)
    legs, after = accounts.release(account, hold)
    return Posting(
        Kind.RELEASE,
        account.account_id,
        legs,
        effective,
        execution.trace_id,
        execution.arrived_at_ns,
        order_id=hold.order_id,
        execution_id=execution.execution_id,
        hold=after,
    )


def decode(row: ems_pb2.Execution, arrived_at_ns: int) -> Execution:
    fills = row.kind == ems_pb2.EXECUTION_KIND_FILL
    return Execution(
        position=row.position,
        execution_id=row.execution_id,
        fills=fills,
        buys=row.side == fix_pb2.SIDE_BUY,
        terminal=row.kind in ENDS or (fills and row.ord_status == fix_pb2.ORD_STATUS_FILLED),
        postable=row.kind not in UNPOSTED,
        account_id=row.account_id,
        order_id=row.order_id,
        symbol=row.symbol,
        quantity=row.last_shares,
        price=row.last_price,
        cum_quantity=row.cum_quantity,
        trade_date=date.fromisoformat(row.trade_date) if row.trade_date else None,
        trace_id=bytes.fromhex(row.trace_id),
        arrived_at_ns=arrived_at_ns,
    )
