"""Dates for ITCH times, which are nanoseconds on New York's clock since its midnight and name no day."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from runtime.calendar import NEW_YORK, new_york

SKEW_NS: Final = 600 * 10**9  # how far the venue's clock may run ahead of ours

_DAY: Final = timedelta(1)
_HOUR_NS: Final = 3_600 * 10**9


@lru_cache(maxsize=256)
def _hour_ns(day: date, hour: int) -> int:
    """The clock is changed on the hour. Of the hour that comes twice in autumn it is the first: a quote may look an
    hour older than it is, not fresher."""
    return int(datetime.combine(day, time(hour), NEW_YORK).astimezone(UTC).timestamp()) * 10**9


def instant_ns(day: date, time_ns: int) -> int:
    """UTC nanoseconds since 1970."""
    hour = min(time_ns // _HOUR_NS, 23)  # the field is wider than a day
    return _hour_ns(day, hour) + time_ns - hour * _HOUR_NS


def date_at(time_ns: int, now_ns: int) -> date:
    """The latest New York date on which `time_ns` is not in the future."""
    day = new_york(now_ns).date() + _DAY
    while instant_ns(day, time_ns) > now_ns + SKEW_NS:
        day -= _DAY
    return day


class Days:
    """The dates of one session's days, which the book counts from 0 by its times falling back at midnight.

    The first date is only known once a message is: a replay may begin days ago, and its last message is the one that
    is recent.
    """

    def __init__(self) -> None:
        self._first: date | None = None

    def anchor(self, number: int, time_ns: int, now_ns: int) -> None:
        """Day `number` is the one on which `time_ns` was reached by `now_ns`."""
        self._first = date_at(time_ns, now_ns) - number * _DAY

    def number_at(self, time_ns: int, now_ns: int) -> int:
        """The day of a message that has just come: after a quiet day its time has not fallen back."""
        return (date_at(time_ns, now_ns) - self._first).days if self._first else 0

    def utc_ns(self, number: int, time_ns: int) -> int:
        """UTC nanoseconds since 1970; 0 before the first message."""
        return instant_ns(self._first + number * _DAY, time_ns) if self._first else 0
