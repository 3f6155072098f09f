"""The venue's FIX sessions on one thread: one selector, one loop, bounded memory for whoever connects.

A turn reads what is there, hands it on, and then writes: the application's journal first, the sessions' stores second,
then the sockets. So nothing that is lost with the process has been told to anyone.
"""

import selectors
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from exchange.connection import Connection
from exchange.dictionary import Dictionary
from exchange.session import Now, Phase, Session
from exchange.store import Store
from exchange.wire import Message, read

DICTIONARY: Final = Path(sys.prefix) / "share" / "quickfix" / "FIX42.xml"
STRANGERS_MAX: Final = 100

_TICK_NS: Final = 100_000_000
_LOGON_NS: Final = 10_000_000_000
_LINGER_NS: Final = 2_000_000_000
_LOG_OUT_NS: Final = 3_000_000_000
_BACKLOG: Final = 128
_ACCEPTS: Final = 8  # a turn: fewer than strangers there may be, so that the oldest can say who they are first

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SessionConfig:
    comp_id: str
    reset_on_logon: bool = False


class Application(Protocol):
    """Called in the loop's thread only. What it raises ends `Server.run`."""

    def logged_on(self, comp_id: str, logon: Mapping[str, str]) -> None: ...

    def logged_out(self, comp_id: str) -> None: ...

    def received(self, comp_id: str, fields: Mapping[str, str], received_ns: int) -> None:
        """An application message: in order, each once, as FIX 4.2 has it. After a kill the last ones may come again."""

    def flush(self) -> None:
        """Called each turn before anything leaves: what was decided must be durable when this returns."""

    def sent(self) -> None:
        """Called each turn when the answers have left: for what can wait that long."""

    def due_ns(self) -> int | None:
        """When `tick` is to be called next (UTC); None for never."""

    def tick(self, now_ns: int) -> None: ...


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Server:
    """Listens once it is made. OSError if the address is taken or a store cannot be read."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        sessions: Sequence[SessionConfig],
        data_dir: Path,
        application: Application,
        clock: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._name = name
        self._application = application
        self._clock, self._steady = clock, steady
        self._now = Now(clock(), steady())
        self._sessions = self._open_sessions(sessions, data_dir)
        self._connections: dict[str, Connection] = {}  # of sessions that are logged on
        self._strangers: dict[Connection, None] = {}  # not logged on yet, the oldest first
        self._leaving: dict[Connection, None] = {}  # only to be written to, then closed
        self._touched: set[Session] = set()  # have something to store or to send
        self._next_tick_ns = 0
        self._due_ns: int | None = None
        self._selector = selectors.DefaultSelector()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._is_accepting = True
        self.port: int = self._listener.getsockname()[1]
        self.watch(self._listener, self._accept)

    def _open_sessions(self, configs: Sequence[SessionConfig], data_dir: Path) -> dict[str, Session]:
        dictionary = Dictionary(DICTIONARY)
        data_dir.mkdir(parents=True, exist_ok=True)
        return {
            each.comp_id: Session(
                self._name,
                each.comp_id,
                Store(data_dir, each.comp_id, self._now.wall_ns),
                dictionary,
                each.reset_on_logon,
            )
            for each in configs
        }

    # What the application asks for

    def run(self, until: Callable[[], bool]) -> None:
        """Turns until `until` says so, which is asked at least ten times a second."""
        while not until():
            self._turn()

    def send(self, comp_id: str, body: str, mark: int = 0) -> None:
        """`body`: "35=8", SOH and so on, without 8, 9, 34, 49, 52, 56 and 10. Who is logged out gets it after logon,
        unless that resets. `mark`: what `last_mark` is to say from now on; 0 leaves it. KeyError: no such session."""
        session = self._sessions[comp_id]
        session.send(body, mark, self._now)
        self._touched.add(session)

    def last_mark(self, comp_id: str) -> int:
        """The mark of the last message that will not get lost."""
        return self._sessions[comp_id].store.last_mark

    def is_logged_on(self, comp_id: str) -> bool:
        return comp_id in self._connections

    def is_behind(self, comp_id: str) -> bool:
        """Whether it is logged on and does not read as fast as it is told."""
        connection = self._connections.get(comp_id)
        return connection is not None and (connection.is_behind or bool(connection.outbox))

    def end(self, comp_id: str, text: str) -> None:
        """Logs one session out; it may log on again."""
        session = self._sessions[comp_id]
        session.log_out(text, self._now)
        self._touched.add(session)

    def log_out(self, text: str) -> None:
        """All sessions, with up to three seconds for their answers; then nothing is open any more. Not from inside
        `run`."""
        if self._is_accepting:
            self.unwatch(self._listener)
        self._is_accepting = True  # and never again
        self._listener.close()
        self._read_clocks()
        for comp_id in self._connections:
            self.end(comp_id, text)
        deadline_ns = self._now.steady_ns + _LOG_OUT_NS
        while (self._connections or self._leaving) and self._now.steady_ns < deadline_ns:
            self._turn()
        for connection in (*self._connections.values(), *self._strangers, *self._leaving):
            self._close(connection)
        for session in self._sessions.values():
            session.store.close()
        self._selector.close()

    def watch(self, file: int | HasFileno, callback: Callable[[], None]) -> None:
        """Calls back in the loop whenever `file` can be read."""
        self._selector.register(file, selectors.EVENT_READ, lambda _: callback())

    def unwatch(self, file: int | HasFileno) -> None:
        self._selector.unregister(file)

    # One turn

    def _turn(self) -> None:
        for key, events in self._selector.select(self._wait_seconds()):
            self._read_clocks()
            key.data(events)
        self._read_clocks()
        if self._due_ns is not None and self._due_ns <= self._now.wall_ns:
            self._application.tick(self._now.wall_ns)
        if self._now.steady_ns >= self._next_tick_ns:
            self._next_tick_ns = self._now.steady_ns + _TICK_NS
            self._tick()
        self._hand_out()

    def _wait_seconds(self) -> float:
        self._due_ns = self._application.due_ns()
        if self._touched:
            return 0
        if self._due_ns is None:
            return _TICK_NS / 1e9
        return max(0, min(_TICK_NS, self._due_ns - self._clock())) / 1e9

    def _read_clocks(self) -> None:
        self._now = Now(self._clock(), self._steady())

    def _hand_out(self) -> None:
        touched, self._touched = self._touched, set()
        for session in touched:
            if session.is_resending and not self._connections[session.comp_id].is_behind:
                session.resend_some(self._now)
        self._application.flush()
        for session in touched:
            session.store.flush()
        for session in touched:
            connection = self._connections.get(session.comp_id)
            if connection:
                self._write(connection)
        for connection in list(self._leaving):
            self._write(connection)
        for session in touched:
            session.store.flush_next_in()
        self._application.sent()

    def _write(self, connection: Connection) -> None:
        was_behind = connection.is_behind
        if not connection.write():
            self._lose(connection, "it is gone, or does not read what it is sent")
            return
        if connection.session:
            connection.session.is_blocked = connection.is_behind
        if connection.is_behind != was_behind:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.is_behind else 0)
            self._selector.modify(connection.socket, events, self._callback(connection))
        session = connection.session
        if session and session.is_resending and not connection.is_behind:
            self._touched.add(session)
        if connection in self._leaving and not connection.is_behind and not connection.end():
            self._close(connection)

    # Connections

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                peer, address = self._listener.accept()
                stranger = Connection(peer, str(address[0]), self._now.steady_ns)
            except BlockingIOError:
                return
            except OSError as problem:  # no descriptors left: until the next tick the others get on with it
                log.warning("a connection cannot be accepted", reason=str(problem))
                self.unwatch(self._listener)
                self._is_accepting = False
                return
            self._admit(stranger)

    def _admit(self, stranger: Connection) -> None:
        if len(self._strangers) == STRANGERS_MAX:
            self._close(next(iter(self._strangers)), "too many are waiting to log on")
        self._strangers[stranger] = None
        self._selector.register(stranger.socket, selectors.EVENT_READ, self._callback(stranger))

    def _callback(self, connection: Connection) -> Callable[[int], None]:
        return lambda events: self._serve(connection, events)

    def _serve(self, connection: Connection, events: int) -> None:
        if connection.is_closed:  # by what came before it in this turn
            return
        if events & selectors.EVENT_WRITE and connection.session:
            self._touched.add(connection.session)
        if not events & selectors.EVENT_READ:
            return
        messages = connection.receive(self._now.steady_ns)
        if messages is None:
            self._lose(connection, "the counterparty closed it")
        elif connection in self._strangers and connection.garbled:
            self._close(connection, "it speaks no FIX")
        else:
            self._handle(connection, messages)

    def _handle(self, connection: Connection, messages: list[bytes]) -> None:
        for raw in messages:
            session = connection.session
            message = read(raw)
            if session is None:
                if connection not in self._strangers:
                    return
                self._log_on(connection, message)
            elif session.received(message, self._now):
                self._application.received(session.comp_id, message.fields, self._now.wall_ns)
            if session and session.phase is Phase.OVER:
                self._part(connection, session)
                return
        if connection.session:
            self._touched.add(connection.session)

    def _log_on(self, stranger: Connection, message: Message) -> None:
        comp_id = message.fields.get("49", "")
        session = self._sessions.get(comp_id)
        if session is None or message.fields.get("56") != self._name:
            self._close(stranger, "its CompIDs are not known")
        elif comp_id in self._connections:
            self._close(stranger, "the session is logged on elsewhere")
        else:
            session.log_on(message, self._now)
            del self._strangers[stranger]
            stranger.since_ns = self._now.steady_ns
            stranger.session, stranger.outbox = session, session.outbox
            self._touched.add(session)
            if session.phase is Phase.OVER:
                self._part(stranger, session)
                return
            self._connections[comp_id] = stranger
            log.info("logged on", comp_id=comp_id, address=stranger.address)
            self._application.logged_on(comp_id, message.fields)

    def _part(self, connection: Connection, session: Session) -> None:
        """What the session has said last is still written; it may log on again at once."""
        connection.session = None
        connection.since_ns = self._now.steady_ns
        if len(self._leaving) == STRANGERS_MAX:
            self._close(next(iter(self._leaving)))
        self._leaving[connection] = None
        self._touched.add(session)
        self._forget(connection, session, session.reason)

    def _lose(self, connection: Connection, reason: str) -> None:
        session = connection.session
        self._close(connection, reason)
        if session:
            connection.session = None
            self._forget(connection, session, session.reason or reason)

    def _forget(self, connection: Connection, session: Session, reason: str) -> None:
        session.disconnected()
        was_logged_on = self._connections.pop(session.comp_id, None) is not None
        event = "logged out" if was_logged_on else "a logon is refused"
        log.info(event, comp_id=session.comp_id, reason=reason, garbled=connection.garbled)
        if was_logged_on:
            self._application.logged_out(session.comp_id)

    def _close(self, connection: Connection, reason: str = "") -> None:
        if connection in self._strangers:
            log.info("a connection is dropped", address=connection.address, reason=reason, garbled=connection.garbled)
        self._strangers.pop(connection, None)
        self._leaving.pop(connection, None)
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _tick(self) -> None:
        steady_ns = self._now.steady_ns
        if not self._is_accepting:
            self.watch(self._listener, self._accept)
            self._is_accepting = True
        for connection in list(self._connections.values()):
            self._handle(connection, connection.overdue(steady_ns))
            session = connection.session
            if session:
                session.tick(self._now)
                self._touched.add(session)
                if session.phase is Phase.OVER:
                    self._part(connection, session)
        for stranger in list(self._strangers):
            self._handle(stranger, stranger.overdue(steady_ns))
            if stranger in self._strangers and steady_ns - stranger.since_ns >= _LOGON_NS:
                self._close(stranger, "it did not log on")
        for connection in list(self._leaving):
            if steady_ns - connection.since_ns >= _LINGER_NS:
                self._close(connection)
