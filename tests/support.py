"""What the tests of the core share: CPU burned by a known amount, meters of known truth, an ASGI client, a real server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvloop

from frugal_meter import Meter
from frugal_meter.records import Tick
from frugal_meter.testing import RecordingExporter, SyntheticSource

Message = MutableMapping[str, Any]
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
App = Callable[..., Awaitable[None]]
WATTS_PER_CPU = 10.0
#: how long a test waits for another thread before it fails; never reached by a test that passes
PATIENCE_S = 20.0


def burn(seconds: float) -> float:
    """Use ``seconds`` of the calling thread's own CPU, whatever else the machine does; returns what was used."""
    begun = time.thread_time()
    while (used := time.thread_time() - begun) < seconds:
        pass
    return used


def about(seconds: float, true: float, *, slack: float = 0.003) -> bool:
    """Whether a charge is ``true`` CPU seconds and little more: the code around a burn is charged too.

    A running stretch may be billed up to 0.1 ms short (made up for by the next tick), hence the millisecond below.
    """
    return true - 0.001 <= seconds <= true * 1.3 + slack


@contextlib.contextmanager
def metered(*, idle_watts: float = 2.0, sources: Any = None, **settings: Any) -> Iterator[tuple[Meter, RecordingExporter]]:
    """A running meter over a source whose truth is known; it ticks only when asked (its period is a minute)."""
    out = RecordingExporter()
    source = SyntheticSource(idle_watts, WATTS_PER_CPU) if sources is None else sources
    settings = {"zone": "FR", "tick": 60, "exporters": [out], **settings}
    with Meter("tests", sources=source, **settings) as meter:
        meter.settle()
        yield meter, out


def assert_books_close(ticks: list[Tick]) -> None:
    """Every nanojoule of every tick is booked once, and nothing is negative."""
    for tick in ticks:
        requests = sum(tick.requests_nj.values())
        booked = tick.idle_nj + requests + tick.late_nj + tick.overhead_nj + tick.other_nj + tick.gap_nj
        assert booked == tick.energy_nj
        assert sum(tick.overhead_parts.values()) == tick.overhead_nj
        assert sum(tick.idle_requests_nj.values()) <= tick.idle_nj
        buckets = [tick.energy_nj, tick.idle_nj, tick.late_nj, tick.overhead_nj, tick.other_nj, tick.gap_nj]
        shares = [*tick.requests_nj.values(), *tick.idle_requests_nj.values(), *tick.overhead_parts.values()]
        assert all(type(nj) is int and nj >= 0 for nj in buckets + shares)


def scope(path: str = "/", *, kind: str = "http", spec: str = "2.4", **more: Any) -> dict[str, Any]:
    """The ASGI scope of a request that a server would build."""
    base = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": spec},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 40_000),
        "server": ("127.0.0.1", 80),
        "extensions": {},
    }
    base |= {"method": "GET", "scheme": "http"} if kind == "http" else {"subprotocols": [], "scheme": "ws"}
    return base | more


async def ask(app: App, path: str = "/", *, messages: list[Message] | None = None, **more: Any) -> list[Message]:
    """Call ``app`` as a server would, with ``messages`` to receive (then silence); returns what it sent."""
    incoming = [{"type": "http.request", "body": b"", "more_body": False}] if messages is None else list(messages)
    sent: list[Message] = []

    async def receive() -> Message:
        if incoming:
            return incoming.pop(0)
        return await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope(path, **more), receive, send)
    return sent


async def answer(send: Callable[[Message], Awaitable[None]], body: bytes = b"ok", *, status: int = 200) -> None:
    """A whole response."""
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(app: App, *, loop: str = "asyncio", ws: str = "auto") -> AsyncIterator[int]:
    """``app`` behind a real uvicorn on a spare loopback port, on a thread of its own; gives the port."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    server = Server(uvicorn.Config(app, log_level="critical", loop=loop, ws=ws, access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        assert await asyncio.to_thread(ready.wait, PATIENCE_S)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join, PATIENCE_S)
        listener.close()
        assert not thread.is_alive()
