"""The one writer of a log partition: batches in, one transaction each, unknown outcomes told as such.

Where a kill hurts: before the commit nothing has happened, and the caller's retry or the log's cursor brings it again;
after it, the stored answer and the moved cursor keep it from happening twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import structlog

from runtime import db, log
from runtime.errors import Unknown

Item = TypeVar("Item")
Answer = TypeVar("Answer")

UNKNOWN = "the database went away; ask again with the same key"

events = structlog.get_logger()


class FencedWriter(ABC, Generic[Item, Answer]):
    """Its `commit` is a Batcher's. What a subclass remembers is true as long as nobody else took the partition."""

    def __init__(self, pool: db.Pool, log_name: str, partition: int, bell: log.Bell) -> None:
        self._pool, self._log_name, self._partition, self._bell = pool, log_name, partition, bell
        self._head: log.Head | None = None
        self._in_doubt = False

    @abstractmethod
    async def write(
        self, connection: db.Connection, head: log.Head, items: Sequence[Item]
    ) -> Sequence[Answer | Exception]:
        """Decides and stores the items in one transaction that advances `head`. One answer an item."""

    @abstractmethod
    def forget(self) -> None:
        """Drops what is remembered: the last transaction may or may not have happened."""

    def committed(self, items: Sequence[Item]) -> None:
        """After the commit, before the answers: where crash points stand."""

    async def commit(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        return await self._commit(items)

    async def _commit(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        try:
            async with self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
                answers = await self.write(connection, await self._fenced(connection), items)
        except log.Fenced:
            self._doubt()
            raise
        except db.UNREACHABLE as problem:
            return self._unknown(items, problem)
        except Exception as problem:  # noqa: BLE001  one bad item must not take the others with it
            self._doubt()
            if len(items) <= 1:
                return [problem] * len(items)
            middle = len(items) // 2
            return [*await self._commit(items[:middle]), *await self._commit(items[middle:])]
        self._bell.ring()
        self.committed(items)
        return answers

    def _unknown(self, items: Sequence[Item], problem: Exception) -> Sequence[Answer | Exception]:
        self._doubt()
        events.warning("outcome of a commit unknown", log=self._log_name, problem=repr(problem))
        return [Unknown(UNKNOWN) for _ in items]

    def _doubt(self) -> None:
        self._in_doubt = True
        self.forget()

    async def _fenced(self, connection: db.Connection) -> log.Head:
        if self._head is None:
            self._head = await log.take(connection, self._log_name, self._partition)
        elif self._in_doubt:
            self._head = await log.retake(connection, self._head)
        self._in_doubt = False
        return self._head


def columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    """Rows as one array a column: what `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)]
