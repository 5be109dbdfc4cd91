"""OTLP: the meter's sums to an OpenTelemetry collector, and each request's figures on the trace that it belongs to.

``Meter(..., exporters=[OtelExporter("http://localhost:4318")])``; needs the extra ``[otel]``.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError
from ..records import Reading, Tick
from . import otel_setup
from .families import version
from .otel_names import SCHEMA_URL
from .prometheus import MeterCollector

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.resources import Resource

    from ..attribution.span import Span
    from .otel_spans import RequestSpans
    from .view import MeterView

log = logging.getLogger("frugal_meter")
#: what the last export may take: a service that stops must not wait for a collector that is gone
_LAST_TIMEOUT_S: Final = 2.0


class OtelExporter:
    """Exports over OTLP/HTTP; one per meter, given to it as an exporter.

    endpoint: the collector's base URL, "http://localhost:4318"; None takes ``OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`` or
    ``OTEL_EXPORTER_OTLP_ENDPOINT``, else that address. Headers, certificates, compression and timeout are taken from the
    other ``OTEL_EXPORTER_OTLP_*`` variables, where secrets belong. interval: seconds between exports; None takes
    ``OTEL_METRIC_EXPORT_INTERVAL`` (milliseconds), else 60. spans: write requests' figures on their trace; settled_spans:
    with a span of its own for the settled ones. tracer_provider: the application's, where it is not the global one.

    Raises ConfigurationError, and MissingExtraError without the SDK.
    """

    #: it exports the meter's sums: no reading needs to be built for it
    needs_readings = False

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        interval: float | None = None,
        spans: bool = True,
        settled_spans: bool = True,
        tracer_provider: Any = None,
    ) -> None:
        otel_setup.check_flags(spans=spans, settled_spans=settled_spans)
        self._endpoint = otel_setup.url_of(endpoint)
        self._interval_ns = round(otel_setup.interval_s(interval) * 1e9)
        self._make_otlp, self._make_data, self._make_spans = otel_setup.sdk()
        self._environment = otel_setup.environment()
        self._wants_spans, self._settled, self._tracer_provider = spans, settled_spans, tracer_provider
        self._meter: MeterView | None = None
        self._spans: RequestSpans | None = None
        self._begin()

    def _begin(self) -> None:
        """What belongs to this process alone: connection, lock and identity do not survive a fork."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._otlp: OTLPMetricExporter | None = None
        self._resource: Resource | None = None
        self._due_ns: int | None = None  # an interval after the first pass
        if self._spans is not None:
            self._spans.forget()

    # -- what a meter calls

    def bind(self, meter: MeterView) -> None:
        """Belong to ``meter``; raises ConfigurationError for a second one. Nothing is sent before the meter runs."""
        if self._meter is not None:
            raise ConfigurationError("an OtelExporter belongs to one meter: make another one for the second")
        self._meter = meter
        if meter.disabled or otel_setup.sdk_disabled():
            return
        if os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative").lower() != "cumulative":
            log.warning(
                "frugal_meter: sums are exported cumulative; let the collector's cumulativetodelta processor convert them"
            )
        if self._wants_spans:
            self._spans = self._make_spans(meter, version(), settled=self._settled, provider=self._tracer_provider)
            self._spans.join()

    def closing(self, span: Span) -> None:
        """Write the figures of a request that ends on its trace, provisional as they are; called in its own context."""
        if self._spans is not None and span.parent is None:
            self._spans.closing(span)

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Tell on traces what has been settled; send the sums when their time has come."""
        meter = self._meter
        if meter is None:
            return
        if self._pid != os.getpid():
            self._begin()
        self._tell_settled()
        now_ns = meter.clock.monotonic_ns()
        if self._due_ns is None:
            self._due_ns = now_ns + self._interval_ns
        elif now_ns >= self._due_ns:
            self.flush()

    def _tell_settled(self) -> None:
        if self._spans is not None:
            self._spans.join()
            self._spans.tell_settled()

    def stop(self) -> None:
        """Send the last sums and close the connection; a meter that starts again opens another."""
        try:
            self._tell_settled()
            self._disconnect()
            self.flush(_LAST_TIMEOUT_S)
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        with self._lock:
            otlp, self._otlp = self._otlp, None
        if otlp is not None:
            otlp.shutdown()

    # -- metrics

    def flush(self, timeout: float | None = None) -> None:
        """Send the sums now, on a connection that is open or a new one with ``timeout`` (s; None: the environment's, or 10).

        Raises ConnectionError when the receiver did not take them: the next time sends them too.
        """
        meter = self._meter
        if meter is None or meter.disabled or otel_setup.sdk_disabled():
            return
        with self._lock:
            self._due_ns = meter.clock.monotonic_ns() + self._interval_ns
            if self._otlp is None:
                self._otlp = self._make_otlp(endpoint=self._endpoint, timeout=timeout)
            taken = self._send(meter, self._otlp)
        if not taken:
            raise ConnectionError("the OTLP receiver did not take the metrics; the next export carries the same sums")

    def _send(self, meter: MeterView, otlp: OTLPMetricExporter) -> bool:
        from opentelemetry import context
        from opentelemetry.sdk.metrics.export import MetricExportResult
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        if self._resource is None:
            self._resource = otel_setup.resource_of(self._environment, meter.service)
        data = self._make_data(
            MeterCollector(meter, own=True).collect(),  # each worker exports: the receiver sums
            self._resource,
            InstrumentationScope("frugal_meter", version(), SCHEMA_URL),
            meter.figures.stamp_ns(meter.since_ns),
            meter.clock.time_ns(),
        )
        # An application that traces its HTTP client must not see this call as one of its own.
        token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            return otlp.export(data) is MetricExportResult.SUCCESS
        finally:
            context.detach(token)


def with_otel(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `Meter` from those of `config.load`: the ``[otel]`` table becomes one more exporter."""
    out = dict(settings)
    table = out.pop("otel", None)
    if table is not None:
        out["exporters"] = [*out.get("exporters", ()), OtelExporter(**table)]
    return out
