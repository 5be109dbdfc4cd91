"""From raw data to the figures of a study: pure functions over the runs that were read."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from ..periods import REQUEST, Pass, Period, period, tally_of
from ..records import TIERS, Interval, Reading, Tier
from .costs import Blocks, cost_of, latency, quality, spread, times
from .raw import Exchange, Run
from .results import Comparison, Cost, Kind, Point, Quality, Repetition, Scenario, Use, Variant
from .sensitivity import Run as Sensitivity
from .sensitivity import sensitivity

#: this share of a variant's requests failed, and every figure of it says so
MANY_FAILED: Final = 0.05
#: a tier that holds so much of the joules is the tier of the whole, as in readings
_TIER_SHARE: Final = 0.05
_MOST_REASONS: Final = 5


class About(NamedTuple):
    """What is declared of a variant."""

    name: str
    title: str
    kind: Kind
    models: tuple[str, ...]


class Given(NamedTuple):
    """What is declared of the study, as far as figures depend on it."""

    unit: str
    use: Use | None
    metric: str


def variant(about: About, runs: Sequence[Run], given: Given) -> tuple[Variant, Blocks | None]:
    """The figures of a variant over its repetitions, in their order, and what its year is made of."""
    load, readings = over(runs, "load", given.unit)
    whole, exchanges = cost_of(load, readings), [x for run in runs for x in run.exchanges]
    start, rest = (over(runs, phase, given.unit) if _has(runs, phase) else None for phase in ("start", "rest"))
    blocks = None
    if load.units:
        resting = None if rest is None or not rest[0].covered_s else times(cost_of(*rest), 1 / rest[0].covered_s)
        starting = None if start is None else times(cost_of(*start), 1 / len(runs))
        blocks = Blocks(times(whole, 1 / load.units), load.covered_s / load.units, resting, starting)
    use = given.use
    year = None if blocks is None or use is None else blocks.year(use.units.mid, use.hours, use.starts)
    repetitions = tuple(repetition(run, given.unit) for run in runs)
    failed = sum(not x.ok for x in exchanges) if exchanges else load.failed
    asked = len(exchanges) if exchanges else load.requests
    tier, measured = _tier(load, readings, whole)
    per_unit = [r.per_unit_j for r in repetitions if r.per_unit_j is not None]
    figures = Variant(
        name=about.name,
        title=about.title,
        kind=about.kind,
        models=about.models or tuple(dict.fromkeys(r.model_served for r in readings if r.model_served)),
        in_use=_in_use(blocks, year, use),
        tested=None if blocks is None else blocks.unit,
        while_it_ran_j=load.mean_request_j,
        year=year,
        idle_share=_idle_share(blocks, year, use),
        load=load,
        start=None if start is None else start[0],
        rest=None if rest is None else rest[0],
        standing_w=None if blocks is None or blocks.rest is None else blocks.rest.own_j,
        start_cost=None if blocks is None else blocks.start,
        requests=asked,
        failed=failed,
        refused=load.refused,
        why_failed=_reasons(exchanges),
        tier=tier,
        measured_share=measured,
        quality=_quality(exchanges, readings, given.metric),
        latency=latency([x.seconds for x in exchanges if x.ok]),
        repetitions=repetitions,
        spread_j=spread(per_unit),
        flags=_flags(load, readings, whole, failed, asked, blocks, use),
    )
    return figures, blocks


def over(runs: Sequence[Run], phase: str, unit: str) -> tuple[Period, list[Reading]]:
    """The period figures of a phase over several runs, and the readings in it."""
    having = [run for run in runs if any(mark.name == phase for mark in run.marks)]
    passes: list[Pass] = [each for run in having for each in run.passes.get(phase, [])]
    readings = [each for run in having for each in run.readings.get(phase, [])]
    tallies = itertools.chain((t for run in having if phase == "load" for t in run.tallies), map(tally_of, readings))
    begin_s, end_s = having[0].begin_s(phase), having[-1].end_s(phase)
    found = period(passes, tallies, begin_s=begin_s, end_s=end_s, unit=unit)
    exchanges = [x for run in having for x in run.exchanges] if phase == "load" else []
    if unit == REQUEST and exchanges:
        found = _delivered(found, sum(x.ok for x in exchanges))
    return found, readings


def _delivered(of: Period, units: int) -> Period:
    """The same per answer that its client could use: a refusal of the service's own (HTTP 4xx) is none."""
    each_j, each_g = (total.times(1 / units) if units else None for total in (of.energy_j, of.carbon_g))
    return msgspec.structs.replace(of, units=float(units), per_unit_j=each_j, per_unit_g=each_g)


def _has(runs: Sequence[Run], phase: str) -> bool:
    return all(run.passes.get(phase) for run in runs)


def repetition(run: Run, unit: str) -> Repetition:
    """The figures of one repetition's load."""
    load, readings = over([run], "load", unit)
    whole, exchanges = cost_of(load, readings), run.exchanges
    scores = [x.score for x in exchanges if x.score is not None]
    return Repetition(
        round=run.head.round,
        file=run.file,
        units=load.units,
        requests=len(exchanges) if exchanges else load.requests,
        failed=sum(not x.ok for x in exchanges) if exchanges else load.failed,
        seconds=load.covered_s,
        per_unit_j=whole.energy_j.mid * (1 / load.units) if load.units else None,
        per_unit_g=whole.carbon_g.mid * (1 / load.units) if load.units else None,
        mean_request_j=load.mean_request_j,
        quality=spread_mean(scores) if exchanges else load.quality,
    )


def spread_mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    found = spread(values)
    return None if found is None else found.mean


def _in_use(blocks: Blocks | None, year: Cost | None, use: Use | None) -> Cost | None:
    if year is None or use is None:
        # A journal's period holds its idle time and its starts already.
        return blocks.unit if blocks is not None and blocks.rest is None else None
    return times(year, 1 / use.units.mid)


def _idle_share(blocks: Blocks | None, year: Cost | None, use: Use | None) -> float | None:
    if blocks is None or blocks.rest is None or year is None or use is None or not year.energy_j.mid:
        return None
    return blocks.rest.own_j.mid * blocks.resting_s(use.units.mid, use.hours) / year.energy_j.mid


def _reasons(exchanges: Sequence[Exchange]) -> tuple[str, ...]:
    counted = Counter(x.why or "?" for x in exchanges if not x.ok)
    return tuple(f"{n} × {why}" for why, n in sorted(counted.items(), key=lambda each: (-each[1], each[0]))[:_MOST_REASONS])


def _quality(exchanges: Sequence[Exchange], readings: Sequence[Reading], metric: str) -> Quality | None:
    if exchanges:
        judged = [x for x in exchanges if x.score is not None]
        distinct = len({x.line for x in judged})
        return quality(metric, [x.score or 0.0 for x in judged], distinct=distinct, unjudged=len(exchanges) - len(judged))
    scored = [r for r in readings if r.quality is not None]
    names = sorted({r.quality_metric or "?" for r in scored})
    if len(names) > 1:  # scores of two kinds have no common mean
        return None
    top = sum(r.parent is None for r in readings)
    scores = [r.quality or 0.0 for r in scored]
    return quality(", ".join(names), scores, distinct=len(scored), unjudged=max(0, top - len(scored)))


def _tier(load: Period, readings: Sequence[Reading], whole: Cost) -> tuple[Tier | None, float | None]:
    tier, measured = load.tier, load.measured_share
    if whole.remote_j is None or not whole.energy_j.mid:
        return tier, measured
    if whole.remote_j.mid >= _TIER_SHARE * whole.energy_j.mid:
        told = [r.remote_tier for r in readings if r.remote_tier is not None]
        tier = max([*told, *([tier] if tier else [])], key=TIERS.index, default=None)
    return tier, None if measured is None else measured * whole.own_j.mid / whole.energy_j.mid


def _flags(
    load: Period,
    readings: Sequence[Reading],
    whole: Cost,
    failed: int,
    asked: int,
    blocks: Blocks | None,
    use: Use | None,
) -> tuple[str, ...]:
    flags = list(load.flags)
    if asked and failed >= MANY_FAILED * asked:
        flags.append("study:failed-many")
    if whole.remote_j is not None and whole.remote_g is None:
        flags.append("study:remote-carbon-unknown")
    if any(call.energy_j is None for r in readings for call in r.remote):
        flags.append("study:remote-unknown")
    if len(load.quality_metrics) > 1:
        flags.append("study:several-metrics")
    standing = blocks is not None and blocks.rest is not None
    if standing and use is not None and use.units.mid * blocks.seconds > use.hours * 3600.0:  # type: ignore[union-attr]
        flags.append("study:beyond-one-machine")
    return tuple(dict.fromkeys(flags))


def comparisons(variants: Sequence[Variant]) -> tuple[Comparison, ...]:
    """Every variant beside the reference: the first AI, or the first there is."""
    reference = next((v for v in variants if v.kind == "ai"), variants[0])
    return tuple(_compared(each, reference) for each in variants if each is not reference)


def _compared(one: Variant, reference: Variant) -> Comparison:
    judged = one.quality is not None and reference.quality is not None
    both = one.year is not None and reference.year is not None
    return Comparison(
        variant=one.name,
        reference=reference.name,
        energy=_ratio(one, reference, "per_unit_j", "energy_j"),
        carbon=_ratio(one, reference, "per_unit_g", "carbon_g"),
        rounds=len(_paired(one, reference, "per_unit_j")),
        per_year_j=one.year.energy_j.mid - reference.year.energy_j.mid if both else None,  # type: ignore[union-attr]
        per_year_g=one.year.carbon_g.mid - reference.year.carbon_g.mid if both else None,  # type: ignore[union-attr]
        quality=one.quality.score.mid - reference.quality.score.mid if judged else None,  # type: ignore[union-attr]
    )


def _paired(one: Variant, reference: Variant, what: str) -> list[float]:
    theirs = {r.round: getattr(r, what) for r in reference.repetitions}
    pairs = ((getattr(r, what), theirs.get(r.round)) for r in one.repetitions)
    return [mine / other for mine, other in pairs if mine is not None and other]


def _ratio(one: Variant, reference: Variant, what: str, figure: str) -> Interval | None:
    ratios = _paired(one, reference, what)
    if not ratios or one.tested is None or reference.tested is None or not getattr(reference.tested, figure).mid:
        return None
    mid = getattr(one.tested, figure).mid / getattr(reference.tested, figure).mid
    return Interval(min(mid, *ratios), mid, max(mid, *ratios))


def pareto(variants: Sequence[Variant]) -> tuple[Point, ...]:
    """Variants of known quality in the plane of quality and energy."""
    known = [(v, v.tested.energy_j, v.quality.score) for v in variants if v.tested is not None and v.quality is not None]
    points = []
    for mine, energy, score in known:
        others = [(v, e, s) for v, e, s in known if v is not mine]
        front = not any(
            s.mid >= score.mid and e.mid <= energy.mid and (s.mid > score.mid or e.mid < energy.mid) for _, e, s in others
        )
        if front:
            clear = not any(s.high >= score.low and _span(v)[0] <= _span(mine)[1] for v, _, s in others)
        else:
            clear = any(s.low >= score.high and _span(v)[1] <= _span(mine)[0] for v, _, s in others)
        points.append(Point(variant=mine.name, energy_j=energy, quality=score, front=front, clear=clear))
    return tuple(points)


def _span(of: Variant) -> tuple[float, float]:
    """The least and the most that a repetition took: errors of the source are common to all variants, and decide nothing."""
    assert of.spread_j is not None
    return of.spread_j.least, of.spread_j.most


def scenarios(blocks: Mapping[str, Blocks | None], use: Use | None, run: Run) -> Iterator[Scenario]:
    """The sensitivity run of every variant; none without a declared year."""
    for name, each in blocks.items():
        if each is not None and use is not None:
            yield from sensitivity(Sensitivity(name, each, use), run.head.factors, run.head.pue, run.head.embodied)
