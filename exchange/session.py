"""One counterparty's FIX 4.2 session: what is answered, what asked for, what the application's. No socket, no clock.

The caller hands in messages and the time, and writes `outbox` to the connection once the store is flushed. A message
ahead of its turn is dropped and asked for: the answer brings everything from the gap on, so nothing has to be kept.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from exchange.dictionary import (
    COMP_ID_PROBLEM,
    REQUIRED_TAG_MISSING,
    SENDING_TIME_PROBLEM,
    VALUE_INCORRECT,
    Dictionary,
    Refusal,
)
from exchange.sequence import ALL, NUMBER_MAX, OUTBOX_MAX, Gap, Resend, sequence_number
from exchange.store import Store
from exchange.times import utc_timestamp
from exchange.wire import BEGIN_STRING, SOH, Message, frame, utc_ns

HEARTBEAT_SECONDS_MAX: Final = 3600

_SECOND_NS: Final = 1_000_000_000
_SENDING_TIME_OFF_NS: Final = 120 * _SECOND_NS
_LOGOUT_NS: Final = 3 * _SECOND_NS

Fields = Mapping[str, str]


class Now(NamedTuple):
    """`wall_ns` is UTC, which messages carry; `steady_ns` never jumps, and what has to wait goes by it."""

    wall_ns: int
    steady_ns: int


class Phase(Enum):
    OFF = auto()  # no connection
    ON = auto()
    LEAVING = auto()  # our Logout is sent, its answer awaited; what comes before that still counts
    OVER = auto()  # the connection is to be closed once the outbox is written


class Session:
    """`phase` and `outbox` are the caller's to look at; `reason` says why the connection ended."""

    def __init__(
        self, own: str, comp_id: str, store: Store, dictionary: Dictionary, reset_on_logon: bool = False
    ) -> None:
        self.comp_id = comp_id
        self.store = store
        self.phase = Phase.OFF
        self.outbox: list[bytes] = []
        self.reason = ""
        self._own = own
        self._dictionary = dictionary
        self._reset_on_logon = reset_on_logon
        self._from, self._to = f"{SOH}49={own}{SOH}52=", f"{SOH}56={comp_id}{SOH}"
        self._stamped, self._stamp = Now(0, 0), ""  # the header's middle, and for when it holds
        self._handlers: dict[str, Callable[[Fields, int, Now], None]] = {
            "0": _nothing,
            "1": self._on_test_request,
            "2": self._on_resend_request,
            "3": _nothing,
            "4": self._on_gap_fill,
            "5": self._on_logout,
            "A": self._on_second_logon,
        }
        self._start(Now(0, 0))

    def _start(self, now: Now) -> None:
        """What does not outlive a connection."""
        self.outbox = []
        self.reason = ""
        self.is_blocked = False  # the caller says when the counterparty does not read as fast as it is told
        self._logged_on_at = now
        self._heartbeat_ns = 0
        self._heard_ns = self._said_ns = now.steady_ns
        self._tested_ns = 0  # when a TestRequest went out that nothing has answered yet
        self._gap = Gap()
        self._resend = Resend()

    @property
    def is_resending(self) -> bool:
        """Whether `resend_some` has something left to do."""
        return self._resend.is_going_on

    # What comes in

    def log_on(self, message: Message, now: Now) -> None:
        """The first message of a connection, which names this session's CompIDs. Afterwards the phase is ON or OVER."""
        self._start(now)
        self.phase = Phase.OVER
        fields = message.fields
        if fields["35"] != "A" or fields["8"] != BEGIN_STRING:
            self.reason = "the first message was not a Logon(A) of FIX 4.2"
            return
        number = sequence_number(fields.get("34", ""))
        problem = self._logon_problem(message, number, now)
        if problem:
            self._count_if_in_turn(number)
            self._end(problem, now)
            return
        if self._reset_on_logon or fields.get("141") == "Y":
            self.store.reset(now.wall_ns)
        if number < self.store.next_in:
            self._refuse_low(fields, number, now)
            return
        self.phase = Phase.ON
        self._answer_logon(fields, now)
        if not self._count_if_in_turn(number):
            self._ask_for_gap(number, False, now)

    def received(self, message: Message, now: Now) -> bool:
        """A further message. True if it is the application's: its turn has come and FIX has nothing against it."""
        self._heard_ns = now.steady_ns
        self._tested_ns = 0
        fields = message.fields
        number = sequence_number(fields.get("34", ""))
        if number < 0 or fields["8"] != BEGIN_STRING:
            self._end("MsgSeqNum missing" if number < 0 else "BeginString(8) must be FIX.4.2", now)
            return False
        refusal = self._identity_problem(fields, now)
        if refusal:
            self._count_if_in_turn(number)
            self._reject(fields, number, refusal, now)
            return False
        if fields["35"] in ("4", "A") and self._resets(message, number, now):
            return False
        if number != self.store.next_in:
            self._on_out_of_turn(message, number, now)
            return False
        return self._on_in_turn(message, number, now)

    def _on_in_turn(self, message: Message, number: int, now: Now) -> bool:
        self.store.next_in = number + 1
        fields = message.fields
        refusal = self._dictionary.broken(message)
        if refusal is None and "43" in fields:
            refusal = _poss_dup_problem(fields)
        if refusal:
            self._reject(fields, number, refusal, now)
            return False
        handler = self._handlers.get(fields["35"])
        if handler is None:
            return True
        handler(fields, number, now)
        return False

    def _on_out_of_turn(self, message: Message, number: int, now: Now) -> None:
        fields = message.fields
        if number < self.store.next_in:
            self._refuse_low(fields, number, now)
            return
        # These two are acted on at once: both sides may be missing something, and neither comes a second time.
        if fields["35"] in ("2", "5") and self._dictionary.broken(message) is None:
            self._handlers[fields["35"]](fields, number, now)
        if self.phase is not Phase.OVER:
            self._ask_for_gap(number, fields.get("43") == "Y", now)

    def _refuse_low(self, fields: Fields, number: int, now: Now) -> None:
        """Seen before, and so ignored, if it says that it may be."""
        if fields.get("43") != "Y":
            self._end(f"MsgSeqNum too low, expecting {self.store.next_in} but received {number}", now)
        elif refusal := _poss_dup_problem(fields):
            self._reject(fields, number, refusal, now)

    def _resets(self, message: Message, number: int, now: Now) -> bool:
        """Whether the message is one whose own number does not count: SequenceReset-Reset, or a Logon that resets."""
        fields = message.fields
        if fields["35"] == "A" and fields.get("141") == "Y":
            self._on_reset_logon(message, number, now)
            return True
        if fields["35"] != "4" or fields.get("123") == "Y":
            return False
        refusal = self._dictionary.broken(message) or _new_number_problem(fields, self.store.next_in)
        if refusal:
            self._reject(fields, number, refusal, now)
        else:
            self.store.next_in = int(fields["36"])
        return True

    # Logon and Logout

    def _logon_problem(self, message: Message, number: int, now: Now) -> str:
        fields = message.fields
        if number < 0:
            return "MsgSeqNum missing"
        refusal = self._dictionary.broken(message) or self._identity_problem(fields, now)
        if refusal:
            return refusal.text
        if fields["98"] != "0":
            return "EncryptMethod(98) must be 0"
        if not 1 <= int(fields["108"]) <= HEARTBEAT_SECONDS_MAX:
            return f"HeartBtInt(108) must be from 1 to {HEARTBEAT_SECONDS_MAX}"
        if fields.get("141") == "Y" and number != 1:
            return "MsgSeqNum(34) must be 1 with ResetSeqNumFlag(141)=Y"
        return ""

    def _answer_logon(self, fields: Fields, now: Now) -> None:
        self._heartbeat_ns = int(fields["108"]) * _SECOND_NS
        reset = f"141=Y{SOH}" if fields.get("141") == "Y" else ""
        self._say("A", f"98=0{SOH}108={int(fields['108'])}{SOH}{reset}", now)

    def _on_reset_logon(self, message: Message, number: int, now: Now) -> None:
        problem = self._logon_problem(message, number, now)
        if problem:
            self._end(problem, now)
            return
        self.store.reset(now.wall_ns)
        self._gap, self._resend = Gap(), Resend()
        self.store.next_in = number + 1
        self._answer_logon(message.fields, now)

    def _on_second_logon(self, fields: Fields, number: int, now: Now) -> None:
        self._reject(fields, number, Refusal(None, "35", "the session is logged on already"), now)

    def _on_logout(self, fields: Fields, number: int, now: Now) -> None:
        if self.phase is not Phase.LEAVING:
            self._say("5", "", now)
        self.reason = self.reason or f"Logout: {fields.get('58', '')}"
        self.phase = Phase.OVER

    def log_out(self, text: str, now: Now) -> None:
        """Asks the counterparty to leave; `tick` ends the connection if it does not within three seconds."""
        if self.phase is Phase.ON:
            self._say("5", f"58={text}{SOH}", now)
            self.phase = Phase.LEAVING
            self.reason = text
            self._said_ns = now.steady_ns

    def disconnected(self) -> None:
        self.phase = Phase.OFF
        self._start(Now(0, 0))

    def _end(self, text: str, now: Now) -> None:
        if self.phase is not Phase.LEAVING:
            self._say("5", f"58={text}{SOH}", now)
        self.reason = text
        self.phase = Phase.OVER

    # Numbers

    def _count_if_in_turn(self, number: int) -> bool:
        is_in_turn = number == self.store.next_in
        if is_in_turn:
            self.store.next_in = number + 1
        return is_in_turn

    def _ask_for_gap(self, number: int, is_resent: bool, now: Now) -> None:
        if self._gap.opens(self.store.next_in, number, is_resent, now.steady_ns):
            self._ask_from(self.store.next_in, now)

    def _ask_from(self, expected: int, now: Now) -> None:
        self._say("2", f"7={expected}{SOH}16=0{SOH}", now)

    def _watch_gap(self, now: Now) -> None:
        """No gap may stay for ever."""
        expected = self.store.next_in
        if not self._gap.is_overdue(expected, now.steady_ns):
            return
        if self._gap.is_hopeless:
            self._end(f"message {expected} was asked for and does not come", now)
        else:
            self._ask_from(expected, now)

    def _on_gap_fill(self, fields: Fields, number: int, now: Now) -> None:
        refusal = _new_number_problem(fields, number + 1)
        if refusal:
            self._reject(fields, number, refusal, now)
        else:
            self.store.next_in = int(fields["36"])

    def _on_resend_request(self, fields: Fields, number: int, now: Now) -> None:
        first, last = int(fields["7"]), int(fields["16"])
        sent = self.store.next_out - 1
        if not 1 <= first <= sent:
            self._reject(fields, number, Refusal(VALUE_INCORRECT, "7", f"sent so far are 1 to {sent}"), now)
        elif last not in ALL and last < first:
            self._reject(fields, number, Refusal(VALUE_INCORRECT, "16", "EndSeqNo(16) is before BeginSeqNo(7)"), now)
        else:
            self._resend.start(first, sent if last in ALL else min(last, sent), sent + 1)

    def resend_some(self, now: Now) -> None:
        """The next few messages that were asked for; after these, what was to be sent meanwhile."""
        first, beyond, again = self._resend.take(self.store.next_out)
        gap = 0
        for sent in self.store.read(first, beyond - first):
            if sent.body:
                self._fill_gap(gap, sent.number, now)
                original = utc_timestamp(min(sent.sent_ns, now.wall_ns))  # the clock may have been set back
                repeated = f"43=Y{SOH}122={original}{SOH}" if again else ""
                self._transmit(sent.body, sent.number, repeated, now)
            gap = 0 if sent.body else gap or sent.number
        self._fill_gap(gap, beyond, now)

    def _fill_gap(self, first: int, beyond: int, now: Now) -> None:
        """In place of administrative messages, as many as there are in a row; `first` is 0 if there are none."""
        if first:
            body = f"35=4{SOH}123=Y{SOH}36={beyond}{SOH}"
            self._transmit(body, first, f"43=Y{SOH}122={utc_timestamp(now.wall_ns)}{SOH}", now)

    # Checks

    def _identity_problem(self, fields: Fields, now: Now) -> Refusal | None:
        """CompIDs and SendingTime(52). That a tag is missing or has no format is the dictionary's business."""
        if fields.get("49", self.comp_id) != self.comp_id:
            return Refusal(COMP_ID_PROBLEM, "49", "CompID problem")
        if fields.get("56", self._own) != self._own:
            return Refusal(COMP_ID_PROBLEM, "56", "CompID problem")
        sent_ns = utc_ns(fields.get("52", ""))
        if sent_ns is None or abs(sent_ns - now.wall_ns) <= _SENDING_TIME_OFF_NS:
            return None
        # Our own clock may have been set meanwhile, which is no fault of the counterparty's.
        start = self._logged_on_at
        if abs(sent_ns - start.wall_ns - (now.steady_ns - start.steady_ns)) <= _SENDING_TIME_OFF_NS:
            return None
        return Refusal(SENDING_TIME_PROBLEM, "52", "SendingTime accuracy problem")

    def tick(self, now: Now) -> None:
        """To be called a few times a second while there is a connection."""
        if self.phase is Phase.LEAVING and now.steady_ns - self._said_ns >= _LOGOUT_NS:
            self.phase = Phase.OVER
        if self.phase is not Phase.ON:
            return
        patience_ns = self._heartbeat_ns * 6 // 5
        if self._tested_ns:
            if now.steady_ns - self._tested_ns >= patience_ns:
                self._end("no answer to TestRequest(1)", now)
                return
        elif now.steady_ns - self._heard_ns >= patience_ns:
            self._tested_ns = now.steady_ns
            self._say("1", f"112={utc_timestamp(now.wall_ns)}{SOH}", now)
        if now.steady_ns - self._said_ns >= self._heartbeat_ns:
            self._say("0", "", now)
        self._watch_gap(now)

    def _on_test_request(self, fields: Fields, number: int, now: Now) -> None:
        self._say("0", f"112={fields['112']}{SOH}", now)

    # What goes out

    def send(self, body: str, mark: int, now: Now) -> None:
        """`body` from MsgType(35) on, without the session's own fields. It waits in the store while there is no
        connection, older messages are being sent again, or the connection has enough to do."""
        number = self.store.append(body, now.wall_ns, mark)
        if self.is_blocked or len(self.outbox) >= OUTBOX_MAX:
            self._resend.hold_from(number)
        if not self._resend.is_going_on and self.phase in (Phase.ON, Phase.LEAVING):
            self._transmit(body, number, "", now)

    def _say(self, msg_type: str, rest: str, now: Now) -> None:
        """An administrative message. Only a Reject(3) is sent again when asked for: it tells what no other does."""
        body = f"35={msg_type}{SOH}{rest}"
        number = self.store.append(body if msg_type == "3" else "", now.wall_ns)
        self._said_ns = now.steady_ns
        if not self._resend.is_going_on or msg_type in ("2", "5"):
            self._transmit(body, number, "", now)

    def _reject(self, fields: Fields, number: int, refusal: Refusal, now: Now) -> None:
        tag = f"371={refusal.ref_tag}{SOH}" if refusal.ref_tag else ""
        msg_type = f"372={fields['35']}{SOH}" if 1 <= len(fields["35"]) <= 2 else ""
        reason = f"373={refusal.reason}{SOH}" if refusal.reason is not None else ""
        if fields["35"] != "3":  # two engines that refuse each other's refusals would never end
            self._say("3", f"45={number}{SOH}{tag}{msg_type}{reason}58={refusal.text}{SOH}", now)
        if refusal.reason in (COMP_ID_PROBLEM, SENDING_TIME_PROBLEM):
            self._end(refusal.text, now)

    def _transmit(self, body: str, number: int, duplicate: str, now: Now) -> None:
        end = body.index(SOH)
        if now is not self._stamped:
            self._stamped, self._stamp = now, f"{self._from}{utc_timestamp(now.wall_ns)}{self._to}"
        self.outbox.append(frame(f"{body[: end + 1]}34={number}{self._stamp}{duplicate}{body[end + 1 :]}"))
        self._said_ns = now.steady_ns


def _nothing(fields: Fields, number: int, now: Now) -> None:
    """Heartbeat(0) and Reject(3) ask for nothing."""


def _new_number_problem(fields: Fields, lowest: int) -> Refusal | None:
    if lowest <= sequence_number(fields["36"]) <= NUMBER_MAX:
        return None
    return Refusal(VALUE_INCORRECT, "36", f"NewSeqNo(36) must be from {lowest} to {NUMBER_MAX}")


def _poss_dup_problem(fields: Fields) -> Refusal | None:
    """OrigSendingTime(122) must be there and not after SendingTime(52), both to the second. A SequenceReset(4) has no
    message that it repeats."""
    if fields.get("43") != "Y" or fields["35"] == "4":
        return None
    if "122" not in fields:
        return Refusal(REQUIRED_TAG_MISSING, "122", "OrigSendingTime(122) is required with PossDupFlag(43)=Y")
    original_ns, sent_ns = utc_ns(fields["122"]), utc_ns(fields.get("52", ""))
    if original_ns and sent_ns and original_ns // _SECOND_NS > sent_ns // _SECOND_NS:
        return Refusal(SENDING_TIME_PROBLEM, "122", "OrigSendingTime(122) is later than SendingTime(52)")
    return None
