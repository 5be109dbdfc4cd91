"""Budgets where two things meet: a reload and what runs, a full table of tenants and nested work, two budgets spent at once."""

from __future__ import annotations

import asyncio
import itertools
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from exchange import AT_NS, a_meter, account, an_app, ask, later, samples, statuses, talk, websocket_scope
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.attribution.span import Span
from frugal_meter.budgets.leases import Claim
from frugal_meter.budgets.stores import Account
from frugal_meter.budgets.stores.memory import MAX_KEYS, MemoryStore
from frugal_meter.budgets.survival import Record
from frugal_meter.errors import BudgetRefused
from frugal_meter.testing import FrozenClock

Pair = Callable[[Budget], tuple[Meter, Meter]]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Makes two workers of one service that share a file, and have met."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path / "run"))
    with ExitStack() as stack:

        def make(budget: Budget) -> tuple[Meter, Meter]:
            two = [a_meter(budgets=[budget], store=f"sqlite://{tmp_path}/b.sqlite") for _ in range(2)]
            for meter in two:
                stack.enter_context(meter)
            for meter in two:
                told(meter)
            return two[0], two[1]

        yield make


def told(meter: Meter) -> None:
    """Let the store know where this worker is."""
    assert meter.admission.sharing is not None
    assert meter.admission.sharing.settle(20)


def away(meter: Meter) -> None:
    """The store of this worker is out of reach from now on."""
    sharing = meter.admission.sharing
    assert sharing is not None
    path = sharing.store.path
    sharing.store.close()
    path.unlink()
    path.mkdir()
    assert not sharing.settle(20)


def begun(meter: Meter, tenant: str | None = None, model: str | None = None) -> Span:
    """Work that has been decided on, and runs or waits for its turn."""
    span = meter.open_span("block")
    span.tenant, span.model = tenant, model
    meter.decide(span, later=True)
    line = meter.admission.line
    if span.waiting is not None and not line.queued:  # for the store's answer
        span.refusal = meter.admission.wait_here(span, meter.clock.time_ns)
    return span


def ended(meter: Meter, span: Span, tokens: int = 0) -> None:
    span.add_tokens(output=tokens)
    meter.close_span(span)


def reload(meter: Meter, *budgets: Budget) -> None:
    """What a changed frugal.toml does at the next tick."""
    meter.admission.reload(budgets, lambda budget: None, {}, meter.clock.time_ns())


# -- a reload under load


@pytest.mark.parametrize("after", [None, Budget("gone", "5 requests", per="day")], ids=["removed", "of another kind"])
def test_work_that_runs_while_its_budget_goes_gives_back_what_the_others_reserved(after: Budget | None) -> None:
    stays, goes = Budget("stays", "100 tokens", per="day"), Budget("gone", "100 tokens", per="day")
    with a_meter(budgets=[stays, goes]) as meter:
        running = begun(meter)
        reload(meter, stays, *([after] if after else []))
        ended(meter, running, 7)
        meter.settle()
        assert account(meter, "stays") == (7, 0)
        assert not meter.errors


def test_who_waited_for_a_budget_that_is_gone_does_not_bring_it_back() -> None:
    more: dict[str, Any] = {"per": "minute", "estimate": "10 tokens", "throttle_at": 0.8, "throttle_wait": 60}
    with a_meter(budgets=[Budget("all", "100 tokens", **more)]) as meter:
        ended(meter, begun(meter), 80)
        waiting = begun(meter)
        assert waiting.waiting is not None
        reload(meter, Budget("other", "50 requests", per="day"))
        meter.admission.line.next_turns()
        assert meter.admission.wait_here(waiting, meter.clock.time_ns) is None
        ended(meter, waiting, 1)
        meter.settle()
        assert {book.budget.name for book in meter.admission.store.books(meter.clock.time_ns())} == {"other"}
        assert samples(meter, "frugal_budget_usage_ratio")
        assert not meter.errors


def test_who_waited_for_a_budget_that_counts_something_else_now_is_not_charged_to_it() -> None:
    more: dict[str, Any] = {"per": "minute", "estimate": "10 tokens", "throttle_at": 0.8, "throttle_wait": 60}
    with a_meter(budgets=[Budget("all", "100 tokens", **more)]) as meter:
        ended(meter, begun(meter), 80)
        waiting = begun(meter)
        reload(meter, Budget("all", "50 requests", per="day"))
        meter.admission.line.next_turns()
        assert meter.admission.wait_here(waiting, meter.clock.time_ns) is None
        ended(meter, waiting, 9)
        assert account(meter, "all") == (0, 0)
        ended(meter, begun(meter), 9)
        assert account(meter, "all") == (1, 0)


# -- more tenants than accounts


def test_nested_work_of_a_tenant_without_an_account_of_its_own_is_paid_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugal_meter.budgets.stores.memory.MAX_KEYS", 2)
    with a_meter(budgets=[Budget("each", "100 tokens", per="day", key="tenant")]) as meter:
        for number in range(2):
            ended(meter, begun(meter, tenant=f"tenant-{number}"))
        with meter.measure("outer", tenant="late"), meter.measure("inner") as inner:
            inner.add_tokens(output=5)
        meter.settle()
        assert account(meter, "each", "other") == (5, 0)


def test_a_full_table_is_not_searched_through_for_every_stranger() -> None:
    budget, store = Budget("each", "5 requests", per="day", key="tenant"), MemoryStore()

    def seconds(names: list[str]) -> float:
        before = time.thread_time()
        for name in names:
            verdict = store.admit([Claim(budget, (name,), 1, may_refuse=False, learn_as=(None, None))], AT_NS)
            store.settle(verdict.leases, [1000])
        return time.thread_time() - before

    seconds([f"tenant-{number}" for number in range(MAX_KEYS)])
    rounds = [(seconds([f"tenant-{n}" for n in range(100)]), seconds([f"stranger-{n}" for n in range(100)])) for _ in range(5)]
    known, strange = (min(each) for each in zip(*rounds, strict=True))
    assert strange < 20 * known, "it took a hundred times as long"


def test_in_a_full_table_a_tenant_called_other_has_no_more_room_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugal_meter.budgets.stores.memory.MAX_KEYS", 3)
    budget, store = Budget("each", "5 requests", per="day", key=("tenant", "model")), MemoryStore()
    for number in range(20):
        store.admit([Claim(budget, ("other", f"model-{number}"), 1, may_refuse=False, learn_as=(None, None))], AT_NS)
    assert len(store.books(AT_NS)) == 4, "three, and the one that all the rest share"


# -- several budgets spent at once


def test_a_refusal_by_two_spent_budgets_names_the_one_that_opens_last() -> None:
    short, long = Budget("short", "2 requests", per="minute"), Budget("long", "2 requests", per="day")
    for budgets in ([short, long], [long, short]):
        with a_meter(budgets=budgets) as meter:
            app = an_app(meter)
            *_, refused = ask(app, "/hello", "/hello", "/hello")
            assert refused.json()["violated-policies"] == ["long"]
            later(meter, int(refused.headers["retry-after"]))
            assert statuses(ask(app, "/hello")) == [200]


def test_a_spent_budget_behind_one_that_is_only_full_is_what_the_client_waits_for() -> None:
    full = Budget("full", "100 requests", per="day", max_in_flight=1)
    spent = Budget("spent", "1 requests", per="hour")
    with a_meter(budgets=[full, spent]) as meter:
        begun(meter)
        refused = begun(meter).refusal
        assert refused is not None
        assert (refused["budget"], refused["reason"], refused["retry_after_s"]) == ("spent", "limit", 3600)


# -- sliding windows


def test_work_of_an_earlier_part_takes_no_more_than_later_parts_have_left() -> None:
    budget = Budget("all", "100 tokens", per="minute", sliding=True, estimate="10 tokens", hard=True)
    with a_meter(budgets=[budget]) as meter:
        running = begun(meter)
        later(meter, 10)
        ended(meter, begun(meter), 85)
        running.add_tokens(output=12)
        meter.top_up(running)
        assert (running.cut, running.leases[0].amount) == (None, 15), "5 were left, which is enough to go on"
        later(meter, 1)
        running.add_tokens(output=8)
        meter.top_up(running)
        assert running.cut is not None


def test_a_wait_under_a_sliding_window_counts_what_runs_in_its_earlier_parts() -> None:
    budget = Budget("all", "100 tokens", per="minute", sliding=True, estimate="10 tokens", degrade_at=None)
    with a_meter(budgets=[budget]) as meter:
        running = [begun(meter) for _ in range(3)]
        later(meter, 10)
        ended(meter, begun(meter), 75)
        refusal = begun(meter).refusal
        assert refusal is not None
        assert refusal["retry_after_s"] == 55, "what runs was admitted 10 s ago, in a part that counts for 65 s"
        later(meter, refusal["retry_after_s"])
        assert begun(meter).refusal is None
        assert all(span.refusal is None for span in running)


def test_a_sliding_budget_alone_gives_its_part_of_the_limit_once_a_window_and_not_once_a_part(pair: Pair) -> None:
    budget = Budget("all", "120 tokens", per="minute", sliding=True, estimate="10 tokens", degrade_at=None)
    one, two = pair(budget)
    away(one)
    admitted = 0
    for _ in range(12):
        admitted += sum(begun(one).refusal is None for _ in range(20))
        later(one, 5)
    assert admitted == 5, "half of what was left of 120 tokens, since two share them and each holds a slice"
    assert two.admission.sharing is not None


# -- the queue


def test_tenants_whose_turn_cannot_come_do_not_keep_others_from_theirs() -> None:
    more: dict[str, Any] = {"per": "day", "throttle_at": 0.5, "degrade_at": None, "warn_at": 0.5, "throttle_wait": 60}
    each = Budget("each", "4 requests", key="tenant", max_in_flight=1, **more)
    with a_meter(budgets=[each]) as meter:
        tenants = [f"tenant-{number}" for number in range(20)]
        running = {tenant: begun(meter, tenant) for tenant in tenants}
        waiting = {tenant: begun(meter, tenant) for tenant in tenants}
        assert all(span.waiting is not None for span in waiting.values())
        ended(meter, running["tenant-19"])
        for _ in range(3):
            meter.admission.line.next_turns()
        assert [tenant for tenant, span in waiting.items() if span.waiting.future.done()] == ["tenant-19"]


class Silent:
    """A bell that never rings: turns come when the test says so."""

    def set(self, at_ns: int | None) -> None: ...
    def sooner(self, at_ns: int) -> None: ...


def paced(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """A meter whose one budget of 600 tokens a minute gives out 5 of them each second, and no more, from now on."""
    meter = a_meter(budgets=[Budget("all", "600 tokens", per="minute", throttle_at=0.5, degrade_at=None, warn_at=0.5)])
    monkeypatch.setattr(meter.admission.line, "_bell", Silent())
    meter.start()
    ended(meter, needing(meter, 300, None), 300)
    return meter


def needing(meter: Meter, tokens: int, tenant: str | None) -> Span:
    span = meter.open_span("block")
    span.tenant, span.estimates = tenant, {"tokens": tokens}
    meter.decide(span, later=True)
    return span


def test_small_requests_do_not_keep_a_large_one_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = paced(monkeypatch)
    large, small = needing(meter, 10, "large"), [needing(meter, 1, "small")]
    served: list[Span] = []
    second = 0
    while not large.waiting.future.done() and second < 5:
        second += 1
        later(meter, 1)
        meter.admission.line.next_turns()
        served += [span for span in small if span.waiting.future.done()]
        small.append(needing(meter, 1, "small"))
    assert (second, served) == (2, []), "10 tokens come free in two seconds, and are saved for who asked for them first"
    later(meter, 1)
    for _ in range(5):
        meter.admission.line.next_turns()
    assert all(span.waiting.future.done() for span in small)
    for span in (large, *small):
        meter.admission.wait_here(span, meter.clock.time_ns)
        ended(meter, span)
    meter.stop()


def test_work_that_may_not_wait_does_not_take_the_turn_of_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = paced(monkeypatch)
    waits = needing(meter, 10, "large")
    later(meter, 1)

    async def at_once() -> None:
        with meter.measure("at once", estimate="1 tokens"):
            raise AssertionError("5 tokens have come free, and are another's")

    with pytest.raises(BudgetRefused) as refused:
        asyncio.run(at_once())
    assert refused.value.refusal["reason"] == "throttled"
    later(meter, 1)
    meter.admission.line.next_turns()
    assert meter.admission.wait_here(waits, meter.clock.time_ns) is None
    ended(meter, waits)
    meter.stop()


# -- a store that does not answer


def test_while_the_store_is_away_nobody_is_told_that_a_budget_with_room_is_spent(pair: Pair) -> None:
    one, two = pair(Budget("all", "100 tokens", per="month", estimate="10 tokens"))
    for meter in (one, two):
        ended(meter, begun(meter), 10)
        told(meter)
    away(one)
    spans = [begun(one) for _ in range(12)]
    refusal = next(span.refusal for span in spans if span.refusal is not None)
    assert (refusal["reason"], refusal["retry_after_s"]) == ("store", 1), "not the end of the month"
    assert refusal["settled"] + refusal["reserved"] + refusal["estimate"] <= refusal["limit"]
    for span in spans:
        ended(one, span)


@pytest.mark.parametrize(("policy", "reason"), [("open", None), ("local", "store"), ("closed", "store")])
def test_who_may_not_wait_for_a_slow_store_is_decided_over_by_its_policy(tmp_path: Path, policy: str, reason: str | None) -> None:
    store = f"sqlite://{tmp_path}/b.sqlite"
    budget = Budget("all", "1000 tokens", per="month", estimate="100 tokens")  # more than a slice, of which the store is asked
    with a_meter(budgets=[budget], store=store, on_store_error=policy) as meter, sqlite3.connect(tmp_path / "b.sqlite") as db:
        told(meter)
        db.execute("BEGIN IMMEDIATE")  # for less long than it takes to call the store away

        async def at_once() -> Any:
            try:
                with meter.measure("at once"):
                    return None
            except BudgetRefused as refused:
                return refused.refusal

        refusal = asyncio.run(at_once())
        db.execute("ROLLBACK")
        assert not meter.errors
        assert (refusal and refusal["reason"]) == reason
        assert not refusal or refusal["retry_after_s"] == 1
        told(meter)
        assert account(meter, "all") == (0, 0)


def test_what_a_store_has_denied_is_asked_for_again_although_the_clock_was_set_back(pair: Pair) -> None:
    one, two = pair(Budget("all", "100 tokens", per="day", estimate="60 tokens"))
    later(one, 7200)
    later(two, 7200)
    runs, refused = begun(two), begun(one)
    assert refused.refusal is not None
    later(one, -3600)
    ended(two, runs)
    told(two)
    assert begun(one).refusal is None


def test_a_turn_that_the_store_has_nothing_for_does_not_prolong_the_wait(pair: Pair) -> None:
    budget = Budget("all", "100 tokens", per="hour", estimate="10 tokens", throttle_at=0.8, throttle_wait=20)
    one, two = pair(budget)
    for meter, tokens in ((one, 45), (two, 40)):
        later(meter, 3550)
        told(meter)
        ended(meter, begun(meter), tokens)
        told(meter)
    running, waiting, line = begun(one), one.open_span("block"), one.admission.line
    one.decide(waiting, later=True)
    told(one)
    assert line.queued == 1
    deadline = waiting.waiting.deadline
    for _ in itertools.repeat(None, 3):
        later(one, 1)
        line.next_turns()
        told(one)
    assert waiting.waiting.deadline == deadline
    ended(one, running)


# -- what a worker keeps of a shared store


def test_work_that_was_given_nothing_more_is_not_remembered_when_it_has_ended(pair: Pair) -> None:
    one, two = pair(Budget("all", "100 tokens", per="day", estimate="10 tokens"))
    ended(two, begun(two), 85)
    told(two)
    running = begun(one)
    told(one)
    running.add_tokens(output=20)
    one.top_up(running)
    told(one)
    assert one.admission.sharing is not None
    assert len(one.admission.sharing.denied) == 1
    ended(one, running)
    told(one)
    assert not one.admission.sharing.denied


def test_the_record_of_a_worker_does_not_grow_with_every_window(pair: Pair) -> None:
    one, _ = pair(Budget("all", "1000 tokens", per="minute", estimate="10 tokens"))
    sharing = one.admission.sharing
    assert sharing is not None
    for _ in range(10):
        ended(one, begun(one), 1)
        later(one, 60)
        told(one)
        sharing._survivors_at = 0.0  # as it does by itself, every few seconds
        told(one)
    assert len(sharing._cells) <= 3


def test_the_record_s_pages_are_there_before_they_are_written(tmp_path: Path) -> None:
    record = Record(tmp_path, "budget-", "me")
    stat = record.path.stat()
    record.close()
    assert stat.st_blocks * 512 >= stat.st_size, "a full disk is an error when asked for, and a SIGBUS when written to"


def test_a_record_that_cannot_grow_keeps_what_it_has(tmp_path: Path) -> None:
    record = Record(tmp_path, "budget-", "me")
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    accounts = [Account("all", "tokens", (str(number),), 0, 60) for number in range(65)]
    taken = [record.take(account, 0) for account in accounts[:64]]
    resource.setrlimit(resource.RLIMIT_FSIZE, (record.path.stat().st_size, kept[1]))
    try:
        assert record.take(accounts[64], 0) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert all(taken)
    assert record.take(accounts[64], 0) is not None, "there is room again"
    record.close()


# -- websockets


def test_a_websocket_that_its_application_has_closed_is_not_closed_twice() -> None:
    with a_meter(budgets=[Budget("each", "1 requests", per="day", key="model")]) as meter:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            try:
                for _ in range(2):
                    async with meter.measure("work", model="large"):
                        pass
            finally:
                await send({"type": "websocket.close", "code": 1011})

        sent = talk(MeterMiddleware(app, meter=meter), websocket_scope("/ws"), {"type": "websocket.connect"})
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]


# -- what lies about, and clocks


MAGIC = b"frugal budget 1\0"


@pytest.mark.parametrize("text", [MAGIC + b"\x04" + b"\xff" * 4, MAGIC, b"", MAGIC + b"\x02me" + b"\xff" * 4096])
def test_a_torn_record_of_the_dead_does_not_keep_the_living_from_their_store(pair: Pair, tmp_path: Path, text: bytes) -> None:
    one, _ = pair(Budget("all", "1000 tokens", per="day", estimate="10 tokens"))
    sharing = one.admission.sharing
    assert sharing is not None
    (tmp_path / "run" / (sharing._prefix + "0")).write_bytes(text)
    sharing._survivors_at = 0.0
    told(one)
    assert not sharing.down
    assert not (tmp_path / "run" / (sharing._prefix + "0")).exists()


def test_a_clock_that_was_days_ahead_for_a_moment_forgives_nothing() -> None:
    with a_meter(budgets=[Budget("all", "3 requests", per="day")]) as meter:
        for _ in range(3):
            ended(meter, begun(meter))
        later(meter, 10 * 86_400)
        ended(meter, begun(meter))
        assert isinstance(meter.clock, FrozenClock)
        meter.clock._unix_ns -= 10 * 86_400 * 10**9
        assert begun(meter).refusal is not None


# -- a wait that is told is true


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40)), min_size=1, max_size=25),
    st.lists(st.tuples(st.sampled_from(["minute", "hour", "day"]), st.booleans(), st.integers(50, 100)), min_size=1, max_size=3),
)
def test_who_comes_back_when_told_is_admitted(arrivals: list[tuple[int, int]], shapes: list[tuple[Any, bool, int]]) -> None:
    budgets = [
        Budget(f"b{place}", f"{limit} tokens", per=per, sliding=sliding, estimate="10 tokens", degrade_at=None)
        for place, (per, sliding, limit) in enumerate(shapes)
    ]
    with a_meter(budgets=budgets) as meter:
        for wait, tokens in arrivals:
            later(meter, wait)
            span = begun(meter)
            if span.refusal is not None:
                later(meter, span.refusal["retry_after_s"])
                span = begun(meter)
                assert span.refusal is None
            ended(meter, span, tokens)


def test_budgets_that_reloads_put_away_are_let_go_once_nothing_runs_under_them() -> None:
    with a_meter(budgets=[Budget("b0", "1000 tokens", per="month", key="tenant", estimate="10 tokens")], tenant=str) as meter:
        store = meter.admission.store
        running = meter.open_span("block")
        running.tenant = "runs on"
        meter.decide(running)
        for turn in range(1, 20):
            for tenant in range(5):
                with meter.measure("work", tenant=f"tenant-{tenant}") as span:
                    span.add_tokens(output=3)
            budget = Budget(f"b{turn}", "1000 tokens", per="month", key="tenant", estimate="10 tokens")
            reload(meter, budget)
        for _ in range(3):
            meter.settle()
        assert [book.key for book in store.every()] == [("runs on",)]
        running.add_tokens(output=4)
        meter.close_span(running)
        for _ in range(3):
            meter.settle()
        assert running.leases[0].book.settled == 4
        assert (list(store.every()), store._closed, store._gone) == ([], {}, {})


def test_a_worker_lets_go_of_a_budget_that_was_put_away_when_the_store_has_heard_of_all(pair: Pair) -> None:
    one, other = pair(Budget("old", "100 tokens", per="month", estimate="10 tokens"))
    spent = one.open_span("block")
    one.decide(spent)
    spent.add_tokens(output=7)
    one.close_span(spent)
    reload(one, Budget("new", "100 tokens", per="month", estimate="10 tokens"))
    for _ in range(4):
        one.settle()
        told(one)
    assert [book.budget.name for book in one.admission.store.every()] == ["new"]
    told(other)
    [book] = other.admission.store.books(AT_NS)
    assert book.committed_by_all == 7
