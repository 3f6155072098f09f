"""The contract, decoded and encoded."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc

from ems import accept_commands
from ems.accept_commands import Command
from ems.config import Config
from ems.database import SQL
from openbell.ems.v1 import ems_pb2, ems_pb2_grpc
from openbell.fix.v1 import fix_pb2
from runtime import db, ids
from runtime import log as logs
from runtime.batch import Batcher
from runtime.db import Pool, Row
from runtime.errors import Refusal
from runtime.log import Bell
from runtime.serve import Context

SCOPES: Final = {
    "/openbell.ems.v1.EmsService/Send": "route",
    "/openbell.ems.v1.EmsService/Subscribe": "log",
}

KINDS: Final = {name.removeprefix("EXECUTION_KIND_"): number for name, number in ems_pb2.ExecutionKind.items()}
SIDES: Final = {name.removeprefix("SIDE_"): number for name, number in fix_pb2.Side.items()}
EXEC_TRANS_TYPES: Final = {
    0: ems_pb2.EXEC_TRANS_TYPE_NEW,
    1: ems_pb2.EXEC_TRANS_TYPE_CANCEL,
    2: ems_pb2.EXEC_TRANS_TYPE_CORRECT,
    3: ems_pb2.EXEC_TRANS_TYPE_STATUS,
}
ORD_STATUSES: Final = {
    "A": fix_pb2.ORD_STATUS_PENDING_NEW,
    "0": fix_pb2.ORD_STATUS_NEW,
    "1": fix_pb2.ORD_STATUS_PARTIALLY_FILLED,
    "2": fix_pb2.ORD_STATUS_FILLED,
    "3": fix_pb2.ORD_STATUS_DONE_FOR_DAY,
    "4": fix_pb2.ORD_STATUS_CANCELED,
    "5": fix_pb2.ORD_STATUS_REPLACED,
    "6": fix_pb2.ORD_STATUS_PENDING_CANCEL,
    "7": fix_pb2.ORD_STATUS_STOPPED,
    "8": fix_pb2.ORD_STATUS_REJECTED,
    "9": fix_pb2.ORD_STATUS_SUSPENDED,
    "C": fix_pb2.ORD_STATUS_EXPIRED,
    "E": fix_pb2.ORD_STATUS_PENDING_REPLACE,
}


class Service(ems_pb2_grpc.EmsServiceServicer):
    def __init__(self, config: Config, pool: Pool, commands: Batcher[list[Command], None]) -> None:
        self._config, self._pool, self._commands = config, pool, commands
        self._bells: defaultdict[int, Bell] = defaultdict(Bell)

    def ring(self, partition: str) -> None:
        """Rows were added to this partition of the execution log."""
        if partition.isdecimal():
            self._bells[int(partition)].ring()

    async def Send(
        self, requests: AsyncIterator[ems_pb2.SendRequest], context: Context
    ) -> AsyncIterator[ems_pb2.SendResponse]:
        async for batch in requests:
            accept_commands.check(batch)
            await self._commands.submit(accept_commands.decode(batch, self._config, time.time_ns()))
            position = max((command.position for command in batch.commands), default=0)
            yield ems_pb2.SendResponse(partition=batch.partition, position=position)

    async def Subscribe(
        self, request: ems_pb2.SubscribeRequest, context: Context
    ) -> AsyncIterator[ems_pb2.SubscribeResponse]:
        partition = request.partition
        if not 0 <= partition < self._config.partitions:
            message = f"the execution log has the partitions 0 to {self._config.partitions - 1}"
            raise Refusal("UNKNOWN_PARTITION", grpc.StatusCode.INVALID_ARGUMENT, message)

        async def read(after: int, limit: int) -> Sequence[Row]:
            return await self._read(partition, after, limit)

        async for rows in logs.tail(self._bells[partition], read, request.after):
            yield ems_pb2.SubscribeResponse(executions=[execution(row) for row in rows])

    async def _read(self, partition: int, after: int, limit: int) -> Sequence[Row]:
        try:
            async with self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
                return await connection.fetch(SQL.executions_after, partition, after, limit)
        except db.UNREACHABLE as problem:
            message = "the database does not answer; subscribe again"
            raise Refusal("DATABASE_AWAY", grpc.StatusCode.UNAVAILABLE, message) from problem


def execution(row: Any) -> ems_pb2.Execution:
    """A row of the table `executions` as the contract has it."""
    return ems_pb2.Execution(
        position=row["position"],
        execution_id=ids.execution_id(row["log_partition"], row["position"]),
        kind=KINDS[row["kind"]],
        venue=row["venue"],
        trade_date=row["trade_date"].isoformat() if row["trade_date"] else "",
        exec_id=row["exec_id"] or "",
        exec_ref_id=row["exec_ref_id"] or "",
        exec_trans_type=EXEC_TRANS_TYPES.get(row["exec_trans_type"], ems_pb2.EXEC_TRANS_TYPE_UNSPECIFIED),
        cl_ord_id=row["cl_ord_id"],
        order_id=row["order_id"],
        account_id=row["account_id"],
        symbol=row["symbol"],
        side=SIDES.get(row["side"], fix_pb2.SIDE_UNSPECIFIED),
        last_shares=row["last_shares"],
        last_price=row["last_px"],
        cum_quantity=row["cum_qty"],
        leaves_quantity=row["leaves_qty"],
        ord_status=ORD_STATUSES.get(row["ord_status"], fix_pb2.ORD_STATUS_UNSPECIFIED),
        text=row["text"],
        transact_time_ns=row["transact_time_ns"] or 0,
        received_at_ns=row["received_at_ns"],
        trace_id=row["trace_id"].hex(),
        span_id=row["span_id"].hex(),
    )
