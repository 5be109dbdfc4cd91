"""What others do instead, on the same requests: wall time, an equal split in flight, the process's CPU, codecarbon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from groundtruth import Job

Run = Callable[[Any, Sequence[Job], int], Awaitable[None]]


class Watch:
    """An ASGI application around another that notes what the naive methods would charge to each request, in CPU ns.

    wall: time from begin to end. in flight: the process's CPU, split evenly among the requests that are open. process: the
    process's CPU from a request's begin to its end, as per-request trackers read it.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._open, self._level, self._last_ns = 0, 0.0, time.process_time_ns()
        self.charged: dict[int, dict[str, float]] = {}

    def _advance(self) -> int:
        now_ns = time.process_time_ns()
        if self._open:
            self._level += (now_ns - self._last_ns) / self._open
        self._last_ns = now_ns
        return now_ns

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        begun_ns, cpu_ns = time.perf_counter_ns(), self._advance()
        level = self._level
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            ended_cpu_ns = self._advance()
            self._open -= 1
            self.charged[id(scope["job"])] = {
                "wall time": time.perf_counter_ns() - begun_ns,
                "equal split in flight": self._level - level,
                "process CPU delta": ended_cpu_ns - cpu_ns,
            }

    def of(self, jobs: Sequence[Job], process_ns: int) -> dict[str, list[float]]:
        """CPU ns that each method charges to each job; wall time is a share of the process's CPU over the run."""
        rows = [self.charged[id(job)] for job in jobs]
        methods = {name: [row[name] for row in rows] for name in rows[0]}
        whole = sum(methods["wall time"])
        methods["wall time"] = [wall * process_ns / whole for wall in methods["wall time"]]
        return methods


class PerRequestTracker:
    """codecarbon as it is used per request: a tracker started before and stopped after each one. Joules in ``charged``."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.charged: dict[int, float] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        tracker = _tracker()
        tracker.start()
        try:
            await self._app(scope, receive, send)
        finally:
            self.charged[id(scope["job"])] = _stop(tracker)


def _tracker() -> Any:
    from codecarbon import OfflineEmissionsTracker

    return OfflineEmissionsTracker(country_iso_code="FRA", save_to_file=False, log_level="critical", allow_multiple_runs=True)


def _stop(tracker: Any) -> float:
    tracker.stop()
    return tracker.final_emissions_data.energy_consumed * 3.6e6  # kWh


def codecarbon_charges(app: Any, jobs: Sequence[Job], concurrency: int, run: Run) -> tuple[list[float], float] | None:
    """(joules per job, joules of one tracker around them all); None where codecarbon is not installed."""
    try:
        # The first tracker of a process looks at the hardware for seconds, which is no request's doing.
        first = _tracker()
    except ImportError:
        return None
    first.start()
    first.stop()
    around = _tracker()
    around.start()
    peer = PerRequestTracker(app)
    asyncio.run(run(peer, jobs, concurrency))
    return [peer.charged[id(job)] for job in jobs], _stop(around)
