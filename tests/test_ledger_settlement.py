"""Settlement: what has come is settled once, whoever is killed on the way."""

import asyncio
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import Gauge

from ledger import accounts, decode, settle, watch
from ledger.accounts import Account, Balance, Kind, Leg
from ledger.book import Deposit, OpenAccount, PlaceHold, ReleaseHold, Withdraw
from ledger.config import Config
from ledger.on_execution import Execution
from ledger.planner import Item, SettleCash, SettleDates
from ledger.reasons import Reason
from ledger.settle import Settler, due_date
from ledger.writer import Writer
from openbell.ledger.v1 import ledger_pb2 as pb
from ops import directory, secret_files
from ops.config import resolve
from runtime import log
from runtime.batch import Batcher
from runtime.errors import Refusal
from runtime.settings import load
from tests import test_ledger_trades as common
from tests.brokerage import free_port_base
from tests.cluster import Database
from tests.test_ledger import DOLLAR, SEAL, SETTLES, Ledger, end, fill, refused, told
from tests.test_ledger_trades import NEXT, clearing

ledger, database, desk = common.ledger, common.database, common.desk  # the fixtures
SETTLED = date.fromisoformat(SETTLES)


class Killed(BaseException):
    """What stands for kill -9: nothing after it is done."""


@dataclass
class Mortal:
    """A writer's commit that is killed before the one after `lives`."""

    writer: Writer
    lives: int

    async def commit(self, items: Sequence[Item]) -> Sequence[bytes | Exception]:
        self.lives -= 1
        if self.lives < 0:
            raise Killed
        return await self.writer.commit(items)


@asynccontextmanager
async def settling(desk: Ledger, lives: int = 10_000) -> AsyncIterator[tuple[Settler, Batcher[Item, bytes]]]:
    batcher: Batcher[Item, bytes] = Batcher(Mortal(desk.writer, lives).commit)
    running = asyncio.create_task(batcher.run())
    try:
        yield Settler(desk.pool, batcher, Config()), batcher
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, Killed):
            await running


async def settled(desk: Ledger, through: date = SETTLED) -> pb.SettleResponse:
    async with settling(desk) as (settler, _):
        return await settler.settle(through)


async def killed_settling(desk: Ledger, lives: int) -> None:
    """By a writer that is replaced afterwards."""
    async with settling(desk, lives) as (settler, _):
        task = asyncio.create_task(settler.settle(SETTLED))
        done, _ = await asyncio.wait([task], timeout=0.5)
        assert not done
        task.cancel()
    desk.writer = Writer(desk.pool, Config(), log.Bell(), SEAL)


def sale(account_id: str, order_id: str, dollars: int, day: str = "") -> Execution:
    """Of one share that the account bought for nothing before: it owes none."""
    made = fill(order_id, account_id, 1, dollars, buys=False, last=True)
    return made._replace(trade_date=date.fromisoformat(day)) if day else made


async def sell(desk: Ledger, dollars: int, day: str = "", order_id: str = "ord_sale") -> None:
    """Alice sells what she bought for a dollar just before."""
    before = fill(f"{order_id}_buy", desk.alice, 1, 1, last=True)
    sold = sale(desk.alice, order_id, dollars, day)
    await desk.execute(before._replace(trade_date=sold.trade_date), sold)


async def settlements(desk: Ledger) -> int:
    return int(await desk.pool.fetchval("SELECT count(*) FROM transactions WHERE kind = $1", Kind.SETTLEMENT))


def told_by(gauge: Gauge) -> float:
    return next(iter(gauge.collect())).samples[0].value


# --- dates


async def test_proceeds_are_withdrawable_once_their_date_has_settled(desk: Ledger) -> None:
    await sell(desk, 101)
    assert (await settled(desk, date(2026, 11, 22))).transactions == 0
    await refused(desk, Withdraw(desk.alice, 1100 * DOLLAR), Reason.FUNDS_UNSETTLED)
    answer = await settled(desk)
    assert (list(answer.settled), answer.transactions) == ([SETTLES], 2)
    assert (await desk.cash(), await clearing(desk)) == ({"cash/settled": 1100}, {})
    await desk.do(Withdraw(desk.alice, 1100 * DOLLAR))


async def test_with_a_cycle_of_two_days_they_wait_a_day_longer(desk: Ledger) -> None:
    desk.writer = Writer(desk.pool, Config(settlement_cycle_days=2), log.Bell(), SEAL)
    await sell(desk, 101)
    assert not (await settled(desk)).settled
    assert list((await settled(desk, date.fromisoformat(NEXT))).settled) == [NEXT]
    assert await desk.cash() == {"cash/settled": 1100}


async def test_clearing_goes_to_the_bank_on_its_date(desk: Ledger) -> None:
    await sell(desk, 101)
    assert await clearing(desk) == {SETTLES: -100}
    await settled(desk)
    assert await desk.pool.fetchval("SELECT balance FROM balances WHERE path = 'bank'") == -1100 * DOLLAR
    days = await desk.pool.fetch("SELECT DISTINCT effective_date FROM transactions WHERE kind = $1", Kind.SETTLEMENT)
    assert [row["effective_date"] for row in days] == [SETTLED]


async def test_a_date_is_settled_once(desk: Ledger) -> None:
    await sell(desk, 101)
    await settled(desk)
    for through in (SETTLED, date(2026, 11, 20), SETTLED):
        answer = await settled(desk, through)
        assert (list(answer.settled), answer.transactions) == ([], 0)
    assert await settlements(desk) == 2


async def test_a_date_of_which_clearing_comes_to_nothing_settles_for_customers_all_the_same(desk: Ledger) -> None:
    bob = (await desk.do(OpenAccount("cus_bob"))).open_account.account.account_id
    await desk.execute(fill("ord_1", desk.alice, 1, 50, last=True), sale(bob, "ord_2", 50))
    assert await clearing(desk) == {}
    answer = await settled(desk)
    assert (list(answer.settled), answer.transactions) == ([SETTLES], 1)


async def test_missed_dates_are_settled_together(desk: Ledger) -> None:
    for number, day in enumerate(("2026-11-18", "2026-11-19", "2026-11-20")):
        await sell(desk, 11, day, f"ord_{number}")
    answer = await settled(desk)
    assert (list(answer.settled), answer.transactions) == (["2026-11-19", "2026-11-20", SETTLES], 6)
    assert await desk.cash() == {"cash/settled": 1030}


HOLIDAYS = [
    ("2026-11-25", "2026-11-26", "2026-11-27", "Thanksgiving"),
    ("2026-10-09", "2026-10-12", "2026-10-13", "Columbus Day: stocks trade, nothing settles"),
    ("2026-10-12", "2026-10-12", "2026-10-13", "a trade of that day"),
    ("2026-04-02", "2026-04-05", "2026-04-06", "Good Friday"),
]


@pytest.mark.parametrize(("traded", "not_yet", "settles", "why"), HOLIDAYS)
async def test_nothing_settles_on_holidays(desk: Ledger, traded: str, not_yet: str, settles: str, why: str) -> None:
    await sell(desk, 101, traded)
    assert (await settled(desk, date.fromisoformat(not_yet))).transactions == 0, why
    assert list((await settled(desk, date.fromisoformat(settles))).settled) == [settles]


async def test_a_fill_told_after_its_date_has_settled_settles_with_the_next(desk: Ledger) -> None:
    await settled(desk)
    await sell(desk, 101)
    assert (await clearing(desk)).keys() == {NEXT}
    assert await desk.cash() == {"cash/settled": 999, f"cash/unsettled/{NEXT}": 101}
    await settled(desk, date.fromisoformat(NEXT))
    assert await desk.cash() == {"cash/settled": 1100}


async def test_a_date_that_was_settled_on_a_holiday_moves_a_late_fill_beyond_it(desk: Ledger) -> None:
    await settled(desk, date(2026, 11, 26))
    await sell(desk, 101)
    assert (await clearing(desk)).keys() == {"2026-11-27"}


# --- holds


async def test_a_hold_that_drew_unsettled_cash_puts_it_back_settled_after_the_date(desk: Ledger) -> None:
    await sell(desk, 101)
    hold = await desk.hold("ord_1", 1050 * DOLLAR)
    assert (await settled(desk)).transactions == 1  # clearing alone: what is held stays held
    assert await desk.cash() == {"cash/held": 1050, "cash/settled": 50}
    await desk.do(ReleaseHold(hold.hold_id))
    assert await desk.cash() == {"cash/settled": 1100}


async def test_so_does_the_end_of_its_order(desk: Ledger) -> None:
    await sell(desk, 101)
    await desk.hold("ord_1", 1050 * DOLLAR)
    await settled(desk)
    await desk.execute(end("ord_1", desk.alice, 0))
    assert await desk.cash() == {"cash/settled": 1100}


async def test_a_hold_between_the_dates_and_the_cash_of_a_settlement_keeps_its_draw(desk: Ledger) -> None:
    await sell(desk, 101)
    await desk.writer.commit([SettleDates(SETTLED, b"t" * 16, 1)])
    hold = await desk.hold("ord_1", 60 * DOLLAR)
    assert await desk.cash() == {"cash/held": 60, "cash/settled": 999, f"cash/unsettled/{SETTLES}": 41}
    await desk.do(ReleaseHold(hold.hold_id))
    assert await desk.cash() == {"cash/settled": 1059, f"cash/unsettled/{SETTLES}": 41}
    assert list((await settled(desk)).settled) == [SETTLES]
    assert await desk.cash() == {"cash/settled": 1100}


def test_settled_cash_pays_what_is_owed_first() -> None:
    account = Account("acc_1", "cus_1", 1)
    account.balances = {"cash/owed": Balance(-30), f"cash/unsettled/{SETTLES}": Balance(100)}
    assert accounts.settle_cash(account, f"cash/unsettled/{SETTLES}") == [
        Leg(account, f"cash/unsettled/{SETTLES}", "$USD", -100),
        Leg(account, "cash/owed", "$USD", 30),
        Leg(account, "cash/settled", "$USD", 70),
    ]


async def test_proceeds_of_an_account_that_owes_pay_that_before_they_settle(desk: Ledger) -> None:
    await desk.execute(fill("ord_late", desk.alice, 1, 1040, last=True), sale(desk.alice, "ord_2", 100))
    assert await desk.cash() == {f"cash/unsettled/{SETTLES}": 60}
    await settled(desk)
    assert await desk.cash() == {"cash/settled": 60}


# --- kills


async def crowd(desk: Ledger, count: int, day: str = "") -> list[str]:
    """Accounts with 100 dollars unsettled each, and shares to owe."""
    opened = await desk.writer.commit([desk.request(OpenAccount(f"cus_{n}")) for n in range(count)])
    customers = [told(answer).open_account.account.account_id for answer in opened]
    await desk.execute(*(sale(account_id, f"ord_{n}", 100, day) for n, account_id in enumerate(customers)))
    return customers


async def settled_each_once(desk: Ledger, customers: list[str]) -> None:
    rows = await desk.pool.fetch(
        "SELECT account_id, count(*) AS times FROM transactions WHERE kind = $1 GROUP BY 1", Kind.SETTLEMENT
    )
    assert {row["account_id"]: row["times"] for row in rows} == dict.fromkeys([*customers, "house/0"], 1)
    left = "SELECT path FROM balances WHERE path ~ '^(cash/unsettled|clearing)/' AND balance <> 0"
    assert await desk.pool.fetch(left) == []


@pytest.mark.parametrize("lives", range(5))
async def test_whoever_comes_next_finishes_a_settlement_that_was_killed(
    desk: Ledger, lives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the dates, after them, after each chunk."""
    monkeypatch.setattr(settle, "CHUNK", 2)
    customers = await crowd(desk, 7)
    await killed_settling(desk, lives)
    before = await settlements(desk)
    assert before == (0, 1, 3, 5, 7)[lives]
    assert (await settled(desk)).transactions == len(customers) + 1 - before
    await settled_each_once(desk, customers)
    assert (await settled(desk)).transactions == 0


async def test_a_later_settlement_finishes_an_earlier_one_too(desk: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "CHUNK", 2)
    customers = await crowd(desk, 5)
    await killed_settling(desk, 2)
    assert list((await settled(desk, date.fromisoformat(NEXT))).settled) == [SETTLES]
    await settled_each_once(desk, customers)


async def test_a_settlement_does_not_look_again_where_nothing_can_be_left(desk: Ledger) -> None:
    await sell(desk, 101)
    async with settling(desk) as (settler, _):
        await settler.settle(SETTLED)
        await sell(desk, 51, SETTLES, "ord_2")
        assert (await settler.settle(date.fromisoformat(NEXT))).transactions == 2
        assert (await settler.settle(SETTLED)).transactions == 0


async def test_two_settlements_at_once_and_orders_between_their_chunks_move_everything_once(
    desk: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "CHUNK", 3)
    customers = await crowd(desk, 20)
    cover = [fill(f"ord_c{n}", account_id, 1, 10, last=True) for n, account_id in enumerate(customers)]
    await desk.execute(*cover)
    async with settling(desk) as (settler, batcher):
        other = Settler(desk.pool, batcher, Config())

        async def trade(account_id: str, number: int) -> None:
            held = told(
                await batcher.submit(desk.request(PlaceHold(account_id, f"ord_h{number}", "$USD", 50 * DOLLAR)))
            )
            await asyncio.sleep(0.01 * (number % 5))
            told(await batcher.submit(desk.request(ReleaseHold(held.hold.hold.hold_id))))

        trading = [trade(account_id, number) for number, account_id in enumerate(customers)]
        await asyncio.gather(settler.settle(SETTLED), other.settle(SETTLED), *trading)
        await settler.settle(SETTLED)
    left = "SELECT path FROM balances WHERE path LIKE 'cash/%' AND path <> 'cash/settled' AND balance <> 0"
    assert await desk.pool.fetch(left) == []
    cash = await desk.pool.fetch(
        "SELECT balance FROM balances WHERE path = 'cash/settled' AND account_id <> $1", desk.alice
    )
    assert [row["balance"] for row in cash] == [90 * DOLLAR] * 20


async def test_cash_that_is_moved_already_or_not_due_is_left_alone(desk: Ledger) -> None:
    await sell(desk, 101)
    rows = [(desk.alice, f"cash/unsettled/{SETTLES}")]
    for _ in range(2):
        (early,) = await desk.writer.commit([SettleCash(rows, b"t" * 16, 1)])
        assert pb.SettleResponse.FromString(early).transactions == 0  # type: ignore[arg-type]
        await settled(desk)


# --- by itself


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


DUE = [
    ("2026-11-23T10:59:59", "2026-11-22", "before six, in winter time"),
    ("2026-11-23T11:00:00", "2026-11-23", "six"),
    ("2026-07-06T09:59:59", "2026-07-05", "before six, in summer time"),
    ("2026-07-06T10:00:00", "2026-07-06", "six"),
    ("2026-11-24T04:59:59", "2026-11-23", "still the evening before"),
    ("2027-01-01T11:00:00", "2027-01-01", "a holiday: nothing has its settle date then"),
]


@pytest.mark.parametrize(("instant", "due", "why"), DUE)
def test_the_newest_date_that_is_due(instant: str, due: str, why: str) -> None:
    assert due_date(at(instant), 6) == date.fromisoformat(due), why


def test_midnight_can_be_the_hour() -> None:
    assert due_date(at("2026-11-23T05:00:00"), 0) == date(2026, 11, 23)


async def test_what_is_due_is_settled_at_the_start_and_tried_again_after_a_failure(
    desk: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "POLL_SECONDS", 0.05)
    await sell(desk, 101, "2024-05-28")
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    commit = desk.writer.commit

    async def fails_once(items: Sequence[Item]) -> Sequence[bytes | Exception]:
        if failed.done():
            return await commit(items)
        failed.set_result(None)
        return [ConnectionError("away") for _ in items]

    monkeypatch.setattr(desk.writer, "commit", fails_once)
    async with settling(desk) as (settler, _):
        loop = asyncio.create_task(settler.run())
        await asyncio.wait_for(settler.tried.wait(), 5)
        assert told_by(settle.failing) == 1

        async def done() -> bool:
            return told_by(settle.failing) == 0

        await until(done, "the settlement is tried again")
        assert await desk.cash() == {"cash/settled": 1100}
        loop.cancel()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2035-12-31", Reason.DATE_IN_FUTURE),
        ("2036-01-01", Reason.INVALID_DATE),
        ("2026-02-30", Reason.INVALID_DATE),
        ("20261120", Reason.INVALID_DATE),
        ("2026-11-20 ", Reason.INVALID_DATE),
        ("", Reason.INVALID_DATE),
    ],
)
def test_a_date_to_settle_is_a_day_that_has_come(text: str, reason: Reason) -> None:
    with pytest.raises(Refusal) as refusal:
        decode.past_date(text)
    assert refusal.value.reason == reason


# --- the watch


async def test_accounts_that_owe_are_counted_and_told_of_when_there_are_more(desk: Ledger) -> None:
    assert await watch.look(desk.pool, Config(), 0) == 0
    await desk.execute(fill("ord_late", desk.alice, 10, 150, last=True), sale(desk.alice, "ord_2", 1))
    assert await watch.look(desk.pool, Config(), 0) == 1
    assert told_by(watch.owing) == 1
    await desk.do(Deposit(desk.alice, 600 * DOLLAR))
    assert await watch.look(desk.pool, Config(), 1) == 0


def test_the_lag_of_settlement_is_told_in_days() -> None:
    assert watch.lag_days(SETTLED, date(2026, 11, 20)) == 3
    assert watch.lag_days(SETTLED, SETTLED) == 0
    assert watch.lag_days(SETTLED, date.fromisoformat(NEXT)) == 0  # by an operator, ahead of the hour
    assert watch.lag_days(SETTLED, None) == 0


# --- the process


class Process:
    """`python -m ledger` alone, on a database of the tests' own. The execution log is away, which it bears."""

    def __init__(self, data: Path, database: Database) -> None:
        self.data, self.port_base = data, free_port_base()
        directory.prepare(data)
        (data / "openbell.toml").write_text("")
        directory.write_settings(data, resolve(data / "openbell.toml", self.port_base))
        secret_files.make_all(data)
        (data / "secrets" / "database_ledger").write_text(database.urls["ledger"])
        self.start()

    def start(self) -> None:
        with (self.data / "ledger.log").open("a") as output:
            command = [sys.executable, "-m", "ledger", "--data", str(self.data)]
            self._running = subprocess.Popen(command, stderr=output, stdout=output)

    def kill(self) -> None:
        self._running.kill()
        self._running.wait()

    def terminate(self) -> int:
        self._running.send_signal(signal.SIGTERM)
        return self._running.wait(20)

    def metric(self, name: str) -> float | None:
        """None while it is not told."""
        with suppress(OSError), urllib.request.urlopen(self._metrics, timeout=5) as page:
            lines = page.read().decode().splitlines()
            return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)
        return None

    @property
    def _metrics(self) -> str:
        return f"http://127.0.0.1:{load(self.data).metrics_port('ledger')}/metrics"


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def test_a_ledger_killed_in_the_middle_of_a_settlement_finishes_it_when_it_is_back(
    desk: Ledger, database: Database, tmp_path: Path
) -> None:
    customers = sorted(await crowd(desk, settle.CHUNK + 60, "2024-05-28"))
    admin = await asyncpg.connect(database.admin_url, server_settings={"search_path": "ledger"})
    holding = admin.transaction()
    await holding.start()  # stops the second chunk, whose last account this is
    lock = "SELECT FROM balances WHERE account_id = $1 AND path LIKE 'cash/unsettled/%' FOR UPDATE"
    await admin.execute(lock, customers[-1])

    async def waits() -> bool:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(await desk.pool.fetchval(waiting))

    process = Process(tmp_path, database)
    try:
        await until(waits, "the second chunk is under way")
        process.kill()
        assert await settlements(desk) == 1 + settle.CHUNK
        await holding.rollback()
        process.start()

        async def all_settled() -> bool:
            return await settlements(desk) == 1 + len(customers)

        await until(all_settled, "the rest is settled")
        await settled_each_once(desk, customers)
        await until_metric(process, "openbell_ledger_accounts_owing", len(customers))
        assert process.metric("openbell_ledger_settlement_failing") == 0
        assert process.terminate() == 0
    finally:
        process.kill()
        await admin.close()


async def until_metric(process: Process, name: str, value: float) -> None:
    async def told() -> bool:
        return process.metric(name) == value

    await until(told, f"{name} is {value}")
