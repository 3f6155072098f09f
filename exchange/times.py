"""An instant (integer nanoseconds UTC) as the venue's messages write it. Pure; what it looks up is kept for reuse."""

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from runtime import calendar

_SECOND_NS: Final = 1_000_000_000
_HOUR_NS: Final = 3600 * _SECOND_NS


def trade_date(now_ns: int) -> str:
    """YYYY-MM-DD."""
    return _trade_date(now_ns // _HOUR_NS)


def utc_timestamp(now_ns: int) -> str:
    """FIX UTCTimestamp with milliseconds, cut, not rounded: 20261121-14:30:00.123."""
    return f"{_utc_second(now_ns // _SECOND_NS)}.{now_ns % _SECOND_NS // 1_000_000:03d}"


def since_midnight(now_ns: int) -> int:
    """ITCH timestamp: nanoseconds on New York's clock since its midnight."""
    return _hour_of_day(now_ns // _HOUR_NS) * _HOUR_NS + now_ns % _HOUR_NS


def end_of_day(day: str) -> int | None:
    """The midnight in New York after LocalMktDate YYYYMMDD; None if it is no date."""
    try:
        begins = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date()
        return calendar.to_ns(begins + timedelta(1), time())
    except (ValueError, OverflowError):
        return None


def instant(text: str) -> int | None:
    """FIX UTCTimestamp, in seconds or milliseconds; None if it is none."""
    for layout in ("%Y%m%d-%H:%M:%S", "%Y%m%d-%H:%M:%S.%f"):
        try:
            seconds = datetime.strptime(text, layout).replace(tzinfo=UTC)
        except ValueError:
            continue
        return int(seconds.timestamp()) * _SECOND_NS + seconds.microsecond * 1000
    return None


# New York's offset is whole hours, and its clock and date change on the hour: one look-up serves an hour.


@lru_cache(maxsize=4)
def _trade_date(hour: int) -> str:
    return calendar.trade_date(hour * _HOUR_NS).isoformat()


@lru_cache(maxsize=4)
def _hour_of_day(hour: int) -> int:
    return calendar.new_york(hour * _HOUR_NS).hour


@lru_cache(maxsize=4)
def _utc_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%d-%H:%M:%S")
