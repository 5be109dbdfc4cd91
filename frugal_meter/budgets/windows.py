"""Windows of a budget: a minute … a month on the clock of a named timezone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import ConfigurationError

Per = Literal["minute", "hour", "day", "week", "month"]
PERIODS: Final[tuple[Per, ...]] = ("minute", "hour", "day", "week", "month")


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
