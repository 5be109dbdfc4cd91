"""An application that several workers of a real server serve: metered, with a route that kills its worker."""

from __future__ import annotations

import os
import signal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from worker_process import HostPower

from frugal_meter import Meter, MeterMiddleware

meter = Meter("served", zone="FR", sources=[HostPower()], tick=0.1, embodied=None)


@meter.measure(model="small")
async def answer() -> str:
    return str(sum(range(20_000)))


async def ask(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await answer(), headers={"x-worker": str(os.getpid())})


async def who(request: Request) -> JSONResponse:
    return JSONResponse({"pid": os.getpid(), "errors": meter.errors})


async def die(request: Request) -> PlainTextResponse:
    """Die as the out-of-memory killer would have it: whatever this worker has answered, it has answered by now."""
    os.kill(os.getpid(), signal.SIGKILL)
    return PlainTextResponse("never said")


app = Starlette(routes=[Route("/ask", ask), Route("/who", who), Route("/die", die), Mount("/frugal", meter.ops_app(public=True))])
app.add_middleware(MeterMiddleware, meter=meter)
