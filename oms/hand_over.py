"""Hands accepted orders over to the EMS: one ordered stream, read from the order log after a cursor.

Where a kill hurts: before the EMS has the route durable, the cursor has not moved and the order goes again; after it,
the EMS knows the ClOrdID and sends it once.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
import structlog

from oms.config import Config
from oms.orders import OrdType
from oms.writer import SQL
from openbell.ems.v1 import ems_pb2 as pb
from openbell.ems.v1 import ems_pb2_grpc
from openbell.fix.v1 import fix_pb2
from runtime import connect, db, ids, log, telemetry

HANDED_OVER = "handed over"  # the cursor, into the OMS's own log
RETRY_SECONDS = 0.3
CURSOR_SPACING_SECONDS = 0.02

events = structlog.get_logger()


class HandOver:
    def __init__(self, pool: db.Pool, config: Config, channel: grpc.aio.Channel, token: str, bell: log.Bell) -> None:
        self._pool, self._config, self._bell = pool, config, bell
        self._stub = ems_pb2_grpc.EmsServiceStub(channel)
        self._metadata = connect.metadata(token)

    async def run(self) -> None:
        while True:
            try:
                await self._stream()
            except grpc.aio.AioRpcError as error:
                events.info("EMS unreachable", status=error.code().name)
            except db.UNREACHABLE as problem:
                events.warning("hand-over waits for PostgreSQL", problem=repr(problem))
            await asyncio.sleep(RETRY_SECONDS)

    async def _stream(self) -> None:
        async with self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
            after = await log.cursor(connection, HANDED_OVER, self._config.partition)
        call = self._stub.Send(self._requests(after), metadata=self._metadata)
        async for response in call:
            if response.position > after:
                await self._move_cursor(after, response.position)
                after = response.position
                await asyncio.sleep(CURSOR_SPACING_SECONDS)  # a cursor that lags only sends again what is known

    async def _move_cursor(self, before: int, after: int) -> None:
        async with self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
            await log.move_cursor(connection, HANDED_OVER, self._config.partition, before, after)

    async def _requests(self, after: int) -> AsyncIterator[pb.SendRequest]:
        async def read(after: int, limit: int) -> Sequence[Any]:
            rows: Sequence[Any] = await self._pool.fetch(SQL.read_accepted, self._config.partition, after, limit)
            return rows

        # What this raised would reach the call's reader as its own cancellation: end the stream instead.
        with suppress(*db.UNREACHABLE):
            async for rows in log.tail(self._bell, read, after):
                accepted = [command(row, self._config.send_within_seconds) for row in rows if row["order_id"]]
                if accepted:
                    yield pb.SendRequest(partition=self._config.partition, commands=accepted)


def command(row: db.Row, send_within_seconds: int) -> pb.Command:
    """A market order goes out as an immediate-or-cancel limit at its collar."""
    market = row["ord_type"] == OrdType.MARKET
    ioc = fix_pb2.TIME_IN_FORCE_IMMEDIATE_OR_CANCEL
    return pb.Command(
        position=row["position"],
        cl_ord_id=ids.cl_ord_id(ids.OrderId(row["order_id"]), 0),
        order_id=row["order_id"],
        account_id=row["account_id"],
        send_by_ns=row["accepted_at_ns"] + send_within_seconds * 1_000_000_000,
        traceparent=telemetry.format_traceparent(row["trace_id"], row["span_id"]),
        new_order=pb.NewOrder(
            symbol=row["symbol"],
            side=row["side"],
            ord_type=fix_pb2.ORD_TYPE_LIMIT,
            time_in_force=ioc if market else row["time_in_force"],
            quantity=row["quantity"],
            price=row["route_price"],
        ),
    )
