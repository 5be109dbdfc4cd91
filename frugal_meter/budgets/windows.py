"""Windows of a budget: a minute … a month on the clock of a named timezone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import ConfigurationError

Per = Literal["minute", "hour", "day", "week", "month"]
PERIODS: Final[tuple[Per, ...]] = ("minute", "hour", "day", "week", "month")
#: a sliding window and its sub-windows, in seconds: a sub-window counts until all of it has left the window
SLIDING: Final[dict[Per, tuple[int, int]]] = {
    "minute": (60, 5),
    "hour": (3600, 300),
    "day": (86_400, 3600),
    "week": (7 * 86_400, 6 * 3600),
    "month": (30 * 86_400, 86_400),
}


def zone(name: str) -> ZoneInfo:
    """The timezone called ``name``; raises ConfigurationError with what to do."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError, AttributeError):
        raise ConfigurationError(
            f"unknown timezone {name!r}: use an IANA name such as 'Europe/Paris' "
            "(a system without time zone data needs: pip install tzdata)"
        ) from None


def window_at(per: Per, tz: ZoneInfo, at_s: float) -> tuple[int, int]:
    """``(start, end)`` in whole Unix seconds of the window that holds ``at_s``.

    Days begin at local midnight, weeks on Monday: where the clock changes a day has 23 or 25 hours.
    """
    if per == "minute":
        start = int(at_s) // 60 * 60
        return start, start + 60
    if per == "hour":
        # The offset at this instant, so that zones of half an hour and both hours of a clock change come out right.
        offset = datetime.fromtimestamp(at_s, tz).utcoffset() or timedelta()
        seconds = int(offset.total_seconds())
        start = (int(at_s) + seconds) // 3600 * 3600 - seconds
        return start, start + 3600
    day = datetime.fromtimestamp(at_s, tz).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if per == "day":
        first, last = day, day + timedelta(days=1)
    elif per == "week":
        first = day - timedelta(days=day.weekday())
        last = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        last = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(last.timestamp())


def sliding_at(per: Per, at_s: float) -> tuple[int, int, int]:
    """``(start, end, until)`` in whole Unix seconds of the sub-window that holds ``at_s``, and when it ceases to count.

    Whole sub-windows count, so that no stretch of the window's length ever holds more than the limit; a month is 30 days.
    """
    length, each = SLIDING[per]
    start = int(at_s) // each * each
    return start, start + each, start + each + length
