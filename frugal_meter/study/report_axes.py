"""Axes of the report's plots: round ticks, linear or logarithmic, and where a value lies between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

#: from this ratio of largest to smallest on, a linear axis would press the small ones together
LOGARITHMIC_FROM = 15.0


class Axis(NamedTuple):
    """An axis from ``low`` to ``high`` in the plot's unit, with its ``ticks``."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool

    def place(self, value: float) -> float:
        """Where ``value`` lies, 0…1; what is outside stands at the end."""
        if self.logarithmic:
            value, low, high = (math.log(max(v, self.low)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))


def axis(values: Sequence[float], *, ticks: int = 5) -> Axis:
    """An axis that holds ``values`` (none negative): from 0, or logarithmic where they differ by more than `LOGARITHMIC_FROM`."""
    high = max(values, default=0.0) or 1.0
    low = min((v for v in values if v > 0), default=high)
    return _decades(low, high, ticks) if high / low > LOGARITHMIC_FROM else _steps(0.0, high, ticks)


def span(values: Sequence[float], *, ticks: int = 5) -> Axis:
    """A linear axis around ``values`` alone, that need not begin at 0; such an axis carries positions, never lengths."""
    low, high = min(values), max(values)
    return _steps(low, high, ticks) if high > low else _steps(0.0, high or 1.0, ticks)


def _steps(low: float, high: float, ticks: int) -> Axis:
    raw = (high - low) / max(1, ticks - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = tuple(round(n * step, 12) for n in range(first, last + 1))
    return Axis(marks[0], marks[-1], marks, False)


def _decades(low: float, high: float, ticks: int) -> Axis:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first + 1) / (ticks + 1)))
    wide = (1,) if last - first > ticks // 2 else (1, 2, 5)
    marks = [m * 10.0**n for n in range(first, last + 1, every) for m in wide]
    below, above = max((m for m in marks if m <= low), default=marks[0]), [m for m in marks if m >= high]
    end = above[0] if above else 10.0**last
    return Axis(below, end, tuple(m for m in marks if below <= m <= end), True)
