"""The venue's words: a request as it came, an order as it stands, an execution as it was reported. No I/O, no clock."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exchange.reasons import Refusal


class Side(StrEnum):
    """Side(54)."""

    BUY = "1"
    SELL = "2"


class OrdStatus(StrEnum):
    """OrdStatus(39)."""

    NEW = "0"
    PARTIALLY_FILLED = "1"
    FILLED = "2"
    CANCELED = "4"
    REJECTED = "8"


class ExecType(StrEnum):
    """ExecType(150). ExecTransType(20) is New for all of them."""

    NEW = "0"
    PARTIAL_FILL = "1"
    FILL = "2"
    CANCELED = "4"
    REJECTED = "8"


MARKET: Final = "1"  # OrdType(40)
LIMIT: Final = "2"
DAY: Final = "0"  # TimeInForce(59)
GOOD_TILL_CANCEL: Final = "1"
IMMEDIATE_OR_CANCEL: Final = "3"

NO_ORDER_ID: Final = "NONE"  # OrderID(37) where the venue has no order to name


@dataclass(frozen=True, slots=True)
class NewOrder:
    """NewOrderSingle(D), each value as the counterparty wrote it; "" where it wrote none."""

    cl_ord_id: str
    account: str
    symbol: str
    side: str
    ord_type: str
    time_in_force: str
    order_qty: str
    price: str
    traceparent: str


@dataclass(slots=True)
class Order:
    """What became of a request. `price` is None for a market order; `leaves` is 0 once the order is done."""

    comp_id: str
    order_id: str
    ref: int
    request: NewOrder
    price: int | None
    leaves: int
    cum: int = 0
    notional: int = 0
    status: OrdStatus = OrdStatus.NEW
    refusal: Refusal | None = None

    @property
    def average_price(self) -> int:
        """AvgPx(6), rounded half up to 1/10,000 dollar."""
        return (2 * self.notional + self.cum) // (2 * self.cum) if self.cum else 0

    def fill(self, shares: int, price: int) -> None:
        assert 0 < shares <= self.leaves, f"{self.order_id} has {self.leaves} left, not {shares}"
        self.leaves -= shares
        self.cum += shares
        self.notional += shares * price
        self.status = OrdStatus.PARTIALLY_FILLED if self.leaves else OrdStatus.FILLED


@dataclass(frozen=True, slots=True)
class Execution:
    """One ExecutionReport(8) that changed something; the quantities and the price are those right after it.

    `number` counts the venue's executions from 1 without gaps; `exec_id` contains it. `trade_date` is YYYY-MM-DD.
    """

    number: int
    exec_id: str
    order: Order
    exec_type: ExecType
    ord_status: OrdStatus
    last_shares: int
    last_px: int
    cum_qty: int
    leaves_qty: int
    avg_px: int
    trade_date: str
    transact_time_ns: int


@dataclass(frozen=True, slots=True)
class Report:
    """An execution, and for the trace when the request that led to it came and when it was decided."""

    execution: Execution
    received_ns: int
    decided_ns: int
