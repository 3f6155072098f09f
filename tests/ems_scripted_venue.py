"""A venue that does as it is told, on a bare socket: for what no sound venue sends."""

import contextlib
import socket
import threading
from datetime import UTC, datetime

from tests.fix_client import SOH, field, wait_until


class ScriptedVenue:
    """Answers Logon, TestRequest and ResendRequest (by a gap fill); the rest is the test's. Messages are strings with
    `|` between the fields. Its numbers go on from logon to logon, unless the test sets them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connection: socket.socket | None = None
        self.next_out = 1
        self.received: list[str] = []
        self.mute = False
        self.answers_logon = True
        self.answers_resend = True
        self.closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(5)

    def cut(self) -> None:
        """Ends the connection, without a word."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):  # the engine was first
                connection.shutdown(socket.SHUT_RDWR)  # close alone would wait for the reading thread
            connection.close()

    def send(self, text: str, seq_num: int | None = None, header: str = "") -> int:
        """`text` begins with 35=; the session's fields are filled in. The number it went out under."""
        if seq_num is None:
            seq_num, self.next_out = self.next_out, self.next_out + 1
        msg_type, _, body = text.partition("|")
        now = f"{datetime.now(UTC):%Y%m%d-%H:%M:%S}.000"
        parts = [msg_type, "49=XSIM", "56=OPENBELL", f"34={seq_num}", f"52={now}", header, body]
        self.send_bytes(_framed(SOH.join(part for part in parts if part).replace("|", SOH) + SOH))
        return seq_num

    def send_bytes(self, data: bytes) -> None:
        wait_until(lambda: self._connection is not None, "the engine connects")
        assert self._connection is not None
        self._connection.sendall(data)

    def report(
        self, cl_ord_id: str, fields: str, exec_id: str = "0", seq_num: int | None = None, header: str = ""
    ) -> int:
        """An ExecutionReport; `fields` win over what it has anyway."""
        rest = f"37=V{cl_ord_id}|17={exec_id}|11={cl_ord_id}|55=AAPL|54=1|38=10|151=0|14=0|6=0|75=20261120"
        tags = dict(part.split("=", 1) for part in f"{rest}|{fields}".split("|"))
        body = "|".join(f"{tag}={value}" for tag, value in tags.items())
        return self.send(f"35=8|{body}", seq_num, header)

    def unknown(self, cl_ord_id: str, header: str = "") -> int:
        fields = f"20=3|150=8|39=8|103=5|37=NONE|17=0|11={cl_ord_id}|55=AAPL|54=1|151=0|14=0|6=0"
        return self.send(f"35=8|{fields}", header=header)

    def fill(self, cl_ord_id: str, exec_id: str) -> int:
        return self.report(cl_ord_id, "20=0|150=2|39=2|32=10|31=150.01|14=10", exec_id)

    def of_type(self, msg_type: str) -> list[str]:
        return [message for message in self.received if field(message, 35) == msg_type]

    def wait_for(self, msg_type: str, count: int, seconds: float = 15) -> str:
        """The `count`-th message of a type, once it has come."""
        wait_until(
            lambda: len(self.of_type(msg_type)) >= count, f"{count} of type {msg_type}: {self.received}", seconds
        )
        return self.of_type(msg_type)[count - 1]

    def _serve(self) -> None:
        while not self.closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connection = connection
            self._read(connection)

    def _read(self, connection: socket.socket) -> None:
        buffer = b""
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            buffer += data
            while (end := buffer.find(b"\x0110=")) >= 0 and (stop := buffer.find(b"\x01", end + 4)) >= 0:
                message, buffer = buffer[: stop + 1].decode().replace(SOH, "|"), buffer[stop + 1 :]
                self.received.append(message)
                self._answer(message)

    def _answer(self, message: str) -> None:
        msg_type = field(message, 35)
        if self.mute:
            return
        if msg_type == "A" and self.answers_logon:
            self.send(f"35=A|98=0|108={field(message, 108)}")
        elif msg_type == "1":
            self.send(f"35=0|112={field(message, 112)}")
        elif msg_type == "2" and self.answers_resend:
            self.send(f"35=4|123=Y|36={self.next_out}", int(field(message, 7)), "43=Y")


def _framed(body: str) -> bytes:
    head = f"8=FIX.4.2{SOH}9={len(body)}{SOH}{body}".encode()
    return head + f"10={sum(head) % 256:03d}{SOH}".encode()
