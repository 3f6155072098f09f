"""Rows of the execution log and of the dead letters, in the order of their tables' columns."""

from dataclasses import dataclass, fields
from datetime import date
from operator import attrgetter
from typing import Final

from ems.fix import Report
from ems.routes import Route
from runtime import telemetry
from runtime.ids import execution_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A row of the table `executions`; schema.sql says what each column means."""

    log_partition: int
    position: int
    kind: str
    venue: str
    session: str | None = None
    epoch: int | None = None
    msg_seq_num: int | None = None
    poss_dup: bool | None = None
    trade_date: date | None = None
    exec_id: str | None = None
    exec_ref_id: str | None = None
    exec_trans_type: int | None = None
    ord_status: str | None = None
    cl_ord_id: str
    order_id: str
    account_id: str
    symbol: str
    side: str
    last_shares: int = 0
    last_px: int = 0
    cum_qty: int = 0
    leaves_qty: int = 0
    text: str = ""
    reject_reason: int | None = None
    transact_time_ns: int | None = None
    venue_received_ns: int | None = None
    venue_decided_ns: int | None = None
    sent_at_ns: int | None = None
    received_at_ns: int
    recorded_at_ns: int
    trace_id: bytes
    span_id: bytes
    raw: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row of the table `dead_letters`: a message that could not be applied, and why."""

    venue: str
    session: str
    epoch: int
    msg_seq_num: int | None
    reason: str
    raw: bytes
    received_at_ns: int
    recorded_at_ns: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row goes, and when."""

    partition: int
    position: int
    venue: str
    now_ns: int

    @property
    def span_id(self) -> bytes:
        return telemetry.span_id("fix in", execution_id(self.partition, self.position))


@dataclass(frozen=True, slots=True)
class Origin:
    """The message that a row comes from."""

    session: str
    epoch: int
    msg_seq_num: int | None
    poss_dup: bool
    received_at_ns: int
    raw: str


EXECUTION_COLUMNS: Final = tuple(column.name for column in fields(Execution))
DEAD_LETTER_COLUMNS: Final = tuple(column.name for column in fields(DeadLetter))
execution_record = attrgetter(*EXECUTION_COLUMNS)
dead_letter_record = attrgetter(*DEAD_LETTER_COLUMNS)


def of_report(place: Place, origin: Origin, report: Report, route: Route, sent_at_ns: int | None) -> Execution:
    """What the venue said about a route. Whose order it is, the route tells, not the message."""
    return Execution(
        log_partition=place.partition,
        position=place.position,
        kind=report.kind,
        venue=place.venue,
        session=origin.session,
        epoch=origin.epoch,
        msg_seq_num=origin.msg_seq_num,
        poss_dup=origin.poss_dup,
        trade_date=report.trade_date,
        exec_id=report.exec_id,
        exec_ref_id=report.exec_ref_id,
        exec_trans_type=report.exec_trans_type,
        ord_status=report.ord_status,
        cl_ord_id=route.cl_ord_id,
        order_id=route.order_id,
        account_id=route.account_id,
        symbol=route.symbol,
        side=route.side,
        last_shares=report.last_shares,
        last_px=report.last_px,
        cum_qty=report.cum_qty,
        leaves_qty=report.leaves_qty,
        text=report.text,
        reject_reason=report.reject_reason,
        transact_time_ns=report.transact_time_ns,
        venue_received_ns=report.venue_received_ns,
        venue_decided_ns=report.venue_decided_ns,
        sent_at_ns=sent_at_ns,
        received_at_ns=origin.received_at_ns,
        recorded_at_ns=place.now_ns,
        trace_id=route.trace_id,
        span_id=place.span_id,
        raw=origin.raw,
    )


def not_sent(place: Place, route: Route, reason: str, decided_at_ns: int) -> Execution:
    """The EMS itself says that the order never reached a venue."""
    return Execution(
        log_partition=place.partition,
        position=place.position,
        kind="NOT_SENT",
        venue=place.venue,
        cl_ord_id=route.cl_ord_id,
        order_id=route.order_id,
        account_id=route.account_id,
        symbol=route.symbol,
        side=route.side,
        text=reason,
        received_at_ns=decided_at_ns,
        recorded_at_ns=place.now_ns,
        trace_id=route.trace_id,
        span_id=place.span_id,
    )
