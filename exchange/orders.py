"""The venue's words: requests as they came, an order as it stands, what was reported of it. No I/O, no clock."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from exchange.reasons import CancelRefusal, Refusal


class Side(StrEnum):
    """Side(54)."""

    BUY = "1"
    SELL = "2"


class OrdStatus(StrEnum):
    """OrdStatus(39)."""

    NEW = "0"
    PARTIALLY_FILLED = "1"
    FILLED = "2"
    DONE_FOR_DAY = "3"
    CANCELED = "4"
    REPLACED = "5"
    PENDING_CANCEL = "6"
    STOPPED = "7"
    REJECTED = "8"
    SUSPENDED = "9"
    PENDING_NEW = "A"
    CALCULATED = "B"
    EXPIRED = "C"
    PENDING_REPLACE = "E"


class ExecType(StrEnum):
    """ExecType(150)."""

    NEW = "0"
    PARTIAL_FILL = "1"
    FILL = "2"
    DONE_FOR_DAY = "3"
    CANCELED = "4"
    REPLACED = "5"
    PENDING_CANCEL = "6"
    STOPPED = "7"
    REJECTED = "8"
    SUSPENDED = "9"
    PENDING_NEW = "A"
    CALCULATED = "B"
    EXPIRED = "C"
    RESTATED = "D"
    PENDING_REPLACE = "E"


class TransType(StrEnum):
    """ExecTransType(20). A bust is a Cancel of an execution, not of an order."""

    NEW = "0"
    BUST = "1"
    CORRECT = "2"
    STATUS = "3"


class Restatement(StrEnum):
    """ExecRestatementReason(378): why the venue changed or ended an order unasked."""

    CORPORATE_ACTION = "0"
    RENEWAL = "1"
    VERBAL = "2"
    REPRICING = "3"
    BROKER_OPTION = "4"
    PARTIAL_DECLINE = "5"


MARKET: Final = "1"  # OrdType(40)
LIMIT: Final = "2"
STOP: Final = "3"
STOP_LIMIT: Final = "4"

DAY: Final = "0"  # TimeInForce(59)
GOOD_TILL_CANCEL: Final = "1"
AT_THE_OPENING: Final = "2"
IMMEDIATE_OR_CANCEL: Final = "3"
FILL_OR_KILL: Final = "4"
GOOD_TILL_DATE: Final = "6"

NO_ORDER_ID: Final = "NONE"  # OrderID(37) where the venue has no order to name


@dataclass(frozen=True, slots=True)
class NewOrder:
    """NewOrderSingle(D), each value as the counterparty wrote it; "" where it wrote none.

    `cl_ord_id` is "" only for an order that the counterparty gave by telephone."""

    cl_ord_id: str
    account: str
    symbol: str
    side: str
    ord_type: str
    time_in_force: str
    order_qty: str
    price: str = ""
    stop_px: str = ""
    expire_date: str = ""
    expire_time: str = ""
    traceparent: str = ""
    repeated: bool = False  # PossDupFlag(43) or PossResend(97)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """OrderCancelRequest(F)."""

    cl_ord_id: str
    orig_cl_ord_id: str
    symbol: str
    side: str
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class ReplaceRequest:
    """OrderCancelReplaceRequest(G). What may not be changed is given again, and must be the same."""

    cl_ord_id: str
    orig_cl_ord_id: str
    account: str
    symbol: str
    side: str
    ord_type: str
    time_in_force: str
    order_qty: str
    price: str = ""
    stop_px: str = ""
    expire_date: str = ""
    expire_time: str = ""
    order_id: str = ""


class Day(NamedTuple):
    """DayOrderQty(424), DayCumQty(425), DayAvgPx(426) of an order that lives longer than a day."""

    order_qty: int
    cum_qty: int
    avg_px: int


@dataclass(slots=True)
class Order:
    """What became of a request. `request` carries the terms in force and the ClOrdID(11) last accepted.

    `price` is None for a market order, `stop` for what is no stop order; `leaves` is 0 once the order is done. `ref` is
    its number for ever, `book_ref` the one under which it rests (0: it does not). Prices in 1/10,000 dollar, ns UTC.
    """

    comp_id: str
    order_id: str
    ref: int
    request: NewOrder
    last_name: str  # the newest ClOrdID of its chain that is not refused, pending ones included
    side: Side = Side.BUY
    quantity: int = 0
    price: int | None = None
    stop: int | None = None
    leaves: int = 0
    cum: int = 0
    notional: int = 0
    expires_ns: int | None = None
    accepted: bool = False
    replaced: bool = False
    ended: OrdStatus | None = None  # Canceled, Expired, Rejected, Done for day: whatever was filled before
    refusal: Refusal | None = None
    marks: set[OrdStatus] = field(default_factory=set)  # Done for day (GT orders), Calculated, Stopped, Suspended
    waiting: list[str] = field(default_factory=list)  # MsgType(35) of the pending requests: F, G
    asleep: bool = False  # a stop order whose price has not been reached
    book_ref: int = 0
    place: int = 0  # among those that wait at its price, in the book or for it: the lower is first
    displayed: bool = False
    base_cum: int = 0  # shares and notional of the days before this one
    base_notional: int = 0
    renewed_at: int = 0  # number of the report that renewed it; 0 on its first day
    split_at: int = 0  # likewise of the last stock split

    @property
    def is_open(self) -> bool:
        return self.accepted and self.ended is None and self.leaves > 0

    @property
    def average_price(self) -> int:
        """AvgPx(6), rounded half up to 1/10,000 dollar."""
        return average(self.notional, self.cum)

    @property
    def owner(self) -> str:
        """Orders of one owner do not trade with each other; "" is nobody."""
        return f"{self.comp_id}\x01{self.request.account}" if self.request.account else ""

    @property
    def status(self) -> OrdStatus:
        """Of all that is true of the order what must be told, by the precedence of FIX 4.2, Appendix D."""
        if self.waiting:
            return OrdStatus.PENDING_CANCEL if "F" in self.waiting else OrdStatus.PENDING_REPLACE
        if OrdStatus.DONE_FOR_DAY in self.marks or self.ended is OrdStatus.DONE_FOR_DAY:
            return OrdStatus.DONE_FOR_DAY
        if OrdStatus.CALCULATED in self.marks:
            return OrdStatus.CALCULATED
        if self.cum and self.cum == self.quantity:
            return OrdStatus.FILLED
        if self.marks:
            return OrdStatus.STOPPED if OrdStatus.STOPPED in self.marks else OrdStatus.SUSPENDED
        if self.ended:
            return self.ended
        if self.cum:
            return OrdStatus.PARTIALLY_FILLED
        if self.replaced:
            return OrdStatus.REPLACED
        return OrdStatus.NEW if self.accepted else OrdStatus.PENDING_NEW

    @property
    def day(self) -> Day | None:
        """None on the order's first day."""
        if not self.renewed_at:
            return None
        shares = self.cum - self.base_cum
        return Day(self.quantity - self.base_cum, shares, average(self.notional - self.base_notional, shares))

    def fill(self, shares: int, price: int) -> None:
        assert 0 < shares <= self.leaves, f"{self.order_id} has {self.leaves} left, not {shares}"
        self.leaves -= shares
        self.cum += shares
        self.notional += shares * price

    def end(self, status: OrdStatus) -> None:
        self.leaves, self.ended = 0, status


class Execution(NamedTuple):
    """One ExecutionReport(8) that changed something; the quantities and the price are those right after it.

    `number` counts the venue's reports from 1 without gaps, executions and cancel rejects; `exec_id` contains it.
    `trade_date` is YYYY-MM-DD. `match` is shared by the two sides of a trade, 0 where nothing traded.
    """

    number: int
    exec_id: str
    order: Order
    request: NewOrder
    orig_cl_ord_id: str
    trans_type: TransType
    exec_type: ExecType
    ord_status: OrdStatus
    exec_ref_id: str
    last_shares: int
    last_px: int
    cum_qty: int
    leaves_qty: int
    avg_px: int
    day: Day | None
    restatement: str
    refusal: Refusal | None
    text: str
    match: int
    trade_date: str
    transact_time_ns: int

    @property
    def comp_id(self) -> str:
        return self.order.comp_id


class CancelReject(NamedTuple):
    """OrderCancelReject(9). `order` is None where the venue has none to name; `response_to`: 1 cancel, 2 replace."""

    number: int
    comp_id: str
    order: Order | None
    cl_ord_id: str
    orig_cl_ord_id: str
    ord_status: OrdStatus
    response_to: str
    refusal: CancelRefusal
    text: str
    transact_time_ns: int


Report = Execution | CancelReject


def average(notional: int, shares: int) -> int:
    """Rounded half up; 0 for no shares."""
    return (2 * notional + shares) // (2 * shares) if shares else 0
