"""The service that dashboards are held against: several metered workers, each of which writes down what it knows to be true."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from frugal_meter import Budget, Meter, MeterMiddleware, Reading, Tick
from frugal_meter.carbon.embodied import Embodied
from frugal_meter.records import Interval, RemoteCall, Tier
from frugal_meter.sources import Sample, Window

TRUTH = Path(os.environ["TRUTH"])


def note(kind: str, lines: Sequence[dict[str, Any]]) -> None:
    """Append to this worker's own file: what is written outlives it."""
    with (TRUTH / f"{kind}-{os.getpid()}.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


class HostPart:
    """A part of the host with idle watts and joules per CPU-second; says aside what it said, and when."""

    scope, sensor, resolution_nj = "host", "synthetic", 1
    method, provenance = "synthetic/1", "synthetic"

    def __init__(self, name: str, component: str, tier: Tier, idle_watts: float, watts_per_cpu: float) -> None:
        self.name, self.component, self.tier, self.covers = name, component, tier, (name,)
        self._idle, self._per_cpu = idle_watts, watts_per_cpu

    def watts(self, cpus: float) -> Interval:
        return Interval(*[self._idle + self._per_cpu * cpus] * 3)

    def read(self, window: Window) -> Sample:
        idle = round(self._idle * (window.t1_ns - window.t0_ns))
        energy = idle + round(self._per_cpu * (window.host_busy_ns or 0))
        note("source", [{"component": self.component, "unix_s": time.time(), "idle_nj": idle, "energy_nj": energy}])
        return Sample(energy, energy, energy, idle)

    def close(self) -> None:
        pass


class Writing:
    """An exporter that writes readings down on the meter's own thread."""

    inline = True

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        fields = (
            *("route", "model_served", "outcome", "status", "wall_s", "cpu_s", "tokens_in", "tokens_out", "units", "quality"),
            *("parent", "started_at", "energy_dynamic_j", "energy_full_j", "inclusive_energy_full_j", "carbon_g"),
        )
        note("reading", [{name: getattr(reading, name) for name in fields} for reading in readings])
        made = [(r.started_at, call) for r in readings if r.parent is None for call in r.remote]
        note("call", [{"started_at": at, "model": c.model, "tier": c.tier, **figures(c)} for at, c in made])


def figures(call: RemoteCall) -> dict[str, float | None]:
    """Joules and grams of a call elsewhere."""
    return {"j": call.energy_j and call.energy_j.mid, "g": call.carbon_g and call.carbon_g.mid}


meter = Meter(
    "kit",
    zone="FR",
    pue=1.2,
    embodied=Embodied.declared(1500, 4, source="a made-up server"),
    sources=[HostPart("cpu", "cpu", "measured", 2.0, 10.0), HostPart("dram", "dram", "modelled", 1.0, 2.0)],
    tick=0.1,
    exporters=[Writing()],
    budgets=[
        Budget("joules", "400 J", per="month", key="route", match="/ask", degrade_at=None, warn_at=1.0),
        Budget("few", "1 requests", per="month", match="/few", degrade_at=None, warn_at=1.0),
        Budget("watch", "1 requests", per="month", match="/ask", degrade_at=None, warn_at=1.0, enforce=False),
    ],
)
#: route → model, work, tokens in and out, quality: what one request is
TASKS = {
    "/ask": ("small", 600_000, 30, 10, 0.5),
    "/search": ("tfidf", 1_000_000, 12, 4, 1.0),
    "/few": ("large", 300_000, 20, 40, 0.75),
}
_began_cpu_s = 0.0


def answering(path: str) -> Route:
    """A route whose work a declared model does: its series are there at 0 before anybody asks."""
    model, size, tokens_in, tokens_out, quality = TASKS[path]

    @meter.measure(model=model, unit="answer")
    async def answer() -> str:
        span = meter.current()
        assert span is not None
        span.add_tokens(input=tokens_in, output=tokens_out)
        span.add_units(2)
        span.quality(quality, metric="exact")
        return str(sum(range(size)))

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await answer())

    return Route(path, endpoint)


#: what the metered callee of /away says that a call cost it
CALLEE_J, CALLEE_G = 7.5, 0.25
_told = {"energy_j": dict.fromkeys(("low", "mid", "high"), CALLEE_J), "carbon_g": dict.fromkeys(("low", "mid", "high"), CALLEE_G)}
REPLY = {"usage": {"prompt_tokens": 20, "completion_tokens": 60}}
METERED = {"usage": {"prompt_tokens": 20, "completion_tokens": 60, "frugal": {**_told, "tier": "measured", "method_id": "m/1"}}}


@meter.remote(model="mistral-small-latest", provider="mistralai", zone="FRA")
async def sourced() -> dict[str, Any]:
    return REPLY


@meter.remote(model="ours", provider="next-door", metered=True)
async def metered() -> dict[str, Any]:
    return METERED


@meter.remote(model="nobody-knows", provider="next-door")
async def unknown() -> dict[str, Any]:
    return REPLY


async def away(request: Request) -> PlainTextResponse:
    """Two models elsewhere, one of them metered there; and a third, that nobody knows of, once in three."""
    await sourced()
    await metered()
    if request.query_params.get("third"):
        await unknown()
    return PlainTextResponse("from elsewhere")


async def who(request: Request) -> JSONResponse:
    """This worker's own clocks: its process's since it began to serve, and its meter's tick thread's."""
    ticking = [each.ident for each in threading.enumerate() if each.name == "frugal-meter-tick" and each.ident]
    clocks = [time.pthread_getcpuclockid(ident) for ident in ticking]
    own = sum(time.clock_gettime(clock) for clock in clocks)
    cpu_s = time.process_time() - _began_cpu_s
    return JSONResponse({"pid": os.getpid(), "errors": meter.errors, "cpu_s": cpu_s, "meter_cpu_s": own})


async def die(request: Request) -> PlainTextResponse:
    os.kill(os.getpid(), signal.SIGKILL)
    return PlainTextResponse("never said")


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    global _began_cpu_s
    _began_cpu_s = time.process_time()
    yield


routes = [answering(path) for path in TASKS]
app = Starlette(
    lifespan=lifespan,
    routes=[*routes, Route("/away", away), Route("/who", who), Route("/die", die), Mount("/frugal", meter.ops_app(public=True))],
)
app.add_middleware(MeterMiddleware, meter=meter)
