"""Finds holds whose order never came, and releases them.

The order id is given up first, in the writer's own order of things: a PlaceOrder still under way then fails and is
asked again, so that no order can ever stand on a released hold.
"""

import asyncio
import time

import grpc
import structlog
from prometheus_client import Counter

from oms.config import Config
from oms.holds import Held, Holds
from oms.writer import SQL, Abandon, Answer, Item
from runtime import db
from runtime.batch import Batcher
from runtime.errors import Refusal, Unknown

ANSWER_SECONDS = 5.0
PASSING = (grpc.aio.AioRpcError, Refusal, Unknown, *db.UNREACHABLE)

log = structlog.get_logger()
released = Counter("openbell_orphan_holds_released_total", "Holds released because their order never came")


class Sweep:
    def __init__(self, pool: db.Pool, holds: Holds, writer: Batcher[Item, Answer], config: Config) -> None:
        self._pool, self._holds, self._writer, self._config = pool, holds, writer, config

    async def run(self) -> None:
        while True:
            try:
                await self.once()
            except PASSING as problem:
                log.info("sweep put off", problem=repr(problem))
            await asyncio.sleep(self._config.sweep_seconds)

    async def once(self) -> None:
        before_ns = time.time_ns() - int(self._config.orphan_hold_seconds * 1e9)
        holds = await self._holds.open_before(before_ns, ANSWER_SECONDS)
        rows = await self._pool.fetch(SQL.existing, [hold.order_id for hold in holds])
        ordered = {row["order_id"] for row in rows}
        for hold in holds:
            if hold.order_id not in ordered:
                await self._try(hold)

    async def _try(self, hold: Held) -> None:
        try:
            await self._release(hold)
        except PASSING as problem:  # the next one may still be released; this one comes again
            log.warning("orphan hold not released", hold_id=hold.hold_id, problem=repr(problem))

    async def _release(self, hold: Held) -> None:
        if await self._writer.submit(Abandon(hold.order_id)):
            await self._holds.release(hold.hold_id, ANSWER_SECONDS)
            released.inc()
            log.warning("orphan hold released", hold_id=hold.hold_id, order_id=hold.order_id)
