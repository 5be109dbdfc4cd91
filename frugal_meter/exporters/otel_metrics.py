"""The meter's sums as ready-made metric points of the SDK: exact, with no instrument that is told of each request.

The points are made from the very families that Prometheus scrapes, so that both receivers get the same figures.
Sums and histograms are cumulative: an export that fails loses nothing, since the next one carries it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from . import otel_names

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.samples import Sample

_CUMULATIVE = AggregationTemporality.CUMULATIVE
Point = NumberDataPoint | HistogramDataPoint


def metrics_data(
    families: Iterable[Family], resource: Resource, scope: InstrumentationScope, start_ns: int, now_ns: int
) -> MetricsData:
    """``families`` of a `MeterCollector` as one export; ``start_ns`` and ``now_ns`` are Unix times of the sums."""
    metrics = [metric for family in families for metric in _metrics(family, start_ns, now_ns)]
    scoped = ScopeMetrics(scope=scope, metrics=metrics, schema_url=otel_names.SCHEMA_URL)
    return MetricsData([ResourceMetrics(resource=resource, scope_metrics=[scoped], schema_url=otel_names.SCHEMA_URL)])


def _metrics(family: Family, start_ns: int, now_ns: int) -> Iterator[Metric]:
    """One metric, or several where labels decide the name; none without points."""
    grouped: dict[otel_names.Named, list[Point]] = {}
    for labels, point in (_distributions if family.type == "histogram" else _numbers)(family, start_ns, now_ns):
        grouped.setdefault(otel_names.metric(family.name, labels), []).append(point)
    for (name, unit), points in grouped.items():
        yield Metric(name=name, description=family.documentation, unit=unit, data=_data(family.type, points))


def _data(kind: str, points: list[Any]) -> Sum | Gauge | Histogram:
    if kind == "counter":
        return Sum(data_points=points, aggregation_temporality=_CUMULATIVE, is_monotonic=True)
    if kind == "histogram":
        return Histogram(data_points=points, aggregation_temporality=_CUMULATIVE)
    return Gauge(data_points=points)


def _numbers(family: Family, start_ns: int, now_ns: int) -> Iterator[tuple[Mapping[str, str], Point]]:
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue
        point = NumberDataPoint(otel_names.attributes(family.name, sample.labels), start_ns, now_ns, sample.value)
        yield sample.labels, point


class _Distribution:
    """What the samples of one histogram say, gathered; Prometheus counts up to each bound, OTLP between two."""

    __slots__ = ("bounds", "exemplars", "total", "up_to")

    def __init__(self) -> None:
        self.bounds: list[float] = []
        self.up_to: list[int] = []
        self.exemplars: list[Exemplar] = []
        self.total = 0.0

    def add(self, sample: Sample, now_ns: int) -> None:
        """Take one of its samples."""
        if sample.name.endswith("_bucket"):
            self.bounds.append(float(sample.labels["le"]))
            self.up_to.append(int(sample.value))
            if sample.exemplar is not None:
                self.exemplars.append(_exemplar(sample.exemplar, now_ns))
        elif sample.name.endswith("_sum"):
            self.total = sample.value

    def point(self, attributes: dict[str, otel_names.AttributeValue], start_ns: int, now_ns: int) -> HistogramDataPoint:
        """As a point; the last bound, infinity, is not written in OTLP. Least and greatest value were not kept: unknown."""
        unknown: Any = None  # the field is optional on the wire, though not in the SDK's annotation
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=start_ns,
            time_unix_nano=now_ns,
            count=self.up_to[-1],
            sum=self.total,
            bucket_counts=[after - before for before, after in zip([0, *self.up_to], self.up_to, strict=False)],
            explicit_bounds=self.bounds[:-1],
            min=unknown,
            max=unknown,
            exemplars=self.exemplars,
        )


def _distributions(family: Family, start_ns: int, now_ns: int) -> Iterator[tuple[Mapping[str, str], Point]]:
    found: dict[tuple[tuple[str, str], ...], _Distribution] = {}
    for sample in family.samples:
        key = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        found.setdefault(key, _Distribution()).add(sample, now_ns)
    for key, distribution in found.items():
        labels = dict(key)
        yield labels, distribution.point(otel_names.attributes(family.name, labels), start_ns, now_ns)


def _exemplar(found: Any, now_ns: int) -> Exemplar:
    """An exemplar of the exposition; ids that are those of a trace become fields, anything else an attribute."""
    rest = dict(found.labels)
    trace_id, span_id = rest.pop("trace_id", None), rest.pop("span_id", None)
    return Exemplar(
        filtered_attributes=rest,
        value=found.value,
        time_unix_nano=int(found.timestamp * 1e9) if found.timestamp else now_ns,
        span_id=int(span_id, 16) if span_id else None,
        trace_id=int(trace_id, 16) if trace_id else None,
    )
