"""Which phase the venue is in at an instant, and when the next one begins. Pure; times are ns UTC."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Final, NamedTuple

from exchange.events import Phase
from runtime import calendar
from runtime.calendar_table import FIRST, LAST

_DAYS: Final = 15  # no run of days without trading is longer
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Hours:
    """`kind`: `always`, `regular` (exchange days, New York time) or `manual` (the operator says). An early close is
    the calendar's, if it comes before `close`; a day that would end before it opens is none."""

    kind: str
    open: time
    close: time
    pre_open_s: int  # how long before the open orders are taken; 0: not before it
    pre_close_s: int  # how long before the close they only gather


class Change(NamedTuple):
    """From `at_ns` on the venue is in `phase` of `trade_date` (YYYY-MM-DD)."""

    at_ns: int
    phase: Phase
    trade_date: str


def next_change(hours: Hours, after_ns: int) -> Change | None:
    """The first change later than `after_ns`; None if there never is one, or the calendar does not know it."""
    if hours.kind == "manual":
        return None
    first = calendar.new_york(after_ns).date()
    days = (first + timedelta(ahead) for ahead in range(_DAYS))
    return next((change for day in days for change in _changes(hours, day) if change.at_ns > after_ns), None)


def current(hours: Hours, now_ns: int) -> Change:
    """The change by which the venue came into the phase it is in at `now_ns`."""
    last = Change(now_ns, Phase.CLOSED, calendar.trade_date(now_ns).isoformat())
    if hours.kind == "manual":
        return last
    first = calendar.new_york(now_ns).date()
    for ahead in range(-_DAYS, _DAYS):
        for change in _changes(hours, first + timedelta(ahead)):
            if change.at_ns <= now_ns:
                last = change
    return last


def _changes(hours: Hours, day: date) -> Iterator[Change]:
    if not _is_exchange_day(day):
        return
    name = day.isoformat()
    if hours.kind == "always":
        # Without hours the trade date changes at midnight, before which nothing trades for no time at all.
        before = _previous_exchange_day(day)
        midnight_ns = calendar.to_ns(before + timedelta(1), time())
        yield Change(midnight_ns, Phase.CLOSED, before.isoformat())
        yield Change(midnight_ns + 1, Phase.OPEN, name)
        return
    opens_ns = calendar.to_ns(day, hours.open)
    closes_ns = calendar.to_ns(day, _close(hours, day))
    if closes_ns <= opens_ns:
        return
    if hours.pre_open_s:
        yield Change(opens_ns - hours.pre_open_s * _SECOND_NS, Phase.PRE_OPEN, name)
    yield Change(opens_ns, Phase.OPEN, name)
    pre_closes_ns = closes_ns - hours.pre_close_s * _SECOND_NS
    if opens_ns < pre_closes_ns < closes_ns:
        yield Change(pre_closes_ns, Phase.PRE_CLOSE, name)
    yield Change(closes_ns, Phase.CLOSED, name)


def _close(hours: Hours, day: date) -> time:
    close = calendar.close(day)
    return min(hours.close, close) if close < calendar.CLOSE else hours.close


def _previous_exchange_day(day: date) -> date:
    before = (day - timedelta(back) for back in range(1, _DAYS))
    return next((each for each in before if _is_exchange_day(each)), day - timedelta(1))


def _is_exchange_day(day: date) -> bool:
    """False for what the calendar does not know: at its ends the venue stays as it is."""
    return FIRST <= day.isoformat() <= LAST and calendar.is_exchange_day(day)
