"""The periods that are declared: whole months, quarters or years, so that no two overlap and differ by a few requests."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Final, Literal

Span = Literal["month", "quarter", "year"]
_MONTHS: Final[dict[Span, int]] = {"month": 1, "quarter": 3, "year": 12}
#: how long the declaration of the next period may take to appear before this one is stale
GRACE: Final = timedelta(days=31)


def last_whole(span: Span, now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """The last calendar ``span`` that has ended by ``now``, on the clock of ``zone``: begin and end."""
    here, months = now.astimezone(zone), _MONTHS[span]
    number = here.year * 12 + here.month - 1
    end = number - number % months
    return _first_of(end - months, zone), _first_of(end, zone)


def valid_until(begin: datetime, end: datetime) -> datetime:
    """Until when figures of a period stand for the service: one more period, and a month to publish the next."""
    return end + (end - begin) + GRACE


def _first_of(number: int, zone: tzinfo) -> datetime:
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=zone)
