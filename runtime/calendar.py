"""New York's trading calendar: exchange days 9:30 to 16:00 (13:00 on early closes), settlement days, trade dates."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from runtime.calendar_table import BANK_HOLIDAYS, CLOSED, EARLY, FIRST, LAST

NEW_YORK = ZoneInfo("America/New_York")
OPEN, CLOSE, EARLY_CLOSE = time(9, 30), time(16), time(13)


def new_york(now_ns: int) -> datetime:
    return datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).astimezone(NEW_YORK)


def is_exchange_day(day: date) -> bool:
    if not FIRST <= day.isoformat() <= LAST:
        raise ValueError(f"the calendar knows {FIRST} to {LAST}, not {day}; run python -m runtime.make_calendar")
    return day.weekday() < 5 and day.isoformat() not in CLOSED


def is_settlement_day(day: date) -> bool:
    return is_exchange_day(day) and day.isoformat() not in BANK_HOLIDAYS


def is_open(now_ns: int, session: str) -> bool:
    """Whether the market trades at this instant; `session` is `always` or `regular`."""
    if session == "always":
        return True
    here = new_york(now_ns)
    return is_exchange_day(here.date()) and OPEN <= here.time() < close(here.date())


def close(day: date) -> time:
    """New York time at which trading ends on an exchange day."""
    return EARLY_CLOSE if day.isoformat() in EARLY else CLOSE


def to_ns(day: date, at: time) -> int:
    """The instant at which New York's clock shows this."""
    return int(datetime.combine(day, at, NEW_YORK).timestamp()) * 1_000_000_000


def trade_date(now_ns: int) -> date:
    """The New York date, or the next exchange day when that is none."""
    day = new_york(now_ns).date()
    while not is_exchange_day(day):
        day += timedelta(1)
    return day


def settle_date(traded: date, cycle_days: int) -> date:
    """`cycle_days` settlement days after the trade date (T+1 since 28 May 2024, SEC rule 15c6-1)."""
    day = traded
    for _ in range(cycle_days):
        day += timedelta(1)
        while not is_settlement_day(day):
            day += timedelta(1)
    return day
