"""`Budget` as it is written, whom it concerns, the ladder it steps up, and the estimate it reserves."""

from __future__ import annotations

import random
from typing import Any

import pytest
from exchange import a_meter, account
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter import Budget
from frugal_meter.budgets.admission import Estimates
from frugal_meter.budgets.ladder import decide, strongest
from frugal_meter.errors import ConfigurationError, UnitError, UnknownBudgetKeyError
from frugal_meter.setup import warn_of_workers


@pytest.mark.parametrize(
    ("key", "keys"),
    [(None, ()), ("route", ("route",)), (("tenant", "model"), ("tenant", "model")), (["route", "model"], ("route", "model"))],
)
def test_a_budget_is_kept_for_the_service_or_for_each_of_its_keys(key: Any, keys: tuple[str, ...]) -> None:
    budget = Budget("chat", "50 kJ", per="day", key=key)
    assert budget.key_of({"route": "/chat", "model": "big", "tenant": "mairie"}) == tuple(
        {"route": "/chat", "model": "big", "tenant": "mairie"}[one] for one in keys
    )


def test_an_unknown_value_of_a_key_has_an_account_of_its_own() -> None:
    assert Budget("chat", "50 kJ", per="day", key="tenant").key_of({"tenant": None}) == ("none",)


@pytest.mark.parametrize(
    ("match", "known", "concerned"),
    [
        (None, {}, True),
        ("/letters/*", {"route": "/letters/{id}"}, True),
        ("/letters/*", {"route": "/answers"}, False),
        ("/letters/*", {"route": "/LETTERS/1"}, False),
        ("/letters/*", {"route": None}, False),
        ("/letters/*", {}, False),
        ({"model": ["large-*", "huge"]}, {"model": "large-2"}, True),
        ({"model": ["large-*", "huge"]}, {"model": "huge"}, True),
        ({"model": ["large-*", "huge"]}, {"model": "small"}, False),
        ({"model": "l*", "route": "/a"}, {"model": "large", "route": "/b"}, False),
        ({"model": "l*", "route": "/a"}, {"model": "large", "route": "/a"}, True),
    ],
)
def test_a_budget_concerns_the_requests_that_match_all_its_patterns(match: Any, known: dict[str, Any], concerned: bool) -> None:
    assert Budget("chat", "50 kJ", per="day", match=match).concerns(known) is concerned


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": ""}, "a budget needs a name"),
        ({"name": None}, "a budget needs a name"),
        ({"per": "year"}, "use minute, hour, day, week, month"),
        ({"per": None}, "use minute, hour, day, week, month"),
        ({"key": 5}, "5"),
        ({"match": 5}, "match is a route pattern or a mapping"),
        ({"match": {"route": 5}}, "match"),
        ({"match": {"route": None}}, "match"),
        ({"match": {"route": ["/a", 5]}}, "match"),
        ({"match": {"route": []}}, "match"),
        ({"estimate": "5 tokens"}, "not an amount of energy like '50 kJ'"),
        ({"estimate": "60 kJ"}, "estimate"),
        ({"warn_at": 0}, "warn_at is a share of the limit between 0 and 1"),
        ({"warn_at": float("nan")}, "warn_at is a share"),
        ({"warn_at": "0.7"}, "warn_at is a share"),
        ({"degrade_at": 1.2}, "degrade_at is a share"),
        ({"degrade_at": True}, "degrade_at is a share"),
        ({"throttle_at": 0.5}, "throttle_at=0.5 is below degrade_at=0.8: it would never only degrade"),
        ({"throttle_at": 2}, "throttle_at is a share of the limit between 0 and 1"),
        ({"throttle_wait": -1}, "throttle_wait is a number of seconds from 0 to 3600"),
        ({"throttle_wait": float("nan")}, "throttle_wait is a number of seconds"),
        ({"throttle_wait": "10 s"}, "throttle_wait is a number of seconds"),
        ({"max_fraction": 0}, "max_fraction is a share of the limit between 0 and 1"),
        ({"hard": "yes"}, "use True, False"),
        ({"sliding": 1.5}, "use True, False"),
        ({"scope": "world"}, "use cluster, instance"),
        ({"max_in_flight": 0}, "max_in_flight is a whole number of at least 1"),
        ({"max_in_flight": 1.5}, "max_in_flight is a whole number of at least 1"),
        ({"max_in_flight": True}, "max_in_flight is a whole number of at least 1"),
        ({"enforce": "false"}, "enforce"),
        ({"require_tier": "exact"}, "use measured, modelled, sourced"),
        ({"basis": "gross"}, "use dynamic, full"),
        ({"timezone": "Europe/Pariss"}, "unknown timezone 'Europe/Pariss'"),
        ({"timezone": 5}, "timezone"),
        ({"timezone": None}, "timezone"),
    ],
)
def test_a_budget_that_can_mean_nothing_is_refused_in_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Budget(**{"name": "chat", "limit": "50 kJ", "per": "day", **settings})
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "settings", [{"limit": "50 kW/day"}, {"limit": 50}, {"limit": "-1 J"}, {"estimate": "5"}, {"key": "user"}]
)
def test_a_bad_quantity_or_key_names_the_budget_that_holds_it(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="'chat'") as refused:
        Budget(**{"name": "chat", "limit": "50 kJ", "per": "day", **settings})
    assert isinstance(refused.value, UnitError | UnknownBudgetKeyError)


def test_an_unknown_key_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownBudgetKeyError, match="use route, model, tenant, a tuple of them, or None") as refused:
        Budget("chat", "50 kJ", per="day", key=("route", "user"))
    assert refused.value.key == "user"


@pytest.mark.parametrize(
    ("committed", "estimate", "decision"),
    [
        (0, 1, "admit"),
        (69, 1, "admit"),
        (70, 1, "warn"),
        (79, 21, "warn"),
        (80, 20, "degrade"),
        (99, 1, "degrade"),
        (99, 2, "refuse"),
        (120, 1, "refuse"),
    ],
)
def test_the_ladder_steps_up_where_its_shares_are_reached(committed: int, estimate: int, decision: str) -> None:
    assert decide(committed, estimate, 100, 0.7, 0.8) == decision


def test_without_a_degrade_step_the_ladder_goes_from_warn_to_refuse() -> None:
    assert [decide(at, 1, 100, 0.7, None) for at in (69, 70, 99, 100)] == ["admit", "warn", "warn", "refuse"]


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 50))
def test_the_ladder_never_steps_down_as_more_is_committed(one: int, other: int, estimate: int) -> None:
    low, high = (decide(at, estimate, 100, 0.7, 0.8) for at in sorted((one, other)))
    assert strongest(low, high) == high


def test_before_anything_was_seen_one_percent_of_the_limit_is_reserved() -> None:
    assert Estimates(Budget("chat", "50 kJ", per="day")).of("/chat", None) == 500 * 10**6
    assert Estimates(Budget("chat", "50 tokens", per="day")).of("/chat", None) == 1
    assert Estimates(Budget("chat", "500 requests", per="day")).of("/chat", None) == 1
    assert Estimates(Budget("chat", "50 kJ", per="day", estimate="3 J")).of("/chat", None) == 3 * 10**6


def test_the_estimate_settles_near_the_ninetieth_percentile_of_what_was_used() -> None:
    estimates, drawn = Estimates(Budget("chat", "50 kJ", per="day")), random.Random(7)
    late = []
    for _ in range(4000):
        used = drawn.uniform(1_000_000, 2_000_000)
        late.append(used <= estimates.of("/chat", "big"))
        estimates.learn(("/chat", "big"), used)
    assert 0.85 <= sum(late[1000:]) / 3000 <= 0.95
    assert estimates.of("/other", "big") == 500 * 10**6, "one route's use says nothing of another's"


def test_the_estimate_of_a_request_is_one_whatever_is_learnt() -> None:
    estimates = Estimates(Budget("chat", "500 requests", per="day"))
    estimates.learn(("/chat", None), 12.0)
    assert estimates.of("/chat", None) == 1


def test_a_degraded_answer_does_not_teach_what_the_large_model_needs() -> None:
    budget = Budget("tokens", "1000 tokens", per="day", key="model", estimate="400 tokens", degrade_at=0.1)
    with a_meter(budgets=[budget]) as meter:

        def small() -> str:
            meter.current().add_tokens(output=1)  # type: ignore[union-attr]
            return "short"

        @meter.measure("answer", model="large", fallback=small)
        def answer() -> str:
            meter.current().add_tokens(output=200)  # type: ignore[union-attr]
            return "long"

        assert answer() == "long"
        meter.settle()
        assert answer() == "short"
        meter.settle()
        with meter.measure("answer", model="large"):
            assert account(meter, "tokens", "large").reserved == 200


def test_a_warning_above_the_degradation_is_refused_unless_it_is_the_default() -> None:
    with pytest.raises(ConfigurationError, match=r"warn_at=0\.9 is above degrade_at=0\.8: it would never warn"):
        Budget("a", "1 J", per="day", warn_at=0.9)
    Budget("a", "1 J", per="day", warn_at=0.9, degrade_at=None)
    Budget("a", "1 J", per="day", degrade_at=0.5)


@pytest.mark.parametrize(("software", "warned"), [("gunicorn/23.0.0", True), ("", False)])
def test_one_worker_of_several_says_that_it_keeps_its_own_budgets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, software: str, warned: bool
) -> None:
    monkeypatch.setenv("SERVER_SOFTWARE", software)
    warn_of_workers([])
    assert not caplog.records
    warn_of_workers([Budget("a", "1 J", per="day")])
    assert ("N workers hold N budgets" in caplog.text) == warned
