"""A PostgreSQL and a ledger in a temporary directory, configured as by `openbell up`, for as long as a benchmark runs.

No other service runs: the ledger looks for the execution log now and then, and finds nobody.
"""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import asyncpg

from ops import config, database, directory, health, leftover, ports, postgres, secret_files, supervise
from ops.bench.tpcb import Tpcb
from ops.failure import Failure
from ops.programs import leftovers, programs
from ops.waiting import poll
from runtime import db
from runtime.settings import Settings

SQL = db.Queries(Path(__file__).parent.parent / "sql" / "bench.sql")
NAMES = ("postgres", "ledger")
PORT_BASES = range(21_000, 31_000, 100)
ENDINGS = (signal.SIGTERM, signal.SIGHUP)
TOLD = ("server_version", "fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True, slots=True)
class Bed:
    """What runs, and the pids it runs under."""

    settings: Settings
    pids: dict[str, int]

    @property
    def tpcb(self) -> Tpcb:
        return Tpcb(self.settings.port("postgres"), secret_files.password(self.settings.data, "admin"))

    def check(self) -> None:
        """Failure if a process was started again meanwhile: what was measured is then worth nothing."""
        for name, pid in _pids(self.settings).items():
            if pid != self.pids[name]:
                raise Failure(f"{name} ended while it was measured: {_last_line(self.settings, name)}")

    def ledger_bytes(self) -> int:
        """What the tables of the ledger take, indexes included."""
        return int(self._ask(SQL.ledger_bytes)[0][0])

    def transactions(self) -> int:
        """Number of transactions in the ledger."""
        return int(self._ask(SQL.transactions)[0][0])

    def checkpoint(self) -> None:
        self._ask(SQL.checkpoint)

    def server(self) -> dict[str, str]:
        """PostgreSQL's version, and what it does for durability."""
        return {row["name"]: row["setting"] for row in self._ask(SQL.server_settings, TOLD)}

    def create_tpcb(self) -> None:
        self._ask(SQL.create_tpcb)
        self.tpcb.fill()

    def _ask(self, query: str, *arguments: Any) -> list[db.Row]:
        return asyncio.run(_fetch(self.settings.secret("database_admin"), query, *arguments))


async def _fetch(url: str, query: str, *arguments: Any) -> list[db.Row]:
    connection = await asyncpg.connect(url, timeout=database.CONNECT_SECONDS)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


@contextmanager
def running(port_base: int | None) -> Iterator[Bed]:
    """Ended and removed at the end, however that comes, kill -9 apart."""
    sections = config.resolve(None, port_base or _free_port_base())
    ports.require_free(sections["port_base"])
    before = {number: signal.signal(number, _end) for number in ENDINGS}
    settings = Settings(Path(tempfile.mkdtemp(prefix="openbell-bench-")), sections)
    try:
        _start(settings)
        yield Bed(settings, _pids(settings))
    finally:
        for number in (signal.SIGINT, *ENDINGS):  # a second Ctrl-C would leave processes behind
            before.setdefault(number, signal.signal(number, signal.SIG_IGN))
        _remove(settings)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _free_port_base() -> int:
    found = next((base for base in PORT_BASES if ports.taken(base) is None), None)
    if found is None:
        raise Failure(f"no ports are free from {PORT_BASES.start} to {PORT_BASES.stop}: name some with --port-base")
    return found


def _start(settings: Settings) -> None:
    data, patience = settings.data, settings.section("ops", config.Ops).start_seconds
    directory.prepare(data)
    directory.write_settings(data, settings.sections)
    secret_files.make_all(data)
    postgres.initialise(data / "pg", secret_files.password(data, "admin"))
    supervise.write_config(data, [program for program in programs(settings) if program.name in NAMES])
    supervise.launch(data)
    supervise.start(data, "postgres")
    asyncio.run(asyncio.wait_for(database.prepare(settings), patience))
    supervise.start_all(data)
    if not poll(lambda: _is_up(settings), patience):
        raise Failure(f"the ledger does not answer: {_last_line(settings, 'ledger')}")


def _is_up(settings: Settings) -> bool:
    return all(row.is_up for row in asyncio.run(health.rows(settings)))


def _pids(settings: Settings) -> dict[str, int]:
    return {process.name: process.pid or 0 for process in supervise.processes(settings.data)}


def _last_line(settings: Settings, name: str) -> str:
    """The last thing a process said: its log goes with the directory."""
    log = settings.data / "log" / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"


def _remove(settings: Settings) -> None:
    supervise.stop(settings.data, settings.section("ops", config.Ops).stop_seconds)
    leftover.end(leftovers(settings), supervise.KILL_SECONDS)
    shutil.rmtree(settings.data)
