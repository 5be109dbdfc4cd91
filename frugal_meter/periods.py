"""Period figures: what a service cost over a stretch of time, and per functional unit that it delivered. Pure functions.

A request's figure says what it cost *while it ran*; in flight 2 % of the time, requests alone would show 8 % of the meter. What
is cited is the whole: (dynamic energy of all requests, failed and refused too + its slice of idle, in flight or not + overhead
+ late work + start-up) over the period ÷ functional units delivered, and carbon with the embodied part of the slice.
Energy is summed in integer nanojoules, so that the parts close to the last; lows add to lows, highs to highs, and nothing is
averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from .carbon.impacts import add
from .records import TIERS, Interval, Outcome, Reading, Tick, Tier
from .units import NJ_PER_J

#: the functional unit that every service has: a request answered
REQUEST: Final = "request"
#: fewer requests than this in a period, and nothing of them is made public: one person's use could be read off it. The usual
#: threshold of small cells in official statistics (Eurostat, "Handbook on Statistical Disclosure Control", 2nd ed. 2024: 3 to 5)
LEAST_PUBLIC: Final = 5


class Weight(msgspec.Struct, frozen=True, kw_only=True):
    """What joules weigh over a stretch of time: gCO2e per joule of the building, PUE, and how wide embodied carbon is."""

    grams_per_joule: float
    pue: Interval
    embodied_low: float  # of embodied carbon, as multiples of its mid
    embodied_high: float
    factor_ids: tuple[str, ...]
    method_id: str
    boundary: tuple[str, ...]
    flags: tuple[str, ...]


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """One source over a stretch, nanojoules: `Tick` with its requests summed. ``low_nj … high_nj`` bound the service's part."""

    source: str
    component: str
    tier: Tier
    energy_nj: int
    idle_nj: int
    slice_nj: int | None
    requests_nj: int
    late_nj: int
    overhead_nj: int
    other_nj: int
    gap_nj: int
    low_nj: int
    high_nj: int
    overhead_parts: Mapping[str, int]

    @property
    def service_nj(self) -> int:
        """What the service drew: requests, late work, overhead, and its slice of idle as far as idle is known."""
        return self.requests_nj + self.late_nj + self.overhead_nj + (self.slice_nj or 0)

    @property
    def off_nj(self) -> int:
        """By how much the buckets miss the source's energy; 0 in sound books."""
        booked = self.idle_nj + self.requests_nj + self.late_nj + self.overhead_nj + self.other_nj + self.gap_nj
        return self.energy_nj - booked


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """The books of one process over a stretch of Unix time (ns) in which one weight was in force; one tick, or several merged."""

    process: str
    t0_ns: int
    t1_ns: int
    weight: Weight
    embodied_g: float
    books: tuple[Books, ...]


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Readings of one kind, summed. ``inclusive_nj`` counts what is nested in them too, so it is never added to the others'."""

    kind: str
    nested: bool
    outcome: Outcome
    route: str | None
    model: str | None
    unit: str | None
    count: int = 0
    units: float = 0.0
    dynamic_nj: int = 0
    inclusive_nj: int = 0
    known: int = 0  # of ``count``, those whose energy is known
    remote_nj: int | None = None
    quality_sum: float = 0.0
    quality_count: int = 0
    metric: str | None = None  # what the scores are called
    service: str | None = None  # None in sums of an older version


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """What a service cost between two moments (Unix s). Joules are IT joules, before PUE; carbon is after it. None is unknown."""

    begin_s: float
    end_s: float
    covered_s: float  # seconds of it of which there are books
    unit: str
    units: float
    requests: int
    failed: int
    refused: int
    delivered_nj: int  # requests that ended well, and what still ran at the end
    failed_nj: int
    refused_nj: int
    late_nj: int
    overhead_nj: int
    overhead_parts: Mapping[str, int]
    slice_nj: int | None  # None: idle is not known, and is then in the dynamic parts
    total_nj: int
    host_nj: int  # all that the sources told, other services included
    other_nj: int
    gap_nj: int
    energy_j: Interval
    operational_g: Interval
    embodied_g: Interval
    carbon_g: Interval
    per_unit_j: Interval | None
    per_unit_g: Interval | None
    mean_request_j: float | None  # "while it ran"
    remote_j: float | None  # spent elsewhere, and not in the total
    quality: float | None  # None too where the scores are of several metrics, which have no common mean
    quality_count: int
    quality_metrics: tuple[str, ...]  # "?" is a metric without a name
    tier: Tier | None
    measured_share: float | None
    factor_ids: tuple[str, ...]
    method_ids: tuple[str, ...]
    boundary: tuple[str, ...]
    flags: tuple[str, ...]


def books_of(tick: Tick) -> Books:
    """The books of a tick, without its spans."""
    requests = sum(tick.requests_nj.values())
    service = requests + tick.late_nj + tick.overhead_nj + (tick.slice_nj or 0)
    return Books(
        source=tick.source,
        component=tick.component,
        tier=tick.tier,
        energy_nj=tick.energy_nj,
        idle_nj=tick.idle_nj,
        slice_nj=tick.slice_nj,
        requests_nj=requests,
        late_nj=tick.late_nj,
        overhead_nj=tick.overhead_nj,
        other_nj=tick.other_nj,
        gap_nj=tick.gap_nj,
        low_nj=service if tick.service_low_nj is None else tick.service_low_nj,
        high_nj=service if tick.service_high_nj is None else tick.service_high_nj,
        overhead_parts=dict(tick.overhead_parts),
    )


def merged(one: Pass, then: Pass) -> Pass | None:
    """Both as one, to the nanojoule; None unless ``then`` follows ``one`` without a gap, under the same weight and sources."""
    same = one.process == then.process and one.t1_ns == then.t0_ns and one.weight == then.weight
    if not same or [_name(b) for b in one.books] != [_name(b) for b in then.books]:
        return None
    return msgspec.structs.replace(
        one,
        t1_ns=then.t1_ns,
        embodied_g=one.embodied_g + then.embodied_g,
        books=tuple(_sum(a, b) for a, b in zip(one.books, then.books, strict=True)),
    )


def _name(books: Books) -> tuple[str, str, bool]:
    return books.source, books.tier, books.slice_nj is None


def _sum(one: Books, other: Books) -> Books:
    sums = {name: getattr(one, name) + getattr(other, name) for name in _SUMS}
    slice_nj = None if one.slice_nj is None or other.slice_nj is None else one.slice_nj + other.slice_nj
    parts = _add_parts(dict(one.overhead_parts), other.overhead_parts)
    return msgspec.structs.replace(one, slice_nj=slice_nj, overhead_parts=parts, **sums)


_SUMS: Final = (*("energy_nj", "idle_nj", "requests_nj", "late_nj", "overhead_nj", "other_nj", "gap_nj", "low_nj", "high_nj"),)


def _add_parts(to: dict[str, int], more: Mapping[str, int]) -> dict[str, int]:
    for name, nj in more.items():
        to[name] = to.get(name, 0) + nj
    return to


def tally_of(reading: Reading) -> Tally:
    """One reading as a tally. A nanojoule survives the way through joules: floats are exact to 9 MJ there."""
    remote = reading.energy_remote_j
    scored = reading.quality is not None
    return Tally(
        kind=reading.kind,
        nested=reading.parent is not None,
        outcome=reading.outcome,
        route=reading.route,
        model=reading.model_served,
        unit=reading.unit,
        count=1,
        units=reading.units or 0.0,
        dynamic_nj=_nj(reading.energy_dynamic_j if reading.energy_dynamic_j is not None else reading.energy_full_j),
        inclusive_nj=_nj(reading.inclusive_energy_full_j),
        known=int(reading.inclusive_energy_full_j is not None),
        remote_nj=None if remote is None else _nj(remote),
        quality_sum=reading.quality or 0.0,
        quality_count=int(scored),
        metric=reading.quality_metric if scored else None,
        service=reading.service,
    )


def _nj(joules: float | None) -> int:
    return 0 if joules is None else round(joules * NJ_PER_J)


def tallied(tallies: Iterable[Tally]) -> list[Tally]:
    """The same, with those of one kind summed."""
    by: dict[tuple[object, ...], Tally] = {}
    for each in tallies:
        names = (each.kind, each.nested, each.outcome, each.route, each.model, each.unit, each.metric, each.service)
        key = (*names, each.remote_nj is None)
        had = by.get(key)
        by[key] = each if had is None else _sum_tallies(had, each)
    return list(by.values())


def _sum_tallies(one: Tally, other: Tally) -> Tally:
    names = ("count", "units", "dynamic_nj", "inclusive_nj", "known", "quality_sum", "quality_count")
    remote = None if one.remote_nj is None or other.remote_nj is None else one.remote_nj + other.remote_nj
    return msgspec.structs.replace(one, remote_nj=remote, **{name: getattr(one, name) + getattr(other, name) for name in names})


def period(passes: Iterable[Pass], tallies: Iterable[Tally], *, begin_s: float, end_s: float, unit: str = REQUEST) -> Period:
    """The figures of a period from the books and readings that settled in it, per ``unit`` delivered.

    ``unit`` is one that spans count (``add_units``), or "request": those that ended well.
    """
    books = list(passes)
    work = _Work(tallied(tallies), unit)
    sums = {name: sum(getattr(b, name) for p in books for b in p.books) for name in (*_SUMS, "service_nj")}
    unknown = any(b.slice_nj is None for p in books for b in p.books)
    parts: dict[str, int] = {}
    for each in (b for p in books for b in p.books):
        _add_parts(parts, each.overhead_parts)
    energy = Interval(sums["low_nj"] / NJ_PER_J, sums["service_nj"] / NJ_PER_J, sums["high_nj"] / NJ_PER_J)
    operational, embodied = add(map(_operational, books)), add(map(_embodied, books))
    carbon = add((operational, embodied))
    tier, measured = _tier(books)
    return Period(
        begin_s=begin_s,
        end_s=end_s,
        covered_s=_covered_ns(books) / 1e9,
        unit=unit,
        units=work.units,
        requests=work.requests,
        failed=work.failed,
        refused=work.refused,
        delivered_nj=sums["requests_nj"] - work.failed_nj - work.refused_nj,
        failed_nj=work.failed_nj,
        refused_nj=work.refused_nj,
        late_nj=sums["late_nj"],
        overhead_nj=sums["overhead_nj"],
        overhead_parts=parts,
        slice_nj=None if unknown else sum(b.slice_nj or 0 for p in books for b in p.books),
        total_nj=sums["service_nj"],
        host_nj=sums["energy_nj"],
        other_nj=sums["other_nj"],
        gap_nj=sums["gap_nj"],
        energy_j=energy,
        operational_g=operational,
        embodied_g=embodied,
        carbon_g=carbon,
        per_unit_j=_each(energy, work.units, books),
        per_unit_g=_each(carbon, work.units, books),
        mean_request_j=work.mean_j,
        remote_j=work.remote_j,
        quality=work.quality,
        quality_count=work.quality_count,
        quality_metrics=work.metrics,
        tier=tier,
        measured_share=measured,
        factor_ids=_all(p.weight.factor_ids for p in books),
        method_ids=_all((p.weight.method_id,) for p in books),
        boundary=_all(p.weight.boundary for p in books),
        flags=_all(p.weight.flags for p in books),
    )


class _Work:
    """What a period's readings say."""

    def __init__(self, tallies: Sequence[Tally], unit: str) -> None:
        top = [t for t in tallies if not t.nested and t.kind != "block"]
        asked = top or [t for t in tallies if not t.nested]  # a service without a door: its outermost blocks are its requests
        bad = [t for t in tallies if t.outcome not in ("ok", "refused")]
        self.requests = sum(t.count for t in asked)
        self.failed = sum(t.count for t in asked if t.outcome not in ("ok", "refused"))
        self.refused = sum(t.count for t in asked if t.outcome == "refused")
        self.units = (
            float(self.requests - self.failed - self.refused)
            if unit == REQUEST
            else float(sum(t.units for t in tallies if t.unit == unit))
        )
        self.failed_nj = sum(t.dynamic_nj for t in bad)
        self.refused_nj = sum(t.dynamic_nj for t in tallies if t.outcome == "refused")
        served = [t for t in asked if t.outcome != "refused"]
        known = sum(t.known for t in served)
        self.mean_j = sum(t.inclusive_nj for t in served) / known / NJ_PER_J if known else None
        told = [t.remote_nj for t in tallies if t.remote_nj is not None]
        self.remote_j = sum(told) / NJ_PER_J if told else None
        self.quality_count = sum(t.quality_count for t in tallies)
        self.metrics = tuple(sorted({t.metric or "?" for t in tallies if t.quality_count}))
        one = len(self.metrics) == 1
        self.quality = math.fsum(t.quality_sum for t in tallies) / self.quality_count if one else None


def public(figures: Period, least: int = LEAST_PUBLIC) -> Period | None:
    """The same, fit to be published: None where fewer than ``least`` requests are in it, or one to ``least`` - 1 units; a score
    of fewer than ``least`` is left out.
    """
    if figures.requests < least or 0 < figures.units < least:
        return None
    return figures if figures.quality_count >= least else msgspec.structs.replace(figures, quality=None)


def _operational(of: Pass) -> Interval:
    # Integers are summed, and floats never by sum(), which rounds otherwise from Python 3.12 on: a third party gets these digits.
    low, mid, high = (sum(getattr(b, name) for b in of.books) / NJ_PER_J for name in ("low_nj", "service_nj", "high_nj"))
    weight = of.weight
    joules = Interval(low * weight.pue.low, mid * weight.pue.mid, high * weight.pue.high)
    return joules.times(weight.grams_per_joule)


def _embodied(of: Pass) -> Interval:
    return Interval(of.embodied_g * of.weight.embodied_low, of.embodied_g, of.embodied_g * of.weight.embodied_high)


def _each(total: Interval, units: float, books: Sequence[Pass]) -> Interval | None:
    # Nothing delivered: a rate over zero is not the total. No books: unknown, not 0.
    return total.times(1 / units) if units and books else None


def _tier(books: Sequence[Pass]) -> tuple[Tier | None, float | None]:
    by: dict[Tier, int] = {}
    for each in (b for p in books for b in p.books):
        by[each.tier] = by.get(each.tier, 0) + each.service_nj
    whole = sum(by.values())
    if not whole:
        return None, None
    # the rule of readings: the weakest tier that holds 5 %
    return max((t for t, nj in by.items() if nj >= 0.05 * whole), key=TIERS.index), by.get("measured", 0) / whole


def _covered_ns(books: Sequence[Pass]) -> int:
    """Length of the union of all stretches: workers tick at once, and restarts leave holes."""
    covered, until = 0, 0
    for begin, end in sorted((p.t0_ns, p.t1_ns) for p in books):
        covered += max(0, end - max(begin, until))
        until = max(until, end)
    return covered


def _all(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in names for name in each))
