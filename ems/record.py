"""The message flow from a venue into the execution log: one transaction a batch. The I/O around plan.py."""

import time
from collections.abc import Sequence
from dataclasses import replace

import structlog
from prometheus_client import Counter

from ems import messages, plan, rows
from ems.database import EXECUTIONS_BELL, REFUSED, SQL, LogName, Writer
from ems.messages import Content, ExecKey, Item, Key, Message, NotSent, SeqKey
from ems.plan import Known, Mark, Plan
from ems.routes import OpenRoutes, Route, from_row
from ems.rows import Place
from runtime.db import Connection

log = structlog.get_logger()
dead_letters_total = Counter("openbell_fix_dead_letters_total", "FIX messages that could not be applied", ["venue"])
duplicates_total = Counter("openbell_fix_duplicates_total", "FIX messages that were in the log already", ["venue"])


class Recorder:
    """Writes the execution log of one venue."""

    def __init__(self, writer: Writer, partition: int, mark: Mark, open_routes: OpenRoutes) -> None:
        self._writer, self._partition, self._open_routes = writer, partition, open_routes
        self._mark = mark
        self._name: LogName = ("executions", partition)

    async def record(self, batch: Sequence[Item]) -> list[Plan]:
        """Commits a batch. Several plans when the database refused it as a whole: then each item has its own, and the
        message that was refused is a dead letter."""
        try:
            return [await self._commit(batch)]
        except REFUSED as refused:
            log.error("the database refused a batch", size=len(batch), problem=str(refused))
            if len(batch) > 1:
                return [each for item in batch for each in await self.record([item])]
            (item,) = batch
            if isinstance(item, NotSent) or item.problem:
                raise
            return [await self._commit([replace(item, problem=f"the database refused it: {refused}")])]

    async def _commit(self, batch: Sequence[Item]) -> Plan:
        planned, attempts = Plan(self._mark), 0

        async def work(connection: Connection) -> dict[LogName, int]:
            nonlocal planned, attempts
            attempts += 1
            read = messages.read(batch, self._mark.epoch, self._open_routes)
            # Dead letters have no key of their own: only an attempt of unknown outcome can have written them before.
            buried = await self._buried(connection, read) if attempts > 1 else frozenset()
            known = replace(await self._known(connection, batch, read), buried=buried)
            first = Place(self._partition, self._writer.next_position(self._name), self._mark.venue, time.time_ns())
            planned = plan.make(batch, read, known, self._open_routes, self._mark, first)
            await self._write(connection, planned)
            return {self._name: len(planned.executions)}

        await self._writer.commit(work)
        self._mark = planned.mark
        self._report(planned)
        return planned

    async def _known(self, connection: Connection, batch: Sequence[Item], read: Sequence[Message]) -> Known:
        dropped = [item.route.cl_ord_id for item in batch if isinstance(item, NotSent)]
        not_sent = await connection.fetch(SQL.known_not_sent, dropped) if dropped else []
        return Known(
            routes=await self._routes(connection, read),
            keys=await self._keys(connection, read),
            not_sent=frozenset(row["cl_ord_id"] for row in not_sent),
        )

    async def _routes(self, connection: Connection, read: Sequence[Message]) -> dict[str, Route]:
        named = {message.report.cl_ord_id for message in read if message.report is not None}
        opened = {cl_ord_id: self._open_routes.get(cl_ord_id) for cl_ord_id in named}
        routes = {cl_ord_id: each.route for cl_ord_id, each in opened.items() if each is not None}
        done = [cl_ord_id for cl_ord_id, each in opened.items() if each is None]
        if done:
            for row in await connection.fetch(SQL.routes_of, self._partition, done):
                routes[row["cl_ord_id"]] = from_row(row)
        return routes

    async def _keys(self, connection: Connection, read: Sequence[Message]) -> dict[Key, Content | None]:
        keys: dict[Key, Content | None] = {}
        given = [message.key for message in read if message.report is not None]
        exec_keys = [key for key in given if isinstance(key, ExecKey)]
        if exec_keys:
            exec_ids, trade_dates = [key.exec_id for key in exec_keys], [key.trade_date for key in exec_keys]
            for row in await connection.fetch(SQL.known_exec_ids, self._mark.venue, exec_ids, trade_dates):
                content = Content(row["cl_ord_id"], row["last_shares"], row["last_px"])
                keys[ExecKey(row["exec_id"], row["trade_date"])] = content
        seq_keys = [key for key in given if isinstance(key, SeqKey)]
        for seq_key in await self._seq_keys(connection, SQL.known_seq_nums, seq_keys):
            keys[seq_key] = None
        return keys

    async def _buried(self, connection: Connection, read: Sequence[Message]) -> frozenset[SeqKey]:
        read_again = [SeqKey(message.epoch, message.seq_num) for message in read]
        return frozenset(await self._seq_keys(connection, SQL.buried_seq_nums, read_again))

    async def _seq_keys(self, connection: Connection, query: str, keys: Sequence[SeqKey]) -> list[SeqKey]:
        seq_nums = [key.seq_num for key in keys if key.seq_num is not None]
        if not seq_nums:
            return []
        found = await connection.fetch(query, self._mark.session, self._mark.epoch, seq_nums)
        return [SeqKey(row["epoch"], row["msg_seq_num"]) for row in found]

    async def _write(self, connection: Connection, planned: Plan) -> None:
        if planned.executions:
            records = map(rows.execution_record, planned.executions)
            await connection.copy_records_to_table("executions", records=records, columns=rows.EXECUTION_COLUMNS)
            await connection.execute(SQL.notify, EXECUTIONS_BELL, str(self._partition))
        if planned.dead_letters:
            letters = map(rows.dead_letter_record, planned.dead_letters)
            await connection.copy_records_to_table("dead_letters", records=letters, columns=rows.DEAD_LETTER_COLUMNS)
        if planned.done:
            await connection.execute(SQL.finish_routes, self._partition, list(planned.done.values()))
        if planned.mark != self._mark:
            mark = planned.mark
            await connection.execute(SQL.move_session, mark.session, mark.epoch, mark.committed_seq)

    def _report(self, planned: Plan) -> None:
        duplicates_total.labels(self._mark.venue).inc(planned.duplicates)
        dead_letters_total.labels(self._mark.venue).inc(len(planned.dead_letters))
        for letter in planned.dead_letters:
            log.error("dead letter", venue=letter.venue, seq_num=letter.msg_seq_num, reason=letter.reason)
