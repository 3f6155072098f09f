"""What has become of each route, and what to do about it next. Pure: no I/O, and the time is an argument.

Whether an order was sent is known only to the process that sent it, and only while it lives; what a venue has got, only
to the venue. So every open route is at a stage that says what is certain, and what is not certain is asked about.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice
from typing import Any, Final

from ems import reasons
from runtime.telemetry import format_traceparent, span_id

BY_EARLIER_PROCESSES: Final = 2  # how often they sent a route is not known: as if several times
ACTIONS_MAX: Final = 200  # at once, so that the executions of these orders are not kept waiting by the next ones


@dataclass(frozen=True, slots=True)
class Route:
    """One request for a venue, as the log `routes` has it. Prices in 1/10,000 dollar, times in ns UTC."""

    position: int
    cl_ord_id: str
    order_id: str
    account_id: str
    symbol: str
    side: str
    ord_type: str
    time_in_force: str
    quantity: int
    price: int
    send_by_ns: int
    trace_id: bytes
    parent_span_id: bytes | None

    @property
    def traceparent(self) -> str:
        return format_traceparent(self.trace_id, self.parent_span_id or span_id("route", self.cl_ord_id))


COLUMNS: Final = tuple(Route.__dataclass_fields__)


def from_row(row: Any) -> Route:
    """A row of the table `routes`."""
    return Route(*(row[column] for column in COLUMNS))


class Stage(Enum):
    """What is certain about an open route."""

    WAITING = auto()  # QuickFIX never had it
    SENT = auto()  # QuickFIX has it; no answer yet
    IN_DOUBT = auto()  # the venue may have it or not; no answer yet
    ABSENT = auto()  # the venue does not have it, and nothing is under way to it
    LIVE = auto()  # the venue has it
    REFUSED = auto()  # by us; it must never be sent any more


class Event(Enum):
    """What happens to an open route."""

    HANDED = auto()  # to QuickFIX
    CUT = auto()  # a new logon: what was under way before may have arrived or not
    SILENCE = auto()  # no answer for too long, or one that tells nothing about the order
    KNOWN = auto()  # the venue said something that it says only about orders it has
    UNKNOWN = auto()  # the venue answered our latest question: it has no such order
    DROPPED = auto()  # we decide not to send it


# What is not here changes nothing. Once the venue is known to have an order, only its own messages move it.
TRANSITIONS: Final = {
    (Stage.WAITING, Event.HANDED): Stage.SENT,
    (Stage.WAITING, Event.DROPPED): Stage.REFUSED,
    (Stage.WAITING, Event.KNOWN): Stage.LIVE,  # cannot be; but then it must not be sent
    (Stage.SENT, Event.CUT): Stage.IN_DOUBT,
    (Stage.SENT, Event.SILENCE): Stage.IN_DOUBT,
    (Stage.SENT, Event.KNOWN): Stage.LIVE,
    (Stage.IN_DOUBT, Event.KNOWN): Stage.LIVE,
    (Stage.IN_DOUBT, Event.UNKNOWN): Stage.ABSENT,
    (Stage.ABSENT, Event.CUT): Stage.IN_DOUBT,  # the venue may ask again for what it had not got: it may have it now
    (Stage.ABSENT, Event.HANDED): Stage.SENT,
    (Stage.ABSENT, Event.DROPPED): Stage.REFUSED,
    (Stage.ABSENT, Event.KNOWN): Stage.LIVE,
}


@dataclass(frozen=True, slots=True)
class Now:
    """`utc_ns` is for send_by; `steady_ns` never jumps and is for waiting."""

    utc_ns: int
    steady_ns: int


@dataclass(slots=True)
class OpenRoute:
    """A route that is not done, in memory. Only OpenRoutes changes it."""

    route: Route
    stage: Stage
    sent_at_ns: int | None = None  # the request that its next execution row answers first
    handed_ns: int = 0  # steady
    asked_ns: int | None = None  # steady; the latest OrderStatusRequest of this logon
    asked: int = 0  # questions of this logon, asked after the order was last handed over, not answered yet
    outdated: int = 0  # the same, asked before it was: their answers tell nothing about what was sent since
    transmissions: int = 0  # of its NewOrderSingle, resends included
    seq_nums: list[int] = field(default_factory=list)  # MsgSeqNum(34) of each
    refusal: str = ""  # why the venue's session refused a copy of it

    @property
    def refusal_is_final(self) -> bool:
        """A refused message was not processed. But when there were several copies, another one may have been."""
        return self.transmissions == 1 and self.stage in (Stage.SENT, Stage.IN_DOUBT)


@dataclass(frozen=True, slots=True)
class Ask:
    """Send OrderStatusRequest(H)."""

    open: OpenRoute


@dataclass(frozen=True, slots=True)
class Send:
    """Send NewOrderSingle(D)."""

    open: OpenRoute
    possible_resend: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """Never send it; write a NOT_SENT row."""

    open: OpenRoute
    reason: str


Action = Ask | Send | Drop


class OpenRoutes:
    """All routes of one venue that are not done, by stage."""

    def __init__(self, status_after_ns: int) -> None:
        self._status_after_ns = status_after_ns
        self._all: dict[str, OpenRoute] = {}
        self._at: dict[Stage, dict[str, OpenRoute]] = {stage: {} for stage in Stage}
        self._by_seq_num: dict[int, str] = {}

    def add(self, route: Route, stage: Stage) -> None:
        opened = OpenRoute(route, stage, transmissions=0 if stage is Stage.WAITING else BY_EARLIER_PROCESSES)
        self._all[route.cl_ord_id] = self._at[stage][route.cl_ord_id] = opened

    def get(self, cl_ord_id: str) -> OpenRoute | None:
        return self._all.get(cl_ord_id)

    def count(self, stage: Stage) -> int:
        return len(self._at[stage])

    def of_message(self, seq_num: int | None) -> str:
        """The ClOrdID of our NewOrderSingle with that number, '' if it is not known."""
        return "" if seq_num is None else self._by_seq_num.get(seq_num, "")

    def cut(self) -> None:
        """A new logon: everything under way is in doubt, and questions asked before it count no more."""
        unanswered = [*self._at[Stage.SENT].values(), *self._at[Stage.IN_DOUBT].values()]
        for opened in (*unanswered, *self._at[Stage.ABSENT].values()):
            opened.asked = opened.outdated = 0
            opened.asked_ns = None
            self._move(opened, Event.CUT)

    def transmitted(self, opened: OpenRoute, seq_num: int) -> None:
        """A NewOrderSingle is about to go out under this number; called from whichever thread sends it."""
        opened.transmissions += 1
        opened.seq_nums.append(seq_num)
        self._by_seq_num[seq_num] = opened.route.cl_ord_id

    def handed(self, opened: OpenRoute, now: Now) -> None:
        opened.outdated += opened.asked
        opened.asked = 0
        opened.asked_ns = None
        opened.handed_ns = now.steady_ns
        opened.sent_at_ns = now.utc_ns
        self._move(opened, Event.HANDED)

    def asked(self, opened: OpenRoute, now: Now) -> None:
        opened.asked += 1
        opened.asked_ns = now.steady_ns

    def known(self, cl_ord_id: str, *, answers: bool) -> None:
        """The venue has the order. `answers`: it said so as answer to a question of the present logon."""
        opened = self._all.get(cl_ord_id)
        if opened is not None:
            if answers:
                self._answered(opened)
            self._move(opened, Event.KNOWN)

    def unknown(self, cl_ord_id: str, *, answers: bool) -> None:
        """The venue says that it has no such order. It counts only as answer to a question that was asked, in this
        logon, after the order was last handed over: FIX processes in sequence, so the order would have come before the
        question. Any other such answer is older than the order it speaks of."""
        opened = self._all.get(cl_ord_id)
        if opened is not None and answers and self._answered(opened):
            self._move(opened, Event.UNKNOWN)

    def _answered(self, opened: OpenRoute) -> bool:
        """Questions are answered in order. Whether this is the answer to one that counts."""
        if opened.outdated:
            opened.outdated -= 1
            return False
        counts = opened.asked > 0
        opened.asked -= counts
        return counts

    def copy_refused(self, cl_ord_id: str, text: str) -> None:
        """The session refused a copy; whether another one arrived has to be asked."""
        opened = self._all.get(cl_ord_id)
        if opened is not None:
            opened.refusal = text
            self._move(opened, Event.SILENCE)

    def first_answer_recorded(self, cl_ord_id: str) -> None:
        opened = self._all.get(cl_ord_id)
        if opened is not None:
            opened.sent_at_ns = None

    def dropped(self, opened: OpenRoute) -> None:
        self._move(opened, Event.DROPPED)

    def done(self, cl_ord_id: str) -> None:
        opened = self._all.pop(cl_ord_id, None)
        if opened is not None:
            del self._at[opened.stage][cl_ord_id]
            for seq_num in opened.seq_nums:
                self._by_seq_num.pop(seq_num, None)

    def _move(self, opened: OpenRoute, event: Event) -> None:
        stage = TRANSITIONS.get((opened.stage, event), opened.stage)
        if stage is not opened.stage:
            cl_ord_id = opened.route.cl_ord_id
            del self._at[opened.stage][cl_ord_id]
            opened.stage = stage
            self._at[stage][cl_ord_id] = opened

    def decide(self, now: Now, *, linked: bool, answers_wait: bool) -> list[Action]:
        """What to do now, in this order. `linked`: the session is logged on and the venue was heard of lately.
        `answers_wait`: messages of the venue are not committed yet, so silence proves nothing."""
        drops: list[Action] = list(islice(self._drops(now), ACTIONS_MAX))
        if not linked:
            return drops
        if not answers_wait:
            self._notice_silence(now)
        if self._at[Stage.IN_DOUBT]:
            # New orders wait: what is found absent goes first, so that orders arrive as they were accepted.
            return drops + list(islice(self._questions(now), ACTIONS_MAX))
        return drops + list(islice(self._sends(now), ACTIONS_MAX))

    def _drops(self, now: Now) -> Iterator[Drop]:
        for opened in self._at[Stage.WAITING].values():
            if now.utc_ns > opened.route.send_by_ns:
                yield Drop(opened, reasons.TOO_LATE)
        for opened in self._at[Stage.ABSENT].values():
            if opened.refusal:  # sent again, it would be refused again
                yield Drop(opened, reasons.REFUSED_BY_SESSION.format(text=opened.refusal))
            elif now.utc_ns > opened.route.send_by_ns:
                yield Drop(opened, reasons.NEVER_ARRIVED)

    def _notice_silence(self, now: Now) -> None:
        overdue = []
        for opened in self._at[Stage.SENT].values():  # in the order in which they were handed over
            if now.steady_ns - opened.handed_ns < self._status_after_ns:
                break
            overdue.append(opened)
        for opened in overdue:
            self._move(opened, Event.SILENCE)

    def _questions(self, now: Now) -> Iterator[Ask]:
        for opened in sorted(self._at[Stage.IN_DOUBT].values(), key=_position):
            if opened.asked_ns is None or now.steady_ns - opened.asked_ns >= self._status_after_ns:
                yield Ask(opened)

    def _sends(self, now: Now) -> Iterator[Send]:
        for opened in sorted(self._at[Stage.ABSENT].values(), key=_position):
            if still_in_time(opened, now) and not opened.refusal:
                yield Send(opened, possible_resend=True)
        for opened in self._at[Stage.WAITING].values():
            if still_in_time(opened, now):
                yield Send(opened, possible_resend=False)


def _position(opened: OpenRoute) -> int:
    return opened.route.position


def still_in_time(opened: OpenRoute, now: Now) -> bool:
    return now.utc_ns <= opened.route.send_by_ns


def may_be_resent(opened: OpenRoute | None, now: Now) -> bool:
    """Whether a NewOrderSingle that the venue's session asks for again should go. No, when it is certain that it is not
    needed: the route is done (None) or refused; the venue has the order; or send_by has passed, and then the question
    that follows each logon finds out whether an earlier copy arrived."""
    if opened is None or opened.stage in (Stage.LIVE, Stage.REFUSED):
        return False
    return still_in_time(opened, now)
