"""The venue's FIX sessions over sockets: with QuickFIX as a stranger's engine, with counterparties that misbehave, and
across kill -9. The application is the one of tests/exchange_echo.py."""

import contextlib
import os
import queue
import random
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import pytest

from exchange.connection import BACKLOG_BYTES_MAX
from exchange.server import STRANGERS_MAX, Server, SessionConfig
from exchange.store import Store
from tests.exchange_echo import NAME, SESSIONS, Echo
from tests.exchange_process import CHECKOUT, free_port
from tests.fix_client import SOH, FixClient, RawFixClient, field, has, wait_until

SECOND: Final = 1_000_000_000


def now() -> str:
    return datetime.now(UTC).strftime("%Y%m%d-%H:%M:%S")


def order(cl_ord_id: str) -> str:
    return f"11={cl_ord_id}|21=1|55=AAPL|54=1|38=10|40=1|60={now()}"


def raw_message(fields: str) -> bytes:
    body = fields.replace("|", SOH).encode("latin-1")
    message = f"8=FIX.4.2{SOH}9={len(body)}{SOH}".encode() + body
    return message + f"10={sum(message) % 256:03d}{SOH}".encode()


class Running:
    """A Server in a thread. `do` runs something in its loop; `skip` lets its steady clock jump."""

    def __init__(
        self, directory: Path, application: Echo | None = None, sessions: tuple[SessionConfig, ...] = SESSIONS
    ):
        self.echo = application or Echo(directory)
        self._ahead_ns = 0
        self.server = Server(
            NAME,
            "127.0.0.1",
            0,
            sessions,
            directory / "fix",
            self.echo,
            steady=lambda: time.monotonic_ns() + self._ahead_ns,
        )
        self.echo.start(self.server)
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self.server.watch(self._woken, self._do_jobs)
        self._stops = False
        self.problem: OSError | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stops = True
        self._thread.join(10)
        self._wake.close()
        self._woken.close()

    @property
    def port(self) -> int:
        return self.server.port

    def do(self, job: Callable[[], None]) -> None:
        done = threading.Event()
        self._jobs.put(job)
        self._jobs.put(done.set)
        self._wake.send(b"xx")
        assert done.wait(10)

    def skip(self, seconds: float) -> None:
        self._ahead_ns += int(seconds * SECOND)

    def log_on(self, comp_id: str = "RAW") -> RawFixClient:
        client = RawFixClient(self.port, comp_id)
        client.log_on()
        return client

    def _do_jobs(self) -> None:
        for _ in self._woken.recv(2):
            self._jobs.get()()

    def _run(self) -> None:
        try:
            self.server.run(lambda: self._stops)
            self.server.log_out("the venue stops")
        except OSError as problem:  # a real one would end the process
            self.problem = problem


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as running:
        yield running
    assert running.problem is None


def rest(client: RawFixClient) -> str:
    """What else comes until the connection ends."""
    read = client._received
    with contextlib.suppress(ConnectionResetError):
        while more := client._socket.recv(65536):
            read += more.decode("latin-1")
    return read.replace(SOH, "|")


# A stranger's engine


def test_a_stranger_s_engine_trades_and_comes_back(running: Running, tmp_path: Path) -> None:
    with FixClient(running.port, "ENGINE", tmp_path / "engine") as client:
        for number in range(20):
            client.send(f"35=D|{order(f'a{number}')}")
        assert [field(each, 11) for each in client.receive(20)] == [f"a{number}" for number in range(20)]
        client.send("35=7|2=x|5=N|55=A|4=B|53=5")
        assert has(client.receive(1)[0], "35=j|372=7|380=3")
        client.send(f"35=D|11=b|55=AAPL|54=1|38=10|40=1|60={now()}")
        wait_until(lambda: any(has(each, "35=3|371=21|373=1") for each in client.admin), "the reject")
    wait_until(lambda: not running.server.is_logged_on("ENGINE"), "logged out")
    running.do(lambda: running.server.send("ENGINE", f"35=B{SOH}148=while you were away{SOH}33=1{SOH}58=x{SOH}"))
    with FixClient(running.port, "ENGINE", tmp_path / "engine") as client:
        (news,) = client.receive(1)
        assert has(news, "35=B|43=Y|148=while you were away")
        client.send(f"35=D|{order('c')}")
        assert has(client.receive(1)[0], "35=8|11=c|43=")
    assert [event for comp_id, event in running.echo.events if comp_id == "ENGINE"] == ["on 5", "out", "on 5", "out"]


def test_what_the_venue_has_lost_count_of_the_engine_sends_again(tmp_path: Path) -> None:
    with Running(tmp_path) as running, FixClient(running.port, "ENGINE", tmp_path / "engine") as client:
        for number in range(50):
            client.send(f"35=D|{order(f'a{number}')}")
        client.receive(50)
    (tmp_path / "fix" / "ENGINE.in").unlink()
    (tmp_path / "journal").unlink()
    with Running(tmp_path) as running, FixClient(running.port, "ENGINE", tmp_path / "engine") as client:
        assert [field(each, 11) for each in client.receive(50)] == [f"a{number}" for number in range(50)]
        client.send(f"35=D|{order('b')}")
        assert has(client.receive(1)[0], "11=b")


def test_a_session_that_resets_on_logon(running: Running, tmp_path: Path) -> None:
    for attempt in range(2):
        client = running.log_on("FRESH")
        client.send(2, "D", order(f"a{attempt}"))
        assert has(client.receive("35=8"), "34=2")
        client.close()
        wait_until(lambda: not running.server.is_logged_on("FRESH"), "logged out")
    assert running.server.last_mark("FRESH") == 2


# Strangers


def test_who_is_not_known_gets_no_answer(running: Running) -> None:
    for comp_id, target in (("STRANGER", NAME), ("RAW", "OTHERVENUE"), ("", NAME)):
        client = RawFixClient(running.port, comp_id, target)
        client.send(1, "A", "98=0|108=30")
        assert rest(client) == ""
        client.close()
    order_first = RawFixClient(running.port, "RAW")
    order_first.send(1, "D", order("a"))
    assert rest(order_first) == ""
    order_first.close()
    assert running.echo.events == []


def test_a_second_connection_is_dropped_and_the_first_one_undisturbed(running: Running) -> None:
    first = running.log_on()
    second = RawFixClient(running.port, "RAW")
    second.send(2, "A", "98=0|108=30")
    assert rest(second) == ""
    first.send(2, "D", order("a"))
    assert has(first.receive("35=8"), "34=2|11=a")
    for client in (first, second):
        client.close()


def test_strangers_are_few_and_have_little_time(running: Running) -> None:
    strangers = [socket.create_connection(("127.0.0.1", running.port), timeout=5) for _ in range(STRANGERS_MAX + 5)]
    assert [stranger.recv(1) for stranger in strangers[:5]] == [b""] * 5
    client = running.log_on()  # takes the place of one more
    assert strangers[5].recv(1) == b""
    running.skip(9)
    client.send(2, "D", order("a"))
    client.receive("35=8")
    running.skip(2)
    assert [stranger.recv(1) for stranger in strangers[6:]] == [b""] * (STRANGERS_MAX - 1)
    client.send(3, "D", order("b"))
    client.receive("35=8")
    for each in strangers:
        each.close()
    client.close()


def test_a_flood_of_strangers_does_not_keep_a_counterparty_out(running: Running) -> None:
    def arrive() -> None:  # all of them between two turns, the counterparty first
        clients.append(RawFixClient(running.port, "RAW"))
        clients[0].send(1, "A", "98=0|108=30")
        strangers.extend(socket.create_connection(("127.0.0.1", running.port)) for _ in range(STRANGERS_MAX + 10))

    clients: list[RawFixClient] = []
    strangers: list[socket.socket] = []
    running.do(arrive)
    clients[0].receive("35=A")
    clients[0].close()
    for each in strangers:
        each.close()


def test_a_stranger_that_speaks_no_fix_is_dropped_at_once(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.recv(1) == b""


def round_trips(client: RawFixClient, first: int, count: int) -> list[float]:
    """Seconds that each took."""
    taken = []
    for number in range(first, first + count):
        started = time.perf_counter()
        client.send(number, "D", order(f"r{number}"))
        client.receive(f"35=8|11=r{number}")
        taken.append(time.perf_counter() - started)
    return taken


def test_a_stranger_that_sends_byte_by_byte_delays_nobody(running: Running) -> None:
    client = running.log_on()
    stranger = socket.create_connection(("127.0.0.1", running.port))
    logon = raw_message(f"35=A|34=1|49=OTHER|52={now()}|56=XSIM|98=0|108=30|")
    for number, byte in enumerate(logon[:-1]):
        stranger.sendall(bytes([byte]))
        (taken,) = round_trips(client, 2 + number, 1)
        assert taken < 0.5
    stranger.sendall(logon[-1:])
    assert b"35=A" in stranger.recv(1000)
    stranger.close()
    client.close()


def test_one_that_floods_delays_the_others_little(running: Running) -> None:
    flooding, client = running.log_on("OTHER"), running.log_on()
    flood = b"".join(
        raw_message(f"35=D|34={number}|49=OTHER|52={now()}|56=XSIM|{order(f'f{number}')}|")
        for number in range(2, 10_000)
    )
    sender = threading.Thread(target=flooding._socket.sendall, args=(flood,))
    flooding._socket.settimeout(30)
    reader = threading.Thread(target=flooding.receive, args=("11=f9999",))
    sender.start()
    reader.start()
    taken = round_trips(client, 2, 30)
    assert reader.is_alive()  # the flood was on all the time
    sender.join()
    reader.join()
    assert sorted(taken)[15] < 0.1
    for each in (flooding, client):
        each.close()


def test_who_does_not_read_is_dropped_and_can_ask_for_all_of_it_later(running: Running) -> None:
    deaf, client = running.log_on("OTHER"), running.log_on()
    text = "x" * 10_000
    count = BACKLOG_BYTES_MAX // len(text) + 1000

    def send_much() -> None:
        for _ in range(count):
            running.server.send("OTHER", f"35=B{SOH}148=x{SOH}33=1{SOH}58={text}{SOH}")

    running.do(send_much)
    wait_until(lambda: not running.server.is_logged_on("OTHER"), "dropped")
    assert max(round_trips(client, 2, 5)) < 1
    deaf.close()
    back = RawFixClient(running.port, "OTHER")
    assert has(back.log_on(2), f"34={count + 2}")
    back.send(3, "2", f"7={count}|16=0")
    assert has(back.receive("35=B"), f"34={count}|43=Y")
    back.receive(f"35=4|34={count + 2}|36={count + 3}")
    back.send(4, "2", "7=1|16=0")  # 16 MB, at the pace at which they are read
    back.receive(f"35=4|34={count + 2}|36={count + 3}")
    for each in (back, client):
        each.close()


def test_a_burst_larger_than_the_connection_takes_waits_and_arrives_in_order_as_new(running: Running) -> None:
    client = running.log_on()
    count = 20_000
    text = "x" * (2 * BACKLOG_BYTES_MAX // count)

    def burst() -> None:
        for number in range(count):
            running.server.send("RAW", f"35=B{SOH}148={text}{SOH}33=1{SOH}58=last-{number}{SOH}")

    running.do(burst)
    came = bytearray()
    while f"58=last-{count - 1}{SOH}".encode() not in came[-1000:]:
        more = client._socket.recv(65536)
        assert more, "the connection ended"
        came += more
        time.sleep(0.0005)
    assert re.findall(rb"\x0134=(\d+)\x01", came) == [b"%d" % number for number in range(2, count + 2)]
    assert b"\x0143=" not in came
    assert running.echo.events == [("RAW", "on 30")]
    client.close()


def test_without_descriptors_those_who_are_in_stay_in(tmp_path: Path) -> None:
    with EchoProcess(tmp_path) as echo:
        client = RawFixClient(echo.port, "RAW")
        client.log_on()
        in_use = len(os.listdir(f"/proc/{echo.process.pid}/fd"))
        resource.prlimit(echo.process.pid, resource.RLIMIT_NOFILE, (in_use + 3, 4096))
        strangers = [socket.create_connection(("127.0.0.1", echo.port)) for _ in range(10)]
        spent = cpu_seconds(echo.process.pid)
        assert max(round_trips(client, 2, 10)) < 1
        time.sleep(0.3)
        assert cpu_seconds(echo.process.pid) - spent < 0.2
        resource.prlimit(echo.process.pid, resource.RLIMIT_NOFILE, (1024, 4096))
        other = RawFixClient(echo.port, "OTHER")
        other.log_on()
        for stranger in strangers:
            stranger.close()
        for each in (client, other):
            each.close()


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().split()
    return (int(words[13]) + int(words[14])) / os.sysconf("SC_CLK_TCK")


# Input that is broken


@pytest.mark.parametrize(
    "garbled",
    [
        b"\x00\xff\r\n",
        raw_message("35=0|34=2|")[:-4] + b"999\x01",
        raw_message("35=0|34=2|").replace(b"9=10", b"9=11", 1),
        b"8=FIX.4.2\x019=99999999\x01",
        b"8=FIX.4.2\x01" * 5000,
    ],
    ids=["junk", "checksum", "body length", "huge", "starts"],
)
def test_what_is_garbled_is_ignored_and_its_number_not_counted(running: Running, garbled: bytes) -> None:
    client = running.log_on()
    client._socket.sendall(garbled)
    client.send(2, "D", order("a"))
    assert has(client.receive("35=8"), "34=2|11=a")
    client.close()


def test_a_message_that_lies_about_its_length_holds_up_what_follows_for_a_second_at_most(running: Running) -> None:
    client = running.log_on()
    client._socket.sendall(raw_message(f"35=0|34=2|49=RAW|52={now()}|56=XSIM|").replace(b"9=4", b"9=94", 1))
    client.send(3, "D", order("a"))
    running.skip(1.1)
    assert has(client.receive("35=2"), "7=2|16=0")
    client.close()


def mutated(dice: random.Random, message: bytes) -> bytes:
    at = dice.randrange(len(message))
    more = dice.randrange(1, 20)
    kind = dice.randrange(6)
    if kind == 0:
        return message[:at] + bytes([message[at] ^ (1 << dice.randrange(8))]) + message[at + 1 :]
    if kind == 1:
        return message[:at]
    if kind == 2:
        return message[:at] + message[at : at + more] * 2 + message[at + more :]
    if kind == 3:
        return message[:at] + dice.randbytes(more) + message[at:]
    if kind == 4:
        return message[:at] + message[at + more :]
    return message + message


def well_framed(message: bytes) -> bytes:
    """With BodyLength and CheckSum made right again, so that it gets past the framing."""
    body = message[message.find(b"\x0135=") + 1 : message.rfind(b"\x0110=") + 1]
    return raw_message(body.decode("latin-1"))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class EchoProcess:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.exchange_echo", str(self._directory), str(self.port)]
        with (self._directory / "out.txt").open("ab") as out:
            self.process = subprocess.Popen(command, cwd=CHECKOUT, stdout=out, stderr=out)
        wait_until(self._listens, "it listens")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)

    def _listens(self) -> bool:
        assert self.process.poll() is None, (self._directory / "out.txt").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Attacker:
    """Sends what it is given on the session FRESH, and finds its way back to a session that answers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._probes = self.reconnects = self.number = 0
        self._client = self._connect()

    def _connect(self) -> RawFixClient:
        deadline = time.monotonic() + 10
        while True:
            assert time.monotonic() < deadline, "no logon"
            client = RawFixClient(self._port, "FRESH")
            client._socket.settimeout(3)
            with contextlib.suppress(AssertionError, OSError):
                client.send(1, "A", "98=0|108=30|141=Y")
                client.receive("35=A|34=1")
                self.number = 2
                return client
            client.close()

    def send(self, data: bytes, counts: bool) -> None:
        self.number += counts
        try:
            self._client._socket.sendall(data)
            if not self._is_connected():
                self.reconnect()
        except OSError:
            self.reconnect()

    def _is_connected(self) -> bool:
        """Reads what is there."""
        peer = self._client._socket
        readable = select.poll()
        readable.register(peer, select.POLLIN)
        while readable.poll(0):
            more = peer.recv(65536)
            if not more or b"\x0135=5\x01" in more:
                return False
        return True

    def reconnect(self) -> None:
        self.reconnects += 1
        self._client.close()
        self._client = self._connect()

    def probe(self) -> None:
        """The next good message is answered: on this connection, or on the next if this one was ended."""
        self._probes += 1
        number = self._probes * 100_000
        try:
            self._client.send(1, "4", f"36={number}")
            self._client.send(number, "1", f"112=probe {self._probes}")
            self._client.receive(f"35=0|112=probe {self._probes}")
        except (AssertionError, OSError):
            self.reconnect()
            self._client.send(2, "1", f"112=again {self._probes}")
            self._client.receive(f"35=0|112=again {self._probes}")


def test_ten_thousand_mutated_messages_leave_the_venue_as_it_was(tmp_path: Path) -> None:
    dice = random.Random(42)
    with EchoProcess(tmp_path) as echo:
        bystander = RawFixClient(echo.port, "RAW")
        bystander.log_on()
        attacker = Attacker(echo.port)
        before = 0
        slowest = 0.0
        kinds = ("D", order("m")), ("1", "112=x"), ("2", "7=1|16=0"), ("4", "123=Y|36=9"), ("5", "58=x"), ("3", "45=1")
        for number in range(10_000):
            msg_type, body = dice.choice(kinds)
            message = raw_message(f"35={msg_type}|34={attacker.number}|49=FRESH|52={now()}|56=XSIM|{body}|")
            is_framed = dice.random() < 0.5
            attacker.send(well_framed(mutated(dice, message)) if is_framed else mutated(dice, message), is_framed)
            if number % 5 == 0:  # which also waits until the venue has read so far
                slowest = max(slowest, *round_trips(bystander, 2 + number // 5, 1))
            if number % 1000 == 999:
                attacker.probe()
                before = before or resident_bytes(echo.process.pid)
        attacker.probe()
        assert echo.process.poll() is None
        assert attacker.reconnects > 100  # as many were understood well enough to be the end of the session
        assert resident_bytes(echo.process.pid) - before < 20_000_000
        assert slowest < 2
        bystander.close()


# Across kill -9


@pytest.mark.parametrize("bad_logon", [False, True])
def test_the_number_of_a_logout_that_has_left_is_never_used_again(
    running: Running, tmp_path: Path, bad_logon: bool
) -> None:
    client = RawFixClient(running.port, "RAW")
    if bad_logon:
        client.send(1, "A", "98=1|108=30")
    else:
        client.log_on()
        client.send(2, "5", "58=bye")
    left = int(field(client.receive("35=5"), 34))
    shutil.copytree(tmp_path / "fix", tmp_path / "killed")  # what a kill now would leave
    assert Store(tmp_path / "killed", "RAW", 1).next_out == left + 1
    client.close()


def test_an_order_is_answered_once_whether_the_journal_had_it_before_the_kill_or_not(tmp_path: Path) -> None:
    with EchoProcess(tmp_path) as echo, FixClient(echo.port, "ENGINE", tmp_path / "engine") as client:
        names = ["a", "b", "die-before", "c", "die-after", "d"]
        for name in names:
            client.send(f"35=D|{order(name)}")
        for _ in range(2):
            assert echo.process.wait(10) == -signal.SIGKILL
            echo.start()
        answers = client.receive(6)
        client.send(f"35=D|{order('e')}")
        answers += client.receive(1)
        assert [field(each, 11) for each in answers] == [*names, "e"]
        assert [field(each, 17) for each in answers] == ["1", "2", "3", "4", "5", "6", "7"]


def test_kills_at_any_time_lose_and_double_nothing(tmp_path: Path) -> None:
    dice = random.Random(7)
    with EchoProcess(tmp_path) as echo, FixClient(echo.port, "ENGINE", tmp_path / "engine") as client:
        for kill in range(2):
            for number in range(300):
                client.send(f"35=D|{order(f'{kill}-{number}')}")
            time.sleep(dice.random() * 0.05)
            echo.process.kill()
            echo.process.wait(10)
            echo.start()
        names = [field(each, 11) for each in client.receive(600)]
        assert sorted(names) == sorted({f"{kill}-{number}" for kill in range(2) for number in range(300)})
        assert [field(each, 17) for each in client.app] == [str(number) for number in range(1, 601)]


# The application's side


class Strict(Echo):
    """Counts what happens between two flushes, and fails when told to."""

    due: int | None = None
    fails = False

    def flush(self) -> None:
        if self.fails and self._unflushed:
            raise OSError("no space left on the journal's device")
        super().flush()

    def due_ns(self) -> int | None:
        return self.due

    def tick(self, now_ns: int) -> None:
        self.due = None
        self.events.append(("", "tick"))


def test_nothing_leaves_and_nothing_counts_when_the_journal_cannot_be_written(tmp_path: Path) -> None:
    echo = Strict(tmp_path)
    with Running(tmp_path, echo) as running:
        client = running.log_on()
        client.send(2, "D", order("a"))
        client.receive("35=8|11=a")
        echo.fails = True
        client.send(3, "D", order("b"))
        wait_until(lambda: running.problem is not None, "the server ends")
    assert "journal" in str(running.problem)
    client._socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.receive("35=8")
    assert (tmp_path / "fix" / "RAW.in").read_bytes().split()[1] == b"0000000003"
    client.close()


class Telling(Strict):
    """Tells RAW of every order, and then ends its session."""

    def received(self, comp_id: str, fields: Mapping[str, str], received_ns: int) -> None:
        super().received(comp_id, fields, received_ns)
        self.server.send("RAW", f"35=B{SOH}148=of the order{SOH}33=1{SOH}58=x{SOH}")
        self.server.end("RAW", "of the order")


def test_nothing_leaves_at_a_writable_socket_before_the_journal_has_it(tmp_path: Path) -> None:
    echo = Telling(tmp_path)
    with Running(tmp_path, echo) as running:
        other, behind = running.log_on("OTHER"), running.log_on()
        came = bytearray()
        seen: list[bool] = []

        def is_behind() -> bool:
            time.sleep(0.01)
            running.do(lambda: seen.append(running.server.is_behind("RAW")))
            return seen[-1]

        def send_some() -> None:
            for _ in range(50):
                running.server.send("RAW", f"35=B{SOH}148={'x' * 10_000}{SOH}33=1{SOH}58=x{SOH}")

        def order_and_make_room() -> None:  # within one turn, so that the next finds both sockets ready
            echo.fails = True
            running.skip(-10)  # no tick comes in between, which writes too
            other.send(2, "D", order("a"))
            behind._socket.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                while True:
                    came.extend(behind._socket.recv(1 << 20))

        while not is_behind():
            running.do(send_some)
        running.do(order_and_make_room)
        wait_until(lambda: running.problem is not None, "the server ends")
        with contextlib.suppress(TimeoutError):
            while more := behind._socket.recv(1 << 20):
                came += more
    assert len(came) > 1_000_000
    assert b"of the order" not in came
    for each in (other, behind):
        each.close()


def test_the_application_is_called_when_it_is_due(tmp_path: Path) -> None:
    echo = Strict(tmp_path)
    with Running(tmp_path, echo) as running:
        started = time.time_ns()

        def ask() -> None:
            echo.due = started + 50_000_000

        running.do(ask)
        wait_until(lambda: ("", "tick") in echo.events, "the tick")
        assert 0.05 <= (time.time_ns() - started) / SECOND < 1
    assert running.problem is None


def test_one_session_can_be_ended_and_may_come_back(running: Running) -> None:
    client, other = running.log_on(), running.log_on("OTHER")
    running.do(lambda: running.server.end("RAW", "by the operator"))
    client.receive("35=5|58=by the operator")
    client.send(2, "5", "58=bye")
    assert rest(client) == ""
    client.close()
    again = RawFixClient(running.port, "RAW")
    again.log_on(3)
    other.send(2, "D", order("a"))
    other.receive("35=8")
    for each in (again, other):
        each.close()


def test_a_stop_logs_everybody_out(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        clients = [running.log_on(comp_id) for comp_id in ("RAW", "OTHER")]
        running._stops = True
        for client in clients:
            client.receive("35=5|58=the venue stops")
            client.send(2, "5", "58=bye")
            assert rest(client) == ""
            client.close()
    assert running.problem is None
    assert [event for _, event in running.echo.events] == ["on 30", "on 30", "out", "out"]
    with Running(tmp_path) as running:
        client = RawFixClient(running.port, "RAW")
        assert has(client.log_on(3), "34=3")
        client.close()


def test_the_server_listens_at_its_address_only(tmp_path: Path) -> None:
    server = Server(NAME, "127.0.0.2", 0, SESSIONS, tmp_path, Echo(tmp_path))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    with pytest.raises(OSError, match="in use"):
        Server(NAME, "127.0.0.2", server.port, SESSIONS, tmp_path / "other", Echo(tmp_path))
    server.log_out("")
