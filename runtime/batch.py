"""A queue in front of a writer: commits at once when idle, in batches when work queues."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import grpc

from runtime.errors import Refusal

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Gives queued items to `commit` in order of arrival, one batch at a time.

    `commit` returns one answer an item; an exception in place of an answer is raised to that item's caller only. If
    `commit` itself raises, every caller of the batch gets that exception, and so does `run`, which ends.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        batch_max: int = 500,
        queue_max: int = 10_000,
        spacing_seconds: float = 0.005,
    ) -> None:
        self._commit = commit
        self._batch_max, self._spacing_seconds = batch_max, spacing_seconds
        self._queue: asyncio.Queue[tuple[Item, asyncio.Future[Answer]]] = asyncio.Queue(queue_max)

    async def submit(self, item: Item) -> Answer:
        """The item's answer. Refusal RESOURCE_EXHAUSTED when the queue is full."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((item, answer))
        except asyncio.QueueFull:
            raise Refusal(
                "OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, "too much is queued; try again in a moment"
            ) from None
        return await answer

    async def submit_fact(self, item: Item) -> Answer:
        """As `submit`, but waits for its place: a fact is never refused."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self._queue.put((item, answer))
        return await answer

    async def run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._batch_max and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._answer(batch)
            if len(batch) > 1:  # work queues: wait a little, so that the next commit carries more of it
                await asyncio.sleep(self._spacing_seconds)

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._commit([item for item, _ in batch])
        except Exception as problem:
            for _, future in batch:
                if not future.done():
                    future.set_exception(problem)
            raise
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
