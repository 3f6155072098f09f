"""Reconciliation against the EMS's own service and log: what agrees, what does not, and what stays until it does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import grpc
import pytest

import ems.config
import ems.service
from ems.rows import EXECUTION_COLUMNS, Execution, execution_record
from ledger import reconcile
from ledger.config import Config
from ledger.on_execution import decode
from ledger.planner import Facts, Item, SettleCash, SettleDates
from ledger.reconcile import Reconciler, is_due
from ledger.settle import Settler
from ledger.writer import Writer
from openbell.ems.v1 import ems_pb2_grpc
from runtime import connect, db, executions, log, telemetry
from runtime.batch import Batcher
from runtime.errors import Refusal
from tests import test_ledger
from tests.cluster import Cluster, Database
from tests.test_ledger import DOLLAR, SEAL, SETTLES, TRADED, Ledger
from tests.test_ledger_settlement import told_by, until
from tests.test_ledger_trades import assert_sound

ledger = test_ledger.ledger  # the fixture
VENUE = 1  # its partition of the execution log
COUNT = """SELECT count(*) FROM reconciliations"""


def row(exec_id: str | None, kind: str = "FILL", quantity: int = 0, dollars: int = 0, **more: Any) -> Execution:
    """What the venue says of Alice's order for AAPL; its account and place are filled in."""
    said = Execution(
        log_partition=VENUE,
        position=0,
        kind=kind,
        venue="XSIM",
        session="s",
        epoch=1,
        trade_date=TRADED if exec_id else None,
        exec_id=exec_id,
        exec_trans_type=0,
        ord_status="1",
        cl_ord_id="c",
        order_id="ord_1",
        account_id="",
        symbol="AAPL",
        side="BUY",
        last_shares=quantity,
        last_px=dollars * DOLLAR,
        received_at_ns=1,
        recorded_at_ns=1,
        trace_id=b"t" * 16,
        span_id=telemetry.span_id("fix in", exec_id or kind),
    )
    return replace(said, **more)


def bust(exec_id: str, ref: str) -> Execution:
    return row(exec_id, "BUST", exec_ref_id=ref, exec_trans_type=1)


def correct(exec_id: str, ref: str, quantity: int, dollars: int) -> Execution:
    return row(exec_id, "CORRECT", quantity, dollars, exec_ref_id=ref, exec_trans_type=2)


@dataclass
class Firm:
    """The ledger as it runs, and the EMS's service over its log, to which the test writes for the venue."""

    desk: Ledger
    database: Database
    ems_pool: db.Pool
    channel: grpc.aio.Channel = field(init=False)
    reconciler: Reconciler = field(init=False)
    settler: Settler = field(init=False)
    said: int = 0  # rows of the venue
    _running: list[asyncio.Task[None]] = field(default_factory=list)
    _server: grpc.aio.Server | None = None
    _port: int = 0

    async def start(self) -> None:
        await self.start_ems()
        self.channel = connect.channel(f"127.0.0.1:{self._port}")
        self.take_over()

    def take_over(self) -> None:
        """A ledger, that follows the execution log."""
        writer = Writer(self.desk.pool, Config(), log.Bell(), SEAL)
        batcher: Batcher[Item, bytes] = Batcher(writer.commit)
        self.desk.writer = writer

        async def post(partition: int, cursor: int, rows: executions.Rows) -> None:
            await batcher.submit_fact(Facts(partition, cursor, [decode(each, 1) for each in rows]))

        self.settler = Settler(self.desk.pool, batcher, Config())
        self.reconciler = Reconciler(
            self.desk.pool, batcher, Config(), self.settler, self.channel, "token", range(VENUE + 1)
        )
        follow = executions.follow(self.desk.pool, self.channel, "token", VENUE, post)
        self._running = [asyncio.create_task(batcher.run()), asyncio.create_task(follow)]

    async def start_ems(self) -> None:
        unused: Batcher[Any, None] = Batcher(lambda _: asyncio.sleep(0, []))
        self._server = grpc.aio.server()
        service = ems.service.Service(ems.config.Config(), self.ems_pool, unused)
        ems_pb2_grpc.add_EmsServiceServicer_to_server(service, self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        await self._server.start()

    async def stop_ems(self) -> None:
        assert self._server is not None
        await self._server.stop(None)

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.channel.close()
        await self.stop_ems()

    async def says(self, *rows: Execution) -> None:
        """Until the ledger has posted it."""
        await self.writes(*rows)

        async def posted() -> bool:
            async with self.desk.pool.acquire() as connection:
                return await log.cursor(connection, executions.SOURCE, VENUE) == self.said

        await until(posted, "what the venue said is posted")

    async def writes(self, *rows: Execution) -> None:
        """To the execution log."""
        places = range(self.said + 1, self.said + 1 + len(rows))
        placed = [
            replace(each, position=place, msg_seq_num=place, account_id=each.account_id or self.desk.alice)
            for each, place in zip(rows, places, strict=True)
        ]
        self.said += len(rows)
        async with self.ems_pool.acquire() as connection:
            records = map(execution_record, placed)
            await connection.copy_records_to_table("executions", records=records, columns=EXECUTION_COLUMNS)

    def stops_following(self) -> None:
        self._running[-1].cancel()

    async def tamper(self, schema: str, statement: str, *arguments: Any) -> None:
        """As a superuser, whom no trigger stops."""
        settings = {"search_path": schema, "session_replication_role": "replica"}
        connection = await asyncpg.connect(self.database.admin_url, server_settings=settings)
        await connection.execute(statement, *arguments)
        await connection.close()

    async def found(self) -> list[tuple[str, str, str]]:
        """[(what, expected, posted)] of a run."""
        return [(each.what, each.expected, each.posted) for each in (await self.reconciler.run()).mismatches]


@pytest.fixture
async def database(cluster: Cluster) -> Database:
    return await cluster.database(["ledger", "ems"])


@pytest.fixture
async def firm(ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Firm]:
    monkeypatch.setattr(log, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(reconcile, "SPACING_SECONDS", 0.0)
    pool = await db.pool(database.urls["ems"], "ems", size=2)
    made = Firm(ledger, database, pool)
    await made.start()
    yield made
    await made.stop()
    await pool.close()


STORY = (
    row(None, "NEW"),
    row("E1", quantity=10, dollars=50),
    bust("E2", "E1"),
    row("E3", quantity=4, dollars=50),
    correct("E4", "E3", 5, 51),
    correct("E5", "E3", 6, 52),
    row("E6", quantity=2, dollars=40, side="SELL", order_id="ord_2"),
    bust("E7", "E1"),  # again: posts nothing
    bust("E8", "E4"),
    row("E9", quantity=1, dollars=30),
    row(None, "CANCELED", cum_qty=1, ord_status="4"),
)


async def test_what_was_posted_agrees_with_the_log_and_is_compared_once(firm: Firm) -> None:
    await firm.says(*STORY)
    first = await firm.reconciler.run()
    assert (first.executions, list(first.mismatches)) == (len(STORY), [])
    await firm.says(row("E10", quantity=1, dollars=30))
    again = await firm.reconciler.run()
    assert (again.executions, list(again.mismatches)) == (1, [])
    assert told_by(reconcile.mismatching) == 0
    rows = await firm.desk.pool.fetch("SELECT executions, mismatches FROM reconciliations ORDER BY recorded_at_ns")
    assert [tuple(each) for each in rows] == [(len(STORY), "[]"), (1, "[]")]
    await assert_sound(firm.desk.pool)


async def test_the_log_is_read_in_parts_and_only_as_far_as_it_is_posted(
    firm: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "READ_MAX", 3)
    await firm.says(*STORY)
    firm.stops_following()
    await firm.writes(row("E10", quantity=1, dollars=30))
    answer = await firm.reconciler.run()
    assert (answer.executions, list(answer.mismatches)) == (len(STORY), [])


# Where the log, or the ledger, is changed behind everybody's back; what is found.
CHANGES = [
    ("ems", "UPDATE executions SET last_px = 400000 WHERE exec_id = 'E9'",
     [("trade: value", "40.00", "30.00")]),
    ("ems", "UPDATE executions SET side = 'SELL' WHERE exec_id = 'E9'",
     [("trade: shares", "1", "-1"), ("trade: value", "-30.00", "30.00")]),
    ("ems", "UPDATE executions SET symbol = 'MSFT' WHERE exec_id = 'E9'",
     [("trade: symbol", "MSFT", "AAPL")]),
    ("ems", "UPDATE executions SET account_id = 'acc_2' WHERE exec_id = 'E9'",
     [("trade: account", "acc_2", "ALICE")]),
    ("ems", "UPDATE executions SET order_id = 'ord_9' WHERE exec_id = 'E9'",
     [("trade: order", "ord_9", "ord_1")]),
    ("ems", "UPDATE executions SET kind = 'NEW' WHERE exec_id = 'E9'",
     [("transactions", "none", "trade")]),
    ("ems", "UPDATE executions SET kind = 'FILL', last_shares = 3, last_px = 7 WHERE kind = 'CANCELED'",
     [("transactions", "trade", "none")]),
    ("ems", "UPDATE executions SET exec_ref_id = 'E0' WHERE exec_id = 'E2'",
     [("reference", "E0", "no such trade")]),
    ("ems", "UPDATE executions SET exec_ref_id = 'E9' WHERE exec_id = 'E2'",
     [("bust: shares", "1", "10"), ("bust: value", "-30.00", "-500.00")]),
    ("ems", "UPDATE executions SET exec_ref_id = 'E9' WHERE exec_id = 'E7'",
     [("transactions", "bust", "none")]),
    ("ems", "UPDATE executions SET last_shares = 7 WHERE exec_id = 'E5'",
     [("trade: shares", "-7", "-6"), ("trade: value", "364.00", "312.00")]),
    ("ledger", "DELETE FROM transactions WHERE exec_id = 'E9'",
     [("transactions", "trade", "none")]),
    ("ledger", "UPDATE transactions SET kind = 6 WHERE exec_id = 'E2'",
     [("transactions", "bust", "trade"), ("transactions", "bust", "none")]),
    ("ledger", "UPDATE transactions SET account_id = 'acc_2' WHERE exec_id = 'E9'",
     [("trade: account", "ALICE", "ALICE acc_2")]),
    ("ledger", "UPDATE balances SET balance = 5 WHERE path = 'street/AAPL'",
     [("positions", "1", "5")]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "change", "expected"), CHANGES)
async def test_what_does_not_agree_is_found(firm: Firm, schema: str, change: str, expected: list[Any]) -> None:
    await firm.says(*STORY)
    await firm.tamper(schema, change)
    alice = firm.desk.alice
    found = [tuple(text.replace(alice, "ALICE") for text in each) for each in await firm.found()]
    assert [each for each in found if each[0] != "bust: reverses"] == expected
    assert {each[0] for each in found} - {each[0] for each in expected} <= {"bust: reverses"}


async def test_a_mismatch_stays_in_the_answers_and_the_gauge_until_it_is_gone(firm: Firm) -> None:
    await firm.says(*STORY)
    await firm.tamper("ems", "UPDATE executions SET last_px = 400000 WHERE exec_id = 'E9'")
    expected = [("trade: value", "40.00", "30.00")]
    assert await firm.found() == expected
    assert await firm.found() == expected
    assert told_by(reconcile.mismatching) == 1
    await firm.tamper("ems", "UPDATE executions SET last_px = 300000 WHERE exec_id = 'E9'")
    assert await firm.found() == []
    assert told_by(reconcile.mismatching) == 0
    stored = await firm.desk.pool.fetch("SELECT mismatches FROM reconciliations ORDER BY recorded_at_ns")
    assert [len(json.loads(each["mismatches"])) for each in stored] == [1, 1, 0]


async def test_with_too_many_mismatches_a_run_goes_no_further_and_loses_none(
    firm: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "READ_MAX", 2)
    monkeypatch.setattr(reconcile, "MISMATCHES_MAX", 2)
    await firm.says(*(row(f"E{n}", quantity=1, dollars=10) for n in range(8)))
    await firm.tamper("ems", "UPDATE executions SET last_px = 1")
    assert len(await firm.found()) == 2
    answer = await firm.reconciler.run()
    assert (answer.executions, len(answer.mismatches)) == (0, 2)
    await firm.tamper("ems", "UPDATE executions SET last_px = 100000")
    answer = await firm.reconciler.run()
    assert (answer.executions, len(answer.mismatches)) == (6, 0)


# --- what has settled


async def test_dates_that_are_settled_must_be_cleared_and_paid(firm: Firm) -> None:
    await firm.says(row("E1", quantity=2, dollars=50), row("E2", quantity=1, dollars=60, side="SELL", order_id="ord_2"))
    assert await firm.found() == []
    await firm.settler.settle(date.fromisoformat(SETTLES))
    assert await firm.found() == []
    await firm.tamper("ledger", "UPDATE balances SET balance = 7 WHERE path ~ '^(clearing|cash/unsettled)/'")
    answer = await firm.reconciler.run()
    assert [(each.what, each.path, each.posted) for each in answer.mismatches] == [
        ("settled", f"cash/unsettled/{SETTLES}", "7"),
        ("settled", f"clearing/{SETTLES}", "7"),
    ]


async def test_cash_of_a_settlement_under_way_is_no_mismatch(firm: Firm) -> None:
    await firm.says(row("E1", quantity=2, dollars=50), row("E2", quantity=1, dollars=60, side="SELL", order_id="ord_2"))
    async with firm.settler.under_way:
        await firm.desk.writer.commit([SettleDates(date.fromisoformat(SETTLES), b"t" * 16, 1)])
        running = asyncio.create_task(firm.found())
        await asyncio.sleep(0.1)
        owed = [(firm.desk.alice, f"cash/unsettled/{SETTLES}")]
        await firm.desk.writer.commit([SettleCash(owed, b"t" * 16, 1)])
    assert await running == []


# --- the EMS is away


async def away(firm: Firm) -> None:
    with pytest.raises(Refusal) as refusal:
        await firm.reconciler.run()
    assert (refusal.value.reason, refusal.value.status) == ("EXECUTIONS_AWAY", grpc.StatusCode.UNAVAILABLE)
    assert await firm.desk.pool.fetchval(COUNT) == 0


async def test_without_the_ems_nothing_is_compared_and_nothing_is_stored(firm: Firm) -> None:
    await firm.says(*STORY)
    await firm.stop_ems()
    await away(firm)
    await firm.start_ems()

    async def compared() -> bool:
        with suppress(Refusal):
            return (await firm.reconciler.run()).executions == len(STORY)
        return False

    await until(compared, "the EMS is back")


async def test_a_log_that_has_lost_rows_is_no_log_to_agree_with(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "READ_SECONDS", 0.3)
    await firm.says(*STORY)
    await firm.tamper("ems", "DELETE FROM executions WHERE position > 9")
    await away(firm)
    await firm.tamper("ems", "DELETE FROM executions WHERE position = 5")
    with pytest.raises(log.Gap):
        await firm.reconciler.run()


async def test_two_runs_at_once_compare_each_execution_once(firm: Firm) -> None:
    await firm.says(*STORY)
    answers = await asyncio.gather(*(firm.reconciler.run() for _ in range(3)))
    assert sorted(answer.executions for answer in answers) == [0, 0, len(STORY)]


# --- by itself


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


DUE = [
    ("2026-11-23T22:59:00", "2026-11-22T23:00:00", False, "done yesterday, before six in the evening today"),
    ("2026-11-23T23:00:00", "2026-11-22T23:30:00", True, "six in the evening"),
    ("2026-11-23T23:30:00", "2026-11-23T23:10:00", False, "done at ten past six"),
    ("2026-11-23T23:30:00", "2026-11-23T20:00:00", True, "done at three in the afternoon: not since"),
    ("2026-11-24T04:59:00", "2026-11-22T23:30:00", True, "missed"),
    ("2026-07-06T22:00:00", "2026-07-06T21:00:00", True, "in summer time"),
    ("2026-11-23T12:00:00", "1970-01-01T00:00:00", True, "never done"),
]


@pytest.mark.parametrize(("now", "last", "due", "why"), DUE)
def test_a_run_is_due_when_its_hour_has_come_and_none_was_made_since(now: str, last: str, due: bool, why: str) -> None:
    assert is_due(at(now), 18, at(last)) is due, why


async def test_at_the_start_it_runs_if_it_did_not_today_once_what_was_left_is_settled(
    firm: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "POLL_SECONDS", 0.02)
    await firm.says(*STORY)
    await firm.stop_ems()
    reconcile.failing.set(0)
    daily = asyncio.create_task(firm.reconciler.daily())
    await asyncio.sleep(0.3)
    assert told_by(reconcile.failing) == 0  # it waits
    firm.settler.tried.set()

    async def failing() -> bool:
        return told_by(reconcile.failing) == 1

    async def stored() -> bool:
        return await firm.desk.pool.fetchval(COUNT) == 1 and not await failing()

    await until(failing, "the EMS is missed")
    await firm.start_ems()
    await until(stored, "it is tried again")
    await asyncio.sleep(0.2)
    assert await stored()  # not again and again
    daily.cancel()
