"""Messages of a venue on their way into the execution log: received, read, and told apart. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from ems import fix
from ems.fix import Report, Unreadable
from ems.routes import OpenRoutes, Route

SIDE_NAMES: Final = {code: name for name, code in fix.SIDES.items()}


@dataclass(frozen=True, slots=True)
class Received:
    """A message, copied in the FIX callback."""

    raw: str
    received_at_ns: int
    logon: int  # the number, in this process, of the logon in which it came
    in_order: bool = True  # its MsgSeqNum was the expected one
    resets_session: bool = False  # a Logon with ResetSeqNumFlag(141)=Y: numbers start again at 1
    problem: str = ""  # why it is a dead letter already


@dataclass(frozen=True, slots=True)
class NotSent:
    """We decided not to send a route."""

    route: Route
    reason: str
    decided_at_ns: int


Item = Received | NotSent


@dataclass(frozen=True, slots=True)
class ExecKey:
    exec_id: str
    trade_date: date | None


@dataclass(frozen=True, slots=True)
class SeqKey:
    epoch: int
    seq_num: int | None


Key = ExecKey | SeqKey


@dataclass(frozen=True, slots=True)
class Content:
    """What must be equal in two messages with one ExecID; else the venue used it twice."""

    cl_ord_id: str
    last_shares: int
    last_px: int


@dataclass(frozen=True, slots=True)
class Message:
    """A received message, read as far as it can be. It becomes a row when there is a report and no problem."""

    received: Received
    raw: str
    seq_num: int | None
    poss_dup: bool
    epoch: int
    report: Report | None
    problem: str

    @property
    def key(self) -> Key:
        """What makes it the same message when it comes again (two unique indexes in schema.sql)."""
        if self.report is not None and self.report.exec_id is not None:
            return ExecKey(self.report.exec_id, self.report.trade_date)
        return SeqKey(self.epoch, self.seq_num)

    @property
    def content(self) -> Content | None:
        """None for what has no ExecID: there the key is the message itself."""
        if self.report is None or self.report.exec_id is None:
            return None
        return Content(self.report.cl_ord_id, self.report.last_shares, self.report.last_px)

    def answers(self, logon: int) -> bool:
        """Whether it may answer a question asked in this logon. What was said before it comes again with PossDup."""
        is_status = self.report is not None and self.report.exec_trans_type == 3
        return is_status and not self.poss_dup and self.received.logon == logon


def read(batch: Iterable[Item], epoch: int, open_routes: OpenRoutes) -> list[Message]:
    """The messages of a batch; `epoch` is the session's before it."""
    messages = []
    for item in batch:
        if isinstance(item, Received):
            epoch += item.resets_session
            messages.append(_read(item, epoch, open_routes))
    return messages


def _read(received: Received, epoch: int, open_routes: OpenRoutes) -> Message:
    raw = fix.clean(received.raw)
    fields = fix.parse(raw)
    report, problem = None, received.problem
    if not problem and not received.resets_session:
        try:
            report, problem = _report(fields, open_routes)
        except Unreadable as unreadable:
            problem = str(unreadable)
        except Exception as failure:  # noqa: BLE001  one message must not stop those behind it
            problem = f"cannot be read: {failure!r}"
    return Message(received, raw, fix.msg_seq_num(fields), fields.get(43) == "Y", epoch, report, problem)


def _report(fields: fix.Fields, open_routes: OpenRoutes) -> tuple[Report, str]:
    report = fix.decode(fields)
    if report.exec_trans_type is not None:
        return report, ""
    cl_ord_id = open_routes.of_message(report.ref_seq_num) or report.cl_ord_id
    return replace(report, cl_ord_id=cl_ord_id), _inconclusive(report, cl_ord_id, open_routes)


def _inconclusive(refusal: Report, cl_ord_id: str, open_routes: OpenRoutes) -> str:
    """Why a Reject(3) or BusinessMessageReject(j) does not end an order; '' if it does."""
    opened = open_routes.get(cl_ord_id)
    if opened is None:
        return f"refuses our message {refusal.ref_seq_num}, which is no order under way: {refusal.text}"
    if not opened.refusal_is_final:
        return f"refuses a copy of {cl_ord_id}, and another copy may have arrived: {refusal.text}"
    return ""


def contradiction(report: Report, route: Route) -> str:
    """Why a report is not about this order, whatever its ClOrdID says: posting it would move the wrong shares."""
    if report.symbol and report.symbol != route.symbol:
        return f"the order's symbol is {route.symbol}, not {report.symbol[:32]}"
    if report.side and SIDE_NAMES.get(report.side) != route.side:
        return f"the order's side is {route.side}, not Side {report.side[:9]!r}"
    return ""
