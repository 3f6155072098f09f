"""The venue's day: which phase it is in when, and what each change of it does to the orders."""

from collections.abc import Iterator
from datetime import UTC, datetime, time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.acts import Halt, Resume
from exchange.events import Crossed, FeedEvent, Phase
from exchange.hours import Hours, current, next_change
from exchange.orders import Day, Execution, Order, OrdStatus, Side
from exchange.times import since_midnight, trade_date, utc_timestamp
from exchange.venue import Conduct
from runtime import calendar
from tests.test_exchange_determinism import ALWAYS, BASE, DELAY, HOUR, MANUAL, REGULAR, SECOND, Stage
from tests.test_exchange_rules import audited

BUY, SELL = Side.BUY, Side.SELL
CLOSED, PRE_OPEN, OPEN, PRE_CLOSE = Phase.CLOSED, Phase.PRE_OPEN, Phase.OPEN, Phase.PRE_CLOSE


def at(text: str) -> int:
    """'2026-11-20 09:30' or '… 09:30:00.5' on New York's clock, in ns UTC."""
    here = datetime.fromisoformat(text).replace(tzinfo=calendar.NEW_YORK)
    return int(here.timestamp()) * SECOND + here.microsecond * 1000


def changes(opening: Hours, begin: str, end: str) -> list[str]:
    """What happens in (begin, end], as UTC time, phase and trade date."""
    now_ns, told = at(begin), []
    while (change := next_change(opening, now_ns)) is not None and change.at_ns <= at(end):
        utc = datetime.fromtimestamp(change.at_ns // SECOND, UTC)
        told.append(f"{utc:%m-%d %H:%M} {change.phase.name} {change.trade_date}")
        now_ns = change.at_ns
    return told


def test_a_regular_day_and_the_weekend_after_it() -> None:
    assert changes(REGULAR, "2026-11-20 00:00", "2026-11-23 10:00") == [
        "11-20 14:00 PRE_OPEN 2026-11-20",
        "11-20 14:30 OPEN 2026-11-20",
        "11-20 20:50 PRE_CLOSE 2026-11-20",
        "11-20 21:00 CLOSED 2026-11-20",
        "11-23 14:00 PRE_OPEN 2026-11-23",
        "11-23 14:30 OPEN 2026-11-23",
    ]


def test_a_holiday_has_no_hours_and_the_day_after_thanksgiving_ends_early() -> None:
    assert changes(REGULAR, "2026-11-25 16:00", "2026-11-27 16:00") == [
        "11-27 14:00 PRE_OPEN 2026-11-27",
        "11-27 14:30 OPEN 2026-11-27",
        "11-27 17:50 PRE_CLOSE 2026-11-27",
        "11-27 18:00 CLOSED 2026-11-27",
    ]


@pytest.mark.parametrize(
    ("before", "after", "opens"),
    [("2026-10-30", "2026-11-02", ["13:30", "14:30"]), ("2027-03-12", "2027-03-15", ["14:30", "13:30"])],
)
def test_the_market_opens_by_new_yorks_clock_when_it_is_changed(before: str, after: str, opens: list[str]) -> None:
    told = changes(REGULAR, f"{before} 00:00", f"{after} 23:00")
    assert [each[6:11] for each in told if " OPEN" in each] == opens


def test_without_hours_the_trade_date_changes_at_midnight_and_nothing_else_does() -> None:
    assert changes(ALWAYS, "2026-11-19 12:00", "2026-11-23 12:00") == [
        "11-20 05:00 CLOSED 2026-11-19",
        "11-20 05:00 OPEN 2026-11-20",
        "11-21 05:00 CLOSED 2026-11-20",
        "11-21 05:00 OPEN 2026-11-23",
    ]
    assert current(ALWAYS, at("2026-11-22 12:00"))[1:] == (OPEN, "2026-11-23")


def test_an_operators_hours_never_change_by_themselves() -> None:
    assert next_change(MANUAL, at("2026-11-20 12:00")) is None
    assert current(MANUAL, at("2026-11-21 12:00"))[1:] == (CLOSED, "2026-11-23")


def test_hours_may_end_later_than_the_exchanges_except_on_its_short_days() -> None:
    late = Hours("regular", time(8), time(20), 0, 0)
    assert changes(late, "2026-11-25 00:00", "2026-11-27 23:00") == [
        "11-25 13:00 OPEN 2026-11-25",
        "11-26 01:00 CLOSED 2026-11-25",
        "11-27 13:00 OPEN 2026-11-27",
        "11-27 18:00 CLOSED 2026-11-27",
    ]


def test_a_day_that_would_end_before_it_opens_is_none() -> None:
    afternoons = Hours("regular", time(13, 30), time(16), 600, 600)
    told = changes(afternoons, "2026-11-25 16:00", "2026-11-30 14:00")
    assert told == ["11-30 18:20 PRE_OPEN 2026-11-30", "11-30 18:30 OPEN 2026-11-30"]


minutes = st.integers(0, 23 * 60 + 59).map(lambda minute: time(minute // 60, minute % 60))
any_hours = st.builds(
    Hours,
    kind=st.sampled_from(("regular", "always")),
    open=minutes,
    close=minutes,
    pre_open_s=st.sampled_from((0, 60, 1800)),
    pre_close_s=st.sampled_from((0, 60, 4 * 3600)),
).filter(lambda hours: hours.open < hours.close and hours.open.hour > 0)


@settings(max_examples=100, deadline=None)
@given(any_hours, st.integers(at("2026-10-25 00:00"), at("2026-12-05 00:00")))
def test_at_any_instant_the_venue_is_where_the_last_change_brought_it(opening: Hours, now_ns: int) -> None:
    last, following = current(opening, now_ns), next_change(opening, now_ns)
    assert following is not None
    assert last.at_ns <= now_ns < following.at_ns
    assert next_change(opening, last.at_ns) == following
    assert next_change(opening, last.at_ns - 1) == last


def test_times_are_written_as_each_protocol_wants_them() -> None:
    evening = at("2026-11-20 21:00:00.123456")
    assert trade_date(evening) == "2026-11-20"
    assert trade_date(evening + 4 * HOUR) == "2026-11-23"  # Saturday: the next exchange day
    assert utc_timestamp(evening) == "20261121-02:00:00.123"
    assert since_midnight(evening) == 21 * HOUR + 123_456_000


# What the phases do


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def opened(directory: Path, opening: Hours, now: str, levels: int = 0, conduct: Conduct | None = None) -> Stage:
    return Stage(directory, opening, conduct or Conduct(), levels, at(now))


def go(stage: Stage, until: str) -> None:
    stage.now_ns = at(until)
    stage.venue.advance(stage.now_ns)
    stage.venue.flush()
    stage.venue.publish()


@pytest.fixture
def regular(directory: Path) -> Iterator[Stage]:
    """Before the open of a Friday; in the end its journal is looked through."""
    stage = opened(directory, REGULAR, "2026-11-20 08:00")
    yield stage
    stage.venue.flush()
    stage.venue.publish()
    audited(stage.journal)
    stage.close()


def crosses(stage: Stage) -> list[tuple[str, int, int]]:
    """Kind, shares and price of each auction so far."""
    stage.venue.flush()
    stage.venue.publish()
    told: list[FeedEvent] = [each for _, events in stage.published for each in events]
    return [(each.kind, each.shares, each.price) for each in told if isinstance(each, Crossed)]


def phases_in(stage: Stage) -> list[tuple[int, str]]:
    stage.venue.flush()
    stage.venue.publish()
    return [
        (record["t"], Phase(record["in"]["phase"]).name)
        for record in stage.journal.records()
        if record["in"]["kind"] == "phase"
    ]


def last(order: Order, stage: Stage) -> str:
    return stage.told(order)[-1]


def test_orders_are_refused_until_they_are_taken_for_the_opening(regular: Stage) -> None:
    assert last(regular.put("ANN", BUY, 10, BASE), regular) == "88 0 0 0"
    go(regular, "2026-11-20 09:00")
    assert last(regular.put("ANN", BUY, 10, BASE), regular) == "00 0 0 10"


def test_the_opening_trades_what_gathered_at_one_price_by_priority(regular: Stage) -> None:
    go(regular, "2026-11-20 09:00")
    low = regular.put("ANN", BUY, 10, BASE)
    high = regular.put("ANN", BUY, 10, BASE + 2000)
    first, second = (regular.put("BOB", SELL, 10, BASE) for _ in range(2))
    late = regular.put("ANN", BUY, 10, BASE)
    assert [each.cum for each in (low, high, first, second, late)] == [0, 0, 0, 0, 0]
    go(regular, "2026-11-20 09:30")
    assert [each.cum for each in (high, low, first, second, late)] == [10, 10, 10, 10, 0]
    assert crosses(regular) == [("O", 20, BASE)]
    assert late.displayed


def test_a_stop_order_whose_price_was_reached_gathers_and_another_waits(regular: Stage) -> None:
    go(regular, "2026-11-20 09:15")
    reached, waiting = (regular.put("ANN", BUY, 10, None, ord_type="3", stop_px=price) for price in ("9.90", "10.10"))
    assert (reached.book_ref > 0, reached.asleep, waiting.book_ref, waiting.asleep) == (True, False, 0, True)
    regular.put("BOB", SELL, 20, BASE)
    go(regular, "2026-11-20 09:30")
    assert (reached.cum, waiting.cum) == (10, 0)


def test_orders_for_the_opening_trade_in_it_or_expire(regular: Stage) -> None:
    go(regular, "2026-11-20 09:15")
    traded, market, left = (regular.put("ANN", BUY, 10, price, "2") for price in (BASE + 3000, None, BASE - 3000))
    regular.put("BOB", SELL, 20, BASE)
    go(regular, "2026-11-20 09:30")
    assert [last(each, regular) for each in (traded, market, left)] == ["22 10 10 0", "22 10 10 0", "CC 0 0 0"]
    late = regular.put("ANN", BUY, 10, BASE, "2")
    assert last(late, regular) == "88 0 0 0"
    assert late.refusal is not None
    assert late.refusal.code == 4


def test_a_market_order_that_finds_nobody_in_the_auction_ends(regular: Stage) -> None:
    go(regular, "2026-11-20 09:15")
    order = regular.put("ANN", BUY, 10, None)
    assert last(order, regular) == "00 0 0 10"
    go(regular, "2026-11-20 09:30")
    assert last(order, regular) == "44 0 0 0"


def test_the_closing_trades_what_gathered_before_it_and_then_the_day_ends(regular: Stage) -> None:
    go(regular, "2026-11-20 15:00")
    resting = regular.put("ANN", BUY, 10, BASE)
    go(regular, "2026-11-20 15:50")
    crossing = regular.put("BOB", SELL, 15, BASE - 1000)
    immediate = regular.put("BOB", SELL, 15, BASE - 1000, "3")
    assert (resting.cum, last(immediate, regular)) == (0, "44 0 0 0")
    go(regular, "2026-11-20 16:00")
    assert crosses(regular) == [("C", 10, BASE - 1000)]  # sellers are left: the lowest price
    assert last(resting, regular) == "22 10 10 0"
    assert regular.told(crossing)[-2:] == ["11 10 10 5", "CC 0 10 0"]


def test_an_order_that_lasts_is_done_for_the_day_renewed_and_counts_its_days_apart(regular: Stage) -> None:
    go(regular, "2026-11-20 10:00")
    order = regular.put("ANN", BUY, 100, BASE, "1")
    regular.put("BOB", SELL, 20, BASE)
    assert order.day is None
    go(regular, "2026-11-20 16:00")
    assert last(order, regular) == "33 0 20 80"
    assert order.day is None
    assert order.displayed, "it keeps its place over night"
    go(regular, "2026-11-23 09:00")
    assert last(order, regular) == "D1 0 20 80"
    assert order.day == Day(80, 0, 0)
    go(regular, "2026-11-23 10:00")
    regular.put("BOB", SELL, 30, BASE - 1000)
    assert last(order, regular) == "11 30 50 50"
    assert order.day == Day(80, 30, BASE)


@pytest.mark.parametrize(
    ("expiry", "ends", "told"),
    [
        ({"expire_date": "20261120"}, "2026-11-20 16:00", "CC 0 0 0"),  # with the close of its last day
        ({"expire_date": "20261121"}, "2026-11-22 00:00", "CC 0 0 0"),  # a Saturday: with its end
        ({"expire_date": "20261123"}, "2026-11-23 16:00", "CC 0 0 0"),
        ({"expire_time": "20261120-16:30:00"}, "2026-11-20 11:30", "CC 0 0 0"),
        ({"expire_time": "20261120-16:30:00.500"}, "2026-11-20 11:30:00.5", "CC 0 0 0"),
        ({"expire_time": "20261120-23:00:00"}, "2026-11-20 16:00", "CC 0 0 0"),  # it would not be renewed before
        ({"expire_time": "20261123-11:00:00"}, "2026-11-23 06:00", "CC 0 0 0"),
    ],
)
def test_an_order_till_a_date_or_a_time_ends_then(regular: Stage, expiry: dict[str, str], ends: str, told: str) -> None:
    go(regular, "2026-11-20 10:00")
    order = regular.put("ANN", BUY, 10, BASE, "6", **expiry)
    regular.now_ns = at(ends) - 1
    regular.venue.advance(regular.now_ns)
    assert order.is_open
    go(regular, ends)
    assert last(order, regular) == told
    ended = regular.market.reports[-1]
    assert isinstance(ended, Execution)
    assert ended.transact_time_ns == at(ends)


def test_an_operators_venue_opens_and_closes_when_he_says_and_orders_end_by_time_all_the_same(
    directory: Path,
) -> None:
    stage = opened(directory, MANUAL, "2026-11-20 12:00")
    assert stage.market.phase is CLOSED
    stage.enter(OPEN)
    order = stage.put("ANN", BUY, 10, BASE, "6", expire_time="20261120-18:00:00")
    day = stage.put("ANN", BUY, 10, BASE)
    go(stage, "2026-11-20 18:00")
    assert (stage.market.phase, last(order, stage), day.is_open) == (OPEN, "CC 0 0 0", True)
    stage.enter(CLOSED)
    assert last(day, stage) == "CC 0 0 0"
    stage.close()


def test_without_hours_orders_of_the_day_expire_at_midnight_and_trading_goes_on(directory: Path) -> None:
    stage = opened(directory, ALWAYS, "2026-11-20 23:59")
    day, lasting = stage.put("ANN", BUY, 10, BASE), stage.put("ANN", BUY, 10, BASE, "1")
    go(stage, "2026-11-21 00:01")
    assert (last(day, stage), stage.told(lasting)[-2:]) == ("CC 0 0 0", ["33 0 0 10", "D0 0 0 10"])
    stage.put("BOB", SELL, 10, BASE)
    assert lasting.status is OrdStatus.FILLED
    stage.close()


def test_what_became_due_while_the_venue_was_down_is_done_at_its_time(directory: Path) -> None:
    stage = opened(directory, REGULAR, "2026-11-20 15:00")
    day, lasting = stage.put("ANN", BUY, 10, BASE), stage.put("ANN", BUY, 20, BASE, "1")
    dated = stage.put("ANN", BUY, 30, BASE, "6", expire_time="20261121-12:00:00")
    stage.close()
    stage.open(at("2026-11-23 10:00"))
    assert phases_in(stage) == [
        (at("2026-11-20 15:00"), "OPEN"),
        (at("2026-11-20 15:50"), "PRE_CLOSE"),
        (at("2026-11-20 16:00"), "CLOSED"),
        (at("2026-11-23 09:00"), "PRE_OPEN"),
        (at("2026-11-23 09:30"), "OPEN"),
    ]
    told = [
        (each.transact_time_ns, each.order.quantity) for each in stage.market.reports if isinstance(each, Execution)
    ]
    assert told[-4:] == [
        (at("2026-11-20 16:00"), lasting.quantity),
        (at("2026-11-20 16:00"), dated.quantity),
        (at("2026-11-21 07:00"), dated.quantity),
        (at("2026-11-23 09:00"), lasting.quantity),
    ]
    found = stage.market.orders[day.ref]
    assert found.ended is OrdStatus.EXPIRED
    stage.close()


def test_answers_that_were_due_while_the_venue_was_down_come_before_the_close_that_was_later(directory: Path) -> None:
    stage = opened(directory, REGULAR, "2026-11-20 15:00", conduct=Conduct(answer_delay_ns=DELAY))
    order = stage.put("ANN", BUY, 10, BASE)
    stage.close()
    stage.open(at("2026-11-20 17:00"))
    assert stage.told(stage.market.orders[order.ref]) == ["AA 0 0 10", "00 0 0 10", "CC 0 0 0"]
    stage.close()


def test_orders_answers_and_ends_come_each_at_its_time(directory: Path) -> None:
    stage = opened(directory, REGULAR, "2026-11-20 11:59:59.999", conduct=Conduct(answer_delay_ns=DELAY))
    order = stage.put("ANN", BUY, 10, BASE, "6", expire_time="20261120-17:00:00.004")
    stage.now_ns += 3_000_000  # with its answer
    stage.venue.advance(stage.now_ns)
    later = stage.put("BOB", SELL, 10, BASE)
    go(stage, "2026-11-20 12:01")
    told = [(each.transact_time_ns - at("2026-11-20 12:00"), each.order) for each in stage.market.reports]
    assert told == [(-1_000_000, order), (2_000_000, order), (2_000_000, later), (4_000_000, order), (5_000_000, later)]
    stage.close()


def test_a_venue_opened_between_two_changes_is_in_the_phase_of_the_hour(directory: Path) -> None:
    stage = opened(directory, REGULAR, "2026-11-20 15:55")
    assert (stage.market.phase, stage.market.trade_date) == (PRE_CLOSE, "2026-11-20")
    assert stage.venue.due_ns() == at("2026-11-20 16:00")
    stage.close()


def test_a_halted_symbol_takes_no_part_in_the_opening_and_trades_when_it_is_resumed(regular: Stage) -> None:
    go(regular, "2026-11-20 09:15")
    buy = regular.put("ANN", BUY, 10, BASE + 1000)
    sell = regular.put("BOB", SELL, 10, BASE - 1000)
    regular.operate("halt", Halt("AAA"))
    go(regular, "2026-11-20 09:30")
    assert (buy.cum, crosses(regular)) == (0, [])
    regular.now_ns = at("2026-11-20 09:45")
    regular.operate("resume", Resume("AAA"))
    assert (buy.cum, sell.cum, crosses(regular)) == (10, 10, [("H", 10, BASE)])


def test_orders_gathered_before_a_close_without_auction_meet_at_the_next_opening(directory: Path) -> None:
    stage = opened(directory, MANUAL, "2026-11-20 12:00")
    stage.enter(PRE_OPEN)
    buy = stage.put("ANN", BUY, 10, BASE + 1000, "1")
    sell = stage.put("BOB", SELL, 15, BASE - 1000, "1")
    for phase in (CLOSED, OPEN):
        stage.now_ns += HOUR
        stage.enter(phase)
    assert crosses(stage) == [("O", 10, BASE - 1000)]
    assert (last(buy, stage), last(sell, stage)) == ("22 10 10 0", "11 10 10 5")
    audited(stage.journal)
    stage.close()
