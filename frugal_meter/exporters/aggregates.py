"""The sums behind the metrics: plain integers and bucket arrays per label set, written by the tick thread alone.

Per span this costs a dictionary look-up and some additions; metric objects would cost five times as much.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import add
from typing import Final

from ..attribution.span import Span
from ..figures import Figures
from ..records import Shares, Tick

DURATION_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
ENERGY_BUCKETS_J: Final = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    25,
    50,
    100,
    250,
    500,
    1000,
    2500,
    5000,
    10000,
    25000,
    50000,
    100000,
)
CPU_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 300)
#: label sets beyond this are folded into "other" and counted
MAX_LABEL_SETS: Final = 1000
BUCKETS: Final = ("requests", "late", "overhead", "other", "idle", "gap")
#: three histograms each: a scrape is Python at work, and must not hold the interpreter for long
MAX_DISTRIBUTIONS: Final = 200
Labels = tuple[str, str, str]


class Histogram:
    """Counts per bucket (upper bounds inclusive) and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count several."""
        counts = self.counts
        for bucket in map(bisect_left, repeat(self.bounds), values):
            counts[bucket] += 1
        self.total += sum(values)


class Row:
    """Everything summed for one (route, model, tenant)."""

    __slots__ = (
        "cpu_ns",
        "embodied_g",
        "gpu_ns",
        "idle_nj",
        "operational_g",
        "outcomes",
        "quality_count",
        "quality_sum",
        "sources_nj",
        "tokens_in",
        "tokens_out",
        "units",
    )

    def __init__(self, sources: int) -> None:
        self.outcomes: dict[tuple[str, str], int] = {}
        self.cpu_ns = self.gpu_ns = self.idle_nj = 0
        self.tokens_in: int | None = None  # unknown until one was counted
        self.tokens_out: int | None = None
        self.sources_nj = [0] * sources
        self.operational_g = self.embodied_g = self.quality_sum = 0.0
        self.quality_count = 0
        self.units: dict[str, float] = {}


class Distribution:
    """The histograms of one (route, model); no tenant, to keep series few."""

    __slots__ = ("cpu_s", "duration_s", "energy_j")

    def __init__(self) -> None:
        self.duration_s = Histogram(DURATION_BUCKETS_S)
        self.energy_j = Histogram(ENERGY_BUCKETS_J)
        self.cpu_s = Histogram(CPU_BUCKETS_S)


class Aggregates:
    """All sums of one meter since it started."""

    def __init__(self, figures: Figures, sources: int) -> None:
        self._figures, self._sources = figures, sources
        self.rows: dict[Labels, Row] = {}
        self.distributions: dict[tuple[str, str], Distribution] = {}
        self.overflow = 0
        self.low_nj = self.high_nj = 0
        # One object, replaced as a whole: a scrape beside a tick sees the books before it or after it, never half of it.
        self._told: tuple[dict[str, int], dict[str, dict[str, int]]] = ({}, {})
        self.overhead_nj: dict[str, int] = {}

    @property
    def energy_nj(self) -> Mapping[str, int]:
        """What each source told since the start."""
        return self._told[0]

    @property
    def buckets_nj(self) -> Mapping[str, Mapping[str, int]]:
        """Where it was booked: source → bucket → nanojoules."""
        return self._told[1]

    def add_ticks(self, ticks: Sequence[Tick]) -> None:
        """Add the books of one pass."""
        energy, buckets = dict(self._told[0]), {source: dict(sums) for source, sums in self._told[1].items()}
        for tick in ticks:
            if tick.low_nj is not None and tick.high_nj is not None:
                self.low_nj += tick.low_nj
                self.high_nj += tick.high_nj
            energy[tick.source] = energy.get(tick.source, 0) + tick.energy_nj
            sums = buckets.setdefault(tick.source, dict.fromkeys(BUCKETS, 0))
            shares = tick.requests_nj
            sums["requests"] += shares.total if isinstance(shares, Shares) else sum(shares.values())
            sums["late"] += tick.late_nj
            sums["overhead"] += tick.overhead_nj
            sums["other"] += tick.other_nj
            sums["idle"] += tick.idle_nj
            sums["gap"] += tick.gap_nj
            for part, nj in tick.overhead_parts.items():
                self.overhead_nj[part] = self.overhead_nj.get(part, 0) + nj
        self._told = energy, buckets

    def difference_nj(self) -> int:
        """What the sources told minus everything booked: 0 when the books close."""
        energy, buckets = self._told
        return sum(energy.values()) - sum(sum(sums.values()) for sums in buckets.values())

    def add(self, span: Span) -> None:
        """Add one settled span; nested spans add their own energy, and only outermost ones count as requests."""
        account = span.account
        model = span.model_served or span.model or "none"
        labels = (span.route or "none", model, span.tenant or "none")
        row = self.rows.get(labels) or self._row(labels)
        if account is not None:
            row.cpu_ns += account.cpu_ns
            row.gpu_ns += account.gpu_ns
            row.sources_nj = list(map(add, row.sources_nj, account.sources_nj))
            idle_nj = sum(account.idle_nj)
            row.idle_nj += idle_nj
            # Weighed span by span: the factor may change, and a counter must not change with it.
            per_nj = self._figures.weight(span).grams_per_joule * self._figures.pue.value / 1e9
            row.operational_g += (sum(account.sources_nj) + idle_nj) * per_nj
            row.embodied_g += account.embodied_g
        if span.tokens_in is not None:
            row.tokens_in = (row.tokens_in or 0) + span.tokens_in
        if span.tokens_out is not None:
            row.tokens_out = (row.tokens_out or 0) + span.tokens_out
        if span.units:
            unit = span.unit or "unit"
            row.units[unit] = row.units.get(unit, 0) + span.units
        if span.quality_sum is not None:
            row.quality_sum += span.quality_sum
            row.quality_count += 1
        if span.parent is None:
            self._add_request(span, row, model)

    def add_all(self, spans: Sequence[Span], fault: Callable[[str, BaseException], None]) -> None:
        """`add` for each of ``spans``; those of one kind together, which costs a third. One that fails is told to ``fault``."""
        alike: dict[tuple[str, str, str, int | None, str], list[Span]] = {}
        for span in spans:
            account = span.account
            if (  # a request with more to sum than CPU, energy and time: few are
                account is None
                or span.parent is not None
                or span.folded is not None
                or span.tokens_in is not None
                or span.tokens_out is not None
                or span.units
                or span.quality_sum is not None
                or account.gpu_ns
            ):
                self._add_each([span], fault)
                continue
            model = span.model_served or span.model or "none"
            key = (span.route or "none", model, span.tenant or "none", span.status, span.outcome)
            if key in alike:
                alike[key].append(span)
            else:
                alike[key] = [span]
        for (route, model, tenant, _, outcome), group in alike.items():
            row, distribution = self.rows.get((route, model, tenant)), self.distributions.get((route, model))
            if row is None or distribution is None or outcome == "refused":  # the first of its kind, or one beyond the caps
                self._add_each(group, fault)
            else:
                self._add_alike(row, distribution, group)

    def _add_each(self, spans: Sequence[Span], fault: Callable[[str, BaseException], None]) -> None:
        for span in spans:
            try:
                self.add(span)
            except Exception as error:
                fault("settle", error)

    def _add_alike(self, row: Row, distribution: Distribution, spans: Sequence[Span]) -> None:
        """Add requests of one row and one end that have nothing to sum but CPU, energy and time."""
        accounts = [span.account for span in spans if span.account is not None]
        cpu_ns = [account.cpu_ns for account in accounts]
        idle_nj = [sum(account.idle_nj) for account in accounts]
        nj = [sum(account.sources_nj) + idle for account, idle in zip(accounts, idle_nj, strict=True)]
        row.cpu_ns += sum(cpu_ns)
        row.sources_nj = list(map(add, row.sources_nj, map(sum, zip(*[a.sources_nj for a in accounts], strict=True))))
        row.idle_nj += sum(idle_nj)
        row.embodied_g += sum([account.embodied_g for account in accounts])
        end = (str(spans[0].status) if spans[0].status is not None else "none", spans[0].outcome)
        row.outcomes[end] = row.outcomes.get(end, 0) + len(spans)
        distribution.duration_s.observe_all([(span.t1_ns - span.t0_ns) / 1e9 for span in spans])
        distribution.cpu_s.observe_all([ns / 1e9 for ns in cpu_ns])
        if self._sources:
            distribution.energy_j.observe_all([each / 1e9 for each in nj])

    def _add_request(self, span: Span, row: Row, model: str) -> None:
        status = (str(span.status) if span.status is not None else "none", span.outcome)
        row.outcomes[status] = row.outcomes.get(status, 0) + 1
        if span.outcome == "refused":
            return  # a refusal has no cost to distribute
        key = (span.route or "none", model)
        distribution = self.distributions.get(key) or self._distribution(key)
        nj, cpu_ns = _inclusive(span)
        distribution.duration_s.observe((span.t1_ns - span.t0_ns) / 1e9)
        distribution.cpu_s.observe(cpu_ns / 1e9)
        if self._sources:
            distribution.energy_j.observe(nj / 1e9)

    def _distribution(self, key: tuple[str, str]) -> Distribution:
        distribution = self.distributions.get(key)
        if distribution is None:
            if len(self.distributions) >= MAX_DISTRIBUTIONS:
                key = ("other", "other")
            distribution = self.distributions.setdefault(key, Distribution())
        return distribution

    def _row(self, labels: Labels) -> Row:
        row = self.rows.get(labels)
        if row is None:
            if len(self.rows) >= MAX_LABEL_SETS:
                self.overflow += 1
                labels = ("other", "other", "other")
            row = self.rows.setdefault(labels, Row(self._sources))
        return row

    def operational_g(self, row: Row) -> float:
        """gCO2e of a row's dynamic and idle energy, each span at the factor of its time, PUE included."""
        return row.operational_g

    def bounds_nj(self) -> tuple[int, int, int]:
        """Low, mid and high of all the sources told since the start; lows add to lows, highs to highs."""
        return self.low_nj, sum(self.energy_nj.values()), self.high_nj

    def totals_nj(self) -> Mapping[str, int]:
        """Where the joules went since the start, over all sources: bucket → nanojoules."""
        return {bucket: sum(sums[bucket] for sums in self.buckets_nj.values()) for bucket in BUCKETS}


def _inclusive(span: Span) -> tuple[int, int]:
    account, folded = span.account, span.folded
    nj, cpu_ns = (sum(account.sources_nj) + sum(account.idle_nj), account.cpu_ns) if account is not None else (0, 0)
    if folded is not None:
        nj, cpu_ns = nj + folded.dynamic_nj + folded.idle_nj, cpu_ns + folded.cpu_ns
    return nj, cpu_ns
