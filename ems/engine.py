"""`python -m ems.engine --data DIR --venue NAME`: one process a venue.

It holds the FIX session, sends the routes, and is the only writer of the venue's partition of the execution log.
"""

import argparse
import asyncio
import fcntl
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import structlog
import uvloop
from prometheus_client import Gauge

from ems import config as configuration
from ems import fix, plan
from ems.config import HEARTBEATS_MAX, Config, Venue
from ems.database import ROUTES_BELL, SQL, Writer, listen
from ems.messages import NotSent
from ems.plan import Mark
from ems.record import Recorder
from ems.routes import Action, Ask, Drop, OpenRoutes, Send, Stage, from_row
from ems.session import Initiator, Session, read_clock
from runtime import crash, db, telemetry
from runtime.db import Pool
from runtime.log import Gap
from runtime.serve import until_stopped
from runtime.settings import Settings, load

BATCH_MAX: Final = 500  # messages a commit
SPACING_SECONDS: Final = 0.015  # after a batch of more than one: the next commit then carries more
TICK_SECONDS: Final = 0.1  # send_by and silence are looked at so often
POLL_SECONDS: Final = 1.0  # a notification may be lost
READ_MAX: Final = 500  # routes at once
WAITING_MAX: Final = 1_000  # routes in memory that wait; the others wait in the database
DRAIN_SECONDS: Final = 5.0
STORE_SECONDS: Final = 1.0  # whether QuickFIX still stores is looked at so often
METRICS_PORTS_APART: Final = 40

log = structlog.get_logger()
session_healthy = Gauge("openbell_fix_session_healthy", "1 while new orders may go to the venue", ["venue"])
silence_seconds = Gauge("openbell_fix_silence_seconds", "Since the venue's last message", ["venue"])
doubts = Gauge("openbell_fix_doubts", "Orders of which it is not known whether the venue has them", ["venue"])
inbox_length = Gauge("openbell_fix_inbox_messages", "Received and not committed", ["venue"])


class Engine:
    """Between the session and the database, in the event loop's thread."""

    def __init__(self, config: Config, partition: int, pool: Pool, open_routes: OpenRoutes, cursor: int) -> None:
        self._partition, self._pool, self._open_routes, self._cursor = partition, pool, open_routes, cursor
        self._silence_ns_max = int(config.heartbeat_seconds * HEARTBEATS_MAX * 1_000_000_000)
        self._arrived, self._changed, self._routes_rung = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._recording = asyncio.Lock()
        self._logon = 0  # the latest one of which the doubts are marked
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()

    def use(self, session: Session, recorder: Recorder) -> None:
        self._session, self._recorder = session, recorder

    def wake(self) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._woken)

    def fail(self, reason: str) -> None:
        """Ends the process. From any thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._failed, reason)

    def _woken(self) -> None:
        self._arrived.set()
        self._changed.set()

    def _failed(self, reason: str) -> None:
        if not self.failed.done():
            self.failed.set_exception(RuntimeError(reason))

    def ring(self, partition: str) -> None:
        """A route may have been written."""
        if partition == str(self._partition):
            self._routes_rung.set()

    def linked(self) -> bool:
        """Logged on, and the venue was heard of lately."""
        silent_ns = time.monotonic_ns() - self._session.heard_ns
        return self._session.logged_on and silent_ns < self._silence_ns_max

    def healthy(self) -> bool:
        """Whether new orders go out."""
        marked = self._session.logon == self._logon
        return self.linked() and marked and not self._open_routes.count(Stage.IN_DOUBT)

    async def record(self) -> None:
        """Commits what the session receives, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._session.inbox:
                if await self.record_once() > 1:
                    await asyncio.sleep(SPACING_SECONDS)

    async def record_once(self) -> int:
        """Commits one batch; then, and only then, acts on it."""
        async with self._recording:
            inbox = self._session.inbox
            batch = [inbox.popleft() for _ in range(min(BATCH_MAX, len(inbox)))]
            if not batch:
                return 0
            plans = await self._recorder.record(batch)
            if any(each.executions for each in plans):
                crash.point("engine.execution_committed")
            for each in plans:
                plan.learn(each, self._open_routes, self._logon)
            self._changed.set()
            return len(batch)

    async def read_routes(self) -> None:
        """Takes new routes from the database, in order, for ever."""
        while True:
            self._routes_rung.clear()
            try:
                while self._open_routes.count(Stage.WAITING) < WAITING_MAX and await self._read_some() == READ_MAX:
                    pass
            except db.UNREACHABLE as problem:
                log.warning("cannot read routes", problem=repr(problem))
            full = self._open_routes.count(Stage.WAITING) >= WAITING_MAX
            with suppress(TimeoutError):
                await asyncio.wait_for(self._routes_rung.wait(), TICK_SECONDS if full else POLL_SECONDS)

    async def _read_some(self) -> int:
        async with self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
            rows = await connection.fetch(SQL.new_routes, self._partition, self._cursor, READ_MAX)
        for row in rows:
            if row["position"] != self._cursor + 1:
                raise Gap(f"routes/{self._partition}: expected position {self._cursor + 1}, got {row['position']}")
            self._cursor += 1
            self._open_routes.add(from_row(row), Stage.WAITING)
        self._changed.set()
        return len(rows)

    async def send(self) -> None:
        """Sends, asks and drops, for ever."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), TICK_SECONDS)
            self._changed.clear()
            if self._step():
                self._changed.set()
                await asyncio.sleep(0)

    def _step(self) -> bool:
        """Whether something was done; then there may be more to do."""
        if self._stopping:
            return False
        if self._session.logon != self._logon:
            self._logon = self._session.logon
            self._open_routes.cut()
        answers_wait = bool(self._session.inbox) or self._recording.locked()
        actions = self._open_routes.decide(read_clock(), linked=self.linked(), answers_wait=answers_wait)
        # What is withheld stops the rest: nothing may overtake it.
        return bool(actions) and all(self._perform(action) for action in actions)

    def _perform(self, action: Action) -> bool:
        """False when it was withheld, because the logon or send_by ended meanwhile."""
        now, opened = read_clock(), action.open
        route = opened.route
        match action:
            case Drop(reason=reason):
                self._open_routes.dropped(opened)
                self._session.inbox.append(NotSent(route, reason, now.utc_ns))
                self._arrived.set()
            case Ask():
                if not self._session.hand(fix.status_request(route), self._logon):
                    return False
                self._open_routes.asked(opened, now)
            case Send(possible_resend=possible_resend):
                text = fix.new_order(route, now.utc_ns, possible_resend=possible_resend)
                if not self._session.hand(text, self._logon, opened):
                    return False
                self._open_routes.handed(opened, now)
        return True

    async def fails(self) -> None:
        """Until the process must end."""
        while not self.failed.done():
            self._session.check_store()
            await asyncio.wait([self.failed], timeout=STORE_SECONDS)
        await self.failed

    async def stop(self, initiator: Initiator) -> None:
        """Nothing new is sent; the venue is told; what it has said so far is committed."""
        self._stopping = True
        await asyncio.to_thread(initiator.stop)
        while self._session.inbox or self._recording.locked():
            await self.record_once()


async def run(settings: Settings, config: Config, partition: int, venue: Venue) -> None:
    """Until SIGTERM; SystemExit when it cannot go on."""
    directory = settings.data / "fix" / venue.name
    lock = _lock(directory)
    url = settings.secret("database_ems")
    pool = await db.pool(url, "ems", size=3)
    writer = await Writer.take(pool, [("executions", partition)])
    mark = await _mark(pool, f"FIX.4.2:{config.comp_id}->{venue.comp_id}", venue)
    open_routes = OpenRoutes(round(config.status_after_seconds * 1_000_000_000))
    engine = Engine(config, partition, pool, open_routes, await _load(pool, partition, open_routes))
    session = Session(open_routes, mark.committed_seq, engine.wake, engine.fail)
    engine.use(session, Recorder(writer, partition, mark, open_routes))
    _measure(engine, session, open_routes, venue)
    initiator = Initiator(session, config, venue, venue.port or settings.port("venue"), directory)
    initiator.start()
    log.info("engine started", venue=venue.name, committed_seq=mark.committed_seq)
    listener = listen(url, ROUTES_BELL, engine.ring)
    await until_stopped([engine.record(), engine.read_routes(), engine.send(), engine.fails(), listener])
    await asyncio.wait_for(engine.stop(initiator), DRAIN_SECONDS)
    lock.close()
    log.info("stopped")


def _lock(directory: Path) -> IO[str]:
    """Two engines on one session would each take the other's silence for the venue's."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = (directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another engine uses {directory}; stop it first") from None
    return lock


async def _mark(pool: Pool, session: str, venue: Venue) -> Mark:
    async with pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
        await connection.execute(SQL.begin_session, session, venue.name)
        row = await connection.fetchrow(SQL.session, session)
        assert row is not None
        return Mark(session, venue.name, row["epoch"], row["committed_seq"])


async def _load(pool: Pool, partition: int, open_routes: OpenRoutes) -> int:
    """Fills `open_routes` with what earlier processes left: they may have sent any of it. The position of the last."""
    async with pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
        cursor = int(await connection.fetchval(SQL.routes_head, partition))
        for row in await connection.fetch(SQL.open_routes, partition, cursor):
            open_routes.add(from_row(row), Stage.LIVE if row["known"] else Stage.IN_DOUBT)
    return cursor


def _measure(engine: Engine, session: Session, open_routes: OpenRoutes, venue: Venue) -> None:
    session_healthy.labels(venue.name).set_function(engine.healthy)
    silence_seconds.labels(venue.name).set_function(lambda: (time.monotonic_ns() - session.heard_ns) / 1e9)
    doubts.labels(venue.name).set_function(lambda: open_routes.count(Stage.IN_DOUBT))
    inbox_length.labels(venue.name).set_function(lambda: len(session.inbox))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ems.engine")
    parser.add_argument("--data", type=Path, required=True, help="the brokerage's data directory")
    parser.add_argument("--venue", required=True, help="a name from [ems] venues")
    arguments = parser.parse_args()
    settings = load(arguments.data)
    config = configuration.load(settings)
    partition, venue = config.venue(arguments.venue)
    telemetry.setup_logs(f"engine-{venue.name}")
    crash.arm(settings.data)
    telemetry.serve_metrics(settings.metrics_port("engine") + (partition - 1) * METRICS_PORTS_APART)
    _end(_run(settings, config, partition, venue))


def _run(settings: Settings, config: Config, partition: int, venue: Venue) -> int:
    try:
        uvloop.run(run(settings, config, partition, venue))
    except (SystemExit, Exception) as problem:  # noqa: BLE001  the edge of the process
        return _failure(problem)
    return 0


def _failure(problem: BaseException) -> int:
    log.critical("the engine ends", exc_info=problem)
    return 1


def _end(code: int) -> None:
    # QuickFIX's threads call into Python: they must not find an interpreter that is being taken down.
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
