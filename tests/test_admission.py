"""Reserve, settle, correct: several budgets in one step, nothing lost to rounding, nothing overshot by threads."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from exchange import AT_NS, a_meter, account, later, samples

from frugal_meter import Budget, Meter
from frugal_meter.budgets.leases import Claim
from frugal_meter.budgets.stores.memory import MemoryStore
from frugal_meter.errors import BudgetNotEnforceableError, BudgetRefused
from frugal_meter.sources.power_model import BoardModelSource
from frugal_meter.testing import SyntheticSource


def claim(budget: Budget, estimate: int) -> Claim:
    return Claim(budget, (), estimate, may_refuse=True, learn_as=(None, None))


def spend(meter: Meter, tokens: int = 0, **keys: Any) -> str | None:
    """One measured piece of work, and the decision on it."""
    with meter.measure("work", **keys) as span:
        span.add_tokens(output=tokens)
    return span.decision


def test_ten_thousand_requests_of_four_hundred_nanojoules_are_billed_to_the_nanojoule() -> None:
    budget, store = Budget("all", "50 kJ", per="day"), MemoryStore()
    for _ in range(10_000):
        leases = store.admit([claim(budget, 1)], AT_NS).leases
        store.settle(leases, [400])  # in thousandths of a µJ
    (book,) = store.books(AT_NS)
    assert (book.settled, book.carry, book.reserved, book.flight.count) == (4000, 0, 0, 0)


def test_a_correction_downwards_gives_back_what_was_charged_too_much() -> None:
    budget, store = Budget("all", "50 kJ", per="day"), MemoryStore()
    (lease,) = store.admit([claim(budget, 10)], AT_NS).leases
    store.settle([lease], [7_600])
    store.correct({lease.book: -7_200})
    assert lease.book.settled * 1000 + lease.book.carry == 400


def test_settling_a_lease_twice_charges_it_once() -> None:
    budget, store = Budget("all", "50 kJ", per="day"), MemoryStore()
    leases = store.admit([claim(budget, 10)], AT_NS).leases
    store.settle(leases, [5_000])
    store.settle(leases, [5_000])
    assert (leases[0].book.settled, leases[0].book.reserved, leases[0].book.flight.count) == (5, 0, 0)


def test_what_nobody_could_measure_is_charged_at_its_estimate() -> None:
    budget, store = Budget("all", "50 kJ", per="day"), MemoryStore()
    leases = store.admit([claim(budget, 10)], AT_NS).leases
    store.settle(leases, [None])
    assert leases[0].book.settled == 10


def test_a_refusal_by_one_budget_leaves_the_others_untouched() -> None:
    wide = Budget("wide", "100 tokens", per="day", estimate="1 token")
    narrow = Budget("narrow", "1 requests", per="day")
    for order in ([wide, narrow], [narrow, wide]):
        with a_meter(budgets=order) as meter:
            spend(meter, 5)
            for _ in range(3):
                with pytest.raises(BudgetRefused, match="'narrow'"):
                    spend(meter, 5)
            assert account(meter, "wide") == (5, 0)
            assert account(meter, "narrow") == (1, 0)


def test_the_strongest_decision_stands_and_each_budget_counts_its_own() -> None:
    calm = Budget("calm", "1000 requests", per="day")
    tight = Budget("tight", "4 requests", per="day", warn_at=0.5, degrade_at=0.75)
    with a_meter(budgets=[calm, tight]) as meter:
        assert [spend(meter) for _ in range(4)] == ["admit", "admit", "warn", "degrade"]
        with pytest.raises(BudgetRefused):
            spend(meter)
        decisions = samples(meter, "frugal_budget_decisions_total")
    counted = {(dict(k)["budget"], dict(k)["action"]): n for k, n in decisions.items() if n}
    assert counted == {
        ("calm", "admit"): 4, ("tight", "admit"): 2, ("tight", "warn"): 1, ("tight", "degrade"): 1, ("tight", "refuse"): 1,
    }  # fmt: skip


def test_eight_threads_never_reserve_more_than_the_limit() -> None:
    budget, store = Budget("all", "500 J", per="day", degrade_at=None), MemoryStore()
    together, estimate = threading.Barrier(8), 10 * 10**6
    highest: list[int] = []

    def burst(_: int) -> int:
        together.wait()
        admitted = 0
        for _ in range(25):
            for lease in store.admit([claim(budget, estimate)], AT_NS).leases:
                admitted += 1
                highest.append(lease.book.committed)
        return admitted

    with ThreadPoolExecutor(8) as pool:
        admitted = sum(pool.map(burst, range(8)))
    assert admitted == 50, "200 requests of 10 J on 500 J: fifty, not one more"
    assert max(highest) <= budget.limit.amount


def test_threads_that_admit_and_settle_leave_exact_accounts() -> None:
    with a_meter(budgets=[Budget("all", "1000000 tokens", per="day", estimate="7 tokens")]) as meter:

        def work(_: int) -> None:
            for _ in range(50):
                spend(meter, 3)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        meter.settle()
        assert account(meter, "all") == (8 * 50 * 3, 0)
        assert sum(samples(meter, "frugal_budget_decisions_total").values()) == 8 * 50


def test_a_request_charges_the_window_in_which_it_was_admitted() -> None:
    with a_meter(budgets=[Budget("all", "100 tokens", per="minute", estimate="10 tokens")]) as meter:
        with meter.measure("long") as span:
            later(meter, 60)
            assert account(meter, "all") == (0, 0)
            span.add_tokens(output=95)
        spend(meter, 1)
        meter.settle()
        assert account(meter, "all").settled == 1, "the 95 tokens belong to the minute before"


def test_a_budget_opens_again_in_its_next_window() -> None:
    with a_meter(budgets=[Budget("all", "1 requests", per="hour")]) as meter:
        spend(meter)
        later(meter, 3599)
        with pytest.raises(BudgetRefused):
            spend(meter)
        later(meter, 1)
        assert spend(meter) in ("admit", "warn", "degrade")


def test_what_was_spent_beyond_the_limit_is_recorded_and_not_clamped() -> None:
    with a_meter(budgets=[Budget("all", "10 tokens", per="day", estimate="1 token")]) as meter:
        spend(meter, 25)
        assert account(meter, "all").settled == 25


def test_no_more_than_max_in_flight_run_at_once() -> None:
    with a_meter(budgets=[Budget("two", "100 requests", per="day", max_in_flight=2)]) as meter:
        with meter.measure("one"):
            spans = [meter.open_span("block") for _ in range(2)]
            for span in spans:
                meter.decide(span)
        assert [span.refusal is None for span in spans] == [True, False]
        meter.close_span(spans[0])
        assert spend(meter) == "admit"


def test_max_in_flight_still_counts_what_began_in_the_window_before() -> None:
    with a_meter(budgets=[Budget("one", "100 requests", per="minute", max_in_flight=1)]) as meter:
        running, next_one = meter.open_span("block"), meter.open_span("block")
        meter.decide(running)
        later(meter, 60)
        meter.decide(next_one)
        assert next_one.refusal is not None


def test_a_refusal_for_too_many_at_once_does_not_send_the_client_away_for_a_month() -> None:
    with a_meter(budgets=[Budget("one", "100 requests", per="month", max_in_flight=1)]) as meter:
        running, next_one = meter.open_span("block"), meter.open_span("block")
        meter.decide(running)
        meter.decide(next_one)
        assert next_one.refusal is not None
        assert next_one.refusal["retry_after_s"] <= 60


def test_a_spent_budget_that_is_also_full_says_that_it_is_spent() -> None:
    with a_meter(budgets=[Budget("one", "1 requests", per="day", max_in_flight=1)]) as meter:
        running, next_one = meter.open_span("block"), meter.open_span("block")
        meter.decide(running)
        meter.decide(next_one)
        assert next_one.refusal is not None
        assert next_one.refusal["reason"] == "limit"
        assert next_one.refusal["retry_after_s"] > 60


def test_a_shadow_budget_reserves_and_warns_but_refuses_nothing() -> None:
    with a_meter(budgets=[Budget("watch", "2 requests", per="day", enforce=False)]) as meter:
        assert {spend(meter) for _ in range(5)} <= {"admit", "warn"}
        assert account(meter, "watch").settled == 5
        assert set(samples(meter, "frugal_budget_enforced").values()) == {0.0}
        counted = {dict(k)["action"]: n for k, n in samples(meter, "frugal_budget_decisions_total").items()}
    assert (counted["refuse"], counted["would_refuse"]) == (0, 3), "what it would have refused is the point of watching"


def test_a_shadow_budget_is_not_announced_as_lacking_a_tier(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "frugal_meter"):
        a_meter(budgets=[Budget("watch", "2 J", per="day", enforce=False)])
    assert "None figures" not in caplog.text


def test_joules_weaker_than_the_tier_required_warn_and_degrade_but_never_refuse(caplog: pytest.LogCaptureFixture) -> None:
    budget = Budget("exact", "1 J", per="day", estimate="1 J", require_tier="measured")
    caplog.set_level(logging.WARNING, "frugal_meter")
    with a_meter(sources=SyntheticSource(0, 10, "modelled"), budgets=[budget]) as meter:
        assert "'exact' requires measured figures and this machine gives modelled" in caplog.text
        held = [meter.open_span("block") for _ in range(3)]
        for span in held:
            meter.decide(span)
        assert [span.decision for span in held] == ["admit", "degrade", "degrade"]
        enforced = samples(meter, "frugal_budget_enforced")
    assert enforced == {(("budget", "exact"), ("resource", "energy"), ("tier", "modelled")): 0.0}


def test_a_budget_that_requires_the_tier_at_hand_refuses() -> None:
    with a_meter(budgets=[Budget("exact", "1 J", per="day", estimate="1 J", require_tier="measured")]) as meter:
        first, second = meter.open_span("block"), meter.open_span("block")
        meter.decide(first)
        meter.decide(second)
        assert second.refusal is not None
        assert second.refusal["tier"] == "measured"


@pytest.mark.parametrize("limit", ["5 J", "5 gCO2e"])
def test_a_budget_on_joules_without_a_source_of_joules_is_refused_at_start_up(limit: str) -> None:
    with pytest.raises(BudgetNotEnforceableError, match=r"budget 'chat' can never count: no source of joules .*doctor"):
        a_meter(sources=[], budgets=[Budget("chat", limit, per="day")])


def test_a_gpu_budget_without_a_gpu_is_refused_at_start_up() -> None:
    with pytest.raises(BudgetNotEnforceableError, match="there is no GPU source"):
        a_meter(budgets=[Budget("chat", "5 GPU-s", per="day")])


def test_counted_resources_need_no_source() -> None:
    budgets = [Budget(name, limit, per="day") for name, limit in (("r", "5 requests"), ("t", "5 tokens"), ("c", "5 CPU-s"))]
    with a_meter(sources=[], budgets=budgets) as meter:
        assert spend(meter) == "admit"


def test_each_model_and_tenant_has_its_own_account() -> None:
    with a_meter(budgets=[Budget("each", "10 tokens", per="day", key=("tenant", "model"), estimate="1 token")]) as meter:
        spend(meter, 12, model="large", tenant="mairie")
        with pytest.raises(BudgetRefused):
            spend(meter, 1, model="large", tenant="mairie")
        assert spend(meter, 1, model="small", tenant="mairie") == "admit"
        assert spend(meter, 1, model="large", tenant="caf") == "admit"
        assert account(meter, "each", "mairie", "large").settled == 12


def test_a_model_named_late_is_decided_when_it_is_named() -> None:
    with a_meter(budgets=[Budget("large", "1 requests", per="day", match={"model": "large*"})]) as meter:
        for model in ("small", "large-1"):
            with meter.measure("work") as span:
                span.identify(model=model)
        with meter.measure("work") as span, pytest.raises(BudgetRefused, match="'large'"):
            span.identify(model="large-2")


def test_work_nested_in_admitted_work_is_paid_once() -> None:
    budgets = [Budget("all", "100 tokens", per="day", estimate="10 tokens"), Budget("n", "5 requests", per="day")]
    with a_meter(budgets=budgets) as meter:
        with meter.measure("outer") as outer:
            outer.add_tokens(output=1)
            with meter.measure("inner", model="m") as inner:
                inner.add_tokens(output=4)
                assert account(meter, "all").reserved == 10
        meter.settle()
        assert account(meter, "all").settled == 5
        assert account(meter, "n").settled == 1


def test_a_large_model_behind_a_small_one_is_asked_for_its_own_account() -> None:
    with a_meter(budgets=[Budget("each", "1 requests", per="day", key="model")]) as meter:
        for router in ("router-1", "router-2"):
            with meter.measure("route", model=router), pytest.raises(BudgetRefused) if router == "router-2" else nullcontext():
                spend(meter, model="large")
        meter.settle()
        assert account(meter, "each", "large").settled == 1


def test_work_that_failed_pays_what_it_used() -> None:
    with a_meter(budgets=[Budget("all", "100 tokens", per="day", estimate="10 tokens")]) as meter:
        with pytest.raises(ZeroDivisionError), meter.measure("work") as span:
            span.add_tokens(output=4)
            raise ZeroDivisionError
        meter.settle()
        assert account(meter, "all") == (4, 0)


def test_the_tick_corrects_what_was_charged_at_the_end_of_a_request() -> None:
    source = SyntheticSource(0, 10)
    with a_meter(sources=source, budgets=[Budget("all", "50 kJ", per="day")]) as meter:
        for _ in range(20):
            with meter.measure("work"):
                sum(range(20_000))
        later(meter, 1)
        meter.settle()
        billed = sum(samples(meter, "frugal_energy_joules_total").values())
        settled = account(meter, "all").settled
    assert billed > 0
    assert abs(settled - billed) < 1e-6, "the account holds whole µJ and carries the rest"


def test_a_flood_of_tenants_shares_one_account_and_leaves_room_in_the_next_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugal_meter.budgets.stores.memory.MAX_KEYS", 3)
    with a_meter(budgets=[Budget("each", "10 requests", per="minute", key="tenant")]) as meter:
        for number in range(6):
            spend(meter, tenant=f"tenant-{number}")
        assert account(meter, "each", "other").settled == 3
        later(meter, 120)
        spend(meter, tenant="late")
        assert account(meter, "each", "late").settled == 1


def test_a_modelled_component_that_only_idles_does_not_weaken_a_dynamic_budget() -> None:
    sources = [SyntheticSource(5, 20), BoardModelSource(4.0)]
    measured = Budget("strict", "50 kJ", per="day", require_tier="measured")
    with_idle = Budget("full", "50 kJ", per="day", require_tier="measured", basis="full")
    with a_meter(sources=sources, budgets=[measured, with_idle]) as meter:
        assert meter.admission.tiers == {"strict": "measured", "full": "modelled"}
        assert meter.admission.can_refuse(measured)
        assert not meter.admission.can_refuse(with_idle)
