"""Reconciliation: what was posted against the execution log, and clearing against what has settled."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import grpc
import structlog
from prometheus_client import Gauge

from ledger import on_execution
from ledger.accounts import Kind, house_id
from ledger.compare import Mismatch, Posted, compare
from ledger.config import Config
from ledger.on_execution import Execution
from ledger.planner import RECONCILED, Item, Reconciled
from ledger.planner import SQL as WRITER_SQL
from ledger.settle import Settler
from openbell.ems.v1 import ems_pb2, ems_pb2_grpc
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import calendar, connect, db, executions, ids, log
from runtime.batch import Batcher
from runtime.errors import Refusal

SQL = db.Queries(Path(__file__).parent / "sql" / "reconcile.sql")
MISMATCHES_MAX = 1_000  # then a run compares no further: somebody has to look first
READ_SECONDS = 10.0  # for the next rows of the execution log
SPACING_SECONDS = 0.02  # after each chunk: commands go first
POLL_SECONDS = 30.0

events = structlog.get_logger()
mismatching = Gauge("openbell_ledger_mismatches", "Executions and settled dates that the ledger disagrees with")
failing = Gauge("openbell_ledger_reconciliation_failing", "1 while a reconciliation that is due cannot be done")


class Reconciler:
    """Each run compares the executions posted since the run before, what has settled, and the street.

    An execution that does not agree is compared again by each later run, and stays in the answers and in the gauge
    openbell_ledger_mismatches as long as it does not: nobody can put it aside. What is not among them has been compared
    once, and cannot change without being seen: the hash chain covers it.
    """

    def __init__(
        self,
        pool: db.Pool,
        writer: Batcher[Item, bytes],
        config: Config,
        settler: Settler,
        ems: grpc.aio.Channel,
        token: str,
        partitions: Sequence[int],
    ) -> None:
        self._pool, self._writer, self._config, self._settler = pool, writer, config, settler
        self._stub, self._token, self._partitions = ems_pb2_grpc.EmsServiceStub(ems), token, partitions
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> pb.ReconcileResponse:
        """Compares, stores what it found, and tells it. Refusal EXECUTIONS_AWAY if the EMS does not answer."""
        async with self._one_at_a_time:
            found = [*await self._again(), *await self._of_balances()]
            cursors, compared = [], 0
            for partition in self._partitions:
                before, after = await self._compare_new(partition, found)
                compared += after - before
                if after > before:
                    cursors.append((partition, before, after))
            await self._writer.submit_fact(
                Reconciled(compared, json.dumps([each._asdict() for each in found]), cursors)
            )
        _report(compared, found)
        told = [pb.Mismatch(**each._asdict()) for each in found]
        return pb.ReconcileResponse(executions=compared, mismatches=told)

    async def daily(self) -> None:
        """For ever: once a day from its hour on, and at the start if there was none today."""
        await self._settler.tried.wait()
        hour = 0
        while True:
            try:
                last_ns, earlier = await self._last()
                mismatching.set(len(earlier))
                if is_due(time.time_ns(), hour, last_ns):
                    await self.run()
                failing.set(0)
                hour = self._config.reconcile_hour
            except Exception as problem:  # noqa: BLE001  tried again: nothing was stored, or all of it
                _alarm(problem)
            await asyncio.sleep(POLL_SECONDS)

    async def _last(self) -> tuple[int, list[Mismatch]]:
        """(when the last run was, what it found)."""
        row = await self._pool.fetchrow(SQL.last_run, self._config.partition)
        if row is None:
            return 0, []
        return row["recorded_at_ns"], [Mismatch(**each) for each in json.loads(row["mismatches"])]

    # --- executions

    async def _again(self) -> list[Mismatch]:
        """What is left of the mismatches that the last run found."""
        _, earlier = await self._last()
        found: list[Mismatch] = []
        for execution_id in sorted({each.execution_id for each in earlier if each.execution_id}):
            partition, position = ids.place(execution_id)
            async with aclosing(self._read(partition, position - 1, position)) as chunks:
                async for rows in chunks:
                    found += await self._compare(rows)
        return found

    async def _compare_new(self, partition: int, found: list[Mismatch]) -> tuple[int, int]:
        """Adds to `found`. Returns from where to where it compared: what is posted, or less if too much is found."""
        async with self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
            before = after = await log.cursor(connection, RECONCILED, partition)
            posted = await log.cursor(connection, executions.SOURCE, partition)
        async with aclosing(self._read(partition, before, posted)) as chunks:
            while len(found) < MISMATCHES_MAX and (rows := await anext(chunks, None)):
                found += await self._compare(rows)
                after += len(rows)
                await asyncio.sleep(SPACING_SECONDS)
        return before, after

    async def _read(self, partition: int, after: int, to: int) -> AsyncGenerator[list[Execution]]:
        """Rows after `after` up to `to`, in chunks. Refusal EXECUTIONS_AWAY, Gap."""
        if after >= to:
            return
        request = ems_pb2.SubscribeRequest(partition=partition, after=after)
        call = self._stub.Subscribe(request, metadata=connect.metadata(self._token))
        try:
            while after < to:
                async with asyncio.timeout(READ_SECONDS):
                    response = await call.read()
                if not isinstance(response, ems_pb2.SubscribeResponse):
                    raise _away(partition, after + 1, "the stream ended")
                rows = [on_execution.decode(row, 0) for row in response.executions if row.position <= to]
                if [row.position for row in rows] != list(range(after + 1, after + 1 + len(rows))):
                    raise log.Gap(f"{executions.SOURCE}/{partition}: rows are missing after {after}")
                after += len(rows)
                yield rows
        except (grpc.aio.AioRpcError, TimeoutError) as problem:
            raise _away(partition, after + 1, str(problem) or "no answer") from None
        finally:
            call.cancel()  # or it would live on at the EMS

    async def _compare(self, rows: Sequence[Execution]) -> list[Mismatch]:
        posted: dict[str, list[Posted]] = defaultdict(list)
        for row in await self._pool.fetch(SQL.posted, [row.execution_id for row in rows]):
            posted[row["execution_id"]].append(_read_posted(row))
        orders = list({row.order_id for row in rows if row.reverses is not None})
        legs = await self._pool.fetch(WRITER_SQL.trades_of_orders, self._config.partition, orders) if orders else []
        traded = on_execution.read_traded(legs)
        return [
            mismatch
            for row in rows
            for mismatch in compare(row, posted[row.execution_id], traded.get(row.order_id, {}))
        ]

    # --- balances

    async def _of_balances(self) -> list[Mismatch]:
        """Dates that are settled and not cleared, symbols of which the street has another number than the customers."""
        async with self._settler.under_way:
            through = await self._pool.fetchval(WRITER_SQL.settled_through, self._config.partition)
            house, settled = house_id(self._config.partition), through.isoformat() if through else ""
            left = await self._pool.fetch(SQL.unsettled_of_settled_dates, house, settled)
        unsettled = [Mismatch("settled", "", row["path"], "0", str(row["amount"])) for row in left]
        street = [
            Mismatch("positions", "", f"street/{row['asset']}", str(-row["positions"]), str(row["street"]))
            for row in await self._pool.fetch(SQL.street)
        ]
        return [*unsettled, *street]


def is_due(now_ns: int, hour: int, last_ns: int) -> bool:
    """Whether `hour` in New York has come and nothing was done since."""
    here = calendar.new_york(now_ns)
    begun = here.replace(hour=hour, minute=0, second=0, microsecond=0)
    return calendar.new_york(last_ns) < (begun if begun <= here else begun - timedelta(1))


def _read_posted(row: db.Row) -> Posted:
    return Posted(
        row["execution_id"],
        row["position"],
        Kind(row["kind"]),
        row["order_id"],
        row["reverses"],
        tuple(row["accounts"]),
        tuple(row["symbols"] or ()),
        row["shares"],
        row["value"],
    )


def _report(compared: int, found: Sequence[Mismatch]) -> None:
    mismatching.set(len(found))
    if found:
        events.error("reconciliation found mismatches", count=len(found), executions=compared, first=found[0]._asdict())
    else:
        events.info("reconciled", executions=compared)


def _alarm(problem: Exception) -> None:
    failing.set(1)
    if isinstance(problem, (Refusal, *db.UNREACHABLE)):
        events.warning("reconciliation put off", problem=str(problem))
    else:
        events.error("reconciliation failed", exc_info=problem)


def _away(partition: int, position: int, why: str) -> Refusal:
    message = f"the EMS does not give row {position} of its log {partition}: {why}; try again"
    return Refusal("EXECUTIONS_AWAY", grpc.StatusCode.UNAVAILABLE, message)
