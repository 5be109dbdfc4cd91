"""A fallback where the larger model's need does not fit: the same over every store, and never a token beyond the limit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from exchange import AT_NS, a_meter
from redis_server import RedisServer

from frugal_meter import Budget, Meter
from frugal_meter.budgets.leases import DENIED_NS, Book
from frugal_meter.budgets.stores import Answer
from frugal_meter.budgets.stores.sqlite import SqliteStore
from frugal_meter.errors import BudgetRefused, StoreError
from frugal_meter.testing import RecordingExporter

Workers = Callable[..., list[Meter]]
A_DAY = {"per": "day", "estimate": "40 tokens", "warn_at": 0.9, "degrade_at": 0.95}
PATIENCE_S = 60


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Workers of one service that have met, each having learnt that the small model needs 5 tokens; 70 of 100 are spent."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path / "run"))
    with ExitStack() as stack:

        def started(store: str, many: int, *, slices: float = 0.0, **settings: Any) -> list[Meter]:
            budget = Budget("all", "100 tokens", **A_DAY)
            meters = [a_meter(budgets=[budget], store=store, **settings) for _ in range(many)]
            for meter in meters:
                if meter.admission.sharing is not None:
                    meter.admission.sharing._slices.share = slices
                stack.enter_context(meter)
                meter.admission.estimator["all"].recall(("ask", "small"), 5)
            with meters[0].measure("before", estimate="70 tokens") as span:
                span.add_tokens(output=70)
            told(meters)
            return meters

        yield started


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    return "memory" if request.param == "memory" else f"sqlite://{tmp_path}/b.sqlite"


def told(meters: Sequence[Meter]) -> None:
    """All have told the shared store where they are, and heard where the others are."""
    for _ in range(2):
        for meter in meters:
            sharing = meter.admission.sharing
            assert sharing is None or sharing.settle(PATIENCE_S)


def asking(meter: Meter, kind: str = "thread") -> Callable[[], str]:
    """Asks the large model, which uses 40 tokens; the small one uses 5."""

    @meter.measure("ask", model="small")
    def small() -> str:
        meter.current().add_tokens(output=5)
        return "small"

    measured = meter.measure("ask", model="large", fallback=small)

    @measured
    def large() -> str:
        meter.current().add_tokens(output=40)
        return "large"

    @measured
    async def large_on_a_loop() -> str:
        return large.__wrapped__()

    return large if kind == "thread" else lambda: asyncio.run(large_on_a_loop())


def tried(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except BudgetRefused as refused:
        return f"{refused.refusal['estimate']:.0f} refused"


def committed(meters: Sequence[Meter]) -> int:
    told(meters)
    [book] = meters[0].admission.store.books(AT_NS)
    return book.committed_by_all


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_where_the_large_model_does_not_fit_the_small_one_answers_until_the_limit_and_the_reading_says_both(
    workers: Workers, store: str, kind: str
) -> None:
    exporter = RecordingExporter()
    meters = workers(store, 1 if store == "memory" else 2, exporters=[exporter])
    asks = [asking(meter, kind) for meter in meters]
    assert [tried(asks[turn % len(asks)]) for turn in range(8)] == ["small"] * 6 + ["40 refused"] * 2  # what was asked for
    assert committed(meters) == 100
    for meter in meters:
        meter.settle()
    small = [r for r in exporter.readings if r.model_requested == "large" and r.outcome == "ok"]
    assert {(r.decision, r.model_served) for r in small} == {("degrade", "small")}
    assert len(small) == 6


@pytest.mark.parametrize("store", ["sqlite", "redis"], indirect=True)
@pytest.mark.parametrize("slices", [0.0, 0.2], ids=["asking for each", "with slices"])
def test_a_burst_over_two_workers_is_degraded_and_not_a_token_beyond_the_limit(
    workers: Workers, store: str, slices: float
) -> None:
    meters = workers(store, 2, slices=slices)
    asks = [asking(meter) for meter in meters]
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda turn: tried(asks[turn % 2]), range(32)))
    assert committed(meters) == 70 + 5 * said.count("small") <= 100
    assert said.count("small") == 6 if not slices else said.count("small") >= 1
    assert said.count("40 refused") == 32 - said.count("small")


def test_a_permission_is_used_before_the_small_model_s_need_is_asked_for(workers: Workers, tmp_path: Path) -> None:
    [meter] = workers(f"sqlite://{tmp_path}/b.sqlite", 1)
    sharing = meter.admission.sharing
    assert sharing is not None
    now_s = AT_NS / 1e9
    meter.admission.log.overrides = [sharing.store.permit("all", None, "Ada", "an emergency", now_s, now_s + 60)]
    before = sharing.exchanges
    assert asking(meter)() == "small"  # the rung says so: the permission is to pass the limit
    assert (sharing.exchanges, meter.admission.decisions["all", "override"]) == (before + 1, 1)


def test_no_second_exchange_is_made_where_nothing_smaller_could_serve(workers: Workers, tmp_path: Path) -> None:
    [meter] = workers(f"sqlite://{tmp_path}/b.sqlite", 1)
    sharing = meter.admission.sharing
    assert sharing is not None
    before = sharing.exchanges
    with pytest.raises(BudgetRefused):
        meter.measure("ask", model="large")(lambda: "large")()
    assert sharing.exchanges == before + 1
    assert asking(meter)() == "small"
    assert sharing.exchanges == before + 2  # what the store has just denied to the large one is not asked for again


class Gate(SqliteStore):
    """The real store, which lets the question for the small model wait until it may ``go``; then it may be ``away``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked, self.go, self.away = threading.Event(), threading.Event(), False

    def exchange(self, holder: str, seq: int, reports: Any, asks: Any, now_s: float) -> Answer:
        if [ask.need for group in asks for ask in group] == [5]:
            self.asked.set()
            assert self.go.wait(PATIENCE_S)
            if self.away:
                raise StoreError("gone", str(self.path), "wait")
        return super().exchange(holder, seq, reports, asks, now_s)


def gated(meter: Meter) -> Gate:
    sharing = meter.admission.sharing
    assert sharing is not None
    assert isinstance(sharing.store, SqliteStore)
    gate = Gate(sharing.store.path)
    sharing.store.close()
    sharing.store = gate
    return gate


def test_a_client_that_leaves_while_the_small_model_s_need_is_asked_for_holds_nothing(workers: Workers, tmp_path: Path) -> None:
    [meter] = workers(f"sqlite://{tmp_path}/b.sqlite", 1)
    gate = gated(meter)

    async def large() -> str:
        return "large"

    measured = meter.measure("ask", model="large", fallback=meter.measure("ask", model="small")(large))(large)

    async def leaves() -> None:
        task = asyncio.create_task(measured())
        assert await asyncio.to_thread(gate.asked.wait, PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.go.set()

    asyncio.run(leaves())
    assert committed([meter]) == 70
    [book] = meter.admission.store.books(AT_NS)
    assert (book.flight.count, book.parked) == (0, 0)


def test_a_store_that_goes_away_between_the_two_questions_refuses_what_was_asked_first(workers: Workers, tmp_path: Path) -> None:
    [meter] = workers(f"sqlite://{tmp_path}/b.sqlite", 1, on_store_error="closed")
    gate = gated(meter)
    gate.away = True
    gate.go.set()
    with pytest.raises(BudgetRefused) as refused:
        asking(meter)()
    assert gate.asked.is_set()
    assert (refused.value.refusal["reason"], refused.value.refusal["estimate"]) == ("limit", 40)
    [book] = meter.admission.store.books(AT_NS)
    assert (book.reserved, book.flight.count, book.parked) == (0, 0, 0)


def test_what_a_store_has_denied_is_what_was_missing_beside_the_slice_at_hand() -> None:
    budget = Budget("all", "100 tokens", **A_DAY)
    book = Book(budget, (), budget.window(AT_NS / 1e9), shared=True)
    book.ceiling = 15
    book.denied = 25, AT_NS + DENIED_NS
    assert book.is_denied(40, AT_NS)
    assert not book.is_denied(39, AT_NS)
