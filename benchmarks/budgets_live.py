"""The same 200 requests in real time: four processes, 50 requests at once in each, through the real middleware and a real store.

Run as a program it is one of the four: it says "ready" on stdout at each step and goes on when a line comes on stdin.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from budgets_virtual import LIMIT, MEAN, REQUESTS, STEP, Run, costs

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.testing import SyntheticSource

WORKERS = 4
STEP_S = 0.02
SCOPE = {
    "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET", "path": "/",
    "raw_path": b"/", "root_path": "", "scheme": "http", "query_string": b"", "headers": [], "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 80),
}  # fmt: skip


@contextmanager
def redis_server() -> Iterator[str | None]:
    """The path of the socket of a redis-server of this benchmark's own; None where it is not installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="fr-") as folder:
        path = Path(folder) / "redis.sock"
        process = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
        )
        while not path.exists():
            time.sleep(0.01)
        try:
            yield str(path)
        finally:
            process.terminate()
            process.wait()


def burst(store: str, kind: str, seeds: range, sigma: float) -> list[Run]:
    """One run per seed of a burst of all requests over `WORKERS` processes; ``kind``: "limits", "known" or "told"."""
    command = [sys.executable, __file__, store, kind, str(sigma), f"{seeds.start}:{seeds.stop}"]
    workers = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(WORKERS)
    ]
    runs = []
    for _ in seeds:
        for _ in range(3):  # started, met the others, done
            told = [worker.stdout.readline() for worker in workers]
            for worker in workers:
                worker.stdin.write("go\n")
                worker.stdin.flush()
        parts = [json.loads(line) for line in told]
        runs.append(
            Run(
                sum(p["used"] for p in parts) / LIMIT - 1,
                sum(p["completed"] for p in parts),
                sum(p["wasted"] for p in parts) / 1000,
            )
        )
    for worker in workers:
        worker.communicate()
        if worker.returncode:
            raise SystemExit(f"a worker of the benchmark ended with {worker.returncode}")
    return runs


class Service:
    """One worker: an application whose requests use their cost step by step, and what came of them."""

    def __init__(self, wanted: list[int]) -> None:
        self.wanted = wanted
        self.used = self.completed = self.wasted = 0

    async def work(self, cost: int, spend) -> None:
        """Use ``cost``; ``spend(amount)`` says whether to go on."""
        used = 0
        while used < cost:
            await asyncio.sleep(STEP_S)
            amount = min(STEP, cost - used)
            used += amount
            self.used += amount
            if not spend(amount) and used < cost:
                self.wasted += used
                return
        self.completed += 1

    def told(self) -> str:
        return json.dumps({"used": self.used, "completed": self.completed, "wasted": self.wasted})


def wait_for_all(line: str) -> None:
    print(line, flush=True)
    sys.stdin.readline()


def metered(store: str, kind: str, service: Service, name: str) -> None:
    budget = Budget("day", f"{LIMIT} tokens", per="month", degrade_at=None, estimate=f"{MEAN} tokens", hard=kind == "told")
    meter = Meter(name, zone="FR", sources=SyntheticSource(0, 1), budgets=[budget], store=store, tick=0.1, workers="single")

    async def app(scope, receive, send) -> None:
        cost = scope["cost"]

        def spend(amount: int) -> bool:
            span.add_tokens(output=amount)
            meter.top_up(span)
            return span.cut is None

        estimate = f"{cost} tokens" if kind == "known" else None
        async with meter.measure("work", estimate=estimate) as span:
            await service.work(cost, spend)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    # The estimate is the block's: the service's own budget is asked there, and not at the door.
    outside = MeterMiddleware(app, meter=meter) if kind == "told" else None

    async def nothing(*message) -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def one(cost: int) -> None:
        try:
            await (outside or app)({**SCOPE, "cost": cost}, nothing, nothing)
        except Exception as error:
            if type(error).__name__ != "BudgetRefused":
                raise

    async def all_at_once() -> None:
        await asyncio.gather(*(one(cost) for cost in service.wanted))

    with meter:
        wait_for_all("started")
        for _ in range(2):
            while not meter.admission.sharing.settle(10):
                pass
        wait_for_all("met")
        asyncio.run(all_at_once())
    assert meter.errors.keys() <= {"store"}, meter.errors  # four that make one SQLite file at once may fail at first


def debited(store: str, service: Service, name: str) -> None:
    from limits import RateLimitItemPerMonth
    from limits.storage import storage_from_string
    from limits.strategies import FixedWindowRateLimiter

    limiter, item = FixedWindowRateLimiter(storage_from_string(store)), RateLimitItemPerMonth(LIMIT)

    async def one(cost: int) -> None:
        if await asyncio.to_thread(limiter.test, item, name):
            await service.work(cost, lambda amount: True)
            await asyncio.to_thread(limiter.hit, item, name, cost=cost)

    async def all_at_once() -> None:
        await asyncio.gather(*(one(cost) for cost in service.wanted))

    wait_for_all("started")
    wait_for_all("met")
    asyncio.run(all_at_once())


def main() -> None:
    store, kind, sigma, seeds, number = sys.argv[1:]
    first, last = map(int, seeds.split(":"))
    share = REQUESTS // WORKERS
    for seed in range(first, last):
        at = int(number) * share
        service = Service(costs(seed, float(sigma))[at : at + share])
        name = f"bench-{kind}-{sigma}-{seed}"
        if kind == "limits":
            debited(store, service, name)
        else:
            # An SQLite file holds one service's budgets; in Redis each service has keys of its own.
            metered(store.replace("SEED", name), kind, service, name)
        wait_for_all(service.told())


if __name__ == "__main__":
    main()
