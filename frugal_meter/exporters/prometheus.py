"""Prometheus and OpenMetrics exposition of a meter's sums, by one custom collector built at scrape time.

Every metric has base units in its name; joules are IT joules, before PUE. `SPEC` is the whole list. The text is written
here: prometheus_client's writer takes five times as long, and a scrape is Python at work beside requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from .view import MeterView

from .exposition import write
from .families import Family, families, of_histogram
from .spec import SPEC

__all__ = ["SPEC", "MeterCollector", "render"]


def render(meter: MeterView, accept: str = "") -> tuple[bytes, str]:
    """The exposition of ``meter`` and its content type, as ``accept`` negotiates (OpenMetrics or Prometheus text)."""
    from prometheus_client.exposition import choose_encoder

    _, content_type = choose_encoder(accept)
    return write(families(meter), openmetrics=content_type.startswith("application/openmetrics-text")), content_type


class MeterCollector:
    """A `prometheus_client` collector over one meter: ``REGISTRY.register(MeterCollector(meter))``.

    The service's figures, all its workers summed, or with ``own`` those of this process alone.
    """

    def __init__(self, meter: MeterView, *, own: bool = False) -> None:
        self._meter, self._own = meter, own

    def describe(self) -> Iterable[Metric]:
        """Names only, so that registering does not collect."""
        return [_metric(Family(name, [])) for name in SPEC]

    def collect(self) -> Iterator[Metric]:
        """Every family of `SPEC`."""
        return map(_metric, families(self._meter, own=self._own))


def _metric(family: Family) -> Metric:
    from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily

    kind, text, labels = SPEC[family.name]
    if kind == "histogram":
        histograms = HistogramMetricFamily(family.name, text, labels=labels)
        for values, each in family.samples:
            buckets = [
                (le, count, Exemplar(*mark)) if mark is not None else (le, count) for le, count, mark in of_histogram(each)
            ]
            histograms.add_metric(values, buckets, each.total)
        return histograms
    metric: Any = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(family.name, text, labels=labels)
    for values, value in family.samples:
        metric.add_metric(values, value)
    return metric  # type: ignore[no-any-return]
