"""What metering costs, beside its peers: added CPU per request and per streamed chunk, interleaved in one run.

    python benchmarks/overhead.py [--rounds 15] [--requests 400] [--loop uvloop] [--in-process]

Thread CPU time of the request's thread, and CPU of the whole process with settlement included, medians of the
differences to the bare application in the same round; then the same behind a real uvicorn, and what a neighbour feels
while 5,000 spans settle. Ratios are what counts: machines are shared and noisy.
Needs prometheus-fastapi-instrumentator and starlette_exporter beside the package; absent ones are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import statistics
import time
from collections.abc import Callable

import overhead_served
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.testing import SyntheticSource

CHUNKS = 200
CHILDREN = 50
PFI = "prometheus-fastapi-instrumentator"
#: name, thread µs, process µs, and both as a multiple of what PFI adds
Row = tuple[str, float, float, float, float]
#: of the summary: what, measured, target
Line = tuple[str, str, str]


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


async def children(request):
    for _ in range(CHILDREN):
        await asyncio.create_task(asyncio.sleep(0))
    return PlainTextResponse("ok")


def bare(extra_routes: int = 0) -> Starlette:
    more = [Route(f"/r{i}", ok) for i in range(extra_routes)]
    paths = [("/", ok), ("/stream", stream), ("/resume", stream_resuming), ("/children", children)]
    return Starlette(routes=[*more, *[Route(path, endpoint) for path, endpoint in paths]])


def ours(extra_routes: int = 0, tick: float = 0.5) -> tuple[Starlette, Meter]:
    app = bare(extra_routes)
    meter = Meter(
        "bench",
        zone="FR",
        sources=[SyntheticSource(10, 20), SyntheticSource(3, 4, name="dram", component="dram")],
        budgets=[Budget("all", "1000 kWh", per="month")],
        tick=tick,
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
        found[PFI] = app
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


async def compare(path: str, rounds: int, count: int, extra_routes: int, per: int = 1) -> list[Row]:
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
    reference = PFI if PFI in apps else "frugal_meter"
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


CASES = [
    ("Starlette ok", "/", 0, 1),
    ("ok behind 100 routes", "/", 100, 1),
    ("chunk, never suspends", "/stream", 0, CHUNKS),
    ("chunk, suspends each time", "/resume", 0, CHUNKS),
    ("child task, resumed once", "/children", 0, CHILDREN),
]


def table(title: str, rows: list[Row]) -> None:
    print(f"\n{title}\n  {'':36}{'thread µs':>11}{'process µs':>12}{'× PFI thr':>11}{'× PFI proc':>11}")
    for name, thread, process, r_thread, r_process in rows:
        ratio = "" if name == "bare" else f"{r_thread:11.3f}{r_process:11.3f}"
        print(f"  {name if name == 'bare' else f'+ {name}':36}{thread:11.2f}{process:12.2f}{ratio}")


def served(seen: dict[str, list[float]], rounds: int, count: int) -> list[Line]:
    """What `overhead_served.cpu_per_request` measured; prints it, and returns lines of the summary."""
    many = overhead_served.CONNECTIONS
    print(f"\nbehind uvicorn, CPU of all threads of the server ({rounds} rounds of {count}, {many} connections)")
    added = {name: statistics.median(a - b for a, b in zip(seen[name], seen["bare"], strict=True)) for name in seen}
    added["bare"] = statistics.median(seen["bare"])
    for name, us in added.items():
        print(f"  {'' if name == 'bare' else '+ '}{name:34}{us:11.2f} µs")
    lines = [("behind uvicorn, whole process", f"+{added['frugal_meter']:.1f} µs", "")]
    if "pfi" in added:
        lines.append(("behind uvicorn, whole process, × PFI", f"{added['frugal_meter'] / added['pfi']:.2f}", "≤ 0.40"))
    return lines


def neighbour(latencies: dict[str, list[float]]) -> list[Line]:
    """What `overhead_served.neighbour` measured; prints it, and returns lines of the summary."""
    spans = overhead_served.SPANS
    figures = {name: overhead_served.quantiles(values) for name, values in latencies.items()}
    print(f"\na neighbour's latency, ms{'p50':>22}{'p90':>9}{'p99':>9}{'requests':>11}")
    for title, name in (("beside an idle meter", "idle"), (f"while {spans} spans settle", "settling")):
        print(f"  {title:36}" + "".join(f"{ms:9.2f}" for ms in figures[name]) + f"{len(latencies[name]):11}")
    ratios = [settling / idle for idle, settling in zip(figures["idle"], figures["settling"], strict=True)]
    return [
        (f"neighbour's {quantile} while {spans} settle, × idle", f"{ratio:.2f}", most)
        for quantile, ratio, most in zip(("p50", "p90", "p99"), ratios, ("≤ 2", "≤ 3", ""), strict=True)
    ]


def summary(results: dict[str, list[Row]], lines: list[Line]) -> None:
    """One table of what counts, beside the targets."""
    ours_of = {title: next(row for row in rows if row[0] == "frugal_meter") for title, rows in results.items()}
    out: list[Line] = []
    if PFI in peers():
        ok, routes = ours_of[CASES[0][0]], ours_of[CASES[1][0]]
        out = [
            ("request's thread, × PFI", f"{ok[3]:.2f}", "≤ 0.18"),
            ("whole process, × PFI", f"{ok[4]:.2f}", "≤ 0.30"),
            ("behind 100 routes, thread, × PFI", f"{routes[3]:.2f}", "≤ 0.18"),
        ]
    growth = ours_of[CASES[1][0]][1] - ours_of[CASES[0][0]][1]
    out.append(("added by 100 routes, thread", f"{growth:+.1f} µs", "0"))
    for (title, *_), most in zip(CASES[2:], ("≤ 1.0 µs", "≤ 4 µs", "≤ 9 µs"), strict=True):
        out.append((title, f"{ours_of[title][1]:.2f} µs", most))
    print(f"\n| {'added by frugal_meter':44} | {'measured':>9} | {'target':>8} |\n|{'-' * 46}|{'-' * 10}:|{'-' * 9}:|")
    for what, measured, target in [*out, *lines]:
        print(f"| {what:44} | {measured:>9} | {target:>8} |")


def serve(name: str, port: int) -> None:
    """One of the applications that `overhead_served` asks for."""
    if name == "bare":
        app = bare()
    elif name == "pfi":
        app = peers()[PFI]
    else:
        app, meter = ours(tick=60 if name == "settling" else overhead_served.TICK_S)
        if name == "settling":
            overhead_served.with_settlement(app, meter)
    overhead_served.serve(app, port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--in-process", action="store_true", help="leave out the servers: a minute less")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port)
        return
    factory = None
    if options.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    random.seed(1)
    results: dict[str, list[Row]] = {}
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} CPUs, Python {platform.python_version()}")
    with asyncio.Runner(loop_factory=factory) as runner:
        for title, path, extra, per in CASES:
            count = options.requests if per == 1 else max(3, options.requests // 40)
            results[title] = runner.run(compare(path, options.rounds, count, extra, per))
            table(f"{title} ({options.loop}, {options.rounds} rounds of {count})", results[title])
        lines: list[Line] = []
        if not options.in_process:
            names = ["bare", "frugal_meter", *(["pfi"] if PFI in peers() else [])]
            rounds, count = max(5, options.rounds // 2), 5 * options.requests
            lines += served(runner.run(overhead_served.cpu_per_request(names, rounds, count)), rounds, count)
            lines += neighbour(runner.run(overhead_served.neighbour(rounds)))
    summary(results, lines)


if __name__ == "__main__":
    main()
