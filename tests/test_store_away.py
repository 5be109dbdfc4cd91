"""The store is killed under load and brought back: two workers, 200 requests at once, through the real middleware.

Whatever on_store_error says, nothing is charged twice, nothing that was settled is lost, and no lease stays behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis_server import RedisServer
from support import PATIENCE_S, answer, ask

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.budgets.stores import State
from frugal_meter.budgets.stores.redis import RedisStore
from frugal_meter.testing import SyntheticSource

TOGETHER = 200
#: what one request uses, and is taken to need
TOKENS = 10


class Worker:
    """One worker of the service: a meter, its application, and the requests that are in it now."""

    def __init__(self, server: RedisServer, limit: int, policy: str) -> None:
        budget = Budget(
            "answers", f"{limit} tokens", per="month", estimate=f"{TOKENS} tokens", degrade_at=None, max_in_flight=4 * TOGETHER
        )
        self.meter = Meter(
            "guichet", zone="FR", sources=SyntheticSource(0, 10), tick=60, budgets=[budget],
            store=f"{server.url}?socket_timeout=0.2", on_store_error=policy,
        )  # fmt: skip
        self.app = MeterMiddleware(self.work, meter=self.meter)
        self.gate = asyncio.Event()
        self.inside = self.used = 0

    async def work(self, scope: Any, receive: Any, send: Any) -> None:
        span = self.meter.current()
        assert span is not None
        self.inside += 1
        try:
            await self.gate.wait()
            span.add_tokens(output=TOKENS)
            self.used += TOKENS
            await answer(send)
        finally:
            self.inside -= 1

    @contextlib.asynccontextmanager
    async def holding(self, many: int) -> AsyncIterator[list[asyncio.Task[Any]]]:
        """``many`` requests, all of them inside the application or refused; on leaving, those inside finish."""
        self.gate.clear()
        before, tasks = self.inside, [asyncio.create_task(ask(self.app)) for _ in range(many)]
        async with asyncio.timeout(PATIENCE_S):
            while self.inside - before + sum(task.done() for task in tasks) < many:
                await asyncio.sleep(0.001)
        yield tasks
        self.gate.set()
        await asyncio.gather(*tasks)

    def meet(self) -> bool:
        """Have the worker tell its store everything; whether it could."""
        sharing = self.meter.admission.sharing
        assert sharing is not None
        return sharing.settle(PATIENCE_S)

    def until_back(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.meet():
            assert time.monotonic() < deadline, "the worker does not find its store again"


def status(task: asyncio.Task[Any]) -> int:
    return int(task.result()[0]["status"])


def held_in(server: RedisServer) -> dict[str, State]:
    """What the store says of all workers, by budget and kind of account."""
    store = RedisStore(server.url, "guichet")
    try:
        return {account.resource: state for account, state in store.states(time.time()).items()}
    finally:
        store.close()


@pytest.fixture
def workers(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[list[Worker]]:
    policy, limit = request.param
    two = [Worker(redis_server, limit, policy) for _ in range(2)]
    with two[0].meter, two[1].meter:
        for worker in two * 2:  # each learns of the other
            assert worker.meet()
        yield two


async def live_through_it(server: RedisServer, workers: list[Worker]) -> list[int]:
    """100 requests on each worker, the store killed while they run; 50 more each while it is away; then it comes back.

    Returns the statuses of those that came while it was away.
    """
    one, other = workers
    async with one.holding(TOGETHER // 2) as first, other.holding(TOGETHER // 2) as second:
        assert one.inside + other.inside == TOGETHER
        assert one.meet()  # a tick
        assert other.meet()
        server.kill()
        assert not one.meet()
        assert not other.meet()
        one.gate.set()
        await asyncio.gather(*first)  # settled while nobody can be told
        async with one.holding(50) as third, other.holding(50) as fourth:
            pass
        await asyncio.gather(*second)
    server.start()
    for worker in workers:
        await asyncio.to_thread(worker.until_back)
    assert [status(task) for task in first + second] == [200] * TOGETHER
    return [status(task) for task in third + fourth]


def assert_the_store_knows_all(server: RedisServer, workers: list[Worker]) -> None:
    """Settled is what was used; nothing is reserved, and nothing is held once the workers have stopped."""
    used = sum(worker.used for worker in workers)
    for worker in workers * 2:
        assert worker.meet()
    told = held_in(server)
    assert (told["tokens"].settled, told["tokens"].reserved, told["tokens"].expired) == (used, 0, 0)
    assert told["slots"].committed == 0
    for worker in workers:
        worker.meter.stop()
    assert held_in(server) == {"tokens": State(used)} | {"slots": State()}
    for worker in workers:
        worker.meter.start()


@pytest.mark.parametrize("workers", [("local", 100_000)], indirect=True)
def test_local_goes_on_with_what_was_left_and_tells_all_when_the_store_is_back(
    redis_server: RedisServer, workers: list[Worker]
) -> None:
    statuses = asyncio.run(live_through_it(redis_server, workers))
    assert statuses == [200] * 100
    assert sum(worker.used for worker in workers) == TOKENS * (TOGETHER + 100)
    assert_the_store_knows_all(redis_server, workers)


@pytest.mark.parametrize("workers", [("local", 2_600)], indirect=True)
def test_local_shares_what_was_left_and_never_spends_more(redis_server: RedisServer, workers: list[Worker]) -> None:
    statuses = asyncio.run(live_through_it(redis_server, workers))
    assert set(statuses) == {200, 503}, "nobody has said that the budget is spent"
    assert sum(worker.used for worker in workers) == TOKENS * (TOGETHER + statuses.count(200)) <= 2_600
    assert_the_store_knows_all(redis_server, workers)


@pytest.mark.parametrize("workers", [("open", 2_600)], indirect=True)
def test_open_lets_everything_through_and_records_what_it_came_to(redis_server: RedisServer, workers: list[Worker]) -> None:
    statuses = asyncio.run(live_through_it(redis_server, workers))
    assert statuses == [200] * 100
    assert sum(worker.used for worker in workers) == 3_000
    assert_the_store_knows_all(redis_server, workers)
    assert status_of_one_more(workers) == 429, "the store is back, and the limit holds again"


@pytest.mark.parametrize("workers", [("closed", 100_000)], indirect=True)
def test_closed_refuses_until_the_store_is_back_and_charges_what_ran(redis_server: RedisServer, workers: list[Worker]) -> None:
    statuses = asyncio.run(live_through_it(redis_server, workers))
    assert 200 not in statuses
    assert set(statuses) <= {429, 503}
    assert_the_store_knows_all(redis_server, workers)
    assert status_of_one_more(workers) == 200


def status_of_one_more(workers: list[Worker]) -> int:
    for worker in workers:
        worker.gate.set()
    return int(asyncio.run(ask(workers[0].app))[0]["status"])


@pytest.mark.parametrize("workers", [("local", 100_000)], indirect=True)
def test_a_store_that_comes_back_empty_is_told_everything_again(redis_server: RedisServer, workers: list[Worker]) -> None:
    redis_server.durable = False
    asyncio.run(live_through_it(redis_server, workers))
    assert_the_store_knows_all(redis_server, workers)


@pytest.mark.parametrize("workers", [("local", 100_000)], indirect=True)
def test_a_store_that_hangs_holds_up_no_request_longer_than_its_timeout(redis_server: RedisServer, workers: list[Worker]) -> None:
    async def live() -> list[int]:
        with redis_server.stopped():
            async with workers[0].holding(TOGETHER) as tasks:
                assert not workers[0].meet()
        await asyncio.to_thread(workers[0].until_back)
        return [status(task) for task in tasks]

    assert asyncio.run(live()) == [200] * TOGETHER
    assert_the_store_knows_all(redis_server, workers)
