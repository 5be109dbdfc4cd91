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
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    marks = [m * 10.0**power for power in powers for m in (1, 2, 5)]
    first = max(mark for mark in marks if mark <= low * (1 + 1e-9))
    last = min(mark for mark in marks if mark >= high * (1 - 1e-9))
    held = [mark for mark in marks if first <= mark <= last]
    whole = [mark for mark in held if math.isclose(math.log10(mark), round(math.log10(mark)))]
    return Axis(first, last, tuple(held if len(held) <= ticks or len(whole) < 3 else whole), True)
