"""How well a figure is known: its parts kept apart, each with its kind, and the two ways of putting them together.

Every part here is **common** to all requests (one sensor, one sharing key, one PUE, one factor): a thousand requests are known
no better than one, so nothing is ever divided by √n. Between parts there are two readings:

- `bound`: all parts at their low end at once, then all at their high end. Errors add; this is what readings carry.
- `ninety`: the parts err independently *of each other*; 5 % and 95 % of their product. Narrower, for a study that shows both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, Literal

import msgspec

from ..records import Interval

#: measurement: a sensor's error; model: a model's or a sharing rule's; scenario: a choice between published figures
Kind = Literal["measurement", "model", "scenario"]
_Z: Final = NormalDist().inv_cdf(0.95)
#: stands for a low end of 0, which no lognormal has
_LEAST: Final = 1e-9
#: points that stand for one distribution; with 200 the bounds are within 0.5 % of finer ones
_POINTS: Final = 200


class Part(msgspec.Struct, frozen=True):
    """One source of error: its 5 % and 95 % as multiples of the middle (``low <= 1 <= high``), and where that comes from."""

    name: str
    kind: Kind
    low: float
    high: float
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.low <= 1 <= self.high < math.inf:
            raise ValueError(f"part {self.name!r}: {self.low:g} to {self.high:g} are no multiples around 1")


def part_of(name: str, kind: Kind, interval: Interval, source: str = "") -> Part | None:
    """``interval`` as a part, relative to its middle; None for an exact figure, which adds no error."""
    if interval.low == interval.high:
        return None
    return Part(name, kind, interval.low / interval.mid, interval.high / interval.mid, source)


def bound(mid: float, parts: Sequence[Part]) -> Interval:
    """``mid`` with every error of ``parts`` at its end at once; scenario parts are no error of the figure and stay out."""
    erring = [part for part in parts if part.kind != "scenario"]
    return Interval(mid * math.prod(p.low for p in erring), mid, mid * math.prod(p.high for p in erring))


def ninety(terms: Sequence[tuple[float, Sequence[Part]]]) -> Interval:
    """The 5 % and 95 % of a sum of terms, each a middle times its independent ``parts`` (scenarios stay out).

    ``[(operational_g, [source, key, pue]), (embodied_g, [hardware])]``. Each part is taken as lognormal on either side of its
    middle, half the chance on each. A deterministic quadrature over equiprobable points, no sampling.
    """
    sums: list[float] = [0.0]
    for mid, parts in terms:
        points = [1.0]
        for part in parts:
            if part.kind != "scenario":
                points = _thinned([p * q for p in points for q in _points(part)], geometric=True)
        sums = _thinned([s + mid * p for s in sums for p in points])
    return Interval(_quantile(sums, 0.05), math.fsum(mid for mid, _ in terms), _quantile(sums, 0.95))


def spread(figure: Interval, part: Part) -> Interval:
    """``figure`` scaled by one part alone: what that part would make of the middle, to rank the parts of a figure by."""
    return Interval(figure.mid * part.low, figure.mid, figure.mid * part.high)


def digits(interval: Interval, most: int = 4) -> int:
    """How many significant digits the middle of ``interval`` deserves.

    Its half-width keeps two significant digits, and the figure the same decimals (JCGM 100:2008, GUM, 7.2.6): one digit at
    least, ``most`` at most and for an exact figure.
    """
    half = max(interval.high - interval.mid, interval.mid - interval.low)
    if not half or not interval.mid or not math.isfinite(half):
        return most
    place = math.floor(math.log10(half)) - 1
    return max(1, min(most, math.floor(math.log10(abs(interval.mid))) - place + 1))


def shown(value: float, interval: Interval) -> str:
    """``value`` (the middle of ``interval``, or an end) in plain decimals, rounded where the interval's `digits` end.

    Ends are rounded outward: what is shown still holds what was meant.
    """
    if not interval.mid:
        return f"{value:g}"
    decimals = digits(interval) - 1 - math.floor(math.log10(abs(interval.mid)))
    if value == interval.mid:
        return f"{round(value, decimals):.{max(0, decimals)}f}"
    outward = math.floor if value < interval.mid else math.ceil
    # six digits: a float's last one must not push an outward rounding a step further
    end = outward(float(f"{value * 10.0**decimals:.6g}")) / 10.0**decimals
    return f"{end:.{max(0, decimals)}f}"


def _points(part: Part) -> list[float]:
    """Equiprobable multiples: lognormal below the middle up to ``low`` at 5 %, above it up to ``high`` at 95 %."""
    zs = (NormalDist().inv_cdf((place + 0.5) / _POINTS) for place in range(_POINTS))
    down, up = -math.log(max(part.low, _LEAST)) / _Z, math.log(part.high) / _Z
    return [math.exp(z * (down if z < 0 else up)) for z in zs]


def _thinned(values: list[float], *, geometric: bool = False) -> list[float]:
    """The same distribution in `_POINTS` points: the mean of each run of equal size."""
    values.sort()
    if len(values) <= _POINTS:
        return values
    size = len(values) // _POINTS
    runs = [values[start : start + size] for start in range(0, size * _POINTS, size)]
    if geometric:
        return [math.exp(math.fsum(map(math.log, run)) / size) for run in runs]
    return [math.fsum(run) / size for run in runs]


def _quantile(points: list[float], share: float) -> float:
    place = share * len(points) - 0.5
    below = min(max(math.floor(place), 0), len(points) - 1)
    above = min(below + 1, len(points) - 1)
    return points[below] + (points[above] - points[below]) * min(max(place - below, 0.0), 1.0)
