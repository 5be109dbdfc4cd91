"""Is each request charged what it used? ``python benchmarks/attribution.py``; `make bench-attribution`.

First truth: joules that follow CPU time exactly, work that measures its own CPU; so whatever a request is wrong by is the
meter's doing. Beside it, on the same requests, what naive methods would have charged.
Second truth: joules that do *not* follow CPU time (kinds of work, a concave load curve, siblings on one core); so whatever the
energy is wrong by is the sharing key's, and the interval has to hold it.

Figures are medians over repetitions on a machine that others may use too; ratios are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import naive
from attribution_report import write
from groundtruth import WATTS, Job, Native, TruthSource, compiler, shapes
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from frugal_meter import Meter, MeterMiddleware
from frugal_meter.attribution.ledger import KEY_HIGH, KEY_LOW
from frugal_meter.calibration import bounds
from frugal_meter.cli.calibrating import measure as measure_kinds
from frugal_meter.sources.procfs import HostCpu
from frugal_meter.testing import RecordingExporter, SyntheticSource

MS = 1_000_000
#: name: (shapes, CPU of a light request in ns); a heavy one has ten times that
MIXES = {
    "loop": (("loop",), 4 * MS),
    "children": (("children",), 4 * MS),
    "threads": (("threads",), 4 * MS),
    "native short": (("native",), 3 * MS),
    "native long": (("native",), 30 * MS),
    "all": (("loop", "children", "threads", "native"), 6 * MS),
}
HEAVY = 10
LIGHT_NS = 4 * MS  # where the framework's part is measured
#: the first assumption, beside the default: half as wide, and true of kinds of work no more than × 1.55 apart
NARROWER = (0.67, 1.5)
KINDS = (0.6, 1.0, 1.5, 2.5)
#: P(n) ~ n^0.6: a concave load curve. SMT: two cores of two threads, whose siblings together give a quarter more than one
_CONCAVE = [1.0, *(n**-0.4 for n in range(1, 65))]
_SMT = [1.0, 1.0, 1.0, (1 + 2 * 0.625) / 3, 0.625]
WORLDS: dict[str, tuple[tuple[float, ...], list[float]]] = {
    "kinds": (KINDS, [1.0]),
    "concave curve": ((1.0,), _CONCAVE),
    "SMT siblings": ((1.0,), _SMT),
    "kinds, concave curve": (KINDS, _CONCAVE),
}
#: CPUs of the machine that each curve pretends
_CPUS = {id(_CONCAVE): 32, id(_SMT): 4}
METHOD = "frugal_meter"


class Metered(NamedTuple):
    """What naive methods saw, the books, and the process's CPU (ns)."""

    watch: naive.Watch
    out: RecordingExporter
    process_ns: int


def application(meter: Meter | None, native: Native | None) -> Starlette:
    """A service whose requests do the `Job` in their scope, metered by ``meter``."""
    does = shapes(native)

    async def work(request: Request) -> PlainTextResponse:
        job = request.scope["job"]
        job.span = None if meter is None else meter.current()
        await does[job.shape](job)
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/work", work)])
    if meter is not None:
        app.add_middleware(MeterMiddleware, meter=meter)
    return app


def framework_ns(native: Native | None) -> dict[str, float]:
    """CPU of a request beside its burns, by shape: the median of light requests, one at a time and without a meter.

    It is the request's own (routing, response, handing over to a thread and back) and so part of the truth. Empty requests
    would not tell it: a loop and threads that wait for some milliseconds go cold, and then use three to five times as much.
    """
    bare, found = application(None, native), {}

    async def light(shape: str) -> int:
        job, begun_ns = Job(shape, False, LIGHT_NS), time.process_time_ns()
        await bare(_scope(job), _receive, _send)
        return time.process_time_ns() - begun_ns - job.cpu_ns

    async def several(shape: str) -> list[int]:
        return [await light(shape) for _ in range(40)][5:]

    for shape in shapes(native):
        found[shape] = statistics.median(asyncio.run(several(shape)))
    return found


def jobs_of(names: Sequence[str], light_ns: int, count: int, rng: random.Random, kinds: Sequence[float] = (1.0,)) -> list[Job]:
    """``count`` jobs, a quarter of them heavy, every shape and kind as often as any other, in random order."""
    heavies = [place % 4 == 0 for place in range(count)]
    jobs = []
    for heavy in (True, False):
        same = sum(each is heavy for each in heavies)
        for place in range(same):
            ns = light_ns * (HEAVY if heavy else 1)
            jobs.append(Job(names[place % len(names)], heavy, ns, kinds[place // len(names) % len(kinds)]))
    rng.shuffle(jobs)
    return jobs


async def serve(app: Any, jobs: Sequence[Job], concurrency: int) -> None:
    """Do every job, ``concurrency`` at a time."""
    left: Iterator[Job] = iter(jobs)

    async def client() -> None:
        for job in left:
            await app(_scope(job), _receive, _send)

    await asyncio.gather(*(client() for _ in range(concurrency)))


def _scope(job: Job) -> dict[str, Any]:
    base = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET"}
    where = {"path": "/work", "raw_path": b"/work", "root_path": "", "scheme": "http", "query_string": b"", "headers": []}
    return {**base, **where, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "job": job}


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: dict[str, Any]) -> None:
    return None


def metered(source: Any, native: Native | None, jobs: Sequence[Job], concurrency: int) -> Metered:
    """Run ``jobs`` behind a meter as a service has it."""
    out = RecordingExporter()
    with Meter("bench", zone="FR", sources=[source], exporters=[out]) as meter:
        watch = naive.Watch(application(meter, native))
        asyncio.run(serve(watch, [Job("loop", False, 1000) for _ in range(8)], 2))
        meter.settle()
        out.ticks.clear()
        begun_ns, source.truth_nj = time.process_time_ns(), 0
        asyncio.run(serve(watch, jobs, concurrency))
        process_ns = time.process_time_ns() - begun_ns
        meter.settle()
    return Metered(watch, out, process_ns)


def first_truth(
    mix: str, concurrency: int, count: int, native: Native | None, rng: random.Random, beside_ns: dict[str, float]
) -> dict[str, Any]:
    """One run of a mix: the books, and each method's errors. ``beside_ns`` is the framework's part of the truth."""
    names, light_ns = MIXES[mix]
    jobs = jobs_of(names, light_ns, count, rng)
    source = SyntheticSource(idle_watts=5.0, watts_per_cpu=WATTS)
    watch, out, process_ns = metered(source, native, jobs, concurrency)
    for job in jobs:
        job.cpu_ns += round(beside_ns[job.shape])
    ours = [job.span.reading.energy_dynamic_j / WATTS * 1e9 for job in jobs]
    methods = {METHOD: ours, **watch.of(jobs, process_ns)}
    return {**books(out, source.truth_nj, jobs), "methods": {name: errors(jobs, ns, process_ns) for name, ns in methods.items()}}


def books(out: RecordingExporter, truth_nj: int, jobs: Sequence[Job]) -> dict[str, Any]:
    """What is lost or invented (nJ), on every tick, against the source and between spans and ticks; and the coverage."""
    off = requests = dynamic = told = 0
    for tick in out.ticks:
        booked = sum(tick.requests_nj.values())
        off += abs(tick.energy_nj - tick.idle_nj - booked - tick.late_nj - tick.overhead_nj - tick.other_nj - tick.gap_nj)
        requests, dynamic, told = requests + booked, dynamic + tick.energy_nj - tick.idle_nj, told + tick.energy_nj
    spans = sum(sum(job.span.account.sources_nj) for job in jobs)
    return {"off_nj": off + abs(told - truth_nj) + abs(requests - spans), "coverage": requests / dynamic, "ticks": len(out.ticks)}


def errors(jobs: Sequence[Job], charged_ns: Sequence[float], process_ns: int) -> dict[str, float]:
    """Per-request error (median, 95th percentile), heavy : light where the truth is 10, and the sum over the process's CPU."""
    wrong = sorted(abs(ns - job.cpu_ns) / job.cpu_ns for job, ns in zip(jobs, charged_ns, strict=True))
    ratio = 1.0
    for heavy, sign in ((True, 1), (False, -1)):
        chosen = [(ns, job.cpu_ns) for job, ns in zip(jobs, charged_ns, strict=True) if job.heavy is heavy]
        ratio *= (sum(ns for ns, _ in chosen) / sum(true for _, true in chosen)) ** sign
    return {
        "median": statistics.median(wrong),
        "p95": quantile(wrong, 0.95),
        "ratio": HEAVY * ratio,
        "sum": sum(charged_ns) / process_ns,
    }


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``ordered`` lies (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def second_truth(
    world: str, concurrency: int, count: int, native: Native, rng: random.Random, key: tuple[float, float]
) -> dict[str, Any]:
    """One run where joules do not follow CPU time: the energy's error, and how often the interval holds the truth.

    The interval of a meter with the calibration ``key`` is its charge times these bounds, since this source has no error.
    """
    kinds, curve = WORLDS[world]
    native.curve(curve)
    jobs = jobs_of(("kind",), 4 * MS, count, rng, kinds)
    source = TruthSource(native)
    out = metered(source, native, jobs, concurrency).out
    readings = [job.span.reading for job in jobs]
    ratios = sorted(job.nj * 1e-9 / reading.energy_dynamic_j for job, reading in zip(jobs, readings, strict=True))
    wrong = sorted(abs(1 / ratio - 1) for ratio in ratios)
    held = [r.energy_low_j <= job.nj * 1e-9 <= r.energy_high_j for job, r in zip(jobs, readings, strict=True)]
    return {
        "off_nj": books(out, source.truth_nj, jobs)["off_nj"],
        "median": statistics.median(wrong),
        "p95": quantile(wrong, 0.95),
        "inside": statistics.mean(held),
        "inside_calibrated": statistics.mean(key[0] <= ratio <= key[1] for ratio in ratios),
        "inside_narrower": statistics.mean(NARROWER[0] <= ratio <= NARROWER[1] for ratio in ratios),
        "calibrated_low": key[0],
        "calibrated_high": key[1],
        "needed_low": quantile(ratios, 0.05),
        "needed_high": quantile(ratios, 0.95),
    }


def calibrated(world: str, native: Native) -> tuple[float, float]:
    """The key that ``frugal-meter calibrate`` measures in this world: each kind on one thread, and one on every CPU."""
    kinds, curve = WORLDS[world]
    native.curve(curve)
    cpus = _CPUS.get(id(curve), 1)
    works = {f"kind {kind}": partial(_work, native, 1, kind) for kind in kinds} | {"every CPU": partial(_work, native, cpus, 1.0)}
    host = HostCpu()
    told = measure_kinds([TruthSource(native)], host, works, 0.0)
    host.close()
    return bounds(min(map(min, told.values())), max(map(max, told.values())))


def _work(native: Native, threads: int, kind: float, seconds: float) -> None:
    native.burn(threads, round(seconds * 1e9 / threads), kind)


def codecarbon(rng: random.Random) -> dict[str, float] | None:
    """codecarbon's per-request use on few, long requests (each starts a tracker); its joules taken as shares of the truth."""
    jobs = jobs_of(("loop",), 40 * MS, 8, rng)
    with Meter("bench", zone="FR", sources=[SyntheticSource(0.0, WATTS)]) as meter:
        told = naive.codecarbon_charges(application(meter, None), jobs, 8, serve)
    if told is None:
        return None
    joules, whole = told
    true_ns = sum(job.cpu_ns for job in jobs)
    return errors(jobs, [each * true_ns / whole for each in joules], true_ns)


def middle(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of every figure over ``runs``; what the books are off by is the worst of them."""
    first = runs[0]
    out = {key: middle([run[key] for run in runs]) for key in first if isinstance(first[key], dict)}
    out |= {key: statistics.median(run[key] for run in runs) for key in first if key not in out}
    return out | ({"off_nj": max(run["off_nj"] for run in runs)} if "off_nj" in first else {})


def measure(options: argparse.Namespace, native: Native | None) -> dict[str, Any]:
    """Every mix and world, as the report wants them."""
    rng, beside_ns = random.Random(options.seed), framework_ns(native)
    first: dict[str, dict[int, Any]] = {}
    for mix in options.mixes:
        if native is None and "native" in MIXES[mix][0]:
            print(f"{mix}: left out, there is no C compiler (cc) here", flush=True)
            continue
        count = max(8, options.requests // 2) if mix == "native long" else options.requests
        for concurrency in options.concurrency:
            runs = [first_truth(mix, concurrency, count, native, rng, beside_ns) for _ in range(options.repeats)]
            first.setdefault(mix, {})[concurrency] = middle(runs)
    second: dict[str, dict[int, Any]] = {}
    for world in options.worlds if native is not None else ():
        key = calibrated(world, native)
        for concurrency in options.concurrency:
            runs = [second_truth(world, concurrency, options.requests, native, rng, key) for _ in range(options.repeats)]
            second.setdefault(world, {})[concurrency] = middle(runs)
    return {
        "framework_ns": beside_ns,
        "first": first,
        "second": second,
        "codecarbon": codecarbon(rng) if options.codecarbon else None,
    }


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixes", nargs="*", choices=MIXES, default=list(MIXES))
    parser.add_argument("--worlds", nargs="*", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-codecarbon", dest="codecarbon", action="store_false")
    parser.add_argument("--out", type=Path, default=Path(".cache/bench-attribution"))
    options = parser.parse_args()
    begun, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Native(Path(folder)) if compiler() else None)
    settings = {"default": (KEY_LOW, KEY_HIGH), "narrower": NARROWER, "requests": options.requests, "repeats": options.repeats}
    found |= {**settings, "seconds": round(time.monotonic() - begun)}
    print(write(found, options.out, load_before=load))


if __name__ == "__main__":
    main()
