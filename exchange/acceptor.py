"""The venue's FIX 4.2 sessions, on QuickFIX.

SocketAcceptor serves all sessions on one thread: its socket loop is the queue that makes matching serial. Matching is
done inside `fromApp`, before QuickFIX moves the target sequence number, so an order is journaled or comes again.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import quickfix as fix
import structlog

from exchange import dialect
from exchange.config import Config
from exchange.dialect import SOH, Fields
from exchange.orders import Report
from exchange.venue import Venue
from runtime.fix_session import StoreWatch, keeps_its_place

LOGOUT_SECONDS_MAX: Final = 3.0

log = structlog.get_logger()


class Application(fix.Application):  # type: ignore[misc]
    """The callbacks. None may raise but UnsupportedMessageType, which QuickFIX answers: any other exception would leave
    the engine's thread dead and the process looking alive. So what cannot go on (a full disk, a broken rule of our own)
    ends the process: the journal is the truth, and the order that was under way comes again."""

    def __init__(self, venue: Venue, name: str) -> None:
        super().__init__()
        self._venue = venue
        self._name = name
        self._sessions: dict[str, fix.SessionID] = {}
        self._stores: defaultdict[str, StoreWatch] = defaultdict(StoreWatch)
        self._handlers: dict[str, Callable[[str, Fields, int], None]] = {"D": self._on_new_order, "H": self._on_status}

    def onCreate(self, session_id: fix.SessionID) -> None:  # noqa: N802
        self._sessions[_comp_id(session_id)] = fix.SessionID("FIX.4.2", self._name, _comp_id(session_id))

    def onLogon(self, session_id: fix.SessionID) -> None:  # noqa: N802
        with _OrEndProcess():
            comp_id = _comp_id(session_id)
            log.info("logged on", comp_id=comp_id)
            for report in self._venue.logged_on(comp_id):
                self._report(report, possible_resend=True)

    def onLogout(self, session_id: fix.SessionID) -> None:  # noqa: N802
        with _OrEndProcess():
            log.info("logged out", comp_id=_comp_id(session_id))

    def toAdmin(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        with _OrEndProcess():
            self._note(message, session_id)

    def fromAdmin(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        with _OrEndProcess():
            if message.getHeader().getField(35) in ("3", "5"):
                session = fix.Session.lookupSession(session_id)
                keeps_its_place(session, int(message.getHeader().getField(34)))

    def toApp(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        with _OrEndProcess():
            self._note(message, session_id)

    def _note(self, message: fix.Message, session_id: fix.SessionID) -> None:
        if not message.getHeader().isSetField(43):
            self._stores[_comp_id(session_id)].made(int(message.getHeader().getField(34)))

    def check_stores(self) -> None:
        """To be called now and then. OSError when QuickFIX can store nothing any more: then the process must end."""
        for comp_id, session_id in self._sessions.items():
            if self._stores[comp_id].is_broken(fix.Session.lookupSession(session_id).getExpectedSenderNum()):
                raise OSError(f"QuickFIX cannot store its messages to {comp_id}; is the disk full?")

    def fromApp(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        received_ns = time.time_ns()
        wire = message.toString()
        fields = dialect.read_fields(wire)
        handler = self._handlers.get(fields["35"])
        if handler is None:
            raise fix.UnsupportedMessageType
        comp_id = _comp_id(session_id)
        with _OrEndProcess(wire):
            if wire.isascii() and wire.replace(SOH, "").isprintable():
                handler(comp_id, fields, received_ns)
            else:
                self._send(comp_id, dialect.business_reject(fields, "FIX 4.2 text is printable ASCII"))

    def _on_new_order(self, comp_id: str, fields: Fields, received_ns: int) -> None:
        if dialect.may_be_repeated(fields) and self._venue.find(comp_id, fields["11"]):
            self._on_status(comp_id, fields, received_ns)
            return
        for report in self._venue.place(comp_id, dialect.new_order(fields), received_ns):
            self._report(report)

    def _on_status(self, comp_id: str, fields: Fields, received_ns: int) -> None:
        order = self._venue.find(comp_id, fields["11"])
        if order:
            self._send(comp_id, dialect.status_report(order, received_ns, time.time_ns()))
        else:
            self._send(comp_id, dialect.unknown_order_report(fields, received_ns, time.time_ns()))

    def _report(self, report: Report, possible_resend: bool = False) -> None:
        self._send(report.execution.order.comp_id, dialect.execution_report(report, possible_resend))
        self._venue.handed_over(report)

    def _send(self, comp_id: str, body: str) -> None:
        """A counterparty that is logged out gets it later: QuickFIX stores it under the next number."""
        # Parsed from text: a seventh of the time of setting the fields one by one.
        message = fix.Message(f"8=FIX.4.2{SOH}9=0{SOH}{body}10=000{SOH}", False)
        session_id = self._sessions[comp_id]
        if not fix.Session.sendToTarget(message, session_id):
            _assert_stored(message, session_id)


class Acceptor:
    """QuickFIX with its store and logs in `data_dir`."""

    def __init__(self, venue: Venue, config: Config) -> None:
        self._port = config.fix_port
        self._application = Application(venue, config.name)
        settings = fix.SessionSettings()
        settings.setFromString(_settings(config))
        self._settings = settings
        # QuickFIX keeps no reference to what Python made: without these attributes they would be freed under it.
        self._store = fix.FileStoreFactory(settings)
        self._logs = (fix.FileLogFactory(settings),) if config.fix_log else ()
        self._acceptor = fix.SocketAcceptor(self._application, self._store, settings, *self._logs)

    def start(self) -> None:
        """OSError if the port is taken."""
        try:
            self._acceptor.start()
        except (fix.RuntimeError, fix.ConfigError) as problem:
            raise OSError(f"port {self._port} (fix_port) cannot be opened: {problem}") from None

    def check_stores(self) -> None:
        self._application.check_stores()

    def log_out(self) -> None:
        """Logs the counterparties out and waits a little for their answers. What is left is to end the process."""
        sessions = [fix.Session.lookupSession(each) for each in self._acceptor.getSessions()]
        for session in sessions:
            session.logout("the venue stops")
        deadline = time.monotonic() + LOGOUT_SECONDS_MAX
        while any(session.isLoggedOn() for session in sessions) and time.monotonic() < deadline:
            time.sleep(0.05)


def _assert_stored(message: fix.Message, session_id: fix.SessionID) -> None:
    """QuickFIX answers False for a store that failed, which breaks the session for good, and for a lost connection,
    which does not matter."""
    number = int(message.getHeader().getField(34))
    if fix.Session.lookupSession(session_id).getExpectedSenderNum() <= number:
        raise OSError(f"QuickFIX could not store message {number} to {_comp_id(session_id)}")


def _comp_id(session_id: fix.SessionID) -> str:
    return str(session_id.getTargetCompID().getValue())


class _OrEndProcess:
    """Whatever is raised inside ends the process, at once: nothing half done is answered, and nothing gets past it."""

    def __init__(self, wire: str = "") -> None:
        self._wire = wire

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        if problem is not None:
            log.error("a FIX callback failed", wire=self._wire.replace(SOH, "|"), exc_info=problem)
            sys.stdout.flush()
            os._exit(1)


def _settings(config: Config) -> str:
    dictionary = Path(sys.prefix) / "share" / "quickfix" / "FIX42.xml"
    # QuickFIX cannot bind to one address. It can turn away who is not expected, though only after answering the logon:
    # no order gets in, but a firewall is still the real door.
    local = f"AllowedRemoteAddresses={config.host}" if ip_address(config.host).is_loopback else ""
    sessions = "\n".join(f"[SESSION]\nBeginString=FIX.4.2\nTargetCompID={each}" for each in config.counterparties)
    return f"""[DEFAULT]
ConnectionType=acceptor
SenderCompID={config.name}
SocketAcceptPort={config.fix_port}
SocketReuseAddress=Y
SocketNodelay=Y
NonStopSession=Y
ResetOnLogon=N
UseDataDictionary=Y
DataDictionary={dictionary}
ValidateUserDefinedFields=N
FileStorePath={config.data_dir / "fix-store"}
FileLogPath={config.data_dir / "fix-log"}
{local}
{sessions}
"""
