"""FIX 4.2 fields to the venue's words and back; ems/FIX.md is the page. No I/O, no clock, no session.

What is encoded here is the message from MsgType(35) on, without the session's own fields.
"""

from collections.abc import Mapping
from typing import Final

from exchange.events import Phase
from exchange.orders import (
    DAY,
    LIMIT,
    NO_ORDER_ID,
    STOP_LIMIT,
    CancelReject,
    CancelRequest,
    Execution,
    NewOrder,
    Order,
    OrdStatus,
    ReplaceRequest,
    Report,
    TransType,
)
from exchange.reasons import Refusal
from exchange.times import trade_date, utc_timestamp
from runtime.units import to_decimal

SOH: Final = "\x01"
TRADING_SESSION: Final = "DAY"  # TradingSessionID(336): there is one

Fields = Mapping[str, str]


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
        stop_px=fields.get("99", ""),
        expire_date=fields.get("432", ""),
        expire_time=fields.get("126", ""),
        traceparent=fields.get("5500", ""),
        repeated=may_be_repeated(fields),
    )


def cancel_request(fields: Fields) -> CancelRequest:
    return CancelRequest(
        cl_ord_id=fields["11"],
        orig_cl_ord_id=fields["41"],
        symbol=fields["55"],
        side=fields["54"],
        order_id=fields.get("37", ""),
    )


def replace_request(fields: Fields) -> ReplaceRequest:
    return ReplaceRequest(
        cl_ord_id=fields["11"],
        orig_cl_ord_id=fields["41"],
        account=fields.get("1", ""),
        symbol=fields["55"],
        side=fields["54"],
        ord_type=fields["40"],
        time_in_force=fields.get("59", DAY),
        order_qty=fields.get("38", ""),
        price=fields.get("44", ""),
        stop_px=fields.get("99", ""),
        expire_date=fields.get("432", ""),
        expire_time=fields.get("126", ""),
        order_id=fields.get("37", ""),
    )


def report(said: Report, decided_ns: int, *, resent: bool = False, copied: bool = False) -> str:
    """ExecutionReport(8) or OrderCancelReject(9). `resent`: it may have been sent before, PossResend(97); `copied`: for
    a drop copy, with the owner's CompID as OnBehalfOfCompID(115)."""
    head = f"{f'97=Y{SOH}' if resent else ''}{f'115={said.comp_id}{SOH}' if copied else ''}"
    return _cancel_reject(said, head) if isinstance(said, CancelReject) else _execution(said, decided_ns, head)


def status_report(order: Order, asked: str, received_ns: int, decided_ns: int) -> str:
    """ExecutionReport(8), ExecTransType(20) Status: what is so, not what happened; hence ExecID(17) is 0.

    `asked`: the ClOrdID(11) that was asked for, which may be an earlier one of the order's, or a pending one."""
    name = order.request.cl_ord_id
    name, orig = (asked, name) if order.waiting and asked == order.last_name else (name, asked)
    refusal = f"103={order.refusal.code}{SOH}58={order.refusal.text}{SOH}" if order.refusal else ""
    day = order.day
    return (
        f"{_status_head(order.status, received_ns, decided_ns)}{refusal}37={order.order_id}{SOH}"
        f"{_terms(order.request, name, orig if orig != name else '')}32=0{SOH}31=0{SOH}151={order.leaves}{SOH}"
        f"14={order.cum}{SOH}6={to_decimal(order.average_price)}{SOH}"
        f"{f'424={day.order_qty}{SOH}425={day.cum_qty}{SOH}426={to_decimal(day.avg_px)}{SOH}' if day else ''}"
    )


def unknown_order_report(fields: Fields, received_ns: int, decided_ns: int) -> str:
    """The answer to an OrderStatusRequest(H) for an order that the counterparty never sent."""
    refusal = Refusal.UNKNOWN_ORDER
    return (
        f"{_status_head(OrdStatus.REJECTED, received_ns, decided_ns)}103={refusal.code}{SOH}58={refusal.text}{SOH}"
        f"37={NO_ORDER_ID}{SOH}11={fields['11']}{SOH}55={fields['55']}{SOH}54={fields['54']}{SOH}"
        f"{_optional('1', fields.get('1', ''))}32=0{SOH}31=0{SOH}151=0{SOH}14=0{SOH}6=0{SOH}"
    )


def business_reject(fields: Fields, reason: int, text: str) -> str:
    """BusinessMessageReject(j); `reason`: BusinessRejectReason(380)."""
    return f"35=j{SOH}45={fields['34']}{SOH}372={fields['35']}{SOH}380={reason}{SOH}58={text}{SOH}"


def security_status(symbol: str, halted: bool, last_px: int, req_id: str, now_ns: int) -> str:
    """SecurityStatus(f); `req_id`: SecurityStatusReqID(324). 17 is ready to trade, 2 a trading halt."""
    return (
        f"35=f{SOH}324={req_id}{SOH}55={symbol}{SOH}336={TRADING_SESSION}{SOH}326={2 if halted else 17}{SOH}"
        f"31={to_decimal(last_px)}{SOH}60={utc_timestamp(now_ns)}{SOH}"
    )


def trading_session_status(phase: Phase, req_id: str, unsolicited: bool) -> str:
    """TradingSessionStatus(h); `req_id`: TradSesReqID(335)."""
    return f"35=h{SOH}335={req_id}{SOH}336={TRADING_SESSION}{SOH}325={'Y' if unsolicited else 'N'}{SOH}340={phase}{SOH}"


def _execution(done: Execution, decided_ns: int, head: str) -> str:
    refusal, day = done.refusal, done.day
    return (
        f"35=8{SOH}{head}17={done.exec_id}{SOH}{_optional('19', done.exec_ref_id)}20={done.trans_type}{SOH}"
        f"150={done.exec_type}{SOH}39={done.ord_status}{SOH}37={done.order.order_id}{SOH}"
        f"{_terms(done.request, done.request.cl_ord_id, done.orig_cl_ord_id)}"
        f"{f'103={refusal.code}{SOH}' if refusal else ''}{_optional('378', done.restatement)}"
        f"{_optional('58', done.text)}"
        f"32={done.last_shares}{SOH}31={to_decimal(done.last_px)}{SOH}151={done.leaves_qty}{SOH}"
        f"14={done.cum_qty}{SOH}6={to_decimal(done.avg_px)}{SOH}"
        f"{f'424={day.order_qty}{SOH}425={day.cum_qty}{SOH}426={to_decimal(day.avg_px)}{SOH}' if day else ''}"
        f"60={utc_timestamp(done.transact_time_ns)}{SOH}75={done.trade_date.replace('-', '')}{SOH}"
        f"5501={done.transact_time_ns}{SOH}5502={decided_ns}{SOH}5504={done.number}{SOH}"
    )


def _cancel_reject(said: CancelReject, head: str) -> str:
    order_id = said.order.order_id if said.order else NO_ORDER_ID
    return (
        f"35=9{SOH}{head}37={order_id}{SOH}11={said.cl_ord_id}{SOH}41={said.orig_cl_ord_id}{SOH}"
        f"39={said.ord_status}{SOH}60={utc_timestamp(said.transact_time_ns)}{SOH}434={said.response_to}{SOH}"
        f"102={said.refusal.code}{SOH}58={said.text}{SOH}5504={said.number}{SOH}"
    )


def _status_head(status: OrdStatus, received_ns: int, decided_ns: int) -> str:
    day = trade_date(decided_ns).replace("-", "")
    return (
        f"35=8{SOH}17=0{SOH}20={TransType.STATUS}{SOH}150={status}{SOH}39={status}{SOH}60={utc_timestamp(decided_ns)}{SOH}"
        f"75={day}{SOH}5501={received_ns}{SOH}5502={decided_ns}{SOH}"
    )


def _terms(request: NewOrder, name: str, orig: str) -> str:
    """The order as the counterparty wrote it, or as it was replaced or restated since."""
    priced = request.ord_type in (LIMIT, STOP_LIMIT)
    return (
        f"{_optional('11', name)}{_optional('41', orig)}{_optional('1', request.account)}"
        f"55={request.symbol}{SOH}54={request.side}{SOH}{_optional('38', request.order_qty)}40={request.ord_type}{SOH}"
        f"{_optional('44', request.price) if priced else ''}{_optional('99', request.stop_px)}"
        f"59={request.time_in_force}{SOH}"
        f"{_optional('432', request.expire_date)}{_optional('126', request.expire_time)}"
    )


def _optional(tag: str, value: str) -> str:
    return f"{tag}={value}{SOH}" if value else ""
