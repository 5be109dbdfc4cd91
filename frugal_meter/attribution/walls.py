"""Wall time in a tick: how long each span was in flight, and how long any was; a few spans at a time, as the tick goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final

from ..sources import Window
from .span import Span

_CHUNK: Final = 500  # some 0.15 ms


class BusyUnion:
    """Nanoseconds during which at least one of the ``(start, end)`` intervals was open, some intervals at a time."""

    __slots__ = ("_high", "_low", "_total")

    def __init__(self) -> None:
        self._total = 0
        self._low: int | None = None
        self._high: int | None = None

    def add(self, intervals: Iterable[tuple[int, int]]) -> None:
        """Add more, all in order of falling ends, also from call to call."""
        low, high = self._low, self._high
        for start, end in intervals:
            if low is None or high is None:
                low, high = start, end
            elif end < low:
                self._total += high - low
                low, high = start, end
            elif start < low:
                low = start
        self._low, self._high = low, high

    @property
    def ns(self) -> int:
        """The time so far."""
        return self._total + (self._high - self._low if self._low is not None and self._high is not None else 0)


def by_falling_end(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """``intervals`` as `BusyUnion` takes them; what comes nearly in order of its ends is sorted in a moment."""
    return sorted(intervals, key=itemgetter(1), reverse=True)


def overlap(window: Window, spans: Sequence[Span], overlaps: list[int], busy: BusyUnion) -> Iterator[None]:
    """Tell ``overlaps`` the wall time of each span in the window, ns, nested time counted once, and ``busy`` all of it."""
    t0, t1 = window.t0_ns, window.t1_ns
    intervals: list[tuple[int, int]] = []
    nested = False
    for place in range(0, len(spans), _CHUNK):
        for span in spans[place : place + _CHUNK]:
            start, end = span.t0_ns, span.t1_ns
            if start < t0:
                start = t0
            if not end or end > t1:
                end = t1
            if end > start:
                overlaps.append(end - start)
                intervals.append((start, end))
            else:
                overlaps.append(0)
            if span.parent is not None:
                nested = True
        yield
    if nested:
        _count_nested_once(spans, overlaps)
        yield
    intervals = by_falling_end(intervals)
    for place in range(0, len(intervals), _CHUNK):
        yield
        busy.add(intervals[place : place + _CHUNK])


def _count_nested_once(spans: Sequence[Span], walls: list[int]) -> None:
    index = {span.key: place for place, span in enumerate(spans)}
    alone = walls.copy()
    for place, span in enumerate(spans):
        above = index.get(span.parent.key) if span.parent is not None else None
        if above is not None:
            walls[above] = max(0, walls[above] - alone[place])
