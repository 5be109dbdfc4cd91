"""The exact split: integers in, integers out, and the parts always sum to the whole.

Cumulative rounding (the running total is rounded, not the parts) telescopes: each part is within one unit of its
ideal share, a zero weight gets zero, and the sum is exact by construction.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter


class Divider:
    """Hands ``total`` out over weights that sum to ``whole``, in order, a few weights at a time.

    ``take`` may be called again and again (the tick settles in chunks); when all ``whole`` weight has been taken
    exactly ``total`` has been given. With ``whole == 0`` nothing is given: the caller keeps the total.
    """

    __slots__ = ("given", "seen", "total", "whole")

    def __init__(self, total: int, whole: int) -> None:
        if total < 0 or whole < 0:
            raise ValueError(f"cannot divide {total} over a weight of {whole}")
        self.total, self.whole = total, whole
        self.seen = self.given = 0

    def take(self, weights: Iterable[int]) -> list[int]:
        """The shares of ``weights`` (each ≥ 0), in order; O(n)."""
        total, whole, seen, given = self.total, self.whole, self.seen, self.given
        if not total:
            weights = list(weights)
            self.seen = seen + sum(weights)
            return [0] * len(weights)
        out: list[int] = []
        append = out.append
        for weight in weights:
            if weight:
                seen += weight
                reached = total * seen // whole
                append(reached - given)
                given = reached
            else:
                append(0)
        if seen > whole:
            raise ValueError(f"weights sum to more than the whole ({seen} > {whole})")
        self.seen, self.given = seen, given
        return out

    def rest(self) -> int:
        """What has not been given out yet."""
        return self.total - self.given


def split(total: int, weights: Iterable[int]) -> list[int]:
    """``total`` over ``weights``, exactly; all zeros when every weight is zero."""
    weights = list(weights)
    return Divider(total, sum(weights)).take(weights)


def idle_and_dynamic(energy_nj: int, idle_nj: int | None) -> tuple[int, int]:
    """``(idle, dynamic)`` with ``idle = min(energy, idle)``; an unknown idle leaves everything dynamic."""
    idle = min(energy_nj, idle_nj or 0)
    return idle, energy_nj - idle


def busy_union_ns(intervals: Iterable[tuple[int, int]]) -> int:
    """Nanoseconds during which at least one of the ``(start, end)`` intervals was open."""
    total = 0
    low = high = None
    for start, end in sorted(intervals, key=itemgetter(1), reverse=True):
        if low is None or high is None or end < low:
            if low is not None and high is not None:
                total += high - low
            low, high = start, end
        elif start < low:
            low = start
    if low is not None and high is not None:
        total += high - low
    return total
