"""PostgreSQL, for the service and the engine alike: the named queries, one way to commit, one way to listen."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from runtime import db
from runtime import log as logs
from runtime.db import Connection, Pool, Queries
from runtime.log import Fenced, Head

SQL: Final = Queries(Path(__file__).parent / "sql" / "queries.sql")
EXECUTIONS_BELL: Final = "ems_executions"  # payload: the partition
ROUTES_BELL: Final = "ems_routes"  # payload: the partition

# The statement was refused because of what it holds: trying it again cannot help.
REFUSED: Final = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, UnicodeError)

LogName = tuple[str, int]  # log, partition
Work = Callable[[Connection], Awaitable[dict[LogName, int]]]

log = structlog.get_logger()


class Writer:
    """The fenced writer of some logs. One commit at a time; each is repeated until it is acknowledged."""

    def __init__(self, pool: Pool, heads: Iterable[Head]) -> None:
        self._pool = pool
        self._heads = {(head.log, head.partition): head for head in heads}
        self._outcome_unknown = False

    @classmethod
    async def take(cls, pool: Pool, names: Iterable[LogName]) -> "Writer":
        """Becomes the writer; whoever wrote before is fenced off."""
        async with pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
            return cls(pool, [await logs.take(connection, *name) for name in names])

    def next_position(self, name: LogName) -> int:
        """Of the next row; to be asked for inside `work`."""
        return self._heads[name].position + 1

    async def commit(self, work: Work) -> None:
        """Runs `work` in one transaction until that is known to be committed. `work` returns how many rows it has added
        to each log; it must find out by itself what an earlier attempt of unknown outcome has done.

        Fenced when there is another writer; one of REFUSED when the database will not have what `work` writes."""
        attempt = 0
        while True:
            try:
                await self._try(work)
                return
            except (Fenced, *REFUSED):
                raise
            except Exception as problem:  # noqa: BLE001  not acknowledged, whatever a dying server calls it
                attempt += 1
                log.warning("commit not acknowledged; trying again", attempt=attempt, problem=repr(problem))
                await asyncio.sleep(min(1.0, 0.05 * 2 ** min(attempt, 5)) * random.uniform(0.5, 1))

    async def _try(self, work: Work) -> None:
        async with self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
            if self._outcome_unknown:
                for name, head in self._heads.items():
                    self._heads[name] = await logs.retake(connection, head)
            self._outcome_unknown = True
            async with connection.transaction():
                added = await work(connection)
                for name, rows in added.items():
                    await logs.advance(connection, self._heads[name], rows)
            for name, rows in added.items():
                self._heads[name].position += rows
            self._outcome_unknown = False


async def listen(url: str, bell: str, heard: Callable[[str], None]) -> None:
    """Calls `heard(payload)` for each notification, for ever. Only a hint: some are lost while it reconnects."""
    while True:
        connection = await db.patiently(lambda: asyncpg.connect(url, timeout=5), bell)
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _, closed=closed: closed.set())
        try:
            await connection.add_listener(bell, lambda _connection, _pid, _channel, payload: heard(payload))
            await closed.wait()
        except db.UNREACHABLE as problem:
            log.warning("listening again", bell=bell, problem=repr(problem))
        finally:
            connection.terminate()
