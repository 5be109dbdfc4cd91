"""Uvicorn in a thread of this process, and the notebook that keeps what the meter exports."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from frugal_meter.records import Reading, Tick

DEFAULT_PORT: Final = 8311
_PATIENCE_S: Final = 60.0


class Notebook:
    """An exporter that keeps every record until `close`: the demonstration's own book."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.ticks: list[Tick] = []
        self._open = True
        self._lock = threading.Lock()

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Called by the meter, in order, on a thread of its own."""
        with self._lock:
            if self._open:
                self.readings += readings
                self.ticks += ticks

    def close(self) -> None:
        """Keep no more: a service that stays up must not fill the memory."""
        with self._lock:
            self._open = False


class _Server(uvicorn.Server):
    """Says when it is ready, or that it has given up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            self.settled.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()


def listen(port: int) -> socket.socket:
    """A listening socket on the loopback; ``port`` 0 takes a spare one. Raises OSError when it is taken."""
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(("127.0.0.1", port))
    except OSError:
        door.close()
        raise
    return door


@contextmanager
def serving(app: ASGIApp, door: socket.socket) -> Iterator[str]:
    """The address of ``app``, served by uvicorn until the block ends; the client is elsewhere, so its CPU is not ours."""
    # Uvicorn writes some of its log to stdout, where --json prints one document and nothing else.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, args=([door],), name="uvicorn")
    thread.start()
    try:
        if not server.settled.wait(_PATIENCE_S) or not server.started:
            raise RuntimeError("the service did not start")
        yield "http://{}:{}".format(*door.getsockname())
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_S)
        door.close()
