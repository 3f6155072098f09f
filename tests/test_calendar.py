"""The calendar: each day of its table against exchange_calendars and the federal holidays, and some days by hand."""

from bisect import bisect_right
from copy import copy
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

import exchange_calendars
import pytest
from pandas.tseries.holiday import AbstractHolidayCalendar, USFederalHolidayCalendar, sunday_to_monday

from runtime.calendar import NEW_YORK, is_exchange_day, is_open, is_settlement_day, settle_date, trade_date
from runtime.calendar_table import BANK_HOLIDAYS, CLOSED, EARLY, FIRST, LAST

# pandas warns exchange_calendars of pandas 4
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")

FIRST_DAY, LAST_DAY = date.fromisoformat(FIRST), date.fromisoformat(LAST)
EVERY_DAY = [FIRST_DAY + timedelta(n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]
SECOND_NS = 1_000_000_000


@cache
def hours() -> dict[date, tuple[int, int]]:
    """Session -> (open, close) in nanoseconds since 1970, as exchange_calendars has them."""
    schedule = exchange_calendars.get_calendar("XNYS", start=FIRST, end=LAST).schedule
    return {row.Index.date(): (_ns(row.open), _ns(row.close)) for row in schedule.itertuples()}


def _ns(instant: datetime) -> int:
    return int(instant.timestamp()) * SECOND_NS


@cache
def bank_holidays() -> set[date]:
    """The federal holidays as the Federal Reserve keeps them: a Sunday's on the Monday, a Saturday's not at all."""
    rules = [copy(rule) for rule in USFederalHolidayCalendar.rules]
    for rule in rules:
        rule.observance = rule.observance and sunday_to_monday  # offices of the government move a Saturday's to Friday
    days = AbstractHolidayCalendar(rules=rules).holidays(FIRST, LAST)
    return {day.date() for day in days if day.weekday() < 5}


@cache
def settlement_days() -> list[date]:
    return sorted(hours().keys() - bank_holidays())


def test_the_table_has_the_sessions_of_the_exchange_and_no_day_too_many() -> None:
    assert [day for day in EVERY_DAY if is_exchange_day(day)] == sorted(hours())
    weekdays = {day for day in EVERY_DAY if day.weekday() < 5}
    assert sorted(CLOSED) == sorted(day.isoformat() for day in weekdays - hours().keys())


def test_the_table_has_the_early_closes_of_the_exchange() -> None:
    closes = {day: datetime.fromtimestamp(close // SECOND_NS, NEW_YORK).time() for day, (_, close) in hours().items()}
    assert set(closes.values()) == {time(13), time(16)}
    assert sorted(EARLY) == [day.isoformat() for day, close in sorted(closes.items()) if close == time(13)]


def test_every_session_opens_and_closes_to_the_second_in_summer_and_winter_time() -> None:
    for day, (opens, closes) in hours().items():
        around = (opens - 1, opens, closes - 1, closes)
        assert [is_open(ns, "regular") for ns in around] == [False, True, True, False], day


def test_the_table_has_the_days_on_which_stocks_trade_and_banks_rest() -> None:
    assert sorted(BANK_HOLIDAYS) == sorted(day.isoformat() for day in bank_holidays() & hours().keys())
    assert [day for day in EVERY_DAY if is_settlement_day(day)] == settlement_days()


def test_a_day_without_a_session_is_closed_and_trades_for_the_next_session() -> None:
    sessions = sorted(hours())
    for day in EVERY_DAY:
        noon_ns = _ns(datetime.combine(day, time(12), NEW_YORK))
        assert is_open(noon_ns, "regular") is (day in hours()), day
        if day <= sessions[-1]:
            assert trade_date(noon_ns) == sessions[bisect_right(sessions, day - timedelta(1))], day


@pytest.mark.parametrize("cycle_days", [1, 2])
def test_settlement_counts_sessions_without_bank_holidays(cycle_days: int) -> None:
    days = settlement_days()
    for traded in EVERY_DAY:
        place = bisect_right(days, traded) + cycle_days - 1
        if place < len(days):
            assert settle_date(traded, cycle_days) == days[place], traded
        else:
            with pytest.raises(ValueError, match="the calendar knows"):
                settle_date(traded, cycle_days)


@pytest.mark.parametrize("day", [FIRST_DAY - timedelta(1), LAST_DAY + timedelta(1)])
def test_a_day_beyond_the_table_is_an_error_and_no_guess(day: date) -> None:
    with pytest.raises(ValueError, match="make_calendar"):
        is_exchange_day(day)


# --- days by hand: the exchange's and the Federal Reserve's published holidays

DAYS = [
    ("2026-11-25", True, True, "a Wednesday"),
    ("2026-11-26", False, False, "Thanksgiving"),
    ("2026-11-28", False, False, "a Saturday"),
    ("2026-10-12", True, False, "Columbus Day: stocks trade and do not settle"),
    ("2026-11-11", True, False, "Veterans Day: likewise"),
    ("2026-04-03", False, False, "Good Friday"),
    ("2026-07-03", False, False, "the exchange keeps Independence Day, a Saturday, on the Friday"),
    ("2021-12-31", True, True, "New Year's Day on a Saturday is not kept on the Friday"),
    ("2025-01-09", False, False, "mourning for President Carter"),
]


@pytest.mark.parametrize(("day", "trades", "settles", "why"), DAYS)
def test_calendar_days(day: str, trades: bool, settles: bool, why: str) -> None:
    found = date.fromisoformat(day)
    assert (is_exchange_day(found), is_settlement_day(found)) == (trades, settles), why


SETTLEMENTS = [
    ("2026-11-20", 1, "2026-11-23"),
    ("2026-11-25", 1, "2026-11-27"),
    ("2026-10-09", 1, "2026-10-13"),
    ("2026-10-09", 2, "2026-10-14"),
    ("2026-10-12", 1, "2026-10-13"),
    ("2026-12-24", 1, "2026-12-28"),
]


@pytest.mark.parametrize(("traded", "cycle_days", "settles"), SETTLEMENTS)
def test_settlement_dates(traded: str, cycle_days: int, settles: str) -> None:
    assert settle_date(date.fromisoformat(traded), cycle_days) == date.fromisoformat(settles)


INSTANTS = [
    ("2026-11-25T14:29:59", False, "2026-11-25", "before the open, in winter time"),
    ("2026-11-25T14:30:00", True, "2026-11-25", "the open"),
    ("2026-11-25T21:00:00", False, "2026-11-25", "the close"),
    ("2026-07-06T13:30:00", True, "2026-07-06", "the open, in summer time"),
    ("2026-11-27T17:59:59", True, "2026-11-27", "before an early close"),
    ("2026-11-27T18:00:00", False, "2026-11-27", "an early close"),
    ("2026-11-26T15:00:00", False, "2026-11-27", "Thanksgiving trades for the next day"),
    ("2026-11-28T03:00:00", False, "2026-11-27", "still Friday in New York"),
    ("2026-11-28T15:00:00", False, "2026-11-30", "a Saturday trades for Monday"),
]


@pytest.mark.parametrize(("instant", "opened", "traded", "why"), INSTANTS)
def test_opening_hours_and_trade_dates(instant: str, opened: bool, traded: str, why: str) -> None:
    now_ns = int(datetime.fromisoformat(instant).replace(tzinfo=UTC).timestamp()) * SECOND_NS
    assert is_open(now_ns, "regular") is opened, why
    assert is_open(now_ns, "always")
    assert trade_date(now_ns) == date.fromisoformat(traded), why
