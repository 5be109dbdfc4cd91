"""The sums behind the metrics: plain integers and bucket arrays per label set, written by the tick thread alone.

Per span this costs a dictionary look-up and some additions; metric objects would cost five times as much.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import repeat
from operator import add
from typing import Final, NamedTuple

import msgspec

from ..attribution.elsewhere import Elsewhere
from ..attribution.span import Span
from ..figures import Figures
from ..records import Shares, Tick
from ..units import NJ_PER_J

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
#: names of functional units of one label set
MAX_UNITS: Final = 20
OTHER: Final = ("other", "other", "other")
OTHER_KIND: Final = ("other", "other")
BUCKETS: Final = ("requests", "late", "overhead", "other", "idle", "gap")
#: three histograms each: a scrape is Python at work, and must not hold the interpreter for long
MAX_DISTRIBUTIONS: Final = 200
#: routes × declared models whose series are made in advance
MAX_PAIRS: Final = 100
Labels = tuple[str, str, str]
#: how requests of each kind may be known to end before any has: (status, outcome)
ENDS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "http": (("200", "ok"), ("500", "error")),
    "websocket": (("101", "ok"), ("101", "error")),
    "block": (("none", "ok"), ("none", "error")),
}
#: one observation to point at: wall ns, CPU ns, nJ, end (Unix, ns), what its id is made of (time, the span's key, its process's
#: random bits), trace id
Mark = tuple[int, int, int, int, int, int, int, str | None]


class Histogram(msgspec.Struct, array_like=True, eq=False):
    """Counts per bucket (upper bounds inclusive), their sum, and the last observation of each bucket."""

    counts: list[int]
    total: float
    marks: list[Mark | None]

    @classmethod
    def of(cls, bounds: Sequence[float]) -> Histogram:
        """An empty one."""
        return cls([0] * (len(bounds) + 1), 0.0, [None] * (len(bounds) + 1))

    def observe(self, bucket: int, value: float, mark: Mark) -> None:
        """Count one value."""
        self.counts[bucket] += 1
        self.total += value
        self.marks[bucket] = mark

    def observe_all(self, bounds: Sequence[float], values: Sequence[float], mark: Callable[[int], Mark]) -> None:
        """Count several; ``mark`` makes the mark of the value at a place."""
        counts, buckets = self.counts, list(map(bisect_left, repeat(bounds), values))
        for bucket in buckets:
            counts[bucket] += 1
        self.total += sum(values)
        for bucket, place in dict(zip(buckets, range(len(buckets)), strict=True)).items():  # the last of each bucket
            self.marks[bucket] = mark(place)


class Row(msgspec.Struct, array_like=True, eq=False):
    """Everything summed for one (route, model, tenant), and since when (Unix, ns)."""

    born_ns: int
    sources_nj: list[int]
    outcomes: dict[tuple[str, str], int] = {}
    cpu_ns: int = 0
    gpu_ns: int = 0
    idle_nj: int = 0
    tokens_in: int | None = None  # unknown until one was counted
    tokens_out: int | None = None
    operational_g: float = 0.0
    embodied_g: float = 0.0
    quality_sum: float = 0.0
    quality_count: int = 0
    units: dict[str, float] = {}
    remote_j: dict[str, float] = {}  # by tier: of calls to models elsewhere, never part of what this host drew
    remote_g: float = 0.0
    remote_unknown: int = 0  # calls that have no figure
    remote_calls: int = 0  # all of them

    def add_calls(self, elsewhere: Elsewhere) -> None:
        """Add what one call to a model elsewhere cost."""
        for tier, joules in elsewhere.joules.items():
            self.remote_j[tier] = self.remote_j.get(tier, 0.0) + joules
        if elsewhere.carbon_g is not None:
            self.remote_g += elsewhere.carbon_g.mid
        self.remote_unknown += elsewhere.energy_j is None
        self.remote_calls += 1


class Distribution(msgspec.Struct, array_like=True, eq=False):
    """The histograms of one (route, model), and since when (Unix, ns); no tenant, to keep series few."""

    born_ns: int
    duration_s: Histogram
    cpu_s: Histogram
    energy_j: Histogram

    @classmethod
    def new(cls) -> Distribution:
        """An empty one, of now."""
        return cls(time.time_ns(), *map(Histogram.of, (DURATION_BUCKETS_S, CPU_BUCKETS_S, ENERGY_BUCKETS_J)))


class Work(NamedTuple):
    """What a measured function does, as far as its decorator says: the model that it runs, the unit that a call delivers, and
    whether it calls a model elsewhere.
    """

    model: str = "none"
    unit: str | None = None
    elsewhere: bool = False


class Aggregates:
    """All sums of one meter since it started."""

    def __init__(self, figures: Figures, sources: int) -> None:
        self._figures, self._sources = figures, sources
        self.rows: dict[Labels, Row] = {}
        self.distributions: dict[tuple[str, str], Distribution] = {}
        self.overflow = self.overflow_kinds = 0
        self.low_nj = self.high_nj = 0
        # One object, replaced as a whole: a scrape beside a tick sees the books before it or after it, never half of it.
        self._told: tuple[dict[str, int], dict[str, dict[str, int]], dict[str, dict[str, int]]] = ({}, {}, {})
        self.overhead_nj: dict[str, int] = {}
        self._refused: dict[str, str] = {}

    @property
    def energy_nj(self) -> Mapping[str, int]:
        """What each source told since the start."""
        return self._told[0]

    @property
    def buckets_nj(self) -> Mapping[str, Mapping[str, int]]:
        """Where it was booked: source → bucket → nanojoules."""
        return self._told[1]

    @property
    def books_nj(self) -> tuple[Mapping[str, Mapping[str, int]], Mapping[str, Mapping[str, int]]]:
        """`buckets_nj`, and the same ("told" with them) of what this process did not bill from records that others share."""
        return self._told[1:]

    def add_ticks(self, ticks: Sequence[Tick], shared: Collection[str] = ()) -> None:
        """Add the books of one pass; ``shared`` names the sources whose records other workers bill too."""
        energy, buckets, alone = dict(self._told[0]), *({name: dict(of) for name, of in each.items()} for each in self._told[1:])
        for tick in ticks:
            if tick.low_nj is not None and tick.high_nj is not None:
                self.low_nj += tick.low_nj
                self.high_nj += tick.high_nj
            energy[tick.source] = energy.get(tick.source, 0) + tick.energy_nj
            shares = tick.requests_nj
            requests = shares.total if isinstance(shares, Shares) else sum(shares.values())
            booked = (requests, tick.late_nj, tick.overhead_nj, tick.other_nj, tick.idle_nj, tick.gap_nj)
            _add(buckets.setdefault(tick.source, dict.fromkeys(BUCKETS, 0)), zip(BUCKETS, booked, strict=True))
            if tick.source not in shared:
                own = alone.setdefault(tick.source, dict.fromkeys(("told", *BUCKETS), 0))
                _add(own, zip(own, (tick.energy_nj, *booked), strict=True))
            for part, nj in tick.overhead_parts.items():
                self.overhead_nj[part] = self.overhead_nj.get(part, 0) + nj
        self._told = energy, buckets, alone

    def difference_nj(self) -> int:
        """What the sources told minus everything booked: 0 when the books close."""
        energy, buckets, _ = self._told
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
            row.operational_g += (sum(account.sources_nj) + idle_nj) * self._grams_per_nj(span)
            row.embodied_g += account.embodied_g
        if span.tokens_in is not None:
            row.tokens_in = (row.tokens_in or 0) + span.tokens_in
        if span.tokens_out is not None:
            row.tokens_out = (row.tokens_out or 0) + span.tokens_out
        if span.units:
            unit = span.unit or "unit"
            if unit not in row.units and len(row.units) >= MAX_UNITS:
                self.overflow += 1
                unit = OTHER[0]
            row.units[unit] = row.units.get(unit, 0) + span.units
        if span.quality_sum is not None:
            row.quality_sum += span.quality_sum
            row.quality_count += 1
        if span.is_call and span.elsewhere is not None:
            row.add_calls(span.elsewhere)
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
                or span.is_call
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
        row.operational_g += sum([each * self._grams_per_nj(span) for each, span in zip(nj, spans, strict=True)])
        row.embodied_g += sum([account.embodied_g for account in accounts])
        self._count_ends(row, spans[0], len(spans))
        wall_ns = [span.t1_ns - span.t0_ns for span in spans]

        def mark(place: int) -> Mark:
            return self._mark(spans[place], cpu_ns[place], nj[place])

        distribution.duration_s.observe_all(DURATION_BUCKETS_S, [ns / 1e9 for ns in wall_ns], mark)
        distribution.cpu_s.observe_all(CPU_BUCKETS_S, [ns / 1e9 for ns in cpu_ns], mark)
        if self._sources:
            distribution.energy_j.observe_all(ENERGY_BUCKETS_J, [each / 1e9 for each in nj], mark)

    def _grams_per_nj(self, span: Span) -> float:
        # Weighed span by span: the factor may change, and a counter must not change with it.
        return self._figures.weight(span).grams_per_joule * self._figures.pue.value / NJ_PER_J

    def _mark(self, span: Span, cpu_ns: int, nj: int) -> Mark:
        figures = self._figures
        ended_ns = span.t1_ns + figures.unix_offset_ns
        wall_ns = span.t1_ns - span.t0_ns
        return (wall_ns, cpu_ns, nj, ended_ns, figures.stamp_ns(span.t0_ns), span.key, figures.random, span.trace_id)

    def _add_request(self, span: Span, row: Row, model: str) -> None:
        self._count_ends(row, span, 1)
        if span.outcome == "refused":
            return  # a refusal has no cost to distribute
        key = (span.route or "none", model)
        distribution = self.distributions.get(key) or self._distribution(key)
        nj, cpu_ns = _inclusive(span)
        mark = self._mark(span, cpu_ns, nj)
        wall_s, cpu_s = mark[0] / 1e9, cpu_ns / 1e9
        distribution.duration_s.observe(bisect_left(DURATION_BUCKETS_S, wall_s), wall_s, mark)
        distribution.cpu_s.observe(bisect_left(CPU_BUCKETS_S, cpu_s), cpu_s, mark)
        if self._sources:
            energy_j = nj / 1e9
            distribution.energy_j.observe(bisect_left(ENERGY_BUCKETS_J, energy_j), energy_j, mark)

    def _count_ends(self, row: Row, span: Span, count: int) -> None:
        if not row.outcomes:
            self._expect_ends(row, span.kind)
        end = (str(span.status) if span.status is not None else "none", span.outcome)
        row.outcomes[end] = row.outcomes.get(end, 0) + count

    def _expect_ends(self, row: Row, kind: str) -> None:
        for end in ENDS[kind]:
            row.outcomes.setdefault(end, 0)
        if kind in self._refused:
            row.outcomes.setdefault((self._refused[kind], "refused"), 0)

    def expect(
        self, routes: Sequence[tuple[str, bool]], works: Collection[Work] = (), refused: Mapping[str, str] | None = None
    ) -> None:
        """Have the series of each route (and whether it is a websocket's) there before its first request: one born late loses
        its first value to ``increase``. With what each of ``works`` counts too, where its models on each route are few.
        ``refused``: the status of a refusal by kind of request, where there are budgets to refuse.
        """
        self._refused = dict(refused or {})
        if len(routes) * len({work.model for work in works} - {"none"}) > MAX_PAIRS:
            works = [work for work in works if work.model == "none"]
        for route, is_websocket in routes:
            for work in (Work(), *works):
                if (row := self._declared(route, work.model)) is not None:
                    self._expect_ends(row, "websocket" if is_websocket else "http")
                    _expect_counts(row, work)

    def _declared(self, route: str, model: str) -> Row | None:
        """The row of a route and model, made with its histograms within the caps; None beyond them."""
        labels, kind = (route, model, "none"), (route, model)
        if labels not in self.rows and len(self.rows) < MAX_LABEL_SETS:
            self.rows[labels] = Row(time.time_ns(), [0] * self._sources)
        if kind not in self.distributions and len(self.distributions) < MAX_DISTRIBUTIONS:
            self.distributions[kind] = Distribution.new()
        return self.rows.get(labels)

    def _distribution(self, key: tuple[str, str]) -> Distribution:
        distribution = self.distributions.get(key)
        if distribution is None:
            if len(self.distributions) >= MAX_DISTRIBUTIONS:
                self.overflow_kinds += 1
                key = OTHER_KIND
            distribution = self.distributions.setdefault(key, Distribution.new())
        return distribution

    def _row(self, labels: Labels) -> Row:
        row = self.rows.get(labels)
        if row is None:
            if len(self.rows) >= MAX_LABEL_SETS:
                self.overflow += 1
                labels = OTHER
            row = self.rows.setdefault(labels, Row(time.time_ns(), [0] * self._sources))
        return row

    def bounds_nj(self) -> tuple[int, int, int]:
        """Low, mid and high of all the sources told since the start; lows add to lows, highs to highs."""
        return self.low_nj, sum(self.energy_nj.values()), self.high_nj

    def totals_nj(self) -> Mapping[str, int]:
        """Where the joules went since the start, over all sources: bucket → nanojoules."""
        return {bucket: sum(sums[bucket] for sums in self.buckets_nj.values()) for bucket in BUCKETS}


def _expect_counts(row: Row, work: Work) -> None:
    if work.unit is not None and len(row.units) < MAX_UNITS:
        row.units.setdefault(work.unit, 0)
    if work.model != "none":  # of what names no model nobody expects tokens
        row.tokens_in, row.tokens_out = row.tokens_in or 0, row.tokens_out or 0
    if work.elsewhere:
        row.remote_j.setdefault("sourced", 0.0)


def _add(sums: dict[str, int], more: Iterable[tuple[str, int]]) -> None:
    for key, nj in more:
        sums[key] += nj


def _inclusive(span: Span) -> tuple[int, int]:
    account, folded = span.account, span.folded
    nj, cpu_ns = (sum(account.sources_nj) + sum(account.idle_nj), account.cpu_ns) if account is not None else (0, 0)
    if folded is not None:
        nj, cpu_ns = nj + folded.dynamic_nj + folded.idle_nj, cpu_ns + folded.cpu_ns
    return nj, cpu_ns
