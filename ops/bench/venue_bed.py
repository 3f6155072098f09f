"""The venue and the ends of the bare pairs, each a process of its own, in a temporary directory while a benchmark runs.

The venue runs as `openbell up` runs it: all it writes is on disk, and its feed is on. Whoever would listen to the feed
does not read: the kernel drops what comes.
"""

import json
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ops.bench.bed import ENDINGS
from ops.bench.venue_traffic import COMP_IDS, PRICES, VENUE, PairJob
from ops.failure import Failure
from ops.supervise import PYTHON
from ops.waiting import poll

START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """One end of FIX sessions. `client_store` is where the other end keeps its sequence numbers."""

    name: str
    port: int
    client_store: Path
    process: subprocess.Popen[str]
    log: Path

    def check(self) -> None:
        """Failure if it has ended."""
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended: {_last_line(self.log)}")

    def wait_listening(self) -> None:
        if not poll(self._listens, START_SECONDS):
            raise Failure(f"{self.name} does not listen on {self.port}: {_last_line(self.log)}")

    def _listens(self) -> bool:
        self.check()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass(frozen=True, slots=True)
class Bed:
    """What runs. `pair_twice` answers each order twice."""

    directory: Path
    venue: Server
    pair: Server
    pair_twice: Server


@contextmanager
def running() -> Iterator[Bed]:
    """Ended and removed at the end, however that comes, kill -9 apart."""
    before = {number: signal.signal(number, _end) for number in ENDINGS}
    directory = Path(tempfile.mkdtemp(prefix="openbell-bench-"))
    started: list[subprocess.Popen[str]] = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as feed:
            feed.bind(("127.0.0.1", 0))
            yield _start(directory, started, feed.getsockname()[1])
    finally:
        for number in (signal.SIGINT, *ENDINGS):  # a second Ctrl-C would leave processes behind
            before.setdefault(number, signal.signal(number, signal.SIG_IGN))
        for process in started:
            process.kill()
            process.communicate()
        shutil.rmtree(directory)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _start(directory: Path, started: list[subprocess.Popen[str]], feed_port: int) -> Bed:
    bed = Bed(
        directory,
        _start_venue(directory, started, feed_port),
        _start_pair("pair", directory, started, market=False),
        _start_pair("pair_twice", directory, started, market=True),
    )
    for server in (bed.venue, bed.pair, bed.pair_twice):
        server.wait_listening()
    return bed


def _start_venue(directory: Path, started: list[subprocess.Popen[str]], feed_port: int) -> Server:
    port, file = _free_port(socket.SOCK_STREAM), directory / "venue.toml"
    file.write_text(_venue_toml(directory / "venue", port, feed_port))
    command = [PYTHON, "-m", "exchange", "--config", str(file)]
    return _server("venue", port, directory, _popen(command, directory / "venue.log", started))


def _venue_toml(data: Path, fix_port: int, feed_port: int) -> str:
    values = {
        "name": VENUE,
        "fix_port": fix_port,
        "feed_port": feed_port,
        "rerequest_port": _free_port(socket.SOCK_DGRAM),
        "data_dir": str(data),
        "session": "always",
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    lines += [f'[[counterparties]]\ncomp_id = "{each}"' for each in COMP_IDS]
    lines += [f'[[symbols]]\nsymbol = "{symbol}"\nprice = "{price}"' for symbol, price in PRICES.items()]
    return "\n".join(lines) + "\n"


def _start_pair(name: str, directory: Path, started: list[subprocess.Popen[str]], *, market: bool) -> Server:
    port = _free_port(socket.SOCK_STREAM)
    process = _popen([PYTHON, "-m", "ops.bench.fix_pair"], directory / f"{name}.log", started)
    assert process.stdin is not None
    process.stdin.write(PairJob(port, str(directory / name), market).to_json() + "\n")
    process.stdin.flush()
    return _server(name, port, directory, process)


def _server(name: str, port: int, directory: Path, process: subprocess.Popen[str]) -> Server:
    return Server(name, port, directory / f"client-{name}", process, directory / f"{name}.log")


def _popen(command: Sequence[str], log: Path, started: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    with log.open("w") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out, text=True)
    started.append(process)
    return process


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(log: Path) -> str:
    """The last thing a process said: its log goes with the directory."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"
