"""Costs and what is done with them: added, scaled, spread over a year. Pure functions; docs/method.md names the equations.

Every sum runs in a given order and every scaling is one multiplication, so that ``recompute.py`` comes to the same digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..carbon.impacts import add
from ..periods import Period
from ..records import Interval, Reading
from .results import Cost, Latency, Quality, Spread

#: two-sided 95 % normal quantile
Z95: Final = 1.959964
SECONDS_PER_HOUR: Final = 3600.0
#: one for each end of an interval
Scale = tuple[float, float, float]
ONE: Final[Scale] = (1.0, 1.0, 1.0)


def cost(
    own_j: Interval, operational_g: Interval, embodied_g: Interval, remote_j: Interval | None, remote_g: Interval | None
) -> Cost:
    """A cost of its parts, with their sums."""
    return Cost(
        energy_j=own_j if remote_j is None else add((own_j, remote_j)),
        carbon_g=add((operational_g, embodied_g) if remote_g is None else (operational_g, embodied_g, remote_g)),
        own_j=own_j,
        operational_g=operational_g,
        embodied_g=embodied_g,
        remote_j=remote_j,
        remote_g=remote_g,
    )


def cost_of(period: Period, readings: Sequence[Reading]) -> Cost:
    """What a period cost: this machine's by its books, models' elsewhere by the readings."""
    return cost(period.energy_j, period.operational_g, period.embodied_g, remote_j(readings), remote_g(readings))


def remote_j(readings: Sequence[Reading]) -> Interval | None:
    """Joules of models elsewhere; None where no call was made, or nothing is known of any."""
    paid = [r for r in readings if r.energy_remote_j is not None]
    if not paid:
        return None
    mid = [r.energy_remote_j or 0.0 for r in paid]
    low = [m if r.energy_remote_low_j is None else r.energy_remote_low_j for r, m in zip(paid, mid, strict=True)]
    high = [m if r.energy_remote_high_j is None else r.energy_remote_high_j for r, m in zip(paid, mid, strict=True)]
    return add(map(Interval, low, mid, high))


def remote_g(readings: Sequence[Reading]) -> Interval | None:
    """Grams of models elsewhere, with the bounds that their calls have."""
    paid = [r for r in readings if r.carbon_remote_g is not None]
    return add(map(_grams, paid)) if paid else None


def _grams(reading: Reading) -> Interval:
    mid = reading.carbon_remote_g or 0.0
    calls = add(call.carbon_g for call in reading.remote if call.carbon_g is not None)
    # A reading keeps the last calls only: what it paid in all takes the relative bounds of those.
    return Interval(mid * calls.low / calls.mid, mid, mid * calls.high / calls.mid) if calls.mid else Interval(mid, mid, mid)


def times(of: Cost, by: float) -> Cost:
    """``of`` so many times."""
    remote_j = None if of.remote_j is None else of.remote_j.times(by)
    remote_g = None if of.remote_g is None else of.remote_g.times(by)
    return cost(of.own_j.times(by), of.operational_g.times(by), of.embodied_g.times(by), remote_j, remote_g)


def total(costs: Sequence[Cost]) -> Cost:
    """Costs together, in their order."""
    remote_j, remote_g = ([part for c in costs if (part := getattr(c, name)) is not None] for name in ("remote_j", "remote_g"))
    return cost(
        add(c.own_j for c in costs),
        add(c.operational_g for c in costs),
        add(c.embodied_g for c in costs),
        add(remote_j) if remote_j else None,
        add(remote_g) if remote_g else None,
    )


def weighed(of: Cost, operational: Scale, embodied: Scale) -> Cost:
    """``of`` under another factor, PUE or lifetime: the ends of its operational and embodied carbon scaled apart."""
    return cost(of.own_j, _scaled(of.operational_g, operational), _scaled(of.embodied_g, embodied), of.remote_j, of.remote_g)


def _scaled(of: Interval, by: Scale) -> Interval:
    return Interval(of.low * by[0], of.mid * by[1], of.high * by[2])


class Blocks(NamedTuple):
    """What a year of a variant is made of: a unit under load and its seconds, a second at rest, a start. None: not measured."""

    unit: Cost
    seconds: float
    rest: Cost | None
    start: Cost | None

    def under(self, operational: Scale, embodied: Scale) -> Blocks:
        """The same under another factor, PUE or lifetime."""
        rest = None if self.rest is None else weighed(self.rest, operational, embodied)
        start = None if self.start is None else weighed(self.start, operational, embodied)
        return Blocks(weighed(self.unit, operational, embodied), self.seconds, rest, start)

    def year(self, units: float, hours: float, starts: float) -> Cost:
        """A year: ``units`` as under load, the rest of ``hours`` at rest, ``starts`` starts."""
        parts = [times(self.unit, units)]
        if self.rest is not None:
            parts.append(times(self.rest, self.resting_s(units, hours)))
        if self.start is not None:
            parts.append(times(self.start, starts))
        return total(parts)

    def resting_s(self, units: float, hours: float) -> float:
        """Seconds of ``hours`` that are left when ``units`` have been answered as fast as under load."""
        return max(0.0, hours * SECONDS_PER_HOUR - units * self.seconds)


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation; None of nothing."""
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else None
    return Spread(n=n, mean=mean, sd=sd, least=min(values), most=max(values))


def quality(metric: str, scores: Sequence[float], *, distinct: int, unjudged: int) -> Quality | None:
    """Mean score with its Wilson 95 % interval; None where nothing was judged.

    The Wilson interval is that of a share (E. B. Wilson, JASA 22, 1927); scores between 0 and 1 vary less than a share of the
    same mean, so it is no narrower than it should be.
    """
    if not scores:
        return None
    mean = math.fsum(scores) / len(scores)
    low, high = wilson(mean, distinct)
    score = Interval(min(low, mean), mean, max(high, mean))
    return Quality(metric=metric, score=score, judged=len(scores), unjudged=unjudged, distinct=distinct)


def wilson(p: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share ``p`` of ``n``."""
    z2 = Z95 * Z95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def latency(seconds: Sequence[float]) -> Latency | None:
    """Median and 95th percentile (nearest rank); None of nothing."""
    if not seconds:
        return None
    ranked = sorted(seconds)
    p50, p95 = (ranked[max(0, math.ceil(share * len(ranked)) - 1)] for share in (0.5, 0.95))
    return Latency(p50_s=p50, p95_s=p95)
