"""The exact split: integers in, integers out, and the parts always sum to the whole.

Cumulative rounding (the running total is rounded, not the parts) telescopes: each part is within one unit of its
ideal share, a zero weight gets zero, and the sum is exact by construction.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from operator import sub


class Divider:
    """Hands ``total`` out over weights that sum to ``whole``, in order, a few weights at a time.

    ``take`` may be called again and again (the tick settles in chunks); when all ``whole`` weight has been taken
    exactly ``total`` has been given. With ``whole == 0`` nothing is given: the caller keeps the total.
    """

    __slots__ = ("_rate", "_shift", "given", "seen", "total", "whole")

    def __init__(self, total: int, whole: int) -> None:
        if total < 0 or whole < 0:
            raise ValueError(f"cannot divide {total} over a weight of {whole}")
        self.total, self.whole = total, whole
        self.seen = self.given = 0
        # ⌊total·seen/whole⌋ by a multiplication and a shift, which costs a third of the division: rounding the rate up adds
        # less than seen/2^shift ≤ 1/whole, too little to reach the next integer.
        self._shift = 2 * whole.bit_length()
        self._rate = -(-(total << self._shift) // whole) if whole else 0

    def take(self, weights: Iterable[int]) -> list[int]:
        """The shares of ``weights`` (each ≥ 0), in order; O(n)."""
        sums = list(accumulate(weights, initial=self.seen))
        if sums[-1] > self.whole and self.total:
            raise ValueError(f"weights sum to more than the whole ({sums[-1]} > {self.whole})")
        self.seen = sums[-1]
        if not self.total:
            return [0] * (len(sums) - 1)
        rate, shift = self._rate, self._shift
        reached = [rate * seen >> shift for seen in sums]
        self.given = reached[-1]
        return list(map(sub, reached[1:], reached))

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
