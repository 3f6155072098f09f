"""A FIX 4.2 initiator for tests, on QuickFIX: messages are strings with `|` between the fields, as on a page.

    with FixClient(port, "OPENBELL", store=tmp_path) as client:
        client.send("35=D|11=a|21=1|55=AAPL|54=1|38=100|40=1|60=20261121-14:30:00")
        new, fill = client.receive(2)

`RawFixClient` writes the session's own fields too, for what an engine would never send.
"""

import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import quickfix as fix

WAIT_SECONDS: Final = 10.0
SOH: Final = "\x01"


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Polls; AssertionError that names `what` when it has not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.005)


def field(message: str, tag: int) -> str:
    """The field's value; "" if the message has none."""
    return next((part.partition("=")[2] for part in message.split("|") if part.startswith(f"{tag}=")), "")


def has(message: str, fields: str) -> bool:
    """Whether the message has all of the `|`-separated fields; `44=` means that it has no 44."""
    own = set(message.split("|"))
    tags = {part.partition("=")[0] for part in own}
    return all(part[:-1] not in tags if part.endswith("=") else part in own for part in fields.split("|"))


class _Callbacks(fix.Application):  # type: ignore[misc]
    def __init__(self, logon: dict[int, str]) -> None:
        super().__init__()
        self.logged_on = False
        self.app: list[str] = []
        self.admin: list[str] = []
        self._logon = logon

    def onCreate(self, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def onLogon(self, session_id: fix.SessionID) -> None:  # noqa: N802
        self.logged_on = True

    def onLogout(self, session_id: fix.SessionID) -> None:  # noqa: N802
        self.logged_on = False

    def toAdmin(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        if message.getHeader().getField(35) == "A":
            for tag, value in self._logon.items():
                message.setField(fix.StringField(tag, value))

    def toApp(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def fromAdmin(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        self.admin.append(message.toString().replace(SOH, "|"))

    def fromApp(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        self.app.append(message.toString().replace(SOH, "|"))


class FixClient:
    """One session with a real engine: it resends, asks for resends and logs on again by itself, each second.

    `app` and `admin` are all messages that came, in order. `store` keeps the sequence numbers across instances.
    `logon`: tag -> value, what each Logon has besides.
    """

    def __init__(
        self, port: int, comp_id: str, store: Path, target: str = "XSIM", logon: dict[int, str] | None = None
    ) -> None:
        self._callbacks = _Callbacks(logon or {})
        self._session = fix.SessionID("FIX.4.2", comp_id, target)
        self._settings = fix.SessionSettings()
        self._settings.setFromString(_settings(port, comp_id, target, store))
        self._store = fix.FileStoreFactory(self._settings)
        self._initiator = fix.SocketInitiator(self._callbacks, self._store, self._settings)
        self._read = 0

    def __enter__(self) -> Self:
        self._initiator.start()
        self.wait_logged_on()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        # QuickFIX counts a message after its callback; a client that left in between would be sent it again.
        wait_until(self._has_counted, "everything received is counted")
        self._initiator.stop(True)
        # Freed now: its end unregisters the session by name, which would hit a later client of the same name.
        del self._initiator

    def _has_counted(self) -> bool:
        last = max((int(field(message, 34)) for message in self.app), default=0)
        return int(fix.Session.lookupSession(self._session).getExpectedTargetNum()) > last

    @property
    def app(self) -> list[str]:
        return self._callbacks.app

    @property
    def admin(self) -> list[str]:
        return self._callbacks.admin

    @property
    def logged_on(self) -> bool:
        return self._callbacks.logged_on

    def wait_logged_on(self) -> None:
        wait_until(lambda: self.logged_on, "logged on")

    def wait_logged_out(self) -> None:
        wait_until(lambda: not self.logged_on, "logged out")

    def send(self, fields: str) -> None:
        """From 35= on, without the session's fields. While logged out, it is stored and goes out after the logon."""
        body = fields.strip("|").replace("|", SOH) + SOH
        message = fix.Message(f"8=FIX.4.2{SOH}9=0{SOH}{body}10=000{SOH}", False)
        assert fix.Session.sendToTarget(message, self._session)

    def receive(self, count: int) -> list[str]:
        """The next `count` application messages not yet received by this call."""
        wait_until(lambda: len(self.app) >= self._read + count, f"{count} messages, have {self.app[self._read :]}")
        received = self.app[self._read : self._read + count]
        self._read += count
        return received


class RawFixClient:
    """A socket that speaks FIX 4.2 by hand. Sequence numbers are the test's business."""

    def __init__(self, port: int, comp_id: str, target: str = "XSIM") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self._comp_id, self._target = comp_id, target
        self._received = ""

    def send(self, sequence: int, msg_type: str, fields: str) -> None:
        now = datetime.now(UTC).strftime("%Y%m%d-%H:%M:%S")
        header = f"35={msg_type}|34={sequence}|49={self._comp_id}|52={now}|56={self._target}|"
        self.send_bytes(f"{(header + fields).strip('|')}|".replace("|", SOH).encode())

    def send_bytes(self, body: bytes) -> None:
        """Adds BodyLength(9) and CheckSum(10)."""
        message = f"8=FIX.4.2{SOH}9={len(body)}{SOH}".encode() + body
        self._socket.sendall(message + f"10={sum(message) % 256:03d}{SOH}".encode())

    def log_on(self, sequence: int = 1, heartbeat_seconds: int = 30) -> str:
        self.send(sequence, "A", f"98=0|108={heartbeat_seconds}")
        return self.receive("35=A")

    def receive(self, fields: str) -> str:
        """Skips messages until one has the fields. AssertionError if the connection ends before."""
        while True:
            end = self._received.find(f"{SOH}10=")
            end = self._received.find(SOH, end + 1) if end >= 0 else -1
            if end >= 0:
                message, self._received = self._received[: end + 1], self._received[end + 1 :]
                if has(message.replace(SOH, "|"), fields):
                    return message.replace(SOH, "|")
                continue
            more = self._socket.recv(65536)
            assert more, f"the connection ended before {fields} came"
            self._received += more.decode("latin-1")

    def close(self) -> None:
        self._socket.close()


def _settings(port: int, comp_id: str, target: str, store: Path) -> str:
    return f"""[DEFAULT]
ConnectionType=initiator
HeartBtInt=5
ReconnectInterval=1
SocketNodelay=Y
NonStopSession=Y
UseDataDictionary=Y
DataDictionary={Path(sys.prefix) / "share" / "quickfix" / "FIX42.xml"}
ValidateUserDefinedFields=N
FileStorePath={store / "fix-store"}
[SESSION]
BeginString=FIX.4.2
SenderCompID={comp_id}
TargetCompID={target}
SocketConnectHost=127.0.0.1
SocketConnectPort={port}
"""
