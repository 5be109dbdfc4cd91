"""While work runs: its turn in the queue, more where it outgrows its lease, an end where a hard budget has no more."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import httpx
import pytest
from exchange import AT_NS, HERE, a_meter, account, an_app, ask, later, statuses
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from frugal_meter import Budget, Meter
from frugal_meter.attribution.span import Span
from frugal_meter.budgets import pace
from frugal_meter.budgets.ladder import HYSTERESIS, ORDER, rung_at
from frugal_meter.budgets.leases import Book, Claim, Verdict
from frugal_meter.budgets.upkeep import LEASE_S
from frugal_meter.budgets.waiting import MOST_WAITING, Turns, Waiting
from frugal_meter.errors import BudgetRefused, UnitError
from frugal_meter.testing import SyntheticSource


def begun(meter: Meter, **keys: Any) -> Span:
    """Work that has been decided on, and runs."""
    span = meter.open_span("block")
    for name, value in keys.items():
        setattr(span, name, value)
    meter.decide(span)
    return span


def ended(meter: Meter, span: Span, tokens: int) -> None:
    span.add_tokens(output=tokens)
    meter.close_span(span)


# -- the ladder


STEPS = (0.7, 0.8, 0.9)


def test_a_rung_is_left_only_well_below_where_it_was_entered() -> None:
    rung: Any = None
    seen = []
    for committed in (69, 70, 66, 65, 64, 80, 76, 74, 90, 86, 84, 10):
        rung = rung_at(committed, 100, *STEPS, rung)
        seen.append(rung)
    assert seen == [
        "admit", "warn", "warn", "warn", "admit", "degrade", "degrade", "warn", "throttle", "throttle", "degrade", "admit",
    ]  # fmt: skip


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50))
def test_the_rung_stands_between_that_without_memory_and_that_of_five_percent_more(path: list[int]) -> None:
    rung: Any = None
    for committed in path:
        rung = rung_at(committed, 100, *STEPS, rung)
        fresh = rung_at(committed, 100, *STEPS, None)
        if committed:
            highest = rung_at(round(committed + HYSTERESIS * 100), 100, *STEPS, None)
            assert ORDER[fresh] <= ORDER[rung] <= ORDER[highest]


@given(st.lists(st.sampled_from([68, 69, 70, 71]), min_size=2, max_size=40))
def test_leases_that_come_and_go_at_a_threshold_change_the_rung_once(path: list[int]) -> None:
    rung: Any = None
    seen = [rung := rung_at(committed, 100, *STEPS, rung) for committed in path]
    assert sum(a != b for a, b in itertools.pairwise(seen)) <= 1


def test_a_degraded_service_stays_degraded_until_there_is_room() -> None:
    budget = Budget("all", "100 tokens", per="day", estimate="8 tokens")
    with a_meter(budgets=[budget]) as meter:
        ended(meter, begun(meter), 72)
        first = begun(meter)
        assert begun(meter).decision == "degrade"
        meter.close_span(first)  # 72 + 8: just where it had stepped up
        assert begun(meter).decision == "degrade"


# -- throttling


def throttling(**more: Any) -> Budget:
    """The last 20 of 100 tokens are given out evenly over the minute, one every three seconds."""
    return Budget("all", "100 tokens", **{"per": "minute", "estimate": "10 tokens", "throttle_at": 0.8, **more})


def queueing(meter: Meter) -> Span:
    """Work that waits for its turn."""
    span = meter.open_span("block")
    meter.decide(span, later=True)
    assert span.waiting is not None
    return span


def turned(meter: Meter, span: Span) -> bool:
    """Whether its turn has come, now that turns are looked at."""
    meter.admission.line.next_turns()
    return bool(span.waiting.future.done())


def test_a_throttled_request_runs_at_once_where_the_pace_allows() -> None:
    with a_meter(budgets=[throttling()]) as meter:
        ended(meter, begun(meter), 80)
        later(meter, 30)
        span = begun(meter)
        assert (span.decision, span.refusal) == ("throttle", None)


def test_a_throttled_request_waits_for_the_moment_at_which_the_pace_allows_it() -> None:
    with a_meter(budgets=[throttling(throttle_wait=60)]) as meter:
        ended(meter, begun(meter), 80)
        waiting = queueing(meter)
        assert meter.admission.line.queued == 1
        later(meter, 29.9)
        assert not turned(meter, waiting)
        later(meter, 0.2)
        assert turned(meter, waiting)
        assert meter.admission.wait_here(waiting, meter.clock.time_ns) is None
        assert (waiting.decision, account(meter, "all")) == ("throttle", (80, 10))
        assert meter.admission.line.queued == 0


def test_what_ends_below_its_estimate_brings_the_next_turn_forward() -> None:
    with a_meter(budgets=[throttling(throttle_wait=60)]) as meter:
        ended(meter, begun(meter), 80)
        later(meter, 30)
        running = begun(meter)
        waiting = queueing(meter)
        assert not turned(meter, waiting)
        ended(meter, running, 0)
        assert meter.admission.wait_here(waiting, meter.clock.time_ns) is None


def test_a_turn_is_rung_for_without_anybody_looking() -> None:
    with a_meter(budgets=[throttling(throttle_wait=60)]) as meter:
        ended(meter, begun(meter), 80)
        waiting = queueing(meter)
        later(meter, 30)
        assert meter.admission.wait_here(waiting, meter.clock.time_ns) is None
        assert waiting.decision == "throttle"


@pytest.mark.parametrize("wait", [0, 20])
def test_a_throttled_request_whose_turn_cannot_come_in_time_is_refused_at_once_and_told_when_it_would(wait: int) -> None:
    with a_meter(budgets=[throttling(throttle_wait=wait)]) as meter:
        ended(meter, begun(meter), 80)
        late = begun(meter)
        assert late.refusal is not None
        assert (late.refusal["reason"], late.refusal["retry_after_s"]) == ("throttled", 30)
        later(meter, late.refusal["retry_after_s"])
        assert begun(meter).refusal is None


def test_who_is_refused_is_told_to_come_back_behind_those_who_wait() -> None:
    with a_meter(budgets=[throttling(throttle_wait=35)]) as meter:
        ended(meter, begun(meter), 80)
        first = queueing(meter)
        meter.admission.line.leave(queueing(meter).waiting)  # and who has left is waited for no more
        refusal = meter.admission.wait_here(queueing(meter), meter.clock.time_ns, hurried=True)
        assert refusal is not None
        assert refusal["retry_after_s"] == 60
        later(meter, 31)
        assert turned(meter, first)


def test_who_comes_while_others_wait_waits_behind_them() -> None:
    with a_meter(budgets=[throttling(throttle_wait=60, estimate="8 tokens")]) as meter:
        ended(meter, begun(meter), 80)
        first = queueing(meter)
        later(meter, 25)  # there is room now, and it is the first one's
        second = queueing(meter)
        assert first.waiting.future.done()
        assert not second.waiting.future.done()
        later(meter, 22)
        assert not turned(meter, second)
        later(meter, 1)
        assert turned(meter, second)


def test_what_does_not_fit_waits_for_what_runs_and_is_refused_where_nothing_runs() -> None:
    with a_meter(budgets=[throttling(throttle_wait=20)]) as meter:
        ended(meter, begun(meter), 85)
        later(meter, 59)
        running = begun(meter)
        waiting = queueing(meter)
        ended(meter, running, 9)  # 94: another 10 do not fit, and nothing is left that could give back
        refusal = meter.admission.wait_here(waiting, meter.clock.time_ns)
        assert refusal is not None
        assert refusal["reason"] == "limit"


@given(
    st.booleans(), st.floats(0.05, 1.0), st.integers(0, 2_000), st.integers(0, 1_000), st.integers(1, 300), st.integers(0, 299)
)
def test_a_turn_is_due_when_the_line_reaches_it_and_not_a_moment_before(
    sliding: bool, throttle_at: float, settled: int, elsewhere: int, estimate: int, at_s: int
) -> None:
    budget = Budget("all", "1000 tokens", per="hour", sliding=sliding, throttle_at=throttle_at, degrade_at=None)
    book = Book(budget, (), budget.window(AT_NS / 1e9))
    book.settled, book.elsewhere = settled, elsewhere
    now_ns = AT_NS + at_s * 10**9
    wanted = book.committed_by_all + estimate
    due_ns = pace.opens_at_ns(book, wanted, now_ns)
    assert now_ns <= due_ns <= book.end_ns
    if wanted <= 1000:
        assert pace.line_at(book, due_ns) >= wanted
        assert due_ns == now_ns or pace.line_at(book, due_ns - 10**6) < wanted
    else:
        assert pace.line_at(book, book.end_ns) == 1000 < wanted


@pytest.mark.parametrize(("sliding", "each_minute"), [(False, 1 / 3), (True, 4)], ids=["an hour", "a part of five minutes"])
def test_throttled_work_is_released_at_the_pace_of_the_budget(sliding: bool, each_minute: float) -> None:
    budget = throttling(throttle_wait=3600, per="hour", estimate="1 tokens", sliding=sliding)
    with a_meter(budgets=[budget]) as meter:
        ended(meter, begun(meter), 80)
        waiting = [queueing(meter) for _ in range(30)]
        for minutes in range(1, 5 if sliding else 60):
            later(meter, 60)
            for _ in waiting:
                meter.admission.line.next_turns()
            assert sum(span.waiting.future.done() for span in waiting) == int(each_minute * minutes + 1e-9)
        assert meter.admission.line.queued == (14 if sliding else 11)


def test_a_synchronous_wait_for_a_turn_does_not_block_an_event_loop() -> None:
    with a_meter(budgets=[throttling(throttle_wait=3600)]) as meter:
        ended(meter, begun(meter), 80)

        async def on_the_loop() -> Span:
            return begun(meter)

        assert asyncio.run(on_the_loop()).refusal is not None


def claims() -> list[Claim]:
    return [Claim(throttling(), (), 10, may_refuse=True, learn_as=(None, None))]


def test_turns_go_round_between_tenants_and_each_one_s_own_come_in_order() -> None:
    turns = Turns()
    queue = {name: Waiting(claims(), name[0], 10) for name in ("a1", "a2", "a3", "b1", "c1", "b2")}
    for one in queue.values():
        assert turns.put(one)
    names = {id(one): name for name, one in queue.items()}
    served = []
    while len(turns):
        head = next(turns.heads())
        turns.served(head)
        served.append(names[id(head)])
    assert served == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_the_queue_is_bounded_and_who_leaves_makes_room() -> None:
    turns = Turns()
    queue = [Waiting(claims(), None, 10) for _ in range(MOST_WAITING + 1)]
    assert [turns.put(one) for one in queue].count(False) == 1
    turns.remove(queue[5])
    turns.remove(queue[5])
    assert len(turns) == MOST_WAITING - 1
    assert turns.put(queue[-1])


def test_a_verdict_for_one_who_has_left_is_not_taken() -> None:
    one = Waiting(claims(), None, 10)
    assert one.give_up() is None
    assert not one.resolve(Verdict("admit", [], []))
    other = Waiting(claims(), None, 10)
    assert other.resolve(Verdict("admit", [], []))
    assert other.give_up() == Verdict("admit", [], [])


def test_throttled_http_requests_run_at_their_pace_in_their_order_and_the_loop_is_free() -> None:
    budget = Budget("all", "100 requests", per="minute", throttle_at=0.5, degrade_at=None, warn_at=0.5, throttle_wait=60)
    began: list[str] = []

    async def slow(request: Request) -> PlainTextResponse:
        began.append((await request.body()).decode())
        return PlainTextResponse(began[-1])

    async def all_of_them(app: Any, meter: Meter) -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, client=HERE)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            tasks = [asyncio.create_task(http.post("/slow", content=f"body {n}")) for n in range(20)]
            while meter.admission.line.queued < 20:
                await asyncio.sleep(0)
            for number in range(1, 21):
                later(meter, 1.21)  # the upper half of the limit, in a minute
                meter.admission.line.next_turns()
                while sum(task.done() for task in tasks) < number:
                    await asyncio.sleep(0)
                assert meter.admission.line.queued == 20 - number
            return await asyncio.gather(*tasks)

    with a_meter(budgets=[budget]) as meter:
        for _ in range(50):
            ended(meter, begun(meter), 0)
        answers = asyncio.run(all_of_them(an_app(meter, Route("/slow", slow, methods=["POST"])), meter))
        assert statuses(answers) == [200] * 20
        assert [answer.text for answer in answers] == [f"body {n}" for n in range(20)], "what was read ahead is handed on"
        assert sorted(began) == sorted(answer.text for answer in answers)
        assert account(meter, "all") == (70, 0)
        assert not meter.errors


def test_a_client_that_leaves_the_queue_costs_nothing_and_holds_nothing() -> None:
    budget = Budget("all", "100 requests", per="minute", throttle_at=0.01, degrade_at=None, warn_at=0.01)

    async def leaves(meter: Meter, app: Any) -> None:
        messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: dict[str, Any]) -> None:
            raise AssertionError("nobody is there to answer")

        scope = {"type": "http", "method": "GET", "path": "/hello", "headers": [], "query_string": b"", "raw_path": b"/hello"}
        await app(scope, receive, send)

    with a_meter(budgets=[budget]) as meter:
        ended(meter, begun(meter), 0)
        asyncio.run(leaves(meter, an_app(meter, outside=True)))
        assert account(meter, "all") == (1, 0)
        meter.settle()
        assert meter.recent[-1].outcome == "client_disconnect"
        assert meter.admission.line.queued == 0


def test_a_cancelled_request_leaves_the_queue() -> None:
    with a_meter(budgets=[throttling(throttle_wait=60)]) as meter:
        ended(meter, begun(meter), 80)

        @meter.measure("late")
        async def late() -> None:
            raise AssertionError("it never began")

        async def cancelled() -> None:
            task = asyncio.create_task(late())
            while not meter.admission.line.queued:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(cancelled())
        assert meter.admission.line.queued == 0
        assert account(meter, "all") == (80, 0)


# -- top-up and cut


def test_work_that_outgrows_its_lease_is_given_more() -> None:
    with a_meter(budgets=[Budget("all", "1000 tokens", per="day", estimate="10 tokens")]) as meter:
        span = begun(meter)
        span.add_tokens(output=7)
        meter.admission.upkeep.top_up(span, meter.clock.time_ns())
        assert account(meter, "all").reserved == 10, "not yet needed"
        span.add_tokens(output=1)
        meter.admission.upkeep.top_up(span, meter.clock.time_ns())
        assert account(meter, "all").reserved == 15
        span.add_tokens(output=92)
        meter.admission.upkeep.top_up(span, meter.clock.time_ns())
        assert account(meter, "all").reserved >= 101
        meter.close_span(span)
        assert account(meter, "all") == (100, 0)
        assert meter.admission.upkeep.topped_up == 2


def test_the_tick_tops_up_what_runs() -> None:
    with a_meter(budgets=[Budget("all", "1000 tokens", per="day", estimate="10 tokens")]) as meter:
        span = begun(meter)
        span.add_tokens(output=50)
        meter.settle()
        assert account(meter, "all").reserved > 50


def test_near_the_limit_a_running_request_takes_what_is_left() -> None:
    with a_meter(budgets=[Budget("all", "22 tokens", per="day", estimate="20 tokens")]) as meter:
        span = begun(meter)
        span.add_tokens(output=20)
        meter.admission.upkeep.top_up(span, meter.clock.time_ns())
        assert account(meter, "all").reserved == 22


@pytest.mark.parametrize(("hard", "enforce"), [(True, True), (False, True), (True, False)])
def test_only_a_hard_budget_cuts_and_only_when_there_is_nothing_left(hard: bool, enforce: bool) -> None:
    budget = Budget("all", "20 tokens", per="day", estimate="20 tokens", hard=hard, enforce=enforce)
    with a_meter(budgets=[budget]) as meter:
        span = begun(meter)
        span.add_tokens(output=19)
        meter.top_up(span)
        assert span.cut is None
        span.add_tokens(output=1)
        later(meter, 1)
        meter.top_up(span)
        if not (hard and enforce):
            assert span.cut is None
            return
        assert span.cut is not None
        assert (span.cut["budget"], span.cut["limit"], span.decision) == ("all", 20, "cut")
        meter.close_span(span)
        meter.settle()
        assert meter.admission.decisions["all", "cut"] == 1
        assert [e.action for e in meter.admission.log.recent] == ["cut", "admit"]
        assert account(meter, "all") == (20, 0)


def test_a_block_is_cut_with_the_request_that_pays_for_it() -> None:
    budget = Budget("all", "20 tokens", per="day", estimate="20 tokens", hard=True)
    with a_meter(budgets=[budget]) as meter, meter.measure("outer"), meter.measure("inner") as inner:
        inner.add_tokens(output=21)
        meter.top_up(inner)
        assert inner.cut is not None


def test_looking_at_leases_for_every_chunk_is_bounded() -> None:
    with a_meter(budgets=[Budget("all", "1000 tokens", per="day", estimate="10 tokens")]) as meter:
        span = begun(meter)
        meter.top_up(span)
        span.add_tokens(output=50)
        meter.top_up(span)
        assert account(meter, "all").reserved == 10, "looked at this very moment"
        later(meter, 0.05)
        meter.top_up(span)
        assert account(meter, "all").reserved > 50


# -- leases that nobody uses, and a meter that is dead


def test_a_lease_that_nobody_uses_is_charged_in_full_and_corrected_if_its_work_ends_after_all() -> None:
    with a_meter(budgets=[Budget("all", "1000 tokens", per="day", estimate="10 tokens")]) as meter:
        span = begun(meter)
        for _ in range(3):
            later(meter, LEASE_S + 1)
            meter.settle()
        assert account(meter, "all") == (10, 0)
        assert meter.admission.upkeep.expired == 1
        ended(meter, span, 3)
        meter.settle()
        assert account(meter, "all") == (3, 0)


def test_work_that_uses_cpu_keeps_its_lease() -> None:
    with a_meter(budgets=[Budget("all", "1000 tokens", per="day", estimate="10 tokens")]) as meter:
        span = begun(meter)
        for _ in range(3):
            later(meter, LEASE_S + 1)
            span.cpu_ns += 1000
            meter.settle()
        assert account(meter, "all").reserved == 10


def test_without_a_tick_joules_are_charged_at_the_reservation_and_the_reading_says_so() -> None:
    budgets = [Budget("joules", "50 kJ", per="day", estimate="5 J"), Budget("tokens", "100 tokens", per="day")]
    with a_meter(budgets=budgets) as meter:
        meter.settle()
        later(meter, 3600)  # ten ticks of a minute have not come
        span = begun(meter)
        ended(meter, span, 4)
        assert account(meter, "joules") == (5, 0)
        assert account(meter, "tokens") == (4, 0), "what is counted needs no tick"
        assert "budget:reserved" in span.reading.flags
        assert meter.admission.blind == 1
        meter.settle()
        assert account(meter, "joules").settled < 5, "once it ticks again, what it was"
        assert "budget:reserved" not in span.reading.flags


# -- estimates


def test_a_caller_s_estimate_is_what_is_reserved() -> None:
    budgets = [Budget("t", "100 tokens", per="day"), Budget("e", "50 kJ", per="day")]
    with a_meter(budgets=budgets) as meter:
        with meter.measure("work", estimate="40 tokens"):
            assert account(meter, "t").reserved == 40
        with meter.measure("work", estimate=["50 tokens", "3 J"]):
            assert (account(meter, "t").reserved, account(meter, "e").reserved) == (50, 3)


def test_an_estimate_may_be_told_by_the_call_s_arguments() -> None:
    with a_meter(budgets=[Budget("t", "100 tokens", per="day")]) as meter:

        @meter.measure(estimate=lambda question, more=0: f"{len(question) + more} tokens")
        def answer(question: str, more: int = 0) -> float:
            return account(meter, "t").reserved

        assert (answer("twelve chars"), answer("12", more=5)) == (12, 7)
        assert not meter.errors


def test_an_estimate_that_fails_is_counted_and_passed_over() -> None:
    with a_meter(budgets=[Budget("t", "100 tokens", per="day", estimate="7 tokens")]) as meter:

        @meter.measure(estimate=lambda: "many")
        def answer() -> float:
            return account(meter, "t").reserved

        assert answer() == 7
        assert meter.errors == {"estimate": 1}


@pytest.mark.parametrize("estimate", ["40", "-3 J", "", ["3 J", "x"]])
def test_an_estimate_that_means_nothing_is_refused_where_it_is_written(estimate: Any) -> None:
    with pytest.raises(UnitError):
        a_meter().measure("work", estimate=estimate)


def test_no_request_reserves_more_than_its_fraction_of_the_limit() -> None:
    with a_meter(budgets=[Budget("t", "100 tokens", per="day", max_fraction=0.25)]) as meter, meter.measure(estimate="99 tokens"):
        assert account(meter, "t").reserved == 25


def test_the_bias_of_estimates_is_known() -> None:
    with a_meter(budgets=[Budget("t", "1000 tokens", per="day", estimate="30 tokens")]) as meter:
        assert meter.admission.estimator["t"].bias is None
        ended(meter, begun(meter), 20)
        meter.settle()
        assert meter.admission.estimator["t"].bias == 1.5


def test_a_smaller_model_s_need_is_what_stays_reserved() -> None:
    budget = Budget("t", "1000 tokens", per="day", key="model", estimate="100 tokens", degrade_at=0.1, warn_at=0.1)
    with a_meter(budgets=[budget]) as meter:

        @meter.measure("answer", model="small")
        def small() -> float:
            meter.current().add_tokens(output=10)  # type: ignore[union-attr]
            return account(meter, "t", "large").reserved

        @meter.measure("answer", model="large", fallback=small)
        def answer() -> float:
            meter.current().add_tokens(output=150)  # type: ignore[union-attr]
            return account(meter, "t", "large").reserved

        assert answer() == 100
        meter.settle()
        assert answer() == 100, "nothing has been seen of the small one yet"
        meter.settle()
        assert answer() == 10


# -- people


def test_an_override_lets_through_by_name_and_is_charged_and_logged() -> None:
    from frugal_meter.budgets.stores import Override

    with a_meter(budgets=[Budget("all", "1 requests", per="day")]) as meter:
        now_s = meter.clock.time_ns() / 1e9
        ended(meter, begun(meter), 0)
        meter.admission.log.overrides = [Override(1, "all", None, "maire", "élections", now_s, now_s + 60)]
        span = begun(meter)
        assert span.refusal is None
        ended(meter, span, 0)
        assert account(meter, "all").settled == 2
        assert meter.admission.decisions["all", "override"] == 1
        line = meter.admission.log.recent[-1]
        assert (line.action, line.why, line.settled, line.limit) == ("override", "1: maire, élections", 1, 1)
        later(meter, 61)
        assert begun(meter).refusal is not None


def test_every_decision_is_a_line_with_its_figures_and_admissions_are_one_line_a_tick() -> None:
    with a_meter(budgets=[Budget("all", "4 requests", per="day", warn_at=0.5, degrade_at=0.75)]) as meter:
        for _ in range(5):
            ended(meter, begun(meter), 0)
        meter.settle()
        lines = [(e.action, e.settled, e.why) for e in meter.admission.log.recent]
    assert lines == [("warn", 2, ""), ("degrade", 3, ""), ("refuse", 4, "limit"), ("admit", None, "2 requests")]


def test_refusals_of_another_thread_do_not_wait_for_a_turn_that_is_not_theirs() -> None:
    with a_meter(budgets=[throttling(throttle_wait=20), Budget("two", "2 requests", per="day")]) as meter:
        ended(meter, begun(meter), 80)
        later(meter, 59)
        running = begun(meter)
        refused: list[BaseException] = []

        def work() -> None:
            try:
                with meter.measure("late"):
                    pass
            except BudgetRefused as error:
                refused.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(refused) == 1
        ended(meter, running, 0)


def test_http_requests_are_admitted_by_a_meter_of_joules_as_ever() -> None:
    with a_meter(sources=SyntheticSource(0, 10), budgets=[Budget("all", "50 kJ", per="day", sliding=True)]) as meter:
        assert statuses(ask(an_app(meter), *["/hello"] * 3)) == [200] * 3


def test_under_trio_a_throttled_request_is_decided_at_once() -> None:
    import trio

    budget = Budget("all", "100 requests", per="minute", throttle_at=0.01, degrade_at=None, warn_at=0.01, throttle_wait=3600)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with a_meter(budgets=[budget]) as meter:
        ended(meter, begun(meter), 0)
        scope = {"type": "http", "method": "GET", "path": "/hello", "headers": [], "query_string": b"", "raw_path": b"/hello"}
        trio.run(an_app(meter, outside=True), scope, receive, send)
    assert sent[0]["status"] == 429
