"""What a scrape costs: 100 routes served by 4 workers of one uvicorn, beside prometheus-fastapi-instrumentator in
prometheus_client's multiprocess mode. Wall time of a scrape, its size, and the same after workers were killed.

    python benchmarks/scrape.py [--routes 100] [--workers 4] [--killed 12] [--scrapes 15]

Both servers stand in the same run and are scraped in turn, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve()
PATIENCE_S = 60.0
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def ours():
    """The application behind the meter."""
    from frugal_meter import Meter, MeterMiddleware
    from frugal_meter.testing import SyntheticSource

    app, meter = _application(), Meter("scrape", zone="FR", sources=[SyntheticSource(5, 10), SyntheticSource(1, 2, name="dram")])
    app.add_middleware(MeterMiddleware, meter=meter)
    app.mount("/frugal", meter.ops_app())
    return app


def theirs():
    """The application behind prometheus-fastapi-instrumentator, at its defaults."""
    from prometheus_fastapi_instrumentator import Instrumentator

    app = _application()
    Instrumentator().instrument(app).expose(app, endpoint="/frugal/metrics")
    return app


def _application():
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None)

    async def answer():
        return {"pid": os.getpid()}

    for number in range(int(os.environ["BENCH_ROUTES"])):
        app.get(f"/route-{number}/{{name}}")(answer)
    return app


class Scrape(NamedTuple):
    """One scrape: seconds, bytes, samples."""

    seconds: float
    size: int
    samples: int


class Server:
    """An application on several workers."""

    def __init__(self, name: str, workers: int, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as spare:
            self.port = spare.getsockname()[1]
        self.name, self.workers = name, workers
        command = ["uvicorn", f"scrape:{name}", "--factory", "--workers", str(workers), "--port", str(self.port)]
        env = {**os.environ, "FRUGAL_RUN_DIR": str(folder / "run"), "PYTHONPATH": f"{HERE.parent}:{HERE.parent.parent}"}
        if name == "theirs":
            env["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "theirs")
            (folder / "theirs").mkdir()
        self.process = subprocess.Popen([sys.executable, "-m", *command, "--log-level", "critical", "--no-access-log"], env=env)

    def get(self, path: str, accept: str = "") -> bytes:
        """GET on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"accept": accept})
            return connection.getresponse().read()

    def pids(self) -> set[int]:
        """Workers that answer now."""
        found = set()
        for _ in range(8 * self.workers):
            with contextlib.suppress(OSError, http.client.HTTPException):
                found.add(json.loads(self.get("/route-0/x"))["pid"])
        return found

    def warm(self, routes: int) -> None:
        """Wait for all workers, and ask each for every route."""
        until(lambda: len(self.pids()) >= self.workers)
        seen: dict[int, set[int]] = {number: set() for number in range(routes)}
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and any(len(pids) < self.workers for pids in seen.values()):
            for number, pids in seen.items():
                if len(pids) < self.workers:
                    pids.add(json.loads(self.get(f"/route-{number}/x"))["pid"])

    def kill(self) -> None:
        """Kill one worker and wait for the next."""
        before = self.pids()
        os.kill(min(before), signal.SIGKILL)
        until(lambda: len(self.pids() - {min(before)}) >= self.workers)

    def scrape(self, accept: str = "") -> Scrape:
        """One scrape, timed by the client."""
        begun = time.perf_counter()
        body = self.get("/frugal/metrics", accept)
        lines = body.decode().splitlines()
        return Scrape(time.perf_counter() - begun, len(body), sum(not line.startswith("#") for line in lines))

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE_S)


def until(true: Callable[[], bool]) -> None:
    """Wait for ``true``."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the servers were not ready in time")
        time.sleep(0.1)


def rows(servers: list[Server], scrapes: int, when: str) -> Iterator[str]:
    """A line of figures for each server and format, scraped in turn."""
    for accept, format_ in (("", "text"), (OPENMETRICS, "OpenMetrics")):
        taken: dict[str, list[Scrape]] = {server.name: [] for server in servers}
        for _ in range(scrapes):
            for server in servers:
                taken[server.name].append(server.scrape(accept))
        for name, each in taken.items():
            ms = [scrape.seconds * 1e3 for scrape in each]
            low, high = min(ms), max(ms)
            yield (
                f"{when:24} {name:8} {format_:12} {statistics.median(ms):8.1f} ms  ({low:.1f} … {high:.1f})"
                f" {each[-1].size / 1024:8.0f} KiB {each[-1].samples:7d} samples"
                f" {statistics.median(ms) * 1e3 / each[-1].samples:6.1f} µs a sample"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("routes", 100), ("workers", 4), ("killed", 12), ("scrapes", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    os.environ["BENCH_ROUTES"] = str(given.routes)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/run", 0o700)
        servers: list[Server] = []
        try:
            servers += [Server(name, given.workers, Path(folder)) for name in ("ours", "theirs")]
            for server in servers:
                server.warm(given.routes)
            print(f"{given.routes} routes, {given.workers} workers; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
            print(*rows(servers, given.scrapes, "all workers alive"), sep="\n", flush=True)
            for _ in range(given.killed):
                for server in servers:
                    server.kill()
            print(*rows(servers, given.scrapes, f"after {given.killed} were killed"), sep="\n")
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    main()
