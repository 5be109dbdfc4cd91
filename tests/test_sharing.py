"""Several workers, one budget: slices, what is asked for, what is returned, what the dead leave, and a store that goes away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from exchange import a_meter, account, an_app, ask, later, statuses
from prometheus_client.parser import text_string_to_metric_families

from frugal_meter import Budget, Meter
from frugal_meter.attribution.span import Span
from frugal_meter.budgets.outage import ON_STORE_ERROR
from frugal_meter.budgets.sharing import Sharing
from frugal_meter.budgets.slices import IDLE_TICKS
from frugal_meter.budgets.stores import SLICE, TTL_S, State
from frugal_meter.budgets.stores.sqlite import SqliteStore
from frugal_meter.errors import BudgetRefused, ConfigurationError

A_DAY = {"per": "day", "estimate": "10 tokens", "warn_at": 1.0, "degrade_at": None}


@pytest.fixture(autouse=True)
def _run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(folder))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Meter]]:
    """Makes workers of one service that share a file; they are stopped at the end."""
    with contextlib.ExitStack() as stack:

        def make(*budgets: Budget, slices: float = SLICE, **settings: Any) -> Meter:
            meter = a_meter(budgets=list(budgets), store=f"sqlite://{tmp_path}/b.sqlite", **settings)
            assert meter.admission.sharing is not None
            meter.admission.sharing._slices.share = slices
            return stack.enter_context(meter)

        yield make


def sharing(meter: Meter) -> Sharing:
    assert meter.admission.sharing is not None
    return meter.admission.sharing


def told(meter: Meter) -> None:
    """Let the store know where this worker is."""
    assert sharing(meter).settle(20)


def stored(tmp_path: Path, resource: str = "tokens") -> State:
    """Where the one account of ``resource`` is, in the store."""
    store = SqliteStore(tmp_path / "b.sqlite")
    try:
        found = [s for a, s in store.states(1_767_225_600.0).items() if a.resource == resource]
    finally:
        store.close()
    return found[0] if found else State()


def spend(meter: Meter, tokens: int) -> str | None:
    with meter.measure("work") as span:
        span.add_tokens(output=tokens)
    return span.decision


def begun(meter: Meter) -> Span:
    """Work that has been decided on, and runs."""
    span = meter.open_span("block")
    meter.decide(span)
    return span


def until_refused(meter: Meter, tokens: int = 10, most: int = 1000) -> int:
    """How many pieces of work were admitted."""
    for count in range(most):
        try:
            spend(meter, tokens)
        except BudgetRefused:
            return count
    return most


@pytest.mark.parametrize("slices", [0.0, SLICE], ids=["asking for each", "with slices"])
def test_two_workers_spend_one_budget_together_and_not_a_token_more(
    worker: Callable[..., Meter], tmp_path: Path, slices: float
) -> None:
    budget = Budget("all", "1000 tokens", **A_DAY)
    one, two = worker(budget, slices=slices), worker(budget, slices=slices)
    admitted = [0, 0]

    def work(place: int, meter: Meter) -> None:
        admitted[place] = until_refused(meter)

    threads = [threading.Thread(target=work, args=each) for each in enumerate((one, two))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for meter in (one, two):
        told(meter)
        told(meter)
    admitted[0] += until_refused(one)  # what lay unused in the other's slice has come back
    told(one)
    assert sum(admitted) == 100
    assert stored(tmp_path).settled == 1000


ONE_OF_FOUR = """
    import sys
    from frugal_meter import Budget, Meter
    from frugal_meter.testing import FrozenClock, SyntheticSource

    def everybody(line):
        print(line, flush=True)
        sys.stdin.readline()

    hard = {"sliding": True, "hard": True, "estimate": "10 tokens", "warn_at": 1.0, "degrade_at": None}
    budget = Budget("all", "1000 tokens", per="minute", **hard)
    clock, running, used = FrozenClock(), [], 0
    settings = {"sources": SyntheticSource(0, 10), "store": sys.argv[1], "tick": 60, "workers": "single"}
    meter = Meter("guichet", zone="FR", budgets=[budget], clock=clock, **settings)
    with meter:
        sharing = meter.admission.sharing
        for part in range(3):
            everybody("here")
            for _ in range(3):
                span = meter.open_span("block")
                meter.decide(span)
                if span.refusal is None:
                    running.append(span)
            for _ in range(40 if part < 2 else 10_000):  # in the last part until everybody is cut
                for span in [each for each in running if each.cut is None]:
                    span.add_tokens(output=1)
                    used += 1
                    meter.admission.upkeep.top_up(span, clock.time_ns())
                    while span.leases[0] in sharing.asking:
                        sharing.settle(20)
                    meter.admission.upkeep.top_up(span, clock.time_ns())
            clock.advance(5)
        everybody(used)
        assert all(span.cut is not None for span in running), meter.errors
        for span in running:
            meter.close_span(span)
"""


def test_a_hard_sliding_limit_is_met_and_not_passed_by_four_processes_whose_work_runs_on_into_later_parts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(ONE_OF_FOUR), f"sqlite://{tmp_path}/b.sqlite"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        four = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(4)]
        said = []
        for _ in range(4):
            said = [one.stdout.readline() for one in four]
            for one in four:
                print(file=one.stdin, flush=True)
    assert [one.returncode for one in four] == [0] * 4
    assert 990 <= sum(map(int, said)) <= 1000


def test_a_slice_is_leased_from_without_asking_the_store(worker: Callable[..., Meter]) -> None:
    meter = worker(Budget("all", "1000000 tokens", **A_DAY))
    told(meter)
    told(meter)
    before = sharing(meter).exchanges
    for _ in range(200):
        spend(meter, 10)
    assert sharing(meter).exchanges == before


def test_without_slices_every_lease_is_asked_for(worker: Callable[..., Meter]) -> None:
    meter = worker(Budget("all", "1000000 tokens", **A_DAY), slices=0.0)
    told(meter)
    before = sharing(meter).exchanges
    for _ in range(5):
        spend(meter, 10)
    assert sharing(meter).exchanges >= before + 5


def test_an_exchange_tells_of_what_moved_however_many_accounts_are_open(
    worker: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = worker(Budget("each", "1000 tokens", key="tenant", **A_DAY), tenant=lambda scope: None)
    asked: list[int] = []
    exchange = sharing(meter).store.exchange

    def counted(holder: str, seq: int, reports: Any, asks: Any, now_s: float) -> Any:
        asked.append(len(reports) + len(asks))
        return exchange(holder, seq, reports, asks, now_s)

    def work(number: int) -> None:
        span = meter.open_span("block")
        span.tenant = f"tenant-{number}"
        meter.decide(span)
        span.add_tokens(output=1)
        meter.close_span(span)

    monkeypatch.setattr(sharing(meter).store, "exchange", counted)
    for number in range(500):
        work(number)
    assert max(asked) <= 4, "a request that must ask tells of its own account"
    asked.clear()
    told(meter)
    assert sum(asked) >= 500, "all have moved"
    assert max(asked) <= 400, "and are told of a few hundred at a time"
    for _ in range(15):
        told(meter)
    asked.clear()
    for number in range(3):
        work(number)
    told(meter)
    assert sum(asked) <= 12, "500 are open, and three have moved"


def test_two_workers_keep_one_pace_together(worker: Callable[..., Meter]) -> None:
    budget = Budget(
        "all", "1000 tokens", per="minute", estimate="10 tokens", warn_at=0.5, degrade_at=None, throttle_at=0.5, throttle_wait=60
    )
    two = [worker(budget) for _ in range(2)]
    for _ in range(25):
        for meter in two:
            assert spend(meter, 10)
    for meter in two * 2:
        told(meter)
    waiting = [meter.open_span("block") for meter in two * 10]
    for span, meter in zip(waiting, two * 10, strict=True):
        meter.decide(span, later=True)
    for seconds in (6, 12, 18):
        for meter in two:
            later(meter, 6)
        for meter in two * 4:
            meter.admission.line.next_turns()
            told(meter)
        begun_by_now = sum(span.waiting.future.done() for span in waiting)
        assert begun_by_now == 500 * seconds // 60 // 10
    for span, meter in zip(waiting, two * 10, strict=True):
        meter.admission.line.leave(span.waiting)
    assert [meter.admission.line.queued for meter in two] == [0, 0]


def test_unused_slices_are_bounded_and_shrink_with_what_is_left(worker: Callable[..., Meter], tmp_path: Path) -> None:
    limit = 100_000
    budget = Budget("all", f"{limit} tokens", **A_DAY)
    meters = [worker(budget) for _ in range(3)]
    for left in (limit, 2000, 200):
        spend(meters[0], limit - left - stored(tmp_path).settled)
        for meter in meters * 2:
            with contextlib.suppress(BudgetRefused):
                spend(meter, 0)
            told(meter)
        stranded = stored(tmp_path).held - stored(tmp_path).reserved
        assert stranded <= min(SLICE * limit, left / 2 + 1)


def test_an_idle_worker_holds_nothing(worker: Callable[..., Meter], tmp_path: Path) -> None:
    meter = worker(Budget("all", "100000 tokens", **A_DAY))
    spend(meter, 10)
    told(meter)
    assert stored(tmp_path).held > 0
    for _ in range(15):
        told(meter)
    assert stored(tmp_path) == State(settled=10)


def test_a_worker_that_stops_returns_its_slice(worker: Callable[..., Meter], tmp_path: Path) -> None:
    meter = worker(Budget("all", "100000 tokens", **A_DAY))
    spend(meter, 10)
    told(meter)
    meter.stop()
    assert stored(tmp_path) == State(settled=10)
    assert list((tmp_path / "run").glob("budget-*")) == []


def test_work_that_runs_on_while_its_worker_stops_is_charged_exactly_once(worker: Callable[..., Meter], tmp_path: Path) -> None:
    meter = worker(Budget("all", "100000 tokens", **A_DAY))
    with meter.measure("long") as span:
        meter.stop()
        assert stored(tmp_path).settled == 10, "its reservation, until more is known"
        meter.start()
        span.add_tokens(output=3)
    told(meter)
    assert stored(tmp_path).settled == 3


def test_a_restart_does_not_forget_what_was_spent(worker: Callable[..., Meter]) -> None:
    budget = Budget("all", "100 tokens", **A_DAY)
    worker(budget).stop()
    first = worker(budget)
    assert until_refused(first) == 10
    first.stop()
    assert until_refused(worker(budget)) == 0


def test_estimates_outlive_a_restart(worker: Callable[..., Meter]) -> None:
    budget = Budget("all", "10000 tokens", per="day", key="route", estimate="10 tokens")
    first = worker(budget)
    spend(first, 77)
    first.settle()
    first.stop()
    second = worker(budget)
    with second.measure("work"):
        assert account(second, "all", "work").reserved == 77


def test_the_ladder_looks_at_what_all_workers_have_spent(worker: Callable[..., Meter]) -> None:
    budget = Budget("all", "1000 tokens", per="day", estimate="10 tokens")
    one, two = worker(budget), worker(budget)
    spend(one, 750)
    told(one)
    assert spend(two, 1) in ("warn", "admit")
    told(two)
    assert spend(two, 1) == "warn"
    spend(one, 60)
    told(one)
    told(two)
    assert spend(two, 1) == "degrade"


def test_no_more_than_max_in_flight_run_at_once_over_all_workers(worker: Callable[..., Meter]) -> None:
    budget = Budget("few", "1000 requests", per="day", max_in_flight=2)
    one, two = worker(budget), worker(budget)
    first, second, *more = [begun(meter) for meter in (one, two, one, two)]
    assert (first.refusal, second.refusal) == (None, None)
    assert [span.refusal["reason"] for span in more] == ["in_flight"] * 2
    one.close_span(first)
    told(one)
    two.close_span(second)
    assert [begun(two).refusal for _ in range(2)] == [None, None]


def test_an_http_request_awaits_the_store_and_the_loop_goes_on(worker: Callable[..., Meter]) -> None:
    meter = worker(Budget("all", "5 requests", per="day"), slices=0.0)
    app = an_app(meter)
    assert statuses(ask(app, *["/hello"] * 7)) == [200] * 5 + [429] * 2


def test_an_async_measure_awaits_the_store(worker: Callable[..., Meter]) -> None:
    meter = worker(Budget("all", "1000 tokens", **A_DAY), slices=0.0)

    @meter.measure("answer")
    async def answer() -> int:
        return 1

    @meter.measure("stream")
    async def stream() -> Any:
        yield 1

    async def all_of_them() -> list[int]:
        async with meter.measure("block"):
            first = await asyncio.gather(*[answer() for _ in range(20)])
        return [*first, *[piece async for piece in stream()]]

    assert asyncio.run(all_of_them()) == [1] * 21
    assert not meter.errors


def test_a_window_is_charged_to_its_own_account_after_it_has_ended(worker: Callable[..., Meter], tmp_path: Path) -> None:
    meter = worker(Budget("all", "100 tokens", per="minute", estimate="10 tokens"))
    span = meter.open_span("block")
    meter.decide(span)
    later(meter, 61)
    spend(meter, 1)
    span.add_tokens(output=30)
    meter.close_span(span)
    told(meter)
    store = SqliteStore(tmp_path / "b.sqlite")
    by_start = {a.start_s: s.settled for a, s in store.states(0.0).items()}
    store.close()
    assert sorted(by_start.items())[0][1] == 30


def test_work_that_outgrows_its_slice_is_topped_up_from_the_store(worker: Callable[..., Meter], tmp_path: Path) -> None:
    meter = worker(Budget("all", "1000 tokens", **A_DAY), slices=0.0)
    with meter.measure("long") as span:
        span.add_tokens(output=9)
        meter.top_up(span)
        told(meter)
        assert account(meter, "all").reserved == 15
        assert stored(tmp_path).reserved in (10, 15)
    told(meter)
    assert stored(tmp_path) == State(settled=9)


# -- the dead


KILLED = """
    import os, signal, sys
    from frugal_meter import Budget, Meter
    from frugal_meter.testing import SyntheticSource
    budget = Budget("all", "1000 tokens", per="day", estimate="10 tokens", warn_at=1.0, degrade_at=None)
    meter = Meter("guichet", zone="FR", sources=SyntheticSource(0, 10), budgets=[budget], store=sys.argv[1], tick=60)
    meter.start()
    for _ in range(3):
        with meter.measure("work") as span:
            span.add_tokens(output=7)
    held = meter.measure("running")
    held.__enter__()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_worker_had_not_reported_is_settled_exactly_by_a_survivor(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/b.sqlite"
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), url], env=os.environ, capture_output=True, timeout=60)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert len(list((tmp_path / "run").glob("budget-*"))) == 1
    budget = Budget("all", "1000 tokens", **A_DAY)
    with Meter("guichet", zone="FR", sources=[], budgets=[budget], store=url, tick=60) as meter:
        (book,) = meter.admission.store.books(meter.clock.time_ns())
        told(meter)
        store = SqliteStore(tmp_path / "b.sqlite")
        (found,) = store.states(meter.clock.time_ns() / 1e9).values()
        store.close()
        assert found.settled == 3 * 7 + 10, "three pieces as they were, and the one that ran at its reservation"
        assert book.elsewhere == 31
    assert list((tmp_path / "run").glob("budget-*")) == []


def test_a_worker_that_lives_is_not_buried(worker: Callable[..., Meter], tmp_path: Path) -> None:
    budget = Budget("all", "1000 tokens", **A_DAY)
    one, two = worker(budget), worker(budget)
    with one.measure("running"):
        told(one)
        sharing(two)._bury()
        assert stored(tmp_path).reserved == 10


def test_a_worker_that_was_buried_alive_goes_on_as_another_and_loses_nothing(
    worker: Callable[..., Meter], tmp_path: Path
) -> None:
    meter = worker(Budget("all", "1000 tokens", **A_DAY))
    spend(meter, 20)
    told(meter)
    sharing(meter).store.release(sharing(meter).holder, 2**40, [], 1_767_225_600.0)
    spend(meter, 5)
    told(meter)
    told(meter)
    assert stored(tmp_path).settled == 25


def test_a_forked_child_is_a_worker_of_its_own(worker: Callable[..., Meter], tmp_path: Path) -> None:
    meter = worker(Budget("all", "1000 tokens", **A_DAY))
    spend(meter, 20)
    told(meter)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            with meter:
                spend(meter, 5)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    spend(meter, 1)
    told(meter)
    assert stored(tmp_path).settled == 26
    assert len(list((tmp_path / "run").glob("budget-*"))) == 1, "the parent's, which lives"


def test_a_host_that_vanished_is_charged_what_it_held_and_counted(worker: Callable[..., Meter], tmp_path: Path) -> None:
    budget = Budget("all", "1000 tokens", **A_DAY)
    store = SqliteStore(tmp_path / "b.sqlite")
    meter = worker(budget)
    told(meter)
    (seen,) = [a for a in store.states(1_767_225_600.0) if a.resource == "tokens"]
    from frugal_meter.budgets.stores import Ask

    store.exchange("elsewhere", 1, [], [[Ask(seen, 1000, 300, 300)]], 1_767_225_600.0)
    later(meter, TTL_S + 1)
    spend(meter, 10)
    told(meter)
    (book,) = meter.admission.store.books(meter.clock.time_ns())
    assert (book.elsewhere, book.expired) == (300, 1)
    store.close()


# -- a store that goes away


def broken(tmp_path: Path) -> Callable[[], None]:
    """Puts something else in the file's place; returns how to bring it back."""
    path = tmp_path / "b.sqlite"
    away = tmp_path / "away"
    away.mkdir()
    for each in tmp_path.glob("b.sqlite*"):
        each.rename(away / each.name)
    path.mkdir()

    def back() -> None:
        path.rmdir()
        for each in away.iterdir():
            each.rename(tmp_path / each.name)

    return back


def goes_down(meter: Meter) -> None:
    store = sharing(meter).store
    store.close()
    assert not sharing(meter).settle(20)
    assert sharing(meter).down


@pytest.mark.parametrize(("policy", "admitted"), [("local", 10), ("open", 50), ("closed", 0)])
def test_while_the_store_is_away_the_policy_decides(
    worker: Callable[..., Meter], tmp_path: Path, policy: str, admitted: int
) -> None:
    meter = worker(Budget("all", "200 tokens", **A_DAY), on_store_error=policy)
    until_refused(meter, 10, most=10)
    told(meter)
    back = broken(tmp_path)
    goes_down(meter)
    assert until_refused(meter, 10, most=50) == admitted
    if policy != "open":
        with pytest.raises(BudgetRefused) as refused:
            spend(meter, 1)
        assert refused.value.refusal["reason"] == ("store" if policy == "closed" else "limit")
    assert meter.errors == {"store": 1}, "told once, not at every try"
    back()
    while sharing(meter).down:
        sharing(meter).settle(20)
    told(meter)
    found = stored(tmp_path)
    assert (found.settled, found.reserved) == (100 + 10 * admitted, 0), "nothing lost, nothing twice"


def test_alone_a_worker_takes_its_part_of_what_was_left(worker: Callable[..., Meter], tmp_path: Path) -> None:
    budget = Budget("all", "1000 tokens", **A_DAY)
    one, two = worker(budget, slices=0.0), worker(budget, slices=0.0)
    spend(one, 400)
    for meter in (one, two):
        spend(meter, 0)
        told(meter)
    broken(tmp_path)
    for meter in (one, two):
        goes_down(meter)
    assert [until_refused(meter) for meter in (one, two)] == [30, 30]


def test_alone_they_exceed_the_limit_by_at_most_their_part_of_what_was_granted_since_each_last_looked(
    worker: Callable[..., Meter], tmp_path: Path
) -> None:
    budget = Budget("all", "1000 tokens", **A_DAY)
    one, two = worker(budget, slices=0.0), worker(budget, slices=0.0)
    for meter in (one, two):
        spend(meter, 0)
        told(meter)
    told(one)
    granted = 10 * sum(spend(two, 10) == "admit" for _ in range(40))  # and `one` does not look again
    told(two)
    broken(tmp_path)
    for meter in (one, two):
        goes_down(meter)
    spent = granted + 10 * sum(until_refused(meter) for meter in (one, two))
    assert (granted, spent) == (400, 1000 + granted * (2 - 1) // 2)


def test_a_store_that_is_not_there_at_the_start_does_not_keep_the_service_from_starting(tmp_path: Path) -> None:
    budget = Budget("all", "1000 tokens", **A_DAY)
    with a_meter(budgets=[budget], store=f"sqlite://{tmp_path}/nowhere/b.sqlite") as meter:
        assert spend(meter, 1) == "admit"
        assert meter.errors["store"] == 1


def test_a_burst_over_a_dying_store_leaves_no_lease_behind(worker: Callable[..., Meter], tmp_path: Path) -> None:
    meter = worker(Budget("all", "100000 tokens", **A_DAY), slices=0.0)
    spend(meter, 1)

    def work(number: int) -> None:
        if number == 60:
            broken(tmp_path)
            sharing(meter).store.close()
        with contextlib.suppress(BudgetRefused):
            spend(meter, 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(120)))
    assert account(meter, "all") == (121, 0)
    (book,) = meter.admission.store.books(meter.clock.time_ns())
    assert (book.parked, book.flight.count) == (0, 0)


@pytest.mark.parametrize("policy", ["close", "", None, True])
def test_an_unknown_policy_is_refused(policy: Any) -> None:
    assert ON_STORE_ERROR == ("local", "open", "closed")
    with pytest.raises(ConfigurationError, match=r"on_store_error=.*local"):
        a_meter(on_store_error=policy)


# -- what a scrape tells


def usage(meter: Meter) -> dict[tuple[str, str], float]:
    """(key, state) → part of the limit, of the budget "all", as the meter's exposition tells."""
    text = meter.metrics()[0].decode()
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name == "frugal_budget_usage_ratio"]
    return {(s.labels["key"], s.labels["state"]): s.value for s in samples if s.labels["budget"] == "all"}


def looked_anew(meter: Meter) -> None:
    """Let a worker look at its store again, as it does after a while."""
    sharing(meter).overview._next_s = 1e-9
    told(meter)


def test_a_worker_tells_of_keys_that_only_another_has_met(worker: Callable[..., Meter]) -> None:
    budget = Budget("all", "1000 tokens", key="route", **A_DAY)
    one, other = worker(budget), worker(budget)
    with one.measure("a") as span:
        span.add_tokens(output=300)
    with other.measure("b") as span:
        span.add_tokens(output=50)
    with one.measure("c"):
        for meter in (one, other):
            told(meter)
        for meter in (one, other):
            usage(meter)  # somebody reads
            looked_anew(meter)
            found = usage(meter)
            assert (found["a", "settled"], found["b", "settled"], found["c", "reserved"]) == (0.3, 0.05, 0.01)


def test_a_worker_that_starts_tells_of_what_was_spent_before_it_met_anybody(worker: Callable[..., Meter]) -> None:
    budget = Budget("all", "1000 tokens", key="route", **A_DAY)
    one = worker(budget)
    with one.measure("a") as span:
        span.add_tokens(output=300)
    told(one)
    assert usage(worker(budget)) == {("a", "settled"): 0.3, ("a", "reserved"): 0.0}


def test_a_worker_long_idle_tells_what_others_have_spent_meanwhile(worker: Callable[..., Meter]) -> None:
    budget = Budget("all", "1000 tokens", **A_DAY)
    one, other = worker(budget), worker(budget)
    spend(other, 10)
    for _ in range(IDLE_TICKS + 2):
        told(other)
    with one.measure("work") as span:
        span.add_tokens(output=500)
    told(one)
    told(other)
    usage(other)
    looked_anew(other)
    assert usage(other)["", "settled"] == 0.51


def test_without_its_store_a_worker_tells_what_it_knows_itself(tmp_path: Path, worker: Callable[..., Meter]) -> None:
    budget = Budget("all", "1000 tokens", key="route", **A_DAY)
    meter = worker(budget)
    with meter.measure("a") as span:
        span.add_tokens(output=300)
    told(meter)
    meter.admission.sharing.down = True  # type: ignore[union-attr]
    assert usage(meter)["a", "settled"] == 0.3


def test_a_store_of_many_keys_is_told_by_those_nearest_to_their_limit(
    worker: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugal_meter.exporters.aggregates.MAX_LABEL_SETS", 2)
    budget = Budget("all", "1000 tokens", key="route", **A_DAY)
    one = worker(budget)
    for name, tokens in (("a", 10), ("b", 200), ("c", 100), ("d", 20)):
        with one.measure(name) as span:
            span.add_tokens(output=tokens)
    told(one)
    assert {key for key, _ in usage(worker(budget))} == {"b", "c"}


def test_nobody_asks_the_store_for_all_its_accounts_where_nobody_reads(
    worker: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = worker(Budget("all", "1000 tokens", **A_DAY))
    asked: list[float] = []
    states = sharing(meter).store.states
    monkeypatch.setattr(sharing(meter).store, "states", lambda now_s: (asked.append(now_s), states(now_s))[1])
    looked_anew(meter)
    assert asked == []
    usage(meter)
    looked_anew(meter)
    told(meter)
    assert len(asked) == 1, "and then no more often than it should"
