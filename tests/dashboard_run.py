"""One run that dashboards are held against: a real server's workers under load, one of them killed, scraped by Prometheus."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from real_prometheus import Prometheus, a_port, prometheus
from support import PATIENCE_S

HERE = Path(__file__).parent
WORKERS = 3
#: requests of each route, before and after a worker is killed
ASKED = {"/ask": (150, 120), "/search": (90, 70), "/few": (60, 60), "/away": (40, 20), "/away?third=1": (20, 10)}
#: asked before the first scrape that counts: budgets tell of a key once it has spent, and one is to be spent from the
#: start; nobody knows before a callee has told a figure of which tier it will be
WARM = ("/ask", "/few", "/away?third=1")
SETTINGS = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - {{job_name: kit, metrics_path: /frugal/metrics, static_configs: [{{targets: ["{target}"]}}]}}
  # the same service under another name: a query that forgets to choose a service counts it twice
  - {{job_name: other, scrape_interval: 3s, metrics_path: /frugal/metrics, static_configs: [{{targets: ["{target}"]}}]}}
"""


class Run:
    """What was asked, and what Prometheus has of it, between two scrapes at rest: ``begun_s`` and ``ended_s`` (Unix time)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, a_port()
        self.target = f"127.0.0.1:{self.port}"
        self.answers: dict[tuple[str, int], int] = {}
        self.clocks: dict[int, tuple[float, float]] = {}
        self.began_clocks: dict[int, tuple[float, float]] = {}
        self.begun_s = self.ended_s = 0.0
        self.warmed = 0
        self.server: Prometheus
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "uvicorn",
                "dashboard_app:app",
                "--log-level",
                "warning",
                "--workers",
                str(WORKERS),
                "--port",
                str(self.port),
            ],
            cwd=HERE,
            env={**os.environ, "FRUGAL_RUN_DIR": str(folder), "TRUTH": str(folder), "PYTHONPATH": f"{HERE}:{HERE.parent}"},
            start_new_session=True,
        )

    def get(self, path: str) -> tuple[int, bytes]:
        """One request on a connection of its own, so that any worker may answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def meet(self) -> int:
        """Ask every worker for its clocks; returns how many there are."""
        found: set[int] = set()
        for _ in range(12 * WORKERS):
            with contextlib.suppress(OSError):
                told = json.loads(self.get("/who")[1])
                assert told["errors"] == {}
                found.add(told["pid"])
                self.clocks[told["pid"]] = (told["cpu_s"], told["meter_cpu_s"])
                if len(found) == WORKERS:
                    break
        return len(found)

    def until(self, true: Callable[[], Any]) -> None:
        """Wait for ``true``, bounded."""
        deadline = time.monotonic() + 3 * PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, "not in time"
            assert self.process.poll() is None, "the server ended"
            time.sleep(0.05)

    def load(self, half: int) -> None:
        """Ask one half of the requests, in turn."""
        for path, halves in ASKED.items():
            for _ in range(halves[half]):
                status = self.get(path)[0]
                self.answers[path, status] = self.answers.get((path, status), 0) + 1

    def kill_one(self) -> None:
        """A worker dies, as the out-of-memory killer would have it, and the server starts another."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.get("/die")
        self.until(lambda: self.meet() == WORKERS)

    def scraped(self, after_s: float) -> float:
        """The moment of the first scrape of the job that began after ``after_s``."""
        found: list[float] = []

        def there() -> bool:
            told = self.server.get("/api/v1/query", query='up{job="kit"}[30s]', time=time.time())["result"]
            found[:] = [float(at) for at, up in (told[0]["values"] if told else []) if float(at) > after_s and up == "1"]
            return bool(found)

        self.until(there)
        return found[0]

    def settled(self) -> float:
        """The moment of a scrape after which nothing of what was asked so far is still to be settled."""
        time_s = time.time()
        self.until(lambda: time.time() > time_s + 0.5)  # five ticks
        return self.scraped(time.time())

    def begin(self) -> float:
        """The moment of a scrape that begins the run: its worker knows what the warm-up spent, as it tells no other keys."""
        for path in WARM:
            self.get(path)
        found, asked = self.settled(), 1
        while not self.server.ask('frugal_budget_usage_ratio{job="kit", budget="joules", state="settled"}', found):
            assert asked < 20 * WORKERS, "the worker that Prometheus asks, on a connection that it keeps, never answered /ask"
            self.get("/ask")
            found, asked = self.settled(), asked + 1
        self.warmed = asked
        return found

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What workers wrote down: "reading" or "source"."""
        files = sorted(self.folder.glob(f"{kind}-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    @property
    def seconds(self) -> float:
        """From the first scrape to the last."""
        return self.ended_s - self.begun_s

    def stop(self) -> None:
        """End the server."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def a_run(folder: Path) -> Iterator[Run]:
    """The whole run; Prometheus still answers inside the block."""
    run = Run(folder)
    try:
        run.until(lambda: run.meet() == WORKERS)
        with prometheus(folder, SETTINGS.format(target=run.target)) as run.server:
            run.begun_s = run.begin()
            run.meet()
            run.began_clocks = dict(run.clocks)
            run.load(0)
            run.settled()
            run.meet()
            run.kill_one()
            run.load(1)
            run.ended_s = run.settled()
            run.meet()
            yield run
    finally:
        run.stop()
