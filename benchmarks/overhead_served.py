"""What metering costs behind a real uvicorn, and what a neighbour feels while 5,000 spans settle; used by overhead.py.

Servers run in processes of their own, one per application, and are asked in turn over kept-alive connections. Their CPU
is that of all their threads (``/proc/PID/task/*/schedstat``), with a tick's settlement and its idle wake-ups included.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

CONNECTIONS = 8
SPANS = 5_000
TICK_S = 0.5
_READY = "ready"


def serve(app: Starlette, port: int) -> None:
    """Answer on ``port`` until killed; says when it is ready."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets=None) -> None:
            await super().startup(sockets)
            print(_READY, flush=True)

    Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", access_log=False, timeout_keep_alive=600)).run()


def with_settlement(app: Starlette, meter) -> Starlette:
    """``app`` with a way to finish 5,000 spans at once, and one to settle them on the meter's own thread."""

    async def fill(request):
        for _ in range(SPANS):
            scope = {"type": "http", "method": "GET", "path": "/", "route": route}
            meter.close_span(meter.open_request("http", scope, app))
        return PlainTextResponse("filled")

    async def settle(request):
        await asyncio.to_thread(meter.settle)
        return PlainTextResponse("settled")

    route = app.routes[0]
    app.routes.extend([Route("/fill", fill), Route("/settle", settle)])
    return app


class Connection:
    """One kept-alive HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, path: str = "/") -> float:
        """GET ``path``; returns the seconds that it took."""
        begun = time.perf_counter()
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: t\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        return time.perf_counter() - begun


@contextlib.asynccontextmanager
async def server(name: str) -> AsyncIterator[tuple[int, list[Connection]]]:
    """The application ``name`` of overhead.py in a process of its own: its pid, and connections to it."""
    with socket.create_server(("127.0.0.1", 0)) as spare:
        port = spare.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("overhead.py")), "--serve", name, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert (await asyncio.to_thread(process.stdout.readline)).strip() == _READY
        yield process.pid, [Connection(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    finally:
        process.kill()
        process.wait()


def threads_cpu_us(pid: int) -> float:
    """CPU of every live thread of ``pid`` so far, µs."""
    return sum(int(f.read_text().split()[0]) for f in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e3


async def _round(pid: int, connections: list[Connection], count: int) -> float:
    before = threads_cpu_us(pid)

    async def some(connection: Connection) -> None:
        for _ in range(count // CONNECTIONS):
            await connection.ask()

    await asyncio.gather(*map(some, connections))
    await asyncio.sleep(1.5 * TICK_S)  # the last requests settle on a tick, and that is ours to pay
    return (threads_cpu_us(pid) - before) / (count // CONNECTIONS * CONNECTIONS)


async def cpu_per_request(names: list[str], rounds: int, count: int) -> dict[str, list[float]]:
    """Server CPU per request in µs, per application and round, interleaved."""
    async with contextlib.AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(server(name)) for name in names}
        for each in servers.values():
            await _round(*each, count)
        seen: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in random.sample(names, len(names)):
                seen[name].append(await _round(*servers[name], count))
    return seen


async def neighbour(rounds: int) -> dict[str, list[float]]:
    """Latencies in ms of a request beside an idle meter, and beside one that settles 5,000 spans."""
    seen: dict[str, list[float]] = {"idle": [], "settling": []}
    async with server("settling") as (_, (one, two, *_)):
        await one.ask()
        for _ in range(rounds):
            seen["idle"] += [await one.ask() * 1e3 for _ in range(100)]
            await two.ask("/fill")
            settling = asyncio.create_task(two.ask("/settle"))
            await asyncio.sleep(0)
            while not settling.done():
                seen["settling"].append(await one.ask() * 1e3)
    return seen


def quantiles(values: list[float]) -> tuple[float, float, float]:
    """p50, p90 and p99."""
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[89], cuts[98]
