"""Several workers behind one port, real servers: any of them tells the whole service's figures, also of those that died."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import PATIENCE_S

HERE = Path(__file__).parent
WORKERS = 4


def a_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def command(server: str, port: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        *{
            "uvicorn": ["uvicorn", "served_app:app", "--workers", str(WORKERS), "--port", str(port), "--log-level", "warning"],
            "gunicorn": ["gunicorn", "served_app:app", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}", "--log-level", "warning"]
            + ["-k", "uvicorn_worker.UvicornWorker"],
            "granian": ["granian", "served_app:app", "--interface", "asgi", "--workers", str(WORKERS), "--port", str(port)]
            + ["--log-level", "warning", "--respawn-failed-workers", "--respawn-interval", "0.1"],
        }[server],
    ]


class Service:
    """A server with its workers, from the first answer to the last."""

    def __init__(self, server: str, folder: Path) -> None:
        self.port = a_port()
        env = {**os.environ, "FRUGAL_RUN_DIR": str(folder), "PYTHONPATH": f"{HERE}:{HERE.parent}"}
        self.process = subprocess.Popen(command(server, self.port), cwd=HERE, env=env, start_new_session=True)
        self.until(lambda: len(self.workers()) == WORKERS)

    def get(self, path: str) -> tuple[int, bytes]:
        """One request on a connection of its own, so that any worker may answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def samples(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """The exposition of whichever worker answers: name → labels → value."""
        out: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(self.get("/frugal/metrics")[1].decode()):
            for sample in family.samples:
                out.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return out

    def total(self, name: str, **labels: str) -> float:
        return sum(v for key, v in self.samples().get(name, {}).items() if labels.items() <= dict(key).items())

    def workers(self) -> set[int]:
        """The processes that answer, as far as as many connections tell."""
        found = set()
        for _ in range(6 * WORKERS):
            with contextlib.suppress(OSError):
                told = json.loads(self.get("/who")[1])
                assert told["errors"] == {}
                found.add(told["pid"])
        return found

    def until(self, true: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 3 * PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, "not in time"
            assert self.process.poll() is None, "the server ended"
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE_S)


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    it = Service(request.param, run)
    yield it
    it.stop()


class Load:
    """Clients that ask again and again, each on a connection that it keeps, and count what they were answered."""

    def __init__(self, service: Service, clients: int, requests: int) -> None:
        self._service, self._requests = service, requests
        self._lock, self.answered = threading.Lock(), 0
        self.by_worker: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(clients)
        self._done = [self._pool.submit(self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=PATIENCE_S)
        for _ in range(self._requests):
            try:
                connection.request("GET", "/ask")
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()  # its worker died: the next request opens another
                continue
            with self._lock:
                self.answered += answer.status == 200
                worker = answer.headers["x-worker"]
                self.by_worker[worker] = self.by_worker.get(worker, 0) + 1
        connection.close()

    def wait(self) -> None:
        for each in self._done:
            each.result(3 * PATIENCE_S)
        self._pool.shutdown()


@pytest.mark.parametrize("service", ["uvicorn", "gunicorn", "granian"], indirect=True)
def test_any_worker_tells_every_request_that_was_answered_also_by_workers_that_were_killed(service: Service) -> None:
    load = Load(service, 8, 100)
    service.until(lambda: load.answered > 200)
    for _ in range(2):
        with pytest.raises((OSError, http.client.HTTPException)):
            service.get("/die")
    load.wait()

    def counted() -> float:
        requests = service.samples()["frugal_requests_total"]
        by = {dict(key)["route"] + dict(key)["outcome"]: 0.0 for key in requests}
        for key, n in requests.items():
            by[dict(key)["route"] + dict(key)["outcome"]] += n
        print(by, load.answered, load.by_worker)
        return sum(n for key, n in requests.items() if dict(key)["route"] == "/ask" or dict(key)["outcome"] == "lost")

    service.until(lambda: len(service.workers()) == WORKERS and service.total("frugal_workers") == WORKERS)
    counted()
    assert 0
