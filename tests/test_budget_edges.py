"""Budgets where two things meet: a reload and what runs, a full table of tenants and nested work, two budgets spent at once."""

from __future__ import annotations

from typing import Any

import pytest
from exchange import a_meter, account, an_app, ask, later, samples, statuses

from frugal_meter import Budget, Meter
from frugal_meter.attribution.span import Span


def begun(meter: Meter, tenant: str | None = None, model: str | None = None) -> Span:
    """Work that has been decided on, and runs or waits."""
    span = meter.open_span("block")
    span.tenant, span.model = tenant, model
    meter.decide(span, later=True)
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
    settings: dict[str, Any] = {"per": "day", "estimate": "10 tokens", "throttle_at": 0.8, "throttle_wait": 20}
    with a_meter(budgets=[Budget("all", "100 tokens", **settings)]) as meter:
        ended(meter, begun(meter), 80)
        running, waiting = begun(meter), begun(meter)
        assert waiting.waiting is not None
        reload(meter, Budget("other", "50 requests", per="day"))
        ended(meter, running, 1)
        assert meter.admission.wait_here(waiting, meter.clock.time_ns) is None
        ended(meter, waiting, 1)
        meter.settle()
        assert {book.budget.name for book in meter.admission.store.books(meter.clock.time_ns())} == {"other"}
        assert samples(meter, "frugal_budget_usage_ratio")
        assert not meter.errors


def test_who_waited_for_a_budget_that_counts_something_else_now_is_not_charged_to_it() -> None:
    settings: dict[str, Any] = {"per": "day", "estimate": "10 tokens", "throttle_at": 0.8, "throttle_wait": 20}
    with a_meter(budgets=[Budget("all", "100 tokens", **settings)]) as meter:
        ended(meter, begun(meter), 80)
        running, waiting = begun(meter), begun(meter)
        reload(meter, Budget("all", "50 requests", per="day"))
        ended(meter, running, 1)
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
