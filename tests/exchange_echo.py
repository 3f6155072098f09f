"""python -m tests.exchange_echo DIRECTORY PORT: the FIX sessions of the venue with the smallest application that has a
journal. A NewOrderSingle(D) is answered with one ExecutionReport(8), New; anything else with BusinessMessageReject(j).

ClOrdID(11) `die-before` and `die-after` end the process as by kill -9, before or after the journal has the order, once.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from exchange.server import Server, SessionConfig

NAME: Final = "XSIM"
SESSIONS: Final = (
    SessionConfig("ENGINE"),
    SessionConfig("RAW"),
    SessionConfig("OTHER"),
    SessionConfig("FRESH", reset_on_logon=True),
)
SOH: Final = "\x01"


class Echo:
    """`journal`: one line an order, CompID and ClOrdID. An order that is there already is not answered anew."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "journal"
        self._file = self._path.open("ab")
        self.journal = [tuple(line.split()) for line in self._path.read_text().splitlines()]
        self._unflushed: list[str] = []
        self.server: Server
        self.events: list[tuple[str, str]] = []

    def start(self, server: Server) -> None:
        """Answers what was journaled and perhaps not answered."""
        self.server = server
        for number, (comp_id, cl_ord_id) in enumerate(self.journal, 1):
            if number > server.last_mark(comp_id):
                self._answer(comp_id, cl_ord_id, number)

    def logged_on(self, comp_id: str, logon: Mapping[str, str]) -> None:
        self.events.append((comp_id, f"on {logon['108']}"))

    def logged_out(self, comp_id: str) -> None:
        self.events.append((comp_id, "out"))

    def received(self, comp_id: str, fields: Mapping[str, str], received_ns: int) -> None:
        if fields["35"] != "D":
            refusal = f"35=j{SOH}45={fields['34']}{SOH}372={fields['35']}{SOH}380=3{SOH}"
            self.server.send(comp_id, refusal)
        elif (comp_id, fields["11"]) not in self.journal[-1000:]:
            self.journal.append((comp_id, fields["11"]))
            self._unflushed.append(f"{comp_id} {fields['11']}\n")
            self._answer(comp_id, fields["11"], len(self.journal))

    def flush(self) -> None:
        if self._unflushed:
            self._die("die-before")
            self._file.write("".join(self._unflushed).encode())
            self._file.flush()
            self._die("die-after")
            self._unflushed.clear()

    def sent(self) -> None:
        pass

    def due_ns(self) -> int | None:
        return None

    def tick(self, now_ns: int) -> None:
        raise AssertionError("never due")

    def _answer(self, comp_id: str, cl_ord_id: str, number: int) -> None:
        ids = f"37={number}{SOH}11={cl_ord_id}{SOH}17={number}{SOH}20=0{SOH}150=0{SOH}39=0{SOH}"
        rest = f"55=AAPL{SOH}54=1{SOH}38=10{SOH}151=10{SOH}14=0{SOH}6=0{SOH}"
        self.server.send(comp_id, f"35=8{SOH}{ids}{rest}", number)

    def _die(self, when: str) -> None:
        if any(line.endswith(f" {when}\n") for line in self._unflushed):
            marker = self._path.with_name(when)
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    directory, port = Path(sys.argv[1]), int(sys.argv[2])
    echo = Echo(directory)
    server = Server(NAME, "127.0.0.1", port, SESSIONS, directory / "fix", echo)
    echo.start(server)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    server.run(lambda: bool(stopped))
    server.log_out("the venue stops")


if __name__ == "__main__":
    main()
