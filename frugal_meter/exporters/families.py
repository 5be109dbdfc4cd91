"""The figures of a service as families of samples, in the order of `SPEC`: what every exposition is written from."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..attribution.ids import reading_id
from ..units import NJ_PER_J
from . import aggregates
from .aggregates import Distribution, Histogram, Labels, Mark, Row
from .budget_families import budget_families
from .spec import CAPPED, OVERHEAD, SPEC, STAGES

if TYPE_CHECKING:
    from ..attribution.ledger import SourceBooks
    from .sums import Service
    from .view import MeterView

Sample = tuple[Sequence[str], float]
#: labels, value and Unix time (s) of one observation
Exemplar = tuple[dict[str, str], float, float]


class Family(NamedTuple):
    """A metric's name and its samples: label values and a number, or an `Observed` for a histogram."""

    name: str
    samples: list[Any]


class Observed(NamedTuple):
    """A histogram with its bounds, and which figure of a mark it holds (0: wall ns, 1: CPU ns, 2: nJ)."""

    histogram: Histogram
    bounds: Sequence[float]
    figure: Literal[0, 1, 2]

    @property
    def total(self) -> float:
        """Sum of all values."""
        return self.histogram.total


def families(meter: MeterView, *, own: bool = False) -> Iterator[Family]:
    """Every family of `SPEC`; one that has nothing to tell has no samples: unknown is not 0.

    The service's figures, or with ``own`` those of this process alone.
    """
    service = meter.snapshots.alone() if own else meter.snapshots.service()
    told: dict[str, list[Any]] = {}
    for group in (_requests, _energy, _own):
        told.update(group(meter, service))
    told.update(_context(meter))
    told.update(budget_families(meter, service))
    return (Family(name, told[name]) for name in SPEC)


def of_histogram(observed: Observed) -> Iterator[tuple[str, float, Exemplar | None]]:
    """Upper bound, cumulative count and exemplar of each bucket."""
    histogram = observed.histogram
    bounds = [*(str(float(bound)) for bound in observed.bounds), "+Inf"]
    for le, count, mark in zip(bounds, accumulate(histogram.counts), histogram.marks, strict=True):
        yield le, float(count), None if mark is None else _exemplar(mark, observed)


def _exemplar(mark: Mark, observed: Observed) -> Exemplar:
    *_, ended_ns, stamp_ns, key, random, trace_id = mark
    labels = {"trace_id": trace_id} if trace_id is not None else {"reading_id": reading_id(stamp_ns, key, random)}
    return labels, mark[observed.figure] / 1e9, ended_ns / 1e9


def _requests(meter: MeterView, service: Service) -> dict[str, list[Any]]:
    rows = list(service.total.rows.items())
    books = meter.ledger.books

    def each(value: Callable[[Row], float]) -> list[Sample]:
        return [(labels, value(row)) for labels, row in rows]

    return {
        "frugal_requests": [((*labels, *end), n) for labels, row in rows for end, n in list(row.outcomes.items())],
        "frugal_requests_in_progress": [((), service.in_progress)],
        **_histograms(meter, list(service.total.kinds.items())),
        "frugal_cpu_seconds": each(lambda r: r.cpu_ns / 1e9),
        "frugal_process_cpu_seconds": [((), service.total.process_ns / 1e9)],
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
        "frugal_energy_joules": _by_component(books, rows),
        "frugal_idle_energy_joules": each(lambda r: r.idle_nj / NJ_PER_J) if books else [],
        "frugal_co2e_grams": _grams(rows) if books else [],
        "frugal_downstream_energy_joules": [((*labels, tier), j) for labels, r in rows for tier, j in list(r.remote_j.items())],
        "frugal_downstream_co2e_grams": [(labels, r.remote_g) for labels, r in rows if r.remote_j],
        "frugal_downstream_calls": [(labels, r.remote_calls) for labels, r in rows if r.remote_j or r.remote_calls],
        "frugal_downstream_unknown_calls": [(labels, r.remote_unknown) for labels, r in rows if r.remote_j or r.remote_calls],
    }


def _histograms(meter: MeterView, kinds: list[tuple[tuple[str, str], Distribution]]) -> dict[str, list[Any]]:
    return {
        "frugal_request_duration_seconds": [(key, Observed(d.duration_s, aggregates.DURATION_BUCKETS_S, 0)) for key, d in kinds],
        "frugal_request_cpu_seconds": [(key, Observed(d.cpu_s, aggregates.CPU_BUCKETS_S, 1)) for key, d in kinds],
        "frugal_request_energy_joules": [(key, Observed(d.energy_j, aggregates.ENERGY_BUCKETS_J, 2)) for key, d in kinds]
        if meter.ledger.books
        else [],
    }


def _grams(rows: list[tuple[Labels, Row]]) -> list[Sample]:
    operational: list[Sample] = [((*labels, "operational"), row.operational_g) for labels, row in rows]
    return operational + [((*labels, "embodied"), row.embodied_g) for labels, row in rows]


def _by_component(books: list[SourceBooks], rows: list[tuple[Labels, Row]]) -> list[Sample]:
    out: list[Sample] = []
    for labels, row in rows:
        sums: dict[tuple[str, str], int] = {}
        for each, nj in zip(books, row.sources_nj, strict=True):
            key = (each.source.component, each.source.tier)
            sums[key] = sums.get(key, 0) + nj
        out += [((*labels, *key), nj / NJ_PER_J) for key, nj in sums.items()]
    return out


def _energy(meter: MeterView, service: Service) -> dict[str, list[Any]]:
    books = [] if meter.disabled else meter.ledger.books  # not read: unknown, not 0
    known = [(each.source, told) for each, told in zip(books, service.sources, strict=False)]
    total = sum(told.energy_nj for _, told in known)
    measured = sum(told.energy_nj for source, told in known if source.tier == "measured")
    parts = dict.fromkeys(OVERHEAD if books else (), 0) | service.total.overhead_nj
    return {
        "frugal_host_energy_joules": [((s.component, s.name, s.tier), told.energy_nj / NJ_PER_J) for s, told in known],
        "frugal_unattributed_energy_joules": [
            ((s.component, s.name, reason), nj / NJ_PER_J) for s, told in known for reason, nj in told.unattributed_nj.items()
        ],
        "frugal_overhead_energy_joules": [((part,), nj / NJ_PER_J) for part, nj in parts.items()],
        "frugal_in_progress_energy_joules": [((), service.running_nj / NJ_PER_J)] if books else [],
        "frugal_books_difference_joules": [((), service.difference_nj / NJ_PER_J)] if books else [],
        "frugal_energy_source_up": [((s.component, s.name), float(told.up)) for s, told in known if told.up is not None],
        "frugal_measured_ratio": [((), measured / total)] if total else [],
        "frugal_coverage_ratio": [((), service.coverage)] if service.coverage is not None else [],
    }


def _context(meter: MeterView) -> dict[str, list[Any]]:
    factor, pue = meter.figures.factor, meter.figures.pue
    return {
        "frugal_grid_carbon_intensity_grams_per_joule": [
            ((factor.zone, factor.dataset, str(factor.year), factor.scope), factor.grams_per_joule)
        ],
        "frugal_pue_ratio": [((pue.source,), pue.value)],
        "frugal_method_info": [((meter.figures.method_id, factor.family, "+".join(meter.figures.boundary)), 1)],
        "frugal_model_info": [((model, block), 1) for block, model in list(meter.declared)],
        "frugal_build_info": [((version(), platform.python_version()), 1)],
    }


def _own(meter: MeterView, service: Service) -> dict[str, list[Any]]:
    total = service.total
    return {
        "frugal_workers": [((), service.workers)],
        "frugal_meter_cpu_seconds": [((), total.meter_ns / 1e9)],
        "frugal_meter_errors": [((stage,), n) for stage, n in (dict.fromkeys(STAGES, 0) | total.errors).items()],
        "frugal_meter_dropped_readings": [((), total.dropped)],
        "frugal_label_overflow": [((what,), total.overflow.get(what, 0)) for what in CAPPED],
    }


@functools.cache  # a file to read, and a scrape is beside requests
def version() -> str:
    """The installed version of this package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("frugal-meter")
    except PackageNotFoundError:
        return "unknown"
