"""Logs: append-only, one fenced writer a partition, dense positions; and cursors into other services' logs.

A writer takes a partition by raising its epoch; every append moves the head by compare-and-set on epoch and position in
the transaction of the rows, so a writer that was replaced cannot append. A reader stores its cursor in the transaction
of the effect and refuses a gap.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import structlog
from prometheus_client import Gauge

from runtime.db import UNREACHABLE, Connection, Queries
from runtime.errors import Unknown

SQL = Queries(Path(__file__).parent / "sql" / "log.sql")
READ_MAX = 500  # rows a message
POLL_SECONDS = 1.0  # a bell may be lost with its process
BUFFERED_MESSAGES_MAX = 16
PASSING = (grpc.aio.AioRpcError, ConnectionError, Unknown, *UNREACHABLE)  # nothing is wrong with the rows

log = structlog.get_logger()
stopped = Gauge("openbell_log_stopped", "1 while a partition of another service's log cannot be applied", ["source"])
applied = Gauge("openbell_log_position", "Position up to which another service's log is applied", ["source"])

Entry = TypeVar("Entry")


class Fenced(Exception):
    """Another writer has taken the partition. The process must end."""


class Gap(Exception):
    """Rows are missing or out of order. Nothing is skipped in silence."""


@dataclass(slots=True)
class Head:
    """The writer's end of one partition."""

    log: str
    partition: int
    epoch: int
    position: int


async def take(connection: Connection, name: str, partition: int) -> Head:
    """Becomes the partition's writer; whoever wrote before is fenced off."""
    row = await connection.fetchrow(SQL.take, name, partition)
    assert row is not None
    return Head(name, partition, row["epoch"], row["position"])


async def retake(connection: Connection, head: Head) -> Head:
    """The same writer again after an outcome it does not know. Fenced if another one came in between."""
    row = await connection.fetchrow(SQL.retake, head.log, head.partition, head.epoch)
    if row is None:
        raise Fenced(f"{head.log}/{head.partition}: another writer took over from epoch {head.epoch}")
    return Head(head.log, head.partition, row["epoch"], row["position"])


async def advance(connection: Connection, head: Head, rows: int) -> None:
    """Inside the transaction that inserts the rows at head.position + 1 ... + rows. Fenced if the head has moved."""
    done = await connection.execute(
        SQL.advance, head.log, head.partition, head.epoch, head.position, head.position + rows
    )
    if done != "UPDATE 1":
        raise Fenced(f"{head.log}/{head.partition}: the head is no longer at epoch {head.epoch}, {head.position}")


async def cursor(connection: Connection, source: str, partition: int) -> int:
    return await connection.fetchval(SQL.cursor, source, partition) or 0


async def move_cursor(connection: Connection, source: str, partition: int, before: int, after: int) -> None:
    """Inside the transaction of the effect. Fenced if the cursor is no longer at `before`."""
    done = await connection.execute(SQL.move_cursor, source, partition, before, after)
    if done != "INSERT 0 1":
        raise Fenced(f"{source}/{partition}: the cursor is no longer at {before}")


class Bell:
    """Rung after a commit; wakes whoever waits for rows."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    def listen(self) -> asyncio.Event:
        """To be taken before reading, so that no ring between reading and waiting is lost."""
        return self._rung


async def tail(
    bell: Bell, read: Callable[[int, int], Awaitable[Sequence[Any]]], after: int
) -> AsyncIterator[Sequence[Any]]:
    """Rows after `after`, for ever, in chunks. `read(after, limit)` gives rows that have a `position`."""
    while True:
        rung = bell.listen()
        rows = await read(after, READ_MAX)
        if rows:
            after = rows[-1]["position"]
            yield rows
            continue
        try:
            await asyncio.wait_for(rung.wait(), POLL_SECONDS)
        except TimeoutError:
            continue


async def follow(
    source: str,
    subscribe: Callable[[int], AsyncGenerator[Sequence[Entry]]],
    load_cursor: Callable[[], Awaitable[int]],
    apply: Callable[[int, Sequence[Entry]], Awaitable[None]],
    *,
    spacing_seconds: float = 0.015,
) -> None:
    """Applies another service's log for ever: `apply(cursor, rows)` does the effect and moves the cursor.

    What cannot be applied stops this log, and nothing else, until it can: the gauge openbell_log_stopped is the alarm.
    """
    attempt = 0
    while True:
        try:
            after = await load_cursor()
            async with aclosing(_coalesced(subscribe(after))) as batches:
                async for rows in batches:
                    _refuse_gap(source, after, rows)
                    await _apply(apply, after, rows)
                    after += len(rows)
                    attempt = 0
                    stopped.labels(source).set(0)
                    applied.labels(source).set(after)
                    if len(rows) > 1:
                        await asyncio.sleep(spacing_seconds)
        except Fenced:
            raise
        except Exception as problem:  # noqa: BLE001  a partition stops and alarms, whatever the reason
            attempt += 1
            _report(source, attempt, problem)
        await asyncio.sleep(min(2.0, 0.05 * 2 ** min(attempt, 6)) * random.uniform(0.5, 1))


async def _apply(apply: Callable[[int, Sequence[Entry]], Awaitable[None]], after: int, rows: Sequence[Entry]) -> None:
    """All at once; when one of them cannot be applied, those before it all the same."""
    try:
        await apply(after, rows)
    except (Fenced, *PASSING):
        raise
    except Exception:
        for offset, row in enumerate(rows if len(rows) > 1 else ()):
            await apply(after + offset, [row])
        raise


def _report(source: str, attempt: int, problem: Exception) -> None:
    """Who is away comes back: that is told, now and then. What cannot be applied is an alarm."""
    if isinstance(problem, PASSING):
        if attempt % 20 == 1:
            log.warning("log unreachable", source=source, problem=str(problem))
    else:
        stopped.labels(source).set(1)
        log.error("log stopped", source=source, exc_info=problem)


def _refuse_gap(source: str, after: int, rows: Sequence[Any]) -> None:
    for expected, row in enumerate(rows, after + 1):
        if row.position != expected:
            raise Gap(f"{source}: expected position {expected}, got {row.position}")


async def _coalesced(messages: AsyncGenerator[Sequence[Entry]]) -> AsyncGenerator[Sequence[Entry]]:
    """Joins what arrived while the consumer was busy, so that one commit carries it. Ends as the stream ends."""
    arrived: asyncio.Queue[Sequence[Entry] | Exception] = asyncio.Queue(BUFFERED_MESSAGES_MAX)
    receiver = asyncio.create_task(_receive(messages, arrived))
    try:
        while True:
            joined: list[Entry] = []
            item = await arrived.get()
            while not isinstance(item, Exception):
                joined.extend(item)
                if len(joined) >= READ_MAX or arrived.empty():
                    break
                item = arrived.get_nowait()
            if joined:
                yield joined
            if isinstance(item, Exception):
                raise item
    finally:
        receiver.cancel()
        await asyncio.wait([receiver])


async def _receive(
    messages: AsyncGenerator[Sequence[Entry]], arrived: asyncio.Queue[Sequence[Entry] | Exception]
) -> None:
    try:
        async with aclosing(messages):
            async for rows in messages:
                await arrived.put(rows)
        await arrived.put(ConnectionError("the stream ended"))
    except Exception as problem:  # noqa: BLE001  handed to the consumer, which decides
        await arrived.put(problem)
