"""The FIX session with one venue: QuickFIX's initiator and its callbacks.

QuickFIX calls back in a thread of its own, under the session's mutex. An exception there would kill that thread and
leave the process looking alive, so each callback catches everything. What a callback learns goes to the inbox;
decisions are made, and routes are moved, in the event loop's thread alone.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import quickfix
import structlog

from ems import fix
from ems.config import Config, Venue
from ems.messages import Item, Received
from ems.quickfix_guards import StoreWatch, keeps_its_place
from ems.routes import Now, OpenRoute, OpenRoutes, may_be_resent, still_in_time
from runtime import crash

INBOX_MAX: Final = 100_000  # messages; beyond it the process ends, and the venue sends again what is not committed

log = structlog.get_logger()


class SessionBroken(Exception):
    """QuickFIX could not store or send; whether the message is in its store is not known. The process must end."""


def read_clock() -> Now:
    return Now(time.time_ns(), time.monotonic_ns())


@dataclass(slots=True)
class Handing:
    """What the event loop hands over at this moment, and what the callback decided about it."""

    logon: int
    opened: OpenRoute | None  # None for a status request
    withheld: bool = False


class Session(quickfix.Application):  # type: ignore[misc]
    """`wake` is called from QuickFIX's thread whenever there is something new; `fail` when the process must end."""

    def __init__(
        self, open_routes: OpenRoutes, committed_seq: int, wake: Callable[[], None], fail: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._open_routes, self._committed_seq = open_routes, committed_seq
        self._wake, self._fail = wake, fail
        self.inbox: deque[Item] = deque()
        self.logged_on = False
        self.logon = 0  # how many there have been in this process
        self.heard_ns = 0  # steady; the last message of the venue, of any kind
        self._store = StoreWatch()
        self._logon_seq_num = 0  # MsgSeqNum(34) of our latest Logon
        self._session_id: Any = None
        self._handing: Handing | None = None

    def hand(self, text: str, logon: int, opened: OpenRoute | None = None) -> bool:
        """Gives a message to QuickFIX, under the logon in which this was decided. False: certainly neither stored nor
        sent, for that logon is over. SessionBroken when QuickFIX failed. Never called with a lock held."""
        self._handing = handing = Handing(logon, opened)
        if quickfix.Session.sendToTarget(quickfix.Message(text, False), self._session_id):
            return True
        if handing.withheld:
            return False
        raise SessionBroken("QuickFIX could not store a message; see its log")

    def onCreate(self, session_id: Any) -> None:  # noqa: N802
        # QuickFIX moves its number before we commit, so its store may be ahead of the database. What is not committed
        # has to come again. The id is copied: QuickFIX's own object lives only as long as this call.
        ids = session_id.getSenderCompID().getValue(), session_id.getTargetCompID().getValue()
        self._session_id = quickfix.SessionID("FIX.4.2", *ids)
        quickfix.Session.lookupSession(session_id).setNextTargetMsgSeqNum(self._committed_seq + 1)

    def onLogon(self, session_id: Any) -> None:  # noqa: N802
        self.logon += 1
        self.logged_on = True
        self._call(self._wake)

    def onLogout(self, session_id: Any) -> None:  # noqa: N802
        self.logged_on = False
        self._call(self._wake)

    def toAdmin(self, message: Any, session_id: Any) -> None:  # noqa: N802
        self._call(self._to_admin, message)

    def fromAdmin(self, message: Any, session_id: Any) -> None:  # noqa: N802
        self._call(self._from_admin, message)

    def fromApp(self, message: Any, session_id: Any) -> None:  # noqa: N802
        self._call(self._from_app, message)

    def toApp(self, message: Any, session_id: Any) -> None:  # noqa: N802
        # Should this fail, the message goes: it was decided on, and the question after it tells what became of it.
        if self._call(self._goes, message) is False:
            raise quickfix.DoNotSend

    def _call(self, callback: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return callback(*arguments)
        except Exception as problem:  # noqa: BLE001  nothing may get into QuickFIX's thread
            self._put_aside(callback.__name__, arguments, problem)
            return None

    def _put_aside(self, callback: str, messages: tuple[Any, ...], problem: Exception) -> None:
        """The message of a failed callback becomes a dead letter."""
        log.error("a FIX callback failed", callback=callback, exc_info=problem)
        try:
            for message in messages:
                raw, reason = message.toString(), f"{callback}: {problem!r}"
                self._receive(Received(raw, time.time_ns(), self.logon, in_order=False, problem=reason))
        except Exception as failure:  # noqa: BLE001  there is nothing left to do with it
            self._fail(f"a FIX message can be neither handled nor put aside: {failure!r}")

    def _receive(self, received: Received) -> None:
        self.inbox.append(received)
        if len(self.inbox) > INBOX_MAX:
            self._fail("too many messages are waiting for the database")
        self._wake()

    def _from_app(self, message: Any) -> None:
        self.heard_ns = time.monotonic_ns()
        raw = message.toString()  # the message itself is gone when this callback has returned
        crash.point("engine.from_app")
        self._receive(Received(raw, time.time_ns(), self.logon))

    def _from_admin(self, message: Any) -> None:
        self.heard_ns = time.monotonic_ns()
        raw = message.toString()
        fields = fix.parse(raw)
        msg_type = fields.get(35)
        in_order = self._keep_its_place(fields) if msg_type in ("3", "5") else True
        if msg_type == "3":
            self._receive(Received(raw, time.time_ns(), self.logon, in_order=in_order))
        elif msg_type == "4" and fields.get(123) != "Y":
            problem = f"SequenceReset without GapFillFlag, to {fields.get(36)}: what lies between does not come again"
            self._receive(Received(raw, time.time_ns(), self.logon, in_order=False, problem=problem))
        elif msg_type == "A" and fields.get(141) == "Y":
            self._receive(Received(raw, time.time_ns(), self.logon, resets_session=True))

    def _keep_its_place(self, fields: fix.Fields) -> bool:
        """False for a Reject or Logout ahead of its turn."""
        session = quickfix.Session.lookupSession(self._session_id)
        return keeps_its_place(session, fix.msg_seq_num(fields) or 0)

    def check_store(self) -> None:
        """To be called now and then: ends the process when QuickFIX can store nothing any more."""
        session = quickfix.Session.lookupSession(self._session_id) if self._session_id else None
        if session is not None and self._store.is_broken(session.getExpectedSenderNum()):
            self._fail("QuickFIX cannot store its messages; is the disk full?")

    def _to_admin(self, message: Any) -> None:
        fields = fix.parse(message.toString())
        self._note(fields)
        if fields.get(35) == "A":
            self._logon_seq_num = fix.msg_seq_num(fields) or 0
        elif fields.get(35) == "3":
            # QuickFIX refuses a message of the venue by itself and will not see it again.
            problem = f"we refused the venue's message {fields.get(45)}: {fields.get(58)}"
            self._receive(Received(message.toString(), time.time_ns(), self.logon, in_order=False, problem=problem))

    def _note(self, fields: fix.Fields) -> None:
        if fields.get(43) != "Y":
            self._store.made(fix.msg_seq_num(fields) or 0)

    def _goes(self, message: Any) -> bool:
        fields = fix.parse(message.toString())
        self._note(fields)
        seq_num = fix.msg_seq_num(fields) or 0
        if fields.get(35) not in ("D", "H"):
            return True  # QuickFIX's own BusinessMessageReject
        is_order = fields.get(35) == "D"
        if is_order:
            crash.point("engine.to_app")
        if fields.get(43) == "Y":
            opened = self._open_routes.get(fields.get(11, "")) if is_order else None
            goes = may_be_resent(opened, read_clock()) if is_order else self._is_of_this_logon(seq_num)
        else:
            assert self._handing is not None
            opened = self._handing.opened
            goes = self._goes_now(self._handing)
            self._handing.withheld = not goes
        if goes and opened is not None:
            self._open_routes.transmitted(opened, seq_num)
        return goes

    def _is_of_this_logon(self, seq_num: int) -> bool:
        """A question of an earlier logon must not be asked again: its answer would be taken for that of a later one."""
        return seq_num > self._logon_seq_num

    def _goes_now(self, handing: Handing) -> bool:
        """The session cannot be cut while this runs, so what is withheld here is certain never to go out later."""
        if not self.logged_on or self.logon != handing.logon:
            return False
        return handing.opened is None or still_in_time(handing.opened, read_clock())


class Initiator:
    """QuickFIX's own thread and files. SessionBroken or quickfix.ConfigError when it cannot be made."""

    def __init__(self, session: Session, config: Config, venue: Venue, port: int, directory: Path) -> None:
        settings = quickfix.SessionSettings()
        settings.setFromString(_settings(config, venue, port, directory))
        # QuickFIX does not keep what Python made: without these attributes it would be freed under it.
        self._kept = session, settings, quickfix.FileStoreFactory(settings), quickfix.FileLogFactory(settings)
        logs = (self._kept[3],) if config.message_log else ()
        self._initiator = quickfix.SocketInitiator(session, self._kept[2], settings, *logs)

    def start(self) -> None:
        self._initiator.start()

    def stop(self) -> None:
        """Logs out, waits for the answer some seconds at most, and ends QuickFIX's thread."""
        self._initiator.stop()


def _settings(config: Config, venue: Venue, port: int, directory: Path) -> str:
    return f"""[DEFAULT]
ConnectionType=initiator
ReconnectInterval=1
HeartBtInt={config.heartbeat_seconds}
NonStopSession=Y
ResetOnLogon=N
ResetOnLogout=N
ResetOnDisconnect=N
SocketNodelay=Y
UseDataDictionary=N
# A message refused for its time would be lost: QuickFIX counts it as received.
CheckLatency=N
FileStorePath={directory / "store"}
FileLogPath={directory / "log"}
[SESSION]
BeginString=FIX.4.2
SenderCompID={config.comp_id}
TargetCompID={venue.comp_id}
SocketConnectHost={venue.host}
SocketConnectPort={port}
"""
