"""What every service relies on: units, ids, calendar, tokens, batches, logs."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

import asyncpg
import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from ems.quickfix_guards import StoreWatch
from runtime import auth, calendar, db, ids, log, pages, telemetry, units
from runtime.batch import Batcher
from runtime.errors import Refusal
from tests.cluster import Database


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_units_survive_being_shown_and_read(amount: int) -> None:
    assert units.to_units(units.to_decimal(amount)) == amount
    assert units.to_units(units.to_dollars(amount).replace(",", "")) == amount


@pytest.mark.parametrize("text", ["", "abc", "1.00001", "nan", "inf", "1e30", "--1", "150." + "0" * 36 + "1"])
def test_what_is_no_amount_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is"):
        units.to_units(text)


@given(st.lists(st.integers(0, 2**49), min_size=2, max_size=2, unique=True))
def test_ids_sort_by_time_and_fit_clordid(times: list[int]) -> None:
    early, late = (ids.new_order_id(now * 1_000_000) for now in sorted(times))
    assert early < late
    assert len(ids.cl_ord_id(early, 1023)) == 20
    assert ids.cl_ord_id(early, 0) != ids.cl_ord_id(early, 1)


@given(st.integers(0, 999), st.integers(1, 10**12 - 1))
def test_the_id_of_a_row_tells_its_place(partition: int, position: int) -> None:
    assert ids.place(ids.transaction_id(partition, position)) == (partition, position)


def _ns(day: date, at: time) -> int:
    return int(datetime.combine(day, at, calendar.NEW_YORK).astimezone(UTC).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("day", "at", "is_open"),
    [
        (date(2026, 11, 20), time(9, 29, 59), False),
        (date(2026, 11, 20), time(9, 30), True),
        (date(2026, 11, 20), time(15, 59, 59), True),
        (date(2026, 11, 20), time(16), False),
        (date(2026, 11, 21), time(12), False),  # Saturday
        (date(2026, 11, 26), time(12), False),  # Thanksgiving
        (date(2026, 11, 27), time(12, 59), True),  # the day after closes early
        (date(2026, 11, 27), time(13), False),
        (date(2026, 10, 12), time(12), True),  # Columbus Day: stocks trade
        (date(2026, 3, 9), time(9, 30), True),  # the first Monday of summer time
    ],
)
def test_the_market_is_open_when_new_york_trades(day: date, at: time, is_open: bool) -> None:
    assert calendar.is_open(_ns(day, at), "regular") is is_open
    assert calendar.is_open(_ns(day, at), "always")


@pytest.mark.parametrize(
    ("traded", "cycle", "settles"),
    [
        (date(2026, 11, 20), 1, date(2026, 11, 23)),  # over the weekend
        (date(2026, 11, 25), 1, date(2026, 11, 27)),  # over Thanksgiving
        (date(2026, 10, 9), 1, date(2026, 10, 13)),  # nothing settles on Columbus Day
        (date(2026, 11, 10), 1, date(2026, 11, 12)),  # nor on Veterans Day
        (date(2026, 11, 20), 2, date(2026, 11, 24)),
    ],
)
def test_trades_settle_on_settlement_days(traded: date, cycle: int, settles: date) -> None:
    assert calendar.settle_date(traded, cycle) == settles


def test_the_trade_date_of_a_closed_day_is_the_next_exchange_day() -> None:
    assert calendar.trade_date(_ns(date(2026, 11, 21), time(12))) == date(2026, 11, 23)
    assert calendar.trade_date(_ns(date(2026, 11, 20), time(23))) == date(2026, 11, 20)


def test_a_year_beyond_the_table_is_an_error_not_a_guess() -> None:
    with pytest.raises(ValueError, match="make_calendar"):
        calendar.is_exchange_day(date(2036, 1, 2))


@given(st.lists(st.one_of(st.integers(-(2**62), 2**62), st.text(max_size=9)), min_size=1, max_size=3))
def test_a_page_token_gives_its_key_to_its_own_list_only(key: list[int | str]) -> None:
    token = pages.token("these", tuple(key))
    assert pages.key("these", token, tuple(key)) == tuple(key)
    with pytest.raises(Refusal, match="page token"):
        pages.key("these", token, (*key, 1))
    with pytest.raises(Refusal, match="page token"):
        pages.key("those", token, ())


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_a_traceparent(text: str) -> None:
    assert len(telemetry.parse_traceparent(text).trace_id) == 16


def test_a_traceparent_is_continued() -> None:
    header = telemetry.format_traceparent(b"t" * 16, b"s" * 8)
    assert telemetry.parse_traceparent(header) == telemetry.Trace(b"t" * 16, b"s" * 8)


def test_a_token_is_checked_once_and_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = auth.new_keys()
    verifier = auth.Verifier(public)
    header = f"Bearer {auth.mint(private, 'customer:cus_1', ['read'], 60)}"
    caller = verifier.caller(header)
    assert (caller.may_use("cus_1"), caller.may_use("cus_2")) == (True, False)
    monkeypatch.setattr("time.time", lambda: 4e9)
    with pytest.raises(Refusal) as refusal:
        verifier.caller(header)
    assert refusal.value.reason == "EXPIRED_TOKEN"


# --- batches


async def test_a_batch_answers_each_item_and_raises_only_its_own_refusal() -> None:
    async def commit(items: Sequence[int]) -> list[int | Exception]:
        return [ValueError(str(item)) if item % 2 else item for item in items]

    batcher: Batcher[int, int] = Batcher(commit)
    running = asyncio.create_task(batcher.run())
    answers = await asyncio.gather(*(batcher.submit(item) for item in range(4)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, ValueError, int, ValueError]
    running.cancel()


async def test_what_queues_beyond_the_bound_is_refused_at_once() -> None:
    async def never(items: Sequence[int]) -> list[int | Exception]:
        await asyncio.Event().wait()
        return []

    batcher: Batcher[int, int] = Batcher(never, batch_max=1, queue_max=1)
    running = asyncio.create_task(batcher.run())
    waiting = [asyncio.create_task(batcher.submit(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.append(asyncio.create_task(batcher.submit(2)))
    await asyncio.sleep(0)
    with pytest.raises(Refusal) as refusal:
        await batcher.submit(3)
    assert refusal.value.status == grpc.StatusCode.RESOURCE_EXHAUSTED
    for task in (running, *waiting):
        task.cancel()


# --- logs


@dataclass
class Row:
    position: int


class Source:
    """A log that can be subscribed to, some rows a message, and a consumer that stores its cursor."""

    def __init__(self, positions: list[int], message: int = 2) -> None:
        self.positions, self.message = positions, message
        self.cursor, self.applied, self.batches, self.open = 0, [0], 0, 0

    async def subscribe(self, after: int) -> AsyncGenerator[Sequence[Row]]:
        rows = [Row(position) for position in self.positions if position > after]
        self.open += 1
        try:
            for start in range(0, len(rows), self.message):
                yield rows[start : start + self.message]
            await asyncio.sleep(0.01)
        finally:
            self.open -= 1

    async def load_cursor(self) -> int:
        return self.cursor

    async def apply(self, cursor: int, rows: Sequence[Row]) -> None:
        assert cursor == self.cursor
        self.applied += [row.position for row in rows]
        self.cursor, self.batches = self.applied[-1], self.batches + 1

    async def follow_until(self, last: int) -> None:
        task = asyncio.create_task(log.follow("test", self.subscribe, self.load_cursor, self.apply))
        try:
            async with asyncio.timeout(5):
                while self.cursor < last:  # noqa: ASYNC110  the cursor is what is tested
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()


async def test_a_reader_applies_every_row_once_in_order() -> None:
    source = Source(list(range(1, 101)))
    await source.follow_until(100)
    assert source.applied == list(range(101))
    assert source.batches < 50  # what arrived meanwhile was joined


async def test_a_row_that_cannot_be_applied_does_not_hold_back_those_before_it() -> None:
    source = Source(list(range(1, 11)), message=10)
    apply = source.apply

    async def all_but_seven(cursor: int, rows: Sequence[Row]) -> None:
        if any(row.position == 7 for row in rows):
            raise NotImplementedError("seven")
        await apply(cursor, rows)

    source.apply = all_but_seven  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await source.follow_until(7)
    assert source.applied == list(range(7))
    assert REGISTRY.get_sample_value("openbell_log_stopped", {"source": "test"}) == 1
    source.apply = apply  # type: ignore[method-assign]
    await source.follow_until(10)
    assert REGISTRY.get_sample_value("openbell_log_stopped", {"source": "test"}) == 0


def test_a_store_that_failed_is_noticed_at_the_second_look() -> None:
    watch = StoreWatch()
    watch.made(5)
    assert [watch.is_broken(6), watch.is_broken(6)] == [False, False]
    watch.made(6)  # not counted: perhaps it is only being stored
    assert [watch.is_broken(6), watch.is_broken(6)] == [False, True]
    watch.made(7)
    assert not watch.is_broken(8)


async def test_a_reader_refuses_a_gap() -> None:
    source = Source([1, 2, 4, 5])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await source.follow_until(5)
    assert not {4, 5} & set(source.applied)


async def test_a_reader_whose_effect_failed_starts_again_at_its_cursor() -> None:
    source = Source([1, 2, 3, 4])
    apply, failures = source.apply, iter([True, False, True])

    async def sometimes(cursor: int, rows: Sequence[Row]) -> None:
        if next(failures, False):
            raise ConnectionError("no database")
        await apply(cursor, rows)

    source.apply = sometimes  # type: ignore[method-assign]
    await source.follow_until(4)
    assert source.applied == [0, 1, 2, 3, 4]


async def test_a_reader_that_cannot_apply_keeps_no_streams_open() -> None:
    source = Source(list(range(1, 1_001)))

    async def never(cursor: int, rows: Sequence[Row]) -> None:
        raise ConnectionError("no database")

    source.apply = never  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.8):
            await source.follow_until(1)
    await asyncio.sleep(0.1)
    assert source.open == 0


async def test_the_older_of_two_writers_is_fenced_off(database: Database) -> None:
    connection = await asyncpg.connect(database.urls["oms"], server_settings={"search_path": "oms"})
    old = await log.take(connection, "test", 0)
    new = await log.take(connection, "test", 0)
    await log.advance(connection, new, 3)
    with pytest.raises(log.Fenced):
        await log.advance(connection, old, 1)
    with pytest.raises(log.Fenced):
        await log.retake(connection, old)
    assert (await log.retake(connection, new)).position == 3
    await connection.close()


async def test_a_migration_that_was_edited_is_refused(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "9000_extra.sql"
    file.write_text("CREATE TABLE extra (number int); GRANT SELECT ON extra TO :service;")
    await db.migrate(database.admin_url, "oms", "test", [tmp_path])
    await db.migrate(database.admin_url, "oms", "test", [tmp_path])
    file.write_text("CREATE TABLE extra (number bigint);")
    with pytest.raises(ValueError, match="edited"):
        await db.migrate(database.admin_url, "oms", "test", [tmp_path])
