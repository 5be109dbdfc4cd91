"""What metering costs, beside its peers: added CPU per request and per streamed chunk, interleaved in one run.

    python benchmarks/overhead.py [--rounds 15] [--requests 400]

Thread CPU time of the request's thread, and CPU of the whole process with settlement included, medians of the
differences to the bare application in the same round. Ratios are what counts: machines are shared and noisy.
Needs prometheus-fastapi-instrumentator and starlette_exporter beside the package; absent ones are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.testing import SyntheticSource

CHUNKS = 200


async def ok(request):
    return PlainTextResponse("ok")


async def stream(request):
    async def chunks():
        for _ in range(CHUNKS):
            yield b"data: x\n\n"

    return StreamingResponse(chunks())


async def stream_resuming(request):
    async def chunks():
        for _ in range(CHUNKS):
            await asyncio.sleep(0)
            yield b"data: x\n\n"

    return StreamingResponse(chunks())


def bare(extra_routes: int = 0) -> Starlette:
    more = [Route(f"/r{i}", ok) for i in range(extra_routes)]
    return Starlette(routes=[*more, Route("/", ok), Route("/stream", stream), Route("/resume", stream_resuming)])


def ours(extra_routes: int = 0) -> tuple[Starlette, Meter]:
    app = bare(extra_routes)
    meter = Meter(
        "bench",
        zone="FR",
        sources=[SyntheticSource(10, 20), SyntheticSource(3, 4, name="dram", component="dram")],
        budgets=[Budget("all", "1000 kWh", per="month")],
    )
    app.add_middleware(MeterMiddleware, meter=meter)
    return app, meter


def peers(extra_routes: int = 0) -> dict[str, Starlette]:
    found = {}
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_fastapi_instrumentator import Instrumentator

        app = bare(extra_routes)
        Instrumentator(registry=CollectorRegistry()).instrument(app)
        found["prometheus-fastapi-instrumentator"] = app
    except ImportError:
        pass
    try:
        from starlette_exporter import PrometheusMiddleware

        app = bare(extra_routes)
        app.add_middleware(PrometheusMiddleware)
        found["starlette_exporter"] = app
    except ImportError:
        pass
    return found


def scope(path: str) -> dict:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"t")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message):
    return None


async def run(app, path: str, count: int, settle: Callable[[], object] | None) -> tuple[float, float]:
    """(thread, process) CPU in µs per request."""
    await app(scope(path), receive, send)
    process, thread = time.process_time_ns(), time.thread_time_ns()
    for _ in range(count):
        await app(scope(path), receive, send)
    thread_us = (time.thread_time_ns() - thread) / 1e3 / count
    if settle is not None:
        await asyncio.to_thread(settle)
    return thread_us, (time.process_time_ns() - process) / 1e3 / count


async def compare(
    path: str, rounds: int, count: int, extra_routes: int, per: int = 1
) -> list[tuple[str, float, float, float, float]]:
    metered, meter = ours(extra_routes)
    apps = {"bare": bare(extra_routes), "frugal_meter": metered, **peers(extra_routes)}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in apps}
    with meter:
        for _ in range(rounds):
            order = list(apps)
            random.shuffle(order)
            for name in order:
                seen[name].append(await run(apps[name], path, count, meter.settle if name == "frugal_meter" else None))
    rows = []
    reference = "prometheus-fastapi-instrumentator" if "prometheus-fastapi-instrumentator" in apps else "frugal_meter"
    added = {
        name: [
            tuple((a - b) / per for a, b in zip(each, base, strict=True))
            for each, base in zip(seen[name], seen["bare"], strict=True)
        ]
        for name in apps
        if name != "bare"
    }
    for name, differences in added.items():
        thread, process = (statistics.median(d[i] for d in differences) for i in (0, 1))
        ratios = [statistics.median(d[i] / r[i] for d, r in zip(differences, added[reference], strict=True)) for i in (0, 1)]
        rows.append((name, thread, process, *ratios))
    rows.append(
        (
            "bare",
            statistics.median(t for t, _ in seen["bare"]) / per,
            statistics.median(p for _, p in seen["bare"]) / per,
            0.0,
            0.0,
        )
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    options = parser.parse_args()
    factory = None
    if options.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    cases = [
        ("Starlette ok", "/", 0, 1),
        ("ok behind 100 routes", "/", 100, 1),
        ("chunk, never suspends", "/stream", 0, CHUNKS),
        ("chunk, suspends each time", "/resume", 0, CHUNKS),
    ]
    random.seed(1)
    with asyncio.Runner(loop_factory=factory) as runner:
        for title, path, extra, per in cases:
            count = options.requests if per == 1 else max(3, options.requests // 40)
            print(f"\n{title} ({options.loop}, {options.rounds} rounds of {count})")
            print(f"  {'':36}{'thread µs':>11}{'process µs':>12}{'× PFI thr':>11}{'× PFI proc':>11}")
            for name, thread, process, r_thread, r_process in runner.run(compare(path, options.rounds, count, extra, per)):
                label = name if name == "bare" else f"+ {name}"
                ratio = "" if name == "bare" else f"{r_thread:11.3f}{r_process:11.3f}"
                print(f"  {label:36}{thread:11.2f}{process:12.2f}{ratio}")


if __name__ == "__main__":
    main()
