"""A request's figures on the trace that the application keeps of it, from either side of its OpenTelemetry middleware."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from otlp_receiver import attributes, receiving
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from support import App, about, answer, ask, burn, metered

from frugal_meter import Meter, MeterMiddleware
from frugal_meter.attribution.ledger import CHUNK
from frugal_meter.exporters import otel_names, otel_spans
from frugal_meter.exporters.otel import OtelExporter
from frugal_meter.exporters.otel_spans import SETTLED
from frugal_meter.exporters.trace_context import current_trace_id

Wrap = Callable[[App, Meter, TracerProvider], App]
MIDDLEWARES = {"starlette": StarletteMiddleware, "contrib": ContribMiddleware}
BURNT_S = 0.02


def outside(middleware: Any) -> Wrap:
    return lambda app, meter, provider: middleware(MeterMiddleware(app, meter=meter), tracer_provider=provider)


def inside(middleware: Any) -> Wrap:
    return lambda app, meter, provider: MeterMiddleware(middleware(app, tracer_provider=provider), meter=meter)


def both(middleware: Any) -> Wrap:
    def wrap(app: App, meter: Meter, provider: TracerProvider) -> App:
        return middleware(inside(middleware)(app, meter, provider), tracer_provider=provider)

    return wrap


SIDES = {
    f"{name} {side.__name__}": side(middleware) for name, middleware in MIDDLEWARES.items() for side in (outside, inside, both)
}


class Traced:
    """A tracer provider and the spans that have ended."""

    def __init__(self, **settings: Any) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider(**settings)
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._kept.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    @property
    def with_figures(self) -> list[ReadableSpan]:
        return [span for span in self.spans if "frugal.reading_id" in figures(span)]

    @property
    def server(self) -> ReadableSpan:
        """The one server span with figures."""
        (found,) = (span for span in self.with_figures if span.kind is trace.SpanKind.SERVER)
        return found


@pytest.fixture
def traced() -> Iterator[Traced]:
    found = Traced()
    yield found
    found.provider.shutdown()


@contextlib.contextmanager
def meter_on(traced: Traced, **settings: Any) -> Iterator[Meter]:
    """A running meter that writes on the traces of ``traced``; its metrics go to a receiver that nobody asks."""
    with receiving() as receiver:
        exporter = OtelExporter(receiver.url, tracer_provider=traced.provider, **settings)
        with metered(exporters=[exporter]) as (meter, _):
            yield meter


def figures(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def page(request: Request) -> PlainTextResponse:
    burn(BURNT_S)  # in a worker thread
    return PlainTextResponse("ok")


async def stream(request: Request) -> StreamingResponse:
    async def chunks() -> Any:
        for _ in range(2):
            burn(BURNT_S / 2)
            yield b"x"

    return StreamingResponse(chunks())


async def broken(request: Request) -> PlainTextResponse:
    burn(BURNT_S)
    raise RuntimeError("no answer today")


ROUTES = [Route("/page/{number}", page), Route("/stream", stream), Route("/broken", broken)]


@pytest.mark.parametrize("wrap", SIDES.values(), ids=SIDES.keys())
@pytest.mark.parametrize("path", ["/page/1", "/stream"])
def test_the_server_span_carries_what_its_request_cost(traced: Traced, wrap: Wrap, path: str) -> None:
    with meter_on(traced) as meter:
        asyncio.run(ask(wrap(Starlette(routes=ROUTES), meter, traced.provider), path))
        told = figures(traced.server)
        assert told["frugal.settled"] is False
        assert about(told["frugal.cpu_s"], BURNT_S, slack=0.02)
        assert told["frugal.energy_dynamic_j"] == pytest.approx(told["frugal.cpu_s"] * 10)  # the last J per CPU-second
        assert not any(name.startswith("gen_ai.") for name in told)


@pytest.mark.parametrize("wrap", SIDES.values(), ids=SIDES.keys())
def test_settled_figures_follow_on_a_child_of_the_server_span(traced: Traced, wrap: Wrap) -> None:
    with meter_on(traced) as meter:

        async def asked(request: Request) -> PlainTextResponse:
            burn(BURNT_S)
            with meter.measure("model", model="small") as block:
                block.add_tokens(input=7, output=3)
                burn(BURNT_S)
            return PlainTextResponse("ok")

        app = Starlette(routes=[Route("/page/{number}", asked)])
        asyncio.run(ask(wrap(app, meter, traced.provider), "/page/1"))
        assert traced.named(SETTLED) == []
        meter.settle()
        whole = meter.figures.whole(meter.recent[-1])
    (settled,) = traced.named(SETTLED)
    server = traced.server
    assert settled.parent is not None
    assert settled.parent.span_id == server.context.span_id
    assert settled.context.trace_id == server.context.trace_id
    told = figures(settled)
    assert told["frugal.reading_id"] == figures(server)["frugal.reading_id"] == whole.id
    assert told["frugal.settled"] is True
    for field in ("cpu_s", "energy_full_j", "energy_low_j", "energy_high_j", "carbon_g", "tier", "method_id"):
        assert told[f"frugal.{field}"] == getattr(whole, field), field
    assert about(told["frugal.cpu_s"], 2 * BURNT_S, slack=0.02)  # the block's and the page's
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 3)
    assert told["gen_ai.response.model"] == "small"
    assert told["http.route"] == "/page/{number}"
    assert settled.end_time is not None
    assert settled.start_time is not None
    assert (settled.end_time - settled.start_time) / 1e9 == pytest.approx(whole.wall_s)


@pytest.mark.parametrize("side", [outside, inside])
def test_figures_and_spans_arrive_at_one_receiver_over_otlp(side: Callable[[Any], Wrap]) -> None:
    with receiving() as receiver:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces")))
        with metered(exporters=[OtelExporter(receiver.url, tracer_provider=provider)]) as (meter, _):
            app = side(StarletteMiddleware)(Starlette(routes=ROUTES), meter, provider)
            asyncio.run(ask(app, "/page/1"))
            meter.settle()
        provider.shutdown()
        told = {span.name: dict(attributes(span.attributes)) for span in receiver.spans()}
        request_j = meter.aggregates.rows["/page/{number}", "none", "none"]
    settled = told[SETTLED]
    assert settled["frugal.energy_dynamic_j"] == sum(request_j.sources_nj) / 1e9 > 0
    assert told.keys() - {SETTLED} == {"GET /page/{number}"}
    assert told["GET /page/{number}"]["frugal.settled"] is False


@pytest.mark.parametrize("wrap", SIDES.values(), ids=SIDES.keys())
def test_a_request_that_fails_carries_its_figures_too(traced: Traced, wrap: Wrap) -> None:
    with meter_on(traced) as meter:
        with pytest.raises(RuntimeError, match="no answer today"):
            asyncio.run(ask(wrap(Starlette(routes=ROUTES), meter, traced.provider), "/broken"))
        meter.settle()
    assert about(figures(traced.server)["frugal.cpu_s"], BURNT_S, slack=0.02)
    (settled,) = traced.named(SETTLED)
    assert figures(settled)["frugal.outcome"] == "error"


def test_a_trace_that_is_not_sampled_is_left_alone() -> None:
    traced = Traced(sampler=ALWAYS_OFF)
    with meter_on(traced) as meter:
        for wrap in SIDES.values():
            asyncio.run(ask(wrap(Starlette(routes=ROUTES), meter, traced.provider), "/stream"))
        meter.settle()
        assert meter.errors == {}
    assert traced.spans == []


def test_a_request_without_a_trace_leaves_none(traced: Traced) -> None:
    with meter_on(traced) as meter:
        asyncio.run(ask(MeterMiddleware(Starlette(routes=ROUTES), meter=meter), "/page/1"))
        meter.settle()
    assert traced.spans == []


def test_a_call_to_another_service_is_not_taken_for_the_request(traced: Traced) -> None:
    tracer = traced.provider.get_tracer("client")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with tracer.start_as_current_span("GET", kind=trace.SpanKind.CLIENT):
            await Starlette(routes=ROUTES)(scope, receive, send)

    with meter_on(traced) as meter:
        asyncio.run(ask(MeterMiddleware(app, meter=meter), "/page/1"))
        meter.settle()
    assert [span.name for span in traced.spans] == ["GET"]
    assert traced.with_figures == []


def test_a_block_in_a_trace_gets_a_span_and_writes_on_nobody_elses(traced: Traced) -> None:
    with meter_on(traced) as meter:
        with traced.provider.get_tracer("job").start_as_current_span("nightly"):
            for name in ("read", "index"):
                with meter.measure(name):
                    burn(0.002)
        meter.settle()
    (job,) = traced.named("nightly")
    assert "frugal.reading_id" not in figures(job)
    assert [span.parent and span.parent.span_id for span in traced.named(SETTLED)] == [job.context.span_id] * 2


@pytest.mark.parametrize(("settings", "expected"), [({"settled_spans": False}, 1), ({"spans": False}, 0)])
def test_spans_can_be_left_alone(traced: Traced, settings: dict[str, bool], expected: int) -> None:
    with meter_on(traced, **settings) as meter:
        app = outside(StarletteMiddleware)(Starlette(routes=ROUTES), meter, traced.provider)
        asyncio.run(ask(app, "/page/1"))
        meter.settle()
    assert len(traced.with_figures) == expected


def test_another_meters_requests_are_not_this_ones(traced: Traced) -> None:
    with meter_on(traced), metered() as (other, _):
        asyncio.run(ask(inside(StarletteMiddleware)(Starlette(routes=ROUTES), other, traced.provider), "/page/1"))
        other.settle()
    assert traced.with_figures == []


def test_a_provider_set_after_the_meter_was_made_is_joined(monkeypatch: pytest.MonkeyPatch, traced: Traced) -> None:
    with receiving() as receiver, metered(exporters=[OtelExporter(receiver.url)]) as (meter, _):
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: traced.provider)
        meter.settle()
        asyncio.run(ask(inside(StarletteMiddleware)(Starlette(routes=ROUTES), meter, traced.provider), "/page/1"))
        meter.settle()
    assert len(traced.with_figures) == 2


def test_too_many_requests_between_two_ticks_are_counted_and_hurt_nobody(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_spans, "_MOST_WAITING", 1)
    with meter_on(traced) as meter:
        app = outside(StarletteMiddleware)(Starlette(routes=ROUTES), meter, traced.provider)
        for _ in range(3):
            assert asyncio.run(ask(app, "/page/1"))[0]["status"] == 200
        meter.settle()
        assert meter.errors == {"closing": 2}
    assert len(traced.named(SETTLED)) == 1


def test_a_request_that_waits_for_its_tick_is_told_after_it(traced: Traced) -> None:
    with meter_on(traced) as meter:
        asyncio.run(ask(outside(StarletteMiddleware)(Starlette(routes=ROUTES), meter, traced.provider), "/page/1"))
        (exporter,) = meter._dispatch.exporters
        exporter.export((), ())
        assert traced.named(SETTLED) == []
        meter.settle()
    assert len(traced.named(SETTLED)) == 1


def test_every_request_of_a_busy_tick_is_told(traced: Traced) -> None:
    async def quick(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    with meter_on(traced) as meter:
        app = outside(StarletteMiddleware)(quick, meter, traced.provider)
        for _ in range(2 * CHUNK + 10):
            asyncio.run(ask(app))
        meter.settle()
    ids = [figures(span)["frugal.reading_id"] for span in traced.named(SETTLED)]
    assert len(set(ids)) == len(ids) == 2 * CHUNK + 10


@pytest.mark.parametrize(("side", "stage"), [(outside, "closing"), (inside, "otel")])
def test_figures_that_cannot_be_written_are_counted_and_the_span_ends_all_the_same(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, side: Callable[[Any], Wrap], stage: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such figure")

    with meter_on(traced) as meter:
        monkeypatch.setattr(otel_names, "provisional", broken)
        app = side(StarletteMiddleware)(Starlette(routes=ROUTES), meter, traced.provider)
        assert asyncio.run(ask(app, "/page/1"))[0]["status"] == 200
        assert [span.name for span in traced.spans] == ["GET /page/{number}"]
        assert meter.errors == {stage: 1}


# -- the current trace


def test_the_current_trace_id_is_that_of_a_sampled_span(traced: Traced) -> None:
    assert current_trace_id() is None
    with traced.provider.get_tracer("tests").start_as_current_span("one") as span:
        assert current_trace_id() == f"{span.get_span_context().trace_id:032x}"
    with Traced(sampler=ALWAYS_OFF).provider.get_tracer("tests").start_as_current_span("none"):
        assert current_trace_id() is None


def test_without_opentelemetry_there_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert current_trace_id() is None
