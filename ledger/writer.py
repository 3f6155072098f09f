"""The writer of a ledger partition: plans a batch in memory, then stores it in one transaction.

While one batch is being stored the next is planned. Should the first fail, the second is planned again.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from ledger import history, rows
from ledger.accounts import Kind
from ledger.book import PlaceHold, Request
from ledger.config import Config
from ledger.planner import SQL, Facts, Item, Plan, Planner, looks_back
from ledger.rows import Batch
from runtime import chain, crash, db, log
from runtime.chain import Tip
from runtime.fees import FeeSchedule
from runtime.writer import FencedWriter, columns

TRANSACTIONS = "transactions"


class Writer(FencedWriter[Item, bytes]):
    """Answers requests with serialised Answers, settlements with serialised SettleResponses, the rest with nothing.

    `commit` may be called again before it has returned, in the order in which the batches are to happen.
    """

    def __init__(
        self, pool: db.Pool, config: Config, bell: log.Bell, seal_key: bytes, fees: FeeSchedule | None = None
    ) -> None:
        super().__init__(pool, TRANSACTIONS, config.partition, bell)
        self._config, self._seal_key = config, seal_key
        self._planner = Planner(config, fees or FeeSchedule())
        self._tip: Tip | None = None
        self._committed_tip = Tip()
        self._generation = 0  # counts what was forgotten: a plan of an earlier one is void
        self._spoiled = False  # planning failed half way: what the planner remembers is void
        # Taken in this order: whose batch is next; who plans; who stores.
        self._turn, self._planning, self._storing = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()

    @property
    def tip(self) -> Tip:
        """The newest link of the chain that is committed."""
        return self._committed_tip

    def forget(self) -> None:
        self._generation += 1
        self._spoiled = False
        self._tip = None
        self._planner.forget()

    async def commit(self, items: Sequence[Item]) -> Sequence[bytes | Exception]:
        async with self._turn:
            generation, plan = await self._plan_ahead(items)
            await self._storing.acquire()
            if plan is None or generation != self._generation:
                try:
                    async with self._planning:
                        if self._spoiled:
                            self._doubt()
                        return await self._commit(items)
                finally:
                    self._storing.release()
        try:
            return await self._store_plan(plan, items)
        finally:
            self._storing.release()

    async def _plan_ahead(self, items: Sequence[Item]) -> tuple[int, Plan | None]:
        """(generation, plan). No plan if the batch must wait for those before it, or cannot be planned as a whole."""
        async with self._planning:
            generation = self._generation
            if self._tip is None or self._in_doubt or self._planner.is_full or looks_back(items):
                return generation, None
            try:
                async with self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
                    return generation, await self._planner.plan(connection, items, time.time_ns())
            except Exception:  # noqa: BLE001  met again when it is planned alone, which tells whose it is
                self._spoiled = True  # forgotten once the batch before is stored
                return generation, None

    async def _store_plan(self, plan: Plan, items: Sequence[Item]) -> Sequence[bytes | Exception]:
        assert self._head is not None
        try:
            async with self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
                await self._store(connection, self._head, plan)
        except log.Fenced:
            async with self._planning:
                self._doubt()
            raise
        except db.UNREACHABLE as problem:
            async with self._planning:
                return self._unknown(items, problem)
        except Exception:  # noqa: BLE001  one bad item must not take the others with it: the base class finds it
            async with self._planning:
                self._doubt()
                return await self._commit(items)
        self._bell.ring()
        self.committed(items)
        return plan.answers

    async def write(
        self, connection: db.Connection, head: log.Head, items: Sequence[Item]
    ) -> Sequence[bytes | Exception]:
        if self._planner.is_full:
            self.forget()
        if self._tip is None:
            self._planner.forget()
            self._tip = self._committed_tip = await history.take_up(connection, head, self._seal_key)
            await self._planner.start(connection, head.position, self._tip.recorded_at_ns)
        plan = await self._planner.plan(connection, items, time.time_ns())
        await self._store(connection, head, plan)
        return plan.answers

    def committed(self, items: Sequence[Item]) -> None:
        assert self._tip is not None
        self._committed_tip = self._tip
        if any(type(item) is Request and type(item.command) is PlaceHold for item in items):
            crash.point("ledger.hold_committed")
        if any(execution.fills for item in items if type(item) is Facts for execution in item.executions):
            crash.point("ledger.cursor_moved")

    # --- one transaction

    async def _store(self, connection: db.Connection, head: log.Head, plan: Plan) -> None:
        batch = plan.batch
        if batch.chained or batch.holds or batch.cursors:
            await self._store_batch(connection, head, batch)
        self._planner.committed(plan)

    async def _store_batch(self, connection: db.Connection, head: log.Head, batch: Batch) -> None:
        assert self._tip is not None
        assert not batch.posted or batch.posted[0].row[0] == head.position + 1, "a plan without the one before it"
        batch.link = self._tip.link + 1
        async with connection.transaction():
            await log.advance(connection, head, len(batch.posted))
            for cursor in batch.cursors:
                await log.move_cursor(connection, *cursor)
            await self._insert(connection, head, batch)
            if any(posted.row[1] == Kind.TRADE for posted in batch.posted):
                crash.point("ledger.posting")
        head.position += len(batch.posted)

    async def _insert(self, connection: db.Connection, head: log.Head, batch: Batch) -> None:
        assert self._tip is not None
        await self._insert_names(connection, batch)
        stored = rows.store(batch, head.partition)
        if stored.transactions:  # entries first: a transaction's own insert counts them
            await copy(connection, "entries", stored.entries, rows.ENTRY_COLUMNS)
            await copy(connection, "transactions", stored.transactions, rows.TRANSACTION_COLUMNS)
        if batch.holds:
            held = [rows.hold_row(hold) for hold in batch.holds.values()]
            sealed = [(*row, chain.seal(self._seal_key, row)) for row in held]
            await connection.execute(SQL.save_holds, head.partition, *columns(sealed))
        if stored.commands:
            await copy(connection, "commands", stored.commands, rows.COMMAND_COLUMNS)
        if batch.chained:
            position = head.position + len(batch.posted)
            self._tip = await chain.append(
                connection, head.log, head.partition, self._tip, position, batch.now_ns, stored.lines
            )

    async def _insert_names(self, connection: db.Connection, batch: Batch) -> None:
        if batch.opened:
            opened = [(each.account_id, each.customer_id, each.opened_at_ns, batch.link) for each in batch.opened]
            await connection.execute(SQL.insert_accounts, *columns(opened))
        if batch.balances:
            new = [(account, path, asset, batch.link) for (account, path), (asset, _) in batch.balances.items()]
            for row in await connection.fetch(SQL.insert_balances, *columns(new)):
                batch.balances[row["account_id"], row["path"]][1].balance_id = row["balance_id"]
        if batch.settled_through:
            await connection.execute(SQL.settle, self._config.partition, batch.settled_through, batch.link)
        for executions_compared, mismatches in batch.reconciliations:
            await connection.execute(
                SQL.reconciled, self._config.partition, batch.now_ns, executions_compared, mismatches, batch.link
            )


async def copy(connection: db.Connection, table: str, records: Sequence[Any], names: Sequence[str]) -> None:
    """COPY: a quarter of what arrays cost here, half of it in PostgreSQL."""
    await connection.copy_records_to_table(table, records=records, columns=names)
