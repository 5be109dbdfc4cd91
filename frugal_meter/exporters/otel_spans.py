"""A request's figures on the trace that the application's own OpenTelemetry keeps of it.

Two spans carry them. The request's server span ends with the request, before the tick has settled what it cost: it gets
provisional ones, with ``frugal.settled`` false. All of them follow, settled, after the next tick on a child of it,
``frugal.settled``, which spans the same time. Whoever sums over spans takes the settled ones.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor

from ..attribution.clocks import enter, here
from ..attribution.ledger import CHUNK
from ..attribution.sampler import BREATH_S
from ..attribution.span import SPAN, Span
from . import otel_names
from .view import MeterView

SETTLED: Final = "frugal.settled"
#: requests that have ended and wait for their tick; beyond this the newest are not told again once settled
_MOST_WAITING: Final = 10_000


class RequestSpans(SpanProcessor):
    """Writes readings on the trace's spans, from either side of the OpenTelemetry middleware.

    A server span outside of us may still be current when a request ends: it is written then. Any other is written as it
    ends, which is in the request.
    """

    def __init__(self, meter: MeterView, version: str, *, settled: bool, provider: Any) -> None:
        self._meter, self._version, self._settled, self._given = meter, version, settled, provider
        self._desk: object = meter  # as spans know it
        self._provider: Any = None
        self._tracer: trace.Tracer | None = None
        self.forget()

    def forget(self) -> None:
        """Let go of what is under way: after a fork it is the parent's."""
        self._met: dict[int, trace.SpanContext] = {}
        self._waiting: deque[tuple[trace.SpanContext, Span]] = deque()

    def join(self) -> None:
        """Join the tracer provider, once there is one: an application may set it after it has made its meter."""
        if self._provider is not None:
            return
        provider = self._given or trace.get_tracer_provider()
        add: Callable[[SpanProcessor], None] | None = getattr(provider, "add_span_processor", None)
        if add is not None:
            self._provider = provider
            self._tracer = provider.get_tracer("frugal_meter", self._version, schema_url=otel_names.SCHEMA_URL)
            add(self)

    # -- the request's side

    def on_start(self, span: SdkSpan, parent_context: contexts.Context | None = None) -> None:
        """Meet a server span; one under another span of this process is not the request's."""
        if span.kind is not trace.SpanKind.SERVER or (span.parent is not None and not span.parent.is_remote):
            return
        metered = self._request()
        if metered is None or metered.key not in self._met:
            if metered is not None:
                self._met[metered.key] = span.get_span_context()
            self._write_at_end(span, metered)

    def _request(self) -> Span | None:
        """The request of this meter that runs here."""
        metered = SPAN.get()
        while metered is not None and metered.parent is not None:
            metered = metered.parent
        return metered if metered is not None and metered.desk is self._desk and metered.kind != "block" else None

    def _write_at_end(self, span: SdkSpan, metered: Span | None) -> None:
        # The SDK (1.45) closes a span's attributes before it tells any processor that it is ending, so its own `end` is
        # taken over for this one span. opentelemetry-instrumentation-asgi ends it with the last chunk, inside the request.
        end = span.end

        def write_and_end(end_time: int | None = None) -> None:
            del span.__dict__["end"]  # or the span would hold itself
            try:
                if (owner := metered or self._request()) is not None:
                    self._write(span, owner)
            except Exception as error:
                self._meter.fault("otel", error)
            end(end_time)

        span.end = write_and_end  # type: ignore[method-assign]

    def _write(self, span: trace.Span, metered: Span) -> None:
        if not metered.t1_ns:
            enter(here().owner)  # charge what this thread has used up to now
            self._met[metered.key] = span.get_span_context()
        figures = self._meter.figures
        # thousandths of what budgets count in: ns of CPU, nJ; with the blocks nested in it
        cpu_ns, nj = figures.milli(metered, "cpu", "dynamic"), figures.milli(metered, "energy", "dynamic")
        span.set_attributes(
            otel_names.provisional(
                figures.uuid(metered),
                cpu_s=None if cpu_ns is None else cpu_ns / 1e9,
                energy_dynamic_j=None if nj is None else nj / 1e9,
                tier=figures.weakest_tier,
                decision=metered.decision,
            )
        )

    def closing(self, metered: Span) -> None:
        """Write on the span that is current as ``metered`` ends, unless one inside was met; a block's is not its own."""
        context = self._met.pop(metered.key, None)
        if context is None:
            current = trace.get_current_span()
            if not current.is_recording():
                return
            context = current.get_span_context()
            if metered.kind != "block":
                self._write(current, metered)
        if not self._settled or not context.trace_flags.sampled:
            return
        if len(self._waiting) >= _MOST_WAITING:
            raise OverflowError(
                f"{_MOST_WAITING} requests wait to be settled: the figures of further ones are not told on traces"
            )
        self._waiting.append((context, metered))

    # -- after the tick

    def tell_settled(self) -> None:
        """A span for each request that has been settled since the last call, in its own trace."""
        for number in range(len(self._waiting)):
            if number % CHUNK == CHUNK - 1:
                time.sleep(BREATH_S)  # or requests would wait for the interpreter until all are told
            context, metered = self._waiting.popleft()
            if not metered.settled:
                self._waiting.append((context, metered))
            elif self._tracer is not None:
                self._tell(self._tracer, context, metered)

    def _tell(self, tracer: trace.Tracer, context: trace.SpanContext, metered: Span) -> None:
        figures = self._meter.figures
        span = tracer.start_span(
            SETTLED,
            context=trace.set_span_in_context(trace.NonRecordingSpan(context), contexts.Context()),
            attributes=otel_names.settled(figures.whole(metered)),
            start_time=metered.t0_ns + figures.unix_offset_ns,
        )
        span.end(metered.t1_ns + figures.unix_offset_ns)
