"""What a journal holds of one period that clauses speak of: period figures, percentiles per unit, shares, scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Final

import msgspec

from ..journal.figures import figures_of
from ..journal.store import JournalStore, Range
from ..periods import Period
from ..records import Interval, Reading

PERCENTILE: Final = 0.95
_ZERO: Final = Interval(0.0, 0.0, 0.0)


class Request(msgspec.Struct):
    """A request with all that ran in it. Low, mid and high of joules and grams; None as soon as a part is unknown."""

    energy_j: Interval | None = _ZERO
    carbon_g: Interval | None = _ZERO
    units: dict[str, float] = {}
    outcome: str = "ok"
    kind: str = "block"
    degraded: bool = False


class Evidence:
    """One period of one journal."""

    def __init__(self, journal: JournalStore, within: Range) -> None:
        self._journal, self.within = journal, within
        self._figures: dict[str, Period] = {}
        self.lost_readings, self.lost_ticks = journal.losses(within)

    def figures(self, unit: str) -> Period:
        """The period figures per ``unit`` delivered. Raises ConfigurationError where the journal holds several services."""
        if unit not in self._figures:
            self._figures[unit] = figures_of(self._journal, self.within, unit)
        return self._figures[unit]

    @cached_property
    def rolled(self) -> int:
        """Readings of the period that are sums by the hour by now: of these nothing is known one by one."""
        return sum(tally.count for tally in self._journal.rolled(self.within))

    @cached_property
    def requests(self) -> list[Request]:
        """The requests of the period; where nothing has come through a door, its outermost blocks."""
        # Read twice rather than held: a month may have millions.
        parents = {each.id: each.parent for each in self._journal.readings(self.within)}
        outer: dict[str, Request] = {}
        for each in self._journal.readings(self.within):
            top = _root(each.id, parents)
            whole = outer.setdefault(top, Request())
            if each.id == top:
                whole.outcome, whole.kind = each.outcome, each.kind
            whole.energy_j, whole.carbon_g = _sum(whole.energy_j, _energy(each)), _sum(whole.carbon_g, _carbon(each))
            whole.degraded = whole.degraded or each.decision in ("degrade", "cut")
            if each.unit is not None and each.units:
                whole.units[each.unit] = whole.units.get(each.unit, 0.0) + each.units
        doors = [request for request in outer.values() if request.kind != "block"]
        return doors or list(outer.values())

    def scores(self) -> Iterator[tuple[str | None, float]]:
        """Metric and score of each reading that has one; what was said last stands."""
        said = {each.reading: each for each in self._journal.feedback()}
        for reading in self._journal.readings(self.within):
            if (late := said.get(reading.id)) is not None:
                yield late.metric, late.score
            elif reading.quality is not None:
                yield reading.quality_metric, reading.quality

    def percentile(self, unit: str, figure: str) -> tuple[Interval | None, int]:
        """The 95th percentile per unit delivered, while it ran, and how many requests are unknown.

        An unknown one may be anything: it is the least for the low end and the most for the high one, which is infinite as soon
        as one in twenty is unknown. Nearest rank, each request weighing as many units as it delivered.
        """
        known: list[tuple[Interval, float]] = []
        unknown, weight = self.lost_readings, float(self.lost_readings)
        for request in self.requests:
            units = float(request.outcome == "ok") if unit == "request" else request.units.get(unit, 0.0)
            spent: Interval | None = getattr(request, "energy_j" if figure == "energy" else "carbon_g")
            if not units:
                continue
            if spent is None:
                unknown, weight = unknown + 1, weight + units
            else:
                known.append((spent.times(1 / units), units))
        if not known:
            return None, unknown
        low = _nearest([*((each.low, units) for each, units in known), (0.0, weight)])
        high = _nearest([*((each.high, units) for each, units in known), (math.inf, weight)])
        return Interval(low, _nearest([(each.mid, units) for each, units in known]), high), unknown


def _nearest(values: Iterable[tuple[float, float]]) -> float:
    ranked = sorted(values)
    rank, passed = PERCENTILE * sum(units for _, units in ranked), 0.0
    for value, units in ranked:
        passed += units
        if passed >= rank * (1 - 1e-12):
            return value
    return ranked[-1][0]


def _root(id: str, parents: dict[str, str | None]) -> str:
    # A parent that settled in another period is judged there; what is left of it here stands for itself.
    while (parent := parents[id]) is not None and parent in parents:
        id = parent
    return id


def _energy(r: Reading) -> Interval | None:
    return _interval(r.energy_low_j, r.energy_full_j, r.energy_high_j)


def _carbon(r: Reading) -> Interval | None:
    return _interval(r.carbon_low_g, r.carbon_g, r.carbon_high_g)


def _interval(low: float | None, mid: float | None, high: float | None) -> Interval | None:
    return None if low is None or mid is None or high is None else Interval(low, mid, high)


def _sum(one: Interval | None, other: Interval | None) -> Interval | None:
    if one is None or other is None:
        return None
    return Interval(one.low + other.low, one.mid + other.mid, one.high + other.high)
