"""Windows on the clock of a place: days of 23 and 25 hours, weeks from Monday, months, half-hour zones."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.budgets.windows import PERIODS, window_at, zone
from frugal_meter.errors import ConfigurationError

HOUR = 3600
PARIS = "Europe/Paris"


def window(per: str, place: str, *at: int, fold: int = 0) -> tuple[datetime, datetime]:
    """Start and end, in local time, of the window that holds the local time ``at``."""
    tz = ZoneInfo(place)
    start, end = window_at(per, tz, datetime(*at, tzinfo=tz, fold=fold).timestamp())
    return datetime.fromtimestamp(start, tz), datetime.fromtimestamp(end, tz)


def hours(span: tuple[datetime, datetime]) -> float:
    return (span[1].astimezone(UTC) - span[0].astimezone(UTC)).total_seconds() / HOUR


@pytest.mark.parametrize(
    ("place", "at", "length"),
    [
        (PARIS, (2026, 3, 28, 12), 24),
        (PARIS, (2026, 3, 29, 12), 23),
        (PARIS, (2026, 10, 25, 1), 25),
        (PARIS, (2026, 10, 25, 23), 25),
        ("America/Havana", (2026, 11, 1, 12), 25),  # its midnight comes twice
        ("America/Havana", (2026, 3, 8, 12), 23),  # its midnight does not come
        ("Australia/Lord_Howe", (2026, 4, 5, 12), 24.5),  # its clock moves by half an hour
        ("UTC", (2026, 3, 29, 12), 24),
    ],
)
def test_a_day_is_as_long_as_the_clock_on_the_wall_makes_it(place: str, at: tuple[int, ...], length: float) -> None:
    span = window("day", place, *at)
    assert hours(span) == length
    assert span[0].date() == datetime(*at).date()


def test_the_hour_that_comes_twice_is_two_windows() -> None:
    first, second = window("hour", PARIS, 2026, 10, 25, 2, 30), window("hour", PARIS, 2026, 10, 25, 2, 30, fold=1)
    assert first[1].timestamp() == second[0].timestamp()
    assert hours(first) == hours(second) == 1


def test_a_week_begins_on_monday_and_may_have_an_hour_less() -> None:
    start, end = window("week", PARIS, 2026, 3, 29, 23, 59)
    assert (start.weekday(), start.hour, start.date().isoformat(), end.date().isoformat()) == (0, 0, "2026-03-23", "2026-03-30")
    assert hours((start, end)) == 7 * 24 - 1


@pytest.mark.parametrize(
    ("at", "first", "last"),
    [
        ((2026, 1, 31, 23, 59), "2026-01-01", "2026-02-01"),
        ((2026, 2, 28, 12), "2026-02-01", "2026-03-01"),
        ((2028, 2, 29, 12), "2028-02-01", "2028-03-01"),
        ((2026, 12, 31, 23, 59), "2026-12-01", "2027-01-01"),
    ],
)
def test_a_month_ends_where_the_next_one_begins(at: tuple[int, ...], first: str, last: str) -> None:
    start, end = window("month", PARIS, *at)
    assert (start.date().isoformat(), end.date().isoformat()) == (first, last)


@pytest.mark.parametrize(("place", "minute"), [("Asia/Kolkata", 30), ("Asia/Kathmandu", 15), ("Pacific/Chatham", 15), (PARIS, 0)])
def test_an_hour_begins_on_the_hour_of_the_place(place: str, minute: int) -> None:
    start, end = window("hour", place, 2026, 7, 1, 12, 40)
    assert (start.minute, end.minute) == (0, 0)
    assert start.astimezone(UTC).minute == minute


@given(
    st.sampled_from(PERIODS),
    st.sampled_from([PARIS, "UTC", "Asia/Kolkata", "America/Havana", "Pacific/Apia", "America/St_Johns"]),
    st.floats(1.2e9, 2.5e9),
)
def test_windows_follow_each_other_without_gap_or_overlap(per: str, place: str, at: float) -> None:
    tz = ZoneInfo(place)
    start, end = window_at(per, tz, at)
    assert start <= at < end
    assert window_at(per, tz, end)[0] == end
    assert window_at(per, tz, start - 1)[1] == start


@pytest.mark.parametrize("name", ["Mars/Base", "", "Europe", "../../etc/passwd", "Europe/Pariss"])
def test_an_unknown_timezone_is_refused_with_what_to_write(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown timezone .* IANA name such as 'Europe/Paris'"):
        zone(name)
