"""FIX 4.2 as text: requests out of routes, reports out of messages. Pure; the dialect is described in FIX.md."""

import re
from calendar import timegm
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from ems.routes import Route
from runtime import calendar
from runtime.units import MAX, to_decimal, to_units

SOH: Final = "\x01"
TEXT_CHARACTERS_MAX: Final = 1_000  # of Text(58) in a row of the log; `raw` has all of it
ID_CHARACTERS_MAX: Final = 128
UNKNOWN_ORDER: Final = 5  # OrdRejReason(103)
TRACEPARENT: Final = 5500
VENUE_RECEIVED: Final = 5501
VENUE_DECIDED: Final = 5502

SIDES: Final = {"BUY": "1", "SELL": "2"}
ORD_TYPES: Final = {"MARKET": "1", "LIMIT": "2"}
TIMES_IN_FORCE: Final = {"DAY": "0", "GOOD_TILL_CANCEL": "1", "IMMEDIATE_OR_CANCEL": "3"}

Fields = dict[int, str]

_DECIMAL: Final = re.compile(r"\d{1,19}(?:\.\d{0,19})?", re.ASCII)  # no sign, no exponent: FIX has none
_TIMESTAMP: Final = re.compile(r"(\d{4})(\d\d)(\d\d)-([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d{1,9}))?", re.ASCII)

_EXEC_TYPES: Final = {
    "0": "NEW",
    "1": "FILL",
    "2": "FILL",
    "3": "DONE_FOR_DAY",
    "4": "CANCELED",
    "5": "REPLACED",
    "6": "PENDING_CANCEL",
    "7": "STATUS",  # stopped, suspended, calculated, restated: they tell, and move nothing of ours
    "8": "REJECTED",
    "9": "STATUS",
    "A": "PENDING_NEW",
    "B": "STATUS",
    "C": "EXPIRED",
    "D": "STATUS",
    "E": "PENDING_REPLACE",
}
# (ExecTransType(20), ExecType(150)), or ("", MsgType(35)) for what is no ExecutionReport -> kind of the row.
KINDS: Final = {
    **{("0", exec_type): kind for exec_type, kind in _EXEC_TYPES.items()},
    **{("1", exec_type): "BUST" for exec_type in _EXEC_TYPES},
    **{("2", exec_type): "CORRECT" for exec_type in _EXEC_TYPES},
    **{("3", exec_type): "STATUS" for exec_type in _EXEC_TYPES},
    ("", "3"): "REJECTED",
    ("", "j"): "REJECTED",
}
TERMINAL: Final = frozenset("248C")  # OrdStatus(39): Filled, Canceled, Rejected, Expired


class Unreadable(Exception):
    """The message cannot become a row of the execution log; the text says why."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one message of the venue says. Quantities in shares, prices in 1/10,000 dollar, times in ns UTC."""

    kind: str
    cl_ord_id: str  # '' when only ref_seq_num tells
    ref_seq_num: int | None = None  # RefSeqNum(45): the number of our refused message
    exec_id: str | None = None  # None for status reports and for what has none
    exec_ref_id: str | None = None
    exec_trans_type: int | None = None
    ord_status: str | None = None
    symbol: str = ""
    side: str = ""
    last_shares: int = 0
    last_px: int = 0
    cum_qty: int = 0
    leaves_qty: int = 0
    text: str = ""
    reject_reason: int | None = None
    trade_date: date | None = None
    transact_time_ns: int | None = None
    venue_received_ns: int | None = None
    venue_decided_ns: int | None = None

    @property
    def is_unknown_order(self) -> bool:
        """The venue answers a status request: it has no such order."""
        return self.exec_trans_type == 3 and self.ord_status == "8" and self.reject_reason == UNKNOWN_ORDER

    @property
    def ends_the_route(self) -> bool:
        return self.kind != "STATUS" and self.ord_status in TERMINAL


def new_order(route: Route, now_ns: int, *, possible_resend: bool) -> str:
    """NewOrderSingle(D), without what the session fills in. PossResend(97)=Y: the venue may have it already."""
    return _message(
        "35=D",
        "97=Y" if possible_resend else "",
        f"11={route.cl_ord_id}",
        f"1={route.account_id}",
        "21=1",  # HandlInst: automated, no intervention
        f"55={route.symbol}",
        f"54={SIDES[route.side]}",
        f"60={utc_timestamp(now_ns)}",
        f"38={route.quantity}",
        f"40={ORD_TYPES[route.ord_type]}",
        f"44={to_decimal(route.price)}" if route.ord_type == "LIMIT" else "",
        f"59={TIMES_IN_FORCE[route.time_in_force]}",
        f"{TRACEPARENT}={route.traceparent}",
    )


def status_request(route: Route) -> str:
    """OrderStatusRequest(H)."""
    return _message("35=H", f"11={route.cl_ord_id}", f"55={route.symbol}", f"54={SIDES[route.side]}")


def _message(*parts: str) -> str:
    # QuickFIX computes BodyLength(9) and CheckSum(10) anew.
    return SOH.join(("8=FIX.4.2", "9=0", *filter(None, parts), "10=000", ""))


def utc_timestamp(now_ns: int) -> str:
    """UTCTimestamp with milliseconds."""
    seconds, rest = divmod(now_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%d-%H:%M:%S}.{rest // 1_000_000:03d}"


def clean(raw: str) -> str:
    """The message as PostgreSQL can store it: bytes that are no UTF-8, and NUL, become U+FFFD."""
    if raw.isascii() and "\0" not in raw:
        return raw
    return to_bytes(raw).decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def to_bytes(raw: str) -> bytes:
    """The bytes that came: QuickFIX hands over what is no UTF-8 as surrogates."""
    return raw.encode("utf-8", "surrogateescape")


def parse(raw: str) -> Fields:
    """Tag -> value; the first one counts. What is no tag=value is left out."""
    fields: Fields = {}
    for part in raw.split(SOH):
        tag, separator, value = part.partition("=")
        if separator and tag.isascii() and tag.isdecimal() and len(tag) < 10:
            fields.setdefault(int(tag), value)
    return fields


def msg_seq_num(fields: Fields) -> int | None:
    """MsgSeqNum(34)."""
    try:
        return _integer(fields, 34)
    except Unreadable:
        return None


def decode(fields: Fields) -> Report:
    """The report in a message of the venue. Unreadable if it has no place in the execution log."""
    msg_type = fields.get(35, "")
    if msg_type == "8":
        return _execution_report(fields)
    if ("", msg_type) in KINDS:
        return _refusal(fields, msg_type)
    raise Unreadable(f"MsgType {msg_type[:ID_CHARACTERS_MAX]!r} has no place in the execution log")


def _execution_report(fields: Fields) -> Report:
    trans_type, exec_type = fields.get(20, ""), fields.get(150, "")
    kind = KINDS.get((trans_type, exec_type)) if trans_type else None
    if kind is None:
        raise Unreadable(f"ExecTransType {trans_type[:9]!r} with ExecType {exec_type[:9]!r} means nothing in FIX 4.2")
    is_status = trans_type == "3"
    report = Report(
        kind=kind,
        cl_ord_id=_identifier(fields, 11) or "",
        exec_id=None if is_status else _identifier(fields, 17),
        exec_ref_id=_identifier(fields, 19),
        exec_trans_type=int(trans_type),
        ord_status=_ord_status(fields),
        symbol=fields.get(55, ""),
        side=fields.get(54, ""),
        last_shares=_quantity(fields, 32),
        last_px=_price(fields, 31),
        cum_qty=_quantity(fields, 14),
        leaves_qty=_quantity(fields, 151),
        text=fields.get(58, "")[:TEXT_CHARACTERS_MAX],
        reject_reason=_small(fields, 103),
        trade_date=_trade_date(fields),
        transact_time_ns=to_ns(fields.get(60, "")),
        venue_received_ns=_optional(fields, VENUE_RECEIVED),
        venue_decided_ns=_optional(fields, VENUE_DECIDED),
    )
    _refuse_senseless(report)
    return report


def _refuse_senseless(report: Report) -> None:
    if report.kind in ("FILL", "CORRECT") and not (report.last_shares and report.last_px):
        raise Unreadable(f"a {report.kind} without LastShares and LastPx")
    if report.kind in ("FILL", "BUST", "CORRECT") and report.exec_id is None:
        raise Unreadable(f"a {report.kind} without ExecID: it could not be told from the same one again")
    if report.kind in ("FILL", "BUST", "CORRECT") and report.trade_date is None:
        raise Unreadable(f"a {report.kind} whose trade date is not in the calendar")
    if report.kind in ("BUST", "CORRECT") and report.exec_ref_id is None:
        raise Unreadable(f"a {report.kind} without ExecRefID")


def _refusal(fields: Fields, msg_type: str) -> Report:
    """Reject(3) or BusinessMessageReject(j) of one of our messages. 379 is BusinessRejectRefID."""
    text = fields.get(58, "")[:TEXT_CHARACTERS_MAX]
    if fields.get(372, "D") != "D":  # RefMsgType
        raise Unreadable(f"the venue refused our message of type {fields[372][:9]!r}: {text}")
    return Report(
        kind=KINDS["", msg_type],
        cl_ord_id=(_identifier(fields, 379) or "") if msg_type == "j" else "",
        ref_seq_num=_optional(fields, 45),
        ord_status="8",
        text=text,
        transact_time_ns=to_ns(fields.get(52, "")),  # it has no TransactTime, but SendingTime
    )


def _identifier(fields: Fields, tag: int) -> str | None:
    """None when missing, empty or 0, which FIX 4.2 gives for "none"."""
    value = fields.get(tag, "")
    if len(value) > ID_CHARACTERS_MAX:
        raise Unreadable(f"tag {tag} has {len(value)} characters")
    return None if value in ("", "0") else value


def _ord_status(fields: Fields) -> str:
    value = fields.get(39, "")
    if len(value) != 1:
        raise Unreadable(f"OrdStatus {value[:9]!r} is none of FIX 4.2")
    return value


def _integer(fields: Fields, tag: int) -> int:
    value = fields.get(tag, "")
    if not (value.isascii() and value.isdecimal() and len(value) < 20 and int(value) <= MAX):
        raise Unreadable(f"tag {tag} is no number: {value[:32]!r}")
    return int(value)


def _optional(fields: Fields, tag: int) -> int | None:
    try:
        return _integer(fields, tag)
    except Unreadable:
        return None


def _small(fields: Fields, tag: int) -> int | None:
    value = _optional(fields, tag)
    return value if value is None or value < 2**31 else None


def _quantity(fields: Fields, tag: int) -> int:
    """Qty: FIX 4.2 allows decimals, shares do not. Missing means 0."""
    value = fields.get(tag, "0")
    whole, _, rest = value.partition(".")
    if not _DECIMAL.fullmatch(value) or rest.strip("0") or int(whole) > MAX:
        raise Unreadable(f"tag {tag} is no number of whole shares: {value[:32]!r}")
    return int(whole)


def _price(fields: Fields, tag: int) -> int:
    """Price in 1/10,000 dollar. Missing means 0."""
    value = fields.get(tag, "0")
    if not _DECIMAL.fullmatch(value):
        raise Unreadable(f"tag {tag} is no price: {value[:32]!r}")
    try:
        return to_units(value)
    except ValueError as problem:
        raise Unreadable(f"tag {tag} is no price: {problem}") from None


def _trade_date(fields: Fields) -> date | None:
    """TradeDate(75), else that of TransactTime(60), OrigSendingTime(122) or SendingTime(52).

    The message's own time, which stays the same when it comes again; never the receipt's.
    """
    day = _date(fields.get(75, ""))
    told_ns = next(filter(None, (to_ns(fields.get(tag, "")) for tag in (60, 122, 52))), None)
    try:
        if day is None and told_ns is not None:
            day = calendar.trade_date(told_ns)
        if day is not None:
            calendar.is_exchange_day(day)  # ValueError outside the calendar: it could not be settled
    except ValueError:
        return None
    return day


def _date(text: str) -> date | None:
    """LocalMktDate, YYYYMMDD."""
    if not (len(text) == 8 and text.isascii() and text.isdecimal()):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def to_ns(text: str) -> int | None:
    """UTCTimestamp, YYYYMMDD-HH:MM:SS with up to nine decimals. None if it is none."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction = match.groups(default="0")
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    seconds = timegm((int(year), int(month), int(day), int(hour), int(minute), int(second)))
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0"))
