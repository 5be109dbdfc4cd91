"""Prometheus and OpenMetrics exposition of a meter's sums, by one custom collector built at scrape time.

Every metric has base units in its name; joules are IT joules, before PUE. `SPEC` is the whole list: docs, dashboards
and the exposition are checked against it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ..budgets.leases import Book
    from .aggregates import Histogram
    from .view import MeterView

from .aggregates import MAX_LABEL_SETS

Kind = Literal["counter", "gauge", "histogram"]
_RMT: Final = ("route", "model", "tenant")
_RM: Final = ("route", "model")

#: name (counters without their _total) → (kind, help, labels)
SPEC: Final[dict[str, tuple[Kind, str, tuple[str, ...]]]] = {
    "frugal_requests": ("counter", "Metered requests that ended: answered, refused or failed.", (*_RMT, "status", "outcome")),
    "frugal_requests_in_progress": ("gauge", "Metered requests now in progress.", ()),
    "frugal_request_duration_seconds": ("histogram", "Wall time of a metered request.", _RM),
    "frugal_request_cpu_seconds": ("histogram", "CPU time of one request, nested blocks included.", _RM),
    "frugal_request_energy_joules": ("histogram", "Energy of one request with its part of idle, nested blocks included.", _RM),
    "frugal_cpu_seconds": ("counter", "CPU time attributed to requests.", _RMT),
    "frugal_gpu_seconds": ("counter", "GPU busy time attributed to requests.", _RMT),
    "frugal_tokens": ("counter", "Tokens read from or written by a model.", (*_RMT, "direction")),
    "frugal_functional_units": ("counter", "Functional units delivered.", (*_RMT, "unit")),
    "frugal_quality_sum": ("counter", "Sum of quality scores (0 to 1).", _RMT),
    "frugal_quality_count": ("counter", "Number of quality scores.", _RMT),
    "frugal_energy_joules": (
        "counter",
        "Dynamic energy attributed to requests (IT; PUE not applied).",
        (*_RMT, "component", "tier"),
    ),
    "frugal_idle_energy_joules": ("counter", "Idle energy of the service's slice held while requests ran.", _RMT),
    "frugal_co2e_grams": ("counter", "Greenhouse gases attributed to requests, CO2-equivalent.", (*_RMT, "scope")),
    "frugal_host_energy_joules": (
        "counter",
        "Energy of the host as its sources told it, attributed or not.",
        ("component", "source", "tier"),
    ),
    "frugal_unattributed_energy_joules": (
        "counter",
        "Host energy not charged to a request, by reason.",
        ("component", "source", "reason"),
    ),
    "frugal_overhead_energy_joules": ("counter", "Parts of the overhead: framework, startup, the meter itself.", ("part",)),
    "frugal_in_progress_energy_joules": ("gauge", "Dynamic energy already booked to requests still running.", ()),
    "frugal_books_difference_joules": ("gauge", "Host energy minus everything booked; 0 when the books close.", ()),
    "frugal_energy_source_up": ("gauge", "1 if the source could be read at the last tick.", ("component", "source")),
    "frugal_host_power_watts": ("gauge", "Power of a source over the last tick.", ("component", "source", "tier")),
    "frugal_measured_ratio": ("gauge", "Measured share of the host's energy since the start.", ()),
    "frugal_coverage_ratio": ("gauge", "CPU of requests over CPU of the process at the last tick.", ()),
    "frugal_grid_carbon_intensity_grams_per_joule": (
        "gauge",
        "CO2e per joule of electricity now applied.",
        ("zone", "dataset", "year", "scope"),
    ),
    "frugal_pue_ratio": ("gauge", "Power usage effectiveness applied to carbon.", ("source",)),
    "frugal_budget_usage_ratio": (
        "gauge",
        "Settled and reserved share of the budget in its window.",
        ("budget", "resource", "key"),
    ),
    "frugal_budget_limit": ("gauge", "Limit per window, in J, g, s, tokens or requests by resource.", ("budget", "resource")),
    "frugal_budget_enforced": ("gauge", "1 if the budget can refuse on this machine.", ("budget", "resource", "tier")),
    "frugal_cut_energy_joules": ("counter", "Dynamic energy of requests that a hard budget cut: drawn for no whole answer.", ()),
    "frugal_budget_decisions": ("counter", "Admission decisions.", ("budget", "resource", "action")),
    "frugal_method_info": ("gauge", "Method and factor behind the figures; always 1.", ("method", "factor", "boundary")),
    "frugal_build_info": ("gauge", "Version of frugal_meter; always 1.", ("version", "python")),
    "frugal_meter_cpu_seconds": ("counter", "CPU time of the meter's own thread.", ()),
    "frugal_meter_errors": ("counter", "Faults inside the meter, passed over.", ("stage",)),
    "frugal_meter_dropped_readings": ("counter", "Readings dropped because an exporter was too slow.", ()),
    "frugal_label_overflow": ("counter", 'Requests folded into the label set "other".', ()),
}
Sample = tuple[Sequence[str], float]


def render(meter: MeterView, accept: str = "") -> tuple[bytes, str]:
    """The exposition of ``meter`` and its content type, as ``accept`` negotiates (OpenMetrics or Prometheus text)."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(MeterCollector(meter))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class MeterCollector:
    """A `prometheus_client` collector over one meter: ``REGISTRY.register(MeterCollector(meter))``."""

    def __init__(self, meter: MeterView) -> None:
        self._meter = meter

    def describe(self) -> Iterable[Metric]:
        """Names only, so that registering does not collect."""
        return [_family(name, []) for name in SPEC]

    def collect(self) -> Iterator[Metric]:
        """Every family of `SPEC`."""
        for group in (_requests, _energy, _context, _budgets, _own):
            for name, samples in group(self._meter).items():
                yield _family(name, samples)


def _family(name: str, samples: Iterable[Any]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    kind, text, labels = SPEC[name]
    if kind == "histogram":
        histograms = HistogramMetricFamily(name, text, labels=labels)
        for values, histogram in samples:
            histograms.add_metric(values, *_buckets(histogram))
        return histograms
    family: Any = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family  # type: ignore[no-any-return]


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    total, out = 0, []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        out.append(("+Inf" if bound == float("inf") else str(float(bound)), float(total)))
    return out, histogram.total


def _requests(meter: MeterView) -> dict[str, list[Any]]:
    rows = list(meter.aggregates.rows.items())
    kinds = list(meter.aggregates.distributions.items())
    books = meter.ledger.books

    def each(value: Callable[[Any], float]) -> list[Sample]:
        return [(labels, value(row)) for labels, row in rows]

    return {
        "frugal_requests": [((*labels, *end), n) for labels, row in rows for end, n in list(row.outcomes.items())],
        "frugal_requests_in_progress": [((), sum(1 for s in list(meter.sampler.live) if s.parent is None))],
        "frugal_request_duration_seconds": [(key, d.duration_s) for key, d in kinds],
        "frugal_request_cpu_seconds": [(key, d.cpu_s) for key, d in kinds],
        "frugal_request_energy_joules": [(key, d.energy_j) for key, d in kinds] if books else [],
        "frugal_cpu_seconds": each(lambda r: r.cpu_ns / 1e9),
        "frugal_gpu_seconds": [(labels, r.gpu_ns / 1e9) for labels, r in rows if r.gpu_ns],
        "frugal_tokens": [
            ((*labels, way), n)
            for labels, r in rows
            for way, n in (("input", r.tokens_in), ("output", r.tokens_out))
            if n is not None
        ],
        "frugal_functional_units": [((*labels, unit), n) for labels, row in rows for unit, n in list(row.units.items())],
        "frugal_quality_sum": [(labels, r.quality_sum) for labels, r in rows if r.quality_count],
        "frugal_quality_count": [(labels, r.quality_count) for labels, r in rows if r.quality_count],
        "frugal_energy_joules": _by_component(meter, rows),
        "frugal_idle_energy_joules": each(lambda r: r.idle_nj / 1e9) if books else [],
        "frugal_co2e_grams": _grams(meter, rows) if books else [],
    }


def _grams(meter: MeterView, rows: list[Any]) -> list[Sample]:
    operational = [((*labels, "operational"), meter.aggregates.operational_g(row)) for labels, row in rows]
    return operational + [((*labels, "embodied"), row.embodied_g) for labels, row in rows]


def _by_component(meter: MeterView, rows: list[Any]) -> list[Sample]:
    out: list[Sample] = []
    for labels, row in rows:
        sums: dict[tuple[str, str], int] = {}
        for books, nj in zip(meter.ledger.books, row.sources_nj, strict=True):
            key = (books.source.component, books.source.tier)
            sums[key] = sums.get(key, 0) + nj
        out += [((*labels, *key), nj / 1e9) for key, nj in sums.items()]
    return out


def _energy(meter: MeterView) -> dict[str, list[Any]]:
    sums, running_nj = meter.aggregates, _running_nj(meter)
    sources = [] if meter.disabled else [books.source for books in meter.ledger.books]  # not read: unknown, not 0
    unattributed = [
        ((s.component, s.name, reason), nj / 1e9)
        for s in sources
        for reason, nj in sums.buckets_nj.get(s.name, {}).items()
        if reason != "requests"
    ]
    total = sum(sums.energy_nj.values())
    measured = sum(sums.energy_nj.get(s.name, 0) for s in sources if s.tier == "measured")
    last = {tick.source: tick for tick in meter.last_ticks}
    return {
        "frugal_host_energy_joules": [((s.component, s.name, s.tier), sums.energy_nj.get(s.name, 0) / 1e9) for s in sources],
        "frugal_unattributed_energy_joules": unattributed,
        "frugal_overhead_energy_joules": [((part,), nj / 1e9) for part, nj in list(sums.overhead_nj.items())],
        "frugal_in_progress_energy_joules": [((), running_nj / 1e9)] if sources else [],
        "frugal_books_difference_joules": [((), books_difference_nj(meter) / 1e9)] if sources else [],
        "frugal_energy_source_up": [
            ((b.source.component, b.source.name), float(b.up)) for b in meter.ledger.books if b.up is not None
        ],
        "frugal_host_power_watts": [
            ((s.component, s.name, s.tier), t.energy_nj / (t.t1_ns - t.t0_ns))
            for s in sources
            if (t := last.get(s.name)) is not None and t.t1_ns > t.t0_ns
        ],
        "frugal_measured_ratio": [((), measured / total)] if total else [],
        "frugal_coverage_ratio": [((), meter.ledger.coverage)] if meter.ledger.coverage is not None else [],
    }


def _running_nj(meter: MeterView) -> int:
    # A span that has ended stays in progress until the next tick has settled it.
    spans = [*list(meter.sampler.live), *list(meter.sampler.finished)]
    return sum(sum(s.account.sources_nj) for s in spans if s.account is not None and not s.settled)


def books_difference_nj(meter: MeterView) -> int:
    """What the sources said minus what is booked, nanojoules: 0 when the books close."""
    return meter.aggregates.difference_nj()


def _context(meter: MeterView) -> dict[str, list[Any]]:
    factor, pue = meter.figures.factor, meter.figures.pue
    return {
        "frugal_grid_carbon_intensity_grams_per_joule": [
            ((factor.zone, factor.dataset, str(factor.year), factor.scope), factor.grams_per_joule)
        ],
        "frugal_pue_ratio": [((pue.source,), pue.value)],
        "frugal_method_info": [((meter.figures.method_id, factor.family, "+".join(meter.figures.boundary)), 1)],
        "frugal_build_info": [((_version(), platform.python_version()), 1)],
    }


def _budgets(meter: MeterView) -> dict[str, list[Any]]:
    admission = meter.admission
    limits = [((b.name, b.resource), b.limit.shown) for b in admission.budgets]
    enforced = [
        ((b.name, b.resource, admission.tiers.get(b.name) or "counted"), float(admission.can_refuse(b) and not meter.disabled))
        for b in admission.budgets
    ]
    resources = {b.name: b.resource for b in admission.budgets}
    return {
        "frugal_budget_usage_ratio": [
            ((b.budget.name, b.budget.resource, _joined(b.key)), b.committed / b.budget.limit.amount)
            for b in _fullest(admission.store.books(meter.clock.time_ns()))
        ],
        "frugal_budget_limit": limits,
        "frugal_budget_enforced": enforced,
        "frugal_cut_energy_joules": [((), meter.cut_nj / 1e9)] if meter.ledger.books and not meter.disabled else [],
        "frugal_budget_decisions": [
            ((name, resources[name], action), n) for (name, action), n in list(admission.decisions.items())
        ],
    }


def _joined(key: Sequence[str]) -> str:
    """The parts of a key as one label; a part's own slashes are doubled, so that no two keys look alike."""
    return "/".join(part.replace("/", "//") for part in key)


def _fullest(books: list[Book]) -> list[Book]:
    """All the books, or where there are too many for labels those that are nearest to their limit."""
    if len(books) <= MAX_LABEL_SETS:
        return books
    return sorted(books, key=lambda b: b.committed / b.budget.limit.amount, reverse=True)[:MAX_LABEL_SETS]


def _own(meter: MeterView) -> dict[str, list[Any]]:
    return {
        "frugal_meter_cpu_seconds": [((), meter.sampler.meter_cpu_ns / 1e9)],
        "frugal_meter_errors": [((stage,), n) for stage, n in (list(meter.errors.items()) or [("none", 0)])],
        "frugal_meter_dropped_readings": [((), meter.dropped)],
        "frugal_label_overflow": [((), meter.aggregates.overflow)],
    }


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("frugal-meter")
    except PackageNotFoundError:
        return "unknown"
