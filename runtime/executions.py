"""A consumer of the execution log: follows every partition of it with a cursor of its own."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import grpc

from openbell.ems.v1 import ems_pb2, ems_pb2_grpc
from runtime import connect, db, log

SOURCE = "ems"  # the cursors' name

Rows = Sequence[ems_pb2.Execution]


async def follow(
    pool: db.Pool,
    channel: grpc.aio.Channel,
    token: str,
    partition: int,
    apply: Callable[[int, int, Rows], Awaitable[object]],
) -> None:
    """For ever: `apply(partition, cursor, rows)` does the effect and moves the cursor in one transaction."""
    stub = ems_pb2_grpc.EmsServiceStub(channel)

    async def subscribe(after: int) -> AsyncGenerator[Rows]:
        request = ems_pb2.SubscribeRequest(partition=partition, after=after)
        call = stub.Subscribe(request, metadata=connect.metadata(token))
        try:
            async for response in call:
                yield response.executions
        finally:
            call.cancel()  # or it would live on at the EMS, one more each time the effect fails

    async def load_cursor() -> int:
        async with pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
            return await log.cursor(connection, SOURCE, partition)

    async def effect(cursor: int, rows: Rows) -> None:
        await apply(partition, cursor, rows)

    await log.follow(f"{SOURCE}/{partition}", subscribe, load_cursor, effect)
