"""From readings and ticks to the rows that are printed: pure functions, unknown stays None."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from frugal_meter.attribution.ledger import KEY_HIGH, KEY_LOW
from frugal_meter.records import TIERS, Interval, Reading, Tick, Tier

from .quality import Score

BUCKETS: Final = ("requests", "late", "overhead", "other", "idle", "gap")
_ADDED: Final = (
    "cpu_s",
    "energy_dynamic_j",
    "energy_full_j",
    "energy_low_j",
    "energy_high_j",
    "carbon_g",
    "carbon_low_g",
    "carbon_high_g",
)
_TOLD: Final = ("model_requested", "model_served", "tokens_in", "tokens_out", "unit", "units")


class Cost(msgspec.Struct, frozen=True):
    """Means per request over ``n`` readings. J before PUE, g of CO2e; ``host_share`` is the group's, of the run's joules.

    ``method_ids`` and ``factor_ids`` are those of the readings: what the figures are cited with.
    """

    n: int
    cpu_s: float
    dynamic_j: float | None
    full_j: Interval | None
    carbon_g: Interval | None
    tier: Tier | None
    host_share: float | None
    method_ids: tuple[str, ...] = ()
    factor_ids: tuple[str, ...] = ()


class Row(msgspec.Struct, frozen=True):
    """One line of the cost table."""

    route: str
    model: str | None
    cost: Cost


class Account(msgspec.Struct, frozen=True):
    """The run's joules by bucket, in nanojoules; ``difference_nj`` is the sum of buckets minus the sources' own total.

    ``energy_j`` is the total with its bounds, None when a source gave none; ``buckets_j`` the buckets with theirs, in proportion
    to that, those of requests as much wider as the sharing among them is uncertain.
    """

    energy_nj: int
    energy_j: Interval | None
    buckets_nj: Mapping[str, int]
    buckets_j: Mapping[str, Interval]
    difference_nj: int
    open_ticks: int
    seconds: float
    sources: Mapping[str, Tier]


class QualityRow(msgspec.Struct, frozen=True):
    """Quality beside cost for one answerer; ``asked`` of ``of`` held-out questions."""

    model: str
    score: Score
    of: int
    cost: Cost

    @property
    def joules_per_right(self) -> Interval | None:
        """J per right answer, wrong answers paid for; None when unknown or when none was right.

        Bounds are those of the joules: what is right was counted, and the sample's own doubt stands beside it.
        """
        if self.cost.full_j is None or not self.score.right:
            return None
        return self.cost.full_j.times(self.score.n / self.score.right)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    # One unknown makes the mean unknown: the mean of the others would be a figure for other requests.
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _interval(low: float | None, mid: float | None, high: float | None) -> Interval | None:
    return None if low is None or mid is None or high is None else Interval(low, mid, high)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None


def requests(readings: Sequence[Reading]) -> list[Reading]:
    """One reading per HTTP request: its own figures and those of the blocks measured in it, which hold what the model cost.

    A nested reading never repeats its parent's joules, so a plain sum counts each once.
    """
    inside: dict[str | None, list[Reading]] = {}
    for reading in readings:
        inside.setdefault(reading.parent, []).append(reading)

    def tree(root: Reading) -> list[Reading]:
        return [root, *(deeper for child in inside.get(root.id, ()) for deeper in tree(child))]

    return [_merged(tree(r)) for r in readings if r.kind == "http" and r.parent is None]


def _merged(parts: Sequence[Reading]) -> Reading:
    """The first reading with the others' sums; the model is the outermost block's, which is the one that was asked for."""
    summed = {name: _sum([getattr(part, name) for part in parts]) for name in _ADDED}
    told = {name: next((v for p in parts if (v := getattr(p, name)) is not None), None) for name in _TOLD}
    decisions = [p.decision for p in parts if p.decision is not None]
    tiers = [p.tier for p in parts if p.tier is not None]
    return msgspec.structs.replace(
        parts[0],
        **summed,
        **told,
        tier=max(tiers, key=TIERS.index) if tiers else None,
        decision="degrade" if "degrade" in decisions else parts[0].decision,
    )


def cost(readings: Sequence[Reading], host_j: float | None) -> Cost:
    """What ``readings`` cost on average; lows add to lows: their errors are common, not independent."""
    dynamic = _mean([r.energy_dynamic_j for r in readings])
    full = [_mean([getattr(r, f"energy_{end}_j") for r in readings]) for end in ("low", "full", "high")]
    carbon = [_mean([getattr(r, name) for r in readings]) for name in ("carbon_low_g", "carbon_g", "carbon_high_g")]
    tiers = [r.tier for r in readings if r.tier is not None]
    return Cost(
        n=len(readings),
        cpu_s=_mean([r.cpu_s for r in readings]) or 0.0,
        dynamic_j=dynamic,
        full_j=_interval(*full),
        carbon_g=_interval(*carbon),
        tier=max(tiers, key=TIERS.index) if tiers else None,
        host_share=None if full[1] is None or not host_j else full[1] * len(readings) / host_j,
        method_ids=tuple(sorted({r.method_id for r in readings})),
        factor_ids=tuple(sorted({each for r in readings for each in r.factor_ids})),
    )


def rows(readings: Iterable[Reading], host_j: float | None) -> list[Row]:
    """One row per route and model served, dearest first."""
    groups: dict[tuple[str, str | None], list[Reading]] = {}
    for reading in readings:
        groups.setdefault((reading.route or "?", reading.model_served), []).append(reading)
    table = [Row(route, model, cost(group, host_j)) for (route, model), group in groups.items()]
    return sorted(table, key=lambda row: row.cost.cpu_s, reverse=True)


def _joules(nanojoules: Sequence[int | None]) -> float | None:
    total = _sum(nanojoules)
    return None if total is None or not nanojoules else total / 1e9


def _part(whole: Interval, name: str, share: float) -> Interval:
    part = whole.times(share)
    return part if name != "requests" else Interval(part.low * KEY_LOW, part.mid, part.high * KEY_HIGH)


def account(ticks: Sequence[Tick]) -> Account:
    """The closing account over ``ticks``: integers, so that it closes to the nanojoule or not at all."""
    buckets = dict.fromkeys(BUCKETS, 0)
    for tick in ticks:
        buckets["requests"] += sum(tick.requests_nj.values())
        for name in BUCKETS[1:]:
            buckets[name] += getattr(tick, f"{name}_nj")
    energy = sum(tick.energy_nj for tick in ticks)
    whole = _interval(_joules([t.low_nj for t in ticks]), energy / 1e9, _joules([t.high_nj for t in ticks]))
    span = max((t.t1_ns for t in ticks), default=0) - min((t.t0_ns for t in ticks), default=0)
    return Account(
        energy_nj=energy,
        energy_j=whole,
        buckets_nj=buckets,
        buckets_j={} if whole is None or not energy else {name: _part(whole, name, nj / energy) for name, nj in buckets.items()},
        difference_nj=sum(buckets.values()) - energy,
        open_ticks=sum(not tick.closes for tick in ticks),
        seconds=span / 1e9,
        sources={tick.source: tick.tier for tick in ticks},
    )
