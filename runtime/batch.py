"""A queue in front of a writer: commits at once when idle, in batches when work queues."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import grpc

from runtime.errors import Refusal

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Answers = Sequence[Answer | Exception]


class Batcher(Generic[Item, Answer]):
    """Gives queued items to `commit` in order of arrival, one batch at a time; up to `commits_max` where much queues.

    `commit` returns one answer an item; an exception in place of an answer is raised to that item's caller only. If
    `commit` itself raises, every caller of the batch gets that exception, and so does `run`, which ends.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Answers[Answer]]],
        *,
        batch_max: int = 500,
        queue_max: int = 10_000,
        spacing_seconds: float = 0.005,
        commits_max: int = 1,
    ) -> None:
        self._commit, self._commits_max = commit, commits_max
        self._batch_max, self._queue_max, self._spacing_seconds = batch_max, queue_max, spacing_seconds
        self._queue: deque[tuple[Sequence[Item], asyncio.Future[Answers[Answer]]]] = deque()
        self._queued = 0  # items
        self._changed, self._room = asyncio.Event(), asyncio.Event()
        self._commits: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._resting = False  # between two commits, so that the next carries more

    async def submit(self, item: Item) -> Answer:
        """The item's answer. Refusal RESOURCE_EXHAUSTED when the queue is full."""
        return _only(await self.submit_all([item]))

    async def submit_all(self, items: Sequence[Item]) -> Answers[Answer]:
        """The items' answers, in their order, of one batch. Refusal RESOURCE_EXHAUSTED when the queue is full."""
        if not self._has_room(items, self._queue_max):
            raise Refusal("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, "too much is queued; try again in a moment")
        return await self._put(items)

    async def submit_fact(self, item: Item) -> Answer:
        """As `submit`, but never refused: who brings a fact waits for its answer before the next, so few queue."""
        return _only(await self._put([item]))

    async def queue_all(self, items: Sequence[Item]) -> asyncio.Future[Answers[Answer]]:
        """Waits for a place in the queue, then gives the answers to come: a stream is slowed, not refused."""
        while not self._has_room(items, self._queue_max // 2):  # the rest is for calls
            self._room.clear()
            await self._room.wait()
        return self._put(items)

    def _has_room(self, items: Sequence[Item], most: int) -> bool:
        return self._queued == 0 or self._queued + len(items) <= most

    def _put(self, items: Sequence[Item]) -> asyncio.Future[Answers[Answer]]:
        answers: asyncio.Future[Answers[Answer]] = asyncio.get_running_loop().create_future()
        self._queue.append((items, answers))
        self._queued += len(items)
        self._changed.set()
        return answers

    async def run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            while self._may_start():
                self._start(self._take())

    def _may_start(self) -> bool:
        """One commit at a time, spaced so that each carries more; where much queues, the next is begun beside it."""
        if not self._queue:
            return False
        if self._queued * 2 >= self._batch_max:
            return len(self._commits) < self._commits_max
        return not self._commits and not self._resting

    def _start(self, batch: list[tuple[Sequence[Item], asyncio.Future[Answers[Answer]]]]) -> None:
        commit = asyncio.create_task(self._answer(batch))
        self._commits.add(commit)
        commit.add_done_callback(partial(self._ended, len(batch)))

    def _ended(self, submissions: int, commit: asyncio.Task[None]) -> None:
        self._commits.discard(commit)
        failure = None if commit.cancelled() else commit.exception()
        self._failure = self._failure or failure
        if submissions > 1 and not self._resting:  # work queues
            self._resting = True
            asyncio.get_running_loop().call_later(self._spacing_seconds, self._rested)
        self._changed.set()

    def _rested(self) -> None:
        self._resting = False
        self._changed.set()

    def _take(self) -> list[tuple[Sequence[Item], asyncio.Future[Answers[Answer]]]]:
        """What queues, at least one submission, up to batch_max items."""
        batch = [self._queue.popleft()]
        count = len(batch[0][0])
        while self._queue and count + len(self._queue[0][0]) <= self._batch_max:
            count += len(self._queue[0][0])
            batch.append(self._queue.popleft())
        self._queued -= count
        self._room.set()
        return batch

    async def _answer(self, batch: list[tuple[Sequence[Item], asyncio.Future[Answers[Answer]]]]) -> None:
        try:
            answers = await self._commit([item for items, _ in batch for item in items])
        except Exception as problem:
            for _, future in batch:
                if not future.done():
                    future.set_exception(problem)
            raise
        start = 0
        for items, future in batch:
            if not future.done():
                future.set_result(answers[start : start + len(items)])
            start += len(items)


def _only(answers: Answers[Answer]) -> Answer:
    (answer,) = answers
    if isinstance(answer, Exception):
        raise answer
    return answer


class Window:
    """How much of one stream is under way. A message larger than the window enters alone."""

    def __init__(self, most: int) -> None:
        self._most, self._inside, self._left = most, 0, asyncio.Event()

    async def enter(self, count: int) -> None:
        while self._inside and self._inside + count > self._most:
            self._left.clear()
            await self._left.wait()
        self._inside += count

    def leave(self, count: int) -> None:
        self._inside -= count
        self._left.set()
