"""Several workers behind one port, real servers: any of them tells the whole service's figures, also of those that died."""

from __future__ import annotations

import contextlib
import http.client
import itertools
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
from worker_process import IDLE_WATTS

HERE = Path(__file__).parent
WORKERS = 4
#: a source's energy is booked to these, and to nothing else
BOOKED = ("frugal_energy_joules_total", "frugal_unattributed_energy_joules_total", "frugal_in_progress_energy_joules")


def a_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def command(server: str, port: int) -> list[str]:
    """How a server is started with several workers."""
    several = {
        "uvicorn": f"--workers {WORKERS} --port {port} --log-level warning",
        "gunicorn": f"-w {WORKERS} -b 127.0.0.1:{port} --log-level critical -k uvicorn_worker.UvicornWorker",
        "granian": f"--interface asgi --workers {WORKERS} --port {port} --log-level critical --respawn-failed-workers "
        "--respawn-interval 0.1",
    }
    return [sys.executable, "-m", server, "served_app:app", *several[server].split()]


class Service:
    """A server with its workers, from the first answer to the last."""

    def __init__(self, server: str, folder: Path) -> None:
        self.port = a_port()
        self.server = server
        self.begun, self.told = time.monotonic(), 0
        env = {**os.environ, "FRUGAL_RUN_DIR": str(folder), "PYTHONPATH": f"{HERE}:{HERE.parent}"}
        self.process = subprocess.Popen(command(server, self.port), cwd=HERE, env=env, start_new_session=True)
        try:
            self.until(lambda: len(self.workers()) == WORKERS)
        except BaseException:
            self.stop()
            raise

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
                self.told += 1
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
        self.cut = 0
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
                with self._lock:
                    self.cut += 1
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


def counted(service: Service) -> float:
    """Requests that are counted, but for scrapes; with those of dead workers whose route nobody knows any more."""
    requests = service.samples()["frugal_requests_total"]
    return sum(n for key, n in requests.items() if dict(key)["route"] != "/frugal/metrics")


@pytest.mark.parametrize("service", ["uvicorn", "gunicorn", "granian"], indirect=True)
def test_any_worker_tells_every_request_that_was_answered_also_by_workers_that_were_killed(service: Service) -> None:
    load = Load(service, 8, 60)
    service.until(lambda: load.answered > 100)
    for _ in range(2):
        with pytest.raises((OSError, http.client.HTTPException)):
            service.get("/die")  # killed between two requests of its own: what it has answered is answered
    load.wait()
    service.until(lambda: len(service.workers()) == WORKERS and service.total("frugal_workers") == WORKERS)
    answered = load.answered + service.told
    service.until(lambda: counted(service) >= answered)
    told = {counted(service) for _ in range(3 * WORKERS)}
    assert len(told) == 1, "every worker tells the same"
    # granian hands an answer to threads of its own: one that Python has given may die on its way to the client.
    assert told <= set(range(answered, answered + (load.cut if service.server == "granian" else 0) + 1))
    assert len(load.by_worker) > 1


def page_shows_the_sums_of_all_workers(service: Service) -> None:
    """Whichever worker draws it: what it shows lies between what /metrics told before and after, also of who has been killed."""

    def told() -> tuple[float, float]:
        samples = service.samples()
        unattributed = samples["frugal_unattributed_energy_joules_total"]
        host = sum(samples["frugal_host_energy_joules_total"].values())
        return host, sum(joules for key, joules in unattributed.items() if dict(key)["reason"] == "overhead")

    began = set()
    for _ in range(2 * WORKERS):
        before, page, after = told(), json.loads(service.get("/frugal/data.json")[1])["state"], told()
        shown = sum(page["buckets_j"].values()), page["buckets_j"]["overhead"]
        for least, here, most in zip(before, shown, after, strict=True):
            assert least - 1e-6 <= here <= most + 1e-6
        assert (page["workers"], page["off_nj"]) == (WORKERS, 0)
        began.add(page["since"])
    assert len(began) == 1, "since the first worker began, whoever answers"


@pytest.mark.parametrize("service", ["uvicorn"], indirect=True)
def test_joules_of_all_workers_sum_to_those_of_the_host_also_when_one_was_killed(service: Service, tmp_path: Path) -> None:
    load = Load(service, 4, 50)
    service.until(lambda: load.answered > 50)
    with pytest.raises((OSError, http.client.HTTPException)):
        service.get("/die")
    load.wait()
    service.until(lambda: service.total("frugal_workers") == WORKERS)
    # Until its server has taken note of the death, the dead worker counts, and then for a moment one is missing.
    service.until(lambda: f"with the service’s {WORKERS} processes" in service.get("/frugal/?lang=en")[1].decode())
    seen = [service.samples() for _ in range(2 * WORKERS)]
    for one, after in itertools.pairwise(seen):
        booked = [sum(one[name].values()) for name in BOOKED]
        assert sum(booked) == pytest.approx(sum(one["frugal_host_energy_joules_total"].values()), abs=2e-9)
        assert min(*booked, *one["frugal_unattributed_energy_joules_total"].values()) >= 0
        assert sum(one["frugal_books_difference_joules"].values()) == 0
        for name in (*BOOKED[:2], "frugal_host_energy_joules_total", "frugal_cpu_seconds_total"):
            assert all(after[name][key] >= value for key, value in one[name].items()), "a counter never falls"
    page_shows_the_sums_of_all_workers(service)
    # The host once: idle watts times wall time, not four times that.
    idle = service.total("frugal_unattributed_energy_joules_total", reason="idle")
    assert idle <= IDLE_WATTS * (time.monotonic() - service.begun)


@pytest.mark.parametrize("service", ["uvicorn"], indirect=True)
def test_workers_that_died_leave_one_file_behind_and_a_service_that_is_started_anew_begins_at_0(
    service: Service, tmp_path: Path
) -> None:
    for _ in range(3):
        with pytest.raises((OSError, http.client.HTTPException)):
            service.get("/die")
    service.until(lambda: len(service.workers()) == WORKERS and service.total("frugal_workers") == WORKERS)
    (folder,) = (tmp_path / "run").glob("sums-*")
    assert sorted(path.suffix for path in folder.iterdir() if not path.name.endswith(".new")) == sorted(
        ["", "", *[".count", ".sums"] * WORKERS]
    )
    before = service.total("frugal_requests_total")
    service.stop()
    again = Service("uvicorn", tmp_path / "run")
    try:
        assert again.total("frugal_requests_total") < before
        assert again.total("frugal_requests_total", outcome="lost") == 0
        assert [path for path in (tmp_path / "run").glob("sums-*") if path != folder] == list((tmp_path / "run").glob("sums-*"))
    finally:
        again.stop()
