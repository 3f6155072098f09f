"""FIX 4.2 text to the venue's words and back; ems/FIX.md is the page. No I/O, no clock, no FIX engine.

What is encoded here is the message from MsgType(35) on, without the session's own fields, which the engine adds.
"""

from collections.abc import Mapping
from typing import Final

from exchange.orders import DAY, LIMIT, NO_ORDER_ID, Execution, NewOrder, Order, OrdStatus, Report
from exchange.reasons import Refusal
from exchange.times import trade_date, utc_timestamp
from runtime.units import to_decimal

SOH: Final = "\x01"

Fields = Mapping[str, str]


def read_fields(wire: str) -> Fields:
    """Tag -> value. Of a tag that stands twice the first counts: the header's, whatever a data field may contain."""
    parts = (part.partition("=") for part in reversed(wire.split(SOH)))
    return {tag: value for tag, _, value in parts}


def may_be_repeated(fields: Fields) -> bool:
    """PossDupFlag(43) or PossResend(97)."""
    return fields.get("43") == "Y" or fields.get("97") == "Y"


def new_order(fields: Fields) -> NewOrder:
    return NewOrder(
        cl_ord_id=fields["11"],
        account=fields.get("1", ""),
        symbol=fields["55"],
        side=fields["54"],
        ord_type=fields["40"],
        time_in_force=fields.get("59", DAY),
        order_qty=fields.get("38", ""),
        price=fields.get("44", ""),
        traceparent=fields.get("5500", ""),
    )


def execution_report(report: Report, possible_resend: bool) -> str:
    """ExecutionReport(8), ExecTransType(20) New."""
    done = report.execution
    refusal = done.order.refusal
    return (
        f"35=8{SOH}{f'97=Y{SOH}' if possible_resend else ''}"
        f"17={done.exec_id}{SOH}20=0{SOH}150={done.exec_type}{SOH}39={done.ord_status}{SOH}"
        f"{_identity(done.order)}{_refusal(refusal) if refusal else ''}{_quantities(done)}"
        f"60={utc_timestamp(done.transact_time_ns)}{SOH}75={done.trade_date.replace('-', '')}{SOH}"
        f"5501={report.received_ns}{SOH}5502={report.decided_ns}{SOH}"
    )


def status_report(order: Order, received_ns: int, decided_ns: int) -> str:
    """ExecutionReport(8), ExecTransType(20) Status: what is so, not what happened; hence ExecID(17) is 0."""
    refusal = _refusal(order.refusal) if order.refusal else ""
    return (
        f"{_status_head(order.status, received_ns, decided_ns)}{_identity(order)}{refusal}"
        f"32=0{SOH}31=0{SOH}151={order.leaves}{SOH}14={order.cum}{SOH}6={to_decimal(order.average_price)}{SOH}"
    )


def unknown_order_report(fields: Fields, received_ns: int, decided_ns: int) -> str:
    """The answer to an OrderStatusRequest(H) for an order that the counterparty never sent."""
    return (
        f"{_status_head(OrdStatus.REJECTED, received_ns, decided_ns)}{_refusal(Refusal.UNKNOWN_ORDER)}"
        f"37={NO_ORDER_ID}{SOH}11={fields['11']}{SOH}55={fields['55']}{SOH}54={fields['54']}{SOH}"
        f"{_optional('1', fields.get('1', ''))}32=0{SOH}31=0{SOH}151=0{SOH}14=0{SOH}6=0{SOH}"
    )


def business_reject(fields: Fields, text: str) -> str:
    """BusinessMessageReject(j), BusinessRejectReason(380) Other."""
    return f"35=j{SOH}45={fields['34']}{SOH}372={fields['35']}{SOH}380=0{SOH}58={text}{SOH}"


def _status_head(status: OrdStatus, received_ns: int, decided_ns: int) -> str:
    day = trade_date(decided_ns).replace("-", "")
    return (
        f"35=8{SOH}17=0{SOH}20=3{SOH}150={status}{SOH}39={status}{SOH}60={utc_timestamp(decided_ns)}{SOH}75={day}{SOH}"
        f"5501={received_ns}{SOH}5502={decided_ns}{SOH}"
    )


def _identity(order: Order) -> str:
    """What does not change in an order's life, as the counterparty wrote it."""
    request = order.request
    return (
        f"37={order.order_id}{SOH}11={request.cl_ord_id}{SOH}{_optional('1', request.account)}"
        f"55={request.symbol}{SOH}54={request.side}{SOH}{_optional('38', request.order_qty)}40={request.ord_type}{SOH}"
        f"{_optional('44', request.price) if request.ord_type == LIMIT else ''}59={request.time_in_force}{SOH}"
    )


def _quantities(done: Execution) -> str:
    return (
        f"32={done.last_shares}{SOH}31={to_decimal(done.last_px)}{SOH}151={done.leaves_qty}{SOH}"
        f"14={done.cum_qty}{SOH}6={to_decimal(done.avg_px)}{SOH}"
    )


def _refusal(refusal: Refusal) -> str:
    return f"103={refusal.code}{SOH}58={refusal.text}{SOH}"


def _optional(tag: str, value: str) -> str:
    return f"{tag}={value}{SOH}" if value else ""
