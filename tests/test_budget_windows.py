"""Windows that slide, clocks that jump, budgets that are written anew: what was spent is neither lost nor forgiven."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from exchange import AT_NS, a_meter, account, later
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter import Budget, Meter
from frugal_meter.budgets.budget import Budget as _Budget
from frugal_meter.budgets.leases import Claim
from frugal_meter.budgets.stores.memory import MemoryStore
from frugal_meter.budgets.windows import PERIODS, SLIDING, sliding_at
from frugal_meter.errors import BudgetRefused
from frugal_meter.testing import FrozenClock, SyntheticSource


def claim(budget: Budget, estimate: int, key: tuple[str, ...] = ()) -> Claim:
    return Claim(budget, key, estimate, may_refuse=True, learn_as=(None, None))


def spend(meter: Meter, tokens: int = 0, **keys: Any) -> str | None:
    with meter.measure("work", **keys) as span:
        span.add_tokens(output=tokens)
    return span.decision


# -- sliding


@pytest.mark.parametrize("per", PERIODS)
def test_a_sliding_window_is_cut_into_parts_that_count_until_all_of_them_has_left(per: Any) -> None:
    length, each = SLIDING[per]
    assert length % each == 0
    start, end, until = sliding_at(per, AT_NS / 1e9 + 1)
    assert start <= AT_NS / 1e9 + 1 < end
    assert (end - start, until - end) == (each, length)


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 40)), min_size=1, max_size=60), st.sampled_from(["minute", "hour"]))
def test_no_stretch_of_the_window_s_length_ever_holds_more_than_the_limit(arrivals: list[tuple[int, int]], per: Any) -> None:
    budget, store = Budget("all", "100 tokens", per=per, sliding=True), MemoryStore()
    at_s, spent = AT_NS // 10**9, []
    for wait_s, tokens in arrivals:
        at_s += wait_s
        leases = store.admit([claim(budget, tokens)], at_s * 10**9).leases
        store.settle(leases, [tokens * 1000 for _ in leases])
        spent += [(at_s, tokens) for _ in leases]
    for last, _ in spent:
        assert sum(tokens for at, tokens in spent if last - SLIDING[per][0] < at <= last) <= 100


def test_a_sliding_budget_opens_part_by_part_and_says_when() -> None:
    with a_meter(budgets=[Budget("all", "100 tokens", per="hour", sliding=True, estimate="10 tokens")]) as meter:
        spend(meter, 50)
        later(meter, 1200)
        spend(meter, 50)
        with pytest.raises(BudgetRefused) as refused:
            spend(meter, 1)
        wait_s = refused.value.refusal["retry_after_s"]
        assert wait_s == 3900 - 1200, "the first part counts until all of it is an hour old"
        later(meter, wait_s - 1)
        with pytest.raises(BudgetRefused):
            spend(meter, 1)
        later(meter, 1)
        assert spend(meter, 1) in ("admit", "warn")


def test_late_work_of_an_earlier_part_still_counts_in_the_window() -> None:
    with a_meter(budgets=[Budget("all", "100 tokens", per="minute", sliding=True, estimate="10 tokens")]) as meter:
        span = meter.open_span("block")
        meter.decide(span)
        later(meter, 30)
        span.add_tokens(output=95)
        meter.close_span(span)
        with pytest.raises(BudgetRefused):
            spend(meter, 1)


# -- clocks that jump


def test_a_clock_that_is_set_back_finds_the_window_as_it_was() -> None:
    budget, store = Budget("all", "100 tokens", per="hour"), MemoryStore()
    store.settle(store.admit([claim(budget, 60)], AT_NS).leases, [60_000])
    ahead = AT_NS + 3600 * 10**9
    store.settle(store.admit([claim(budget, 90)], ahead).leases, [90_000])
    assert store.admit([claim(budget, 50)], AT_NS).refused is not None
    assert store.admit([claim(budget, 20)], ahead).refused is not None


def test_a_meter_whose_clock_jumps_by_years_goes_on() -> None:
    with a_meter(budgets=[Budget("all", "3 requests", per="day")]) as meter:
        assert isinstance(meter.clock, FrozenClock)
        for seconds in (3e8, -5e8, 1e9, -1e9):
            spend(meter)
            meter.clock._unix_ns += int(seconds * 1e9)
        assert not meter.errors


# -- many keys, odd keys


def test_a_model_name_of_ten_megabytes_is_no_account_of_ten_megabytes() -> None:
    with a_meter(budgets=[Budget("each", "10 requests", per="day", key="model")]) as meter:
        spend(meter, model="x" * 10_000_000)
        (book,) = meter.admission.store.books(meter.clock.time_ns())
        assert len(book.key[0]) < 1000


def test_a_tenant_function_that_raises_is_counted_and_the_request_is_nobody_s() -> None:
    from exchange import an_app, ask, statuses

    def tenant(scope: Any) -> str:
        raise KeyError("no such header")

    with a_meter(budgets=[Budget("each", "2 requests", per="day", key="tenant")], tenant=tenant) as meter:
        assert statuses(ask(an_app(meter), *["/hello"] * 3)) == [200, 200, 429]
        assert meter.errors["tenant"] == 3
        assert account(meter, "each", "none").settled == 2


def test_thousands_of_tenants_over_many_windows_do_not_pile_up_and_none_is_forgiven() -> None:
    budget, store = Budget("each", "5 requests", per="minute", key="tenant"), MemoryStore()
    for minute in range(5):
        at_ns = AT_NS + minute * 60 * 10**9
        for number in range(3000):
            store.settle(store.admit([claim(budget, 1, (f"tenant-{minute}-{number}",))], at_ns).leases, [1000])
        assert len(list(store.every())) <= 10_001
        assert sum(book.settled for book in store.books(at_ns)) == 3000


@pytest.mark.parametrize("tokens", [2**53, 2**60])
def test_an_amount_beyond_all_limits_is_recorded_or_passed_over_but_never_wraps(tokens: int) -> None:
    with a_meter(budgets=[Budget("all", "100 tokens", per="day", estimate="1 token")]) as meter:
        spend(meter, tokens)
        settled = account(meter, "all").settled
        assert settled == (tokens if tokens <= 2**53 else 0)


# -- written anew


def written(path: Path, *budgets: str, changed: int) -> None:
    """A configuration file, at a time of its own: within one tick of a clock two writes look the same."""
    path.write_text('[meter]\nservice = "guichet"\nzone = "FR"\n' + "".join(f"[[budget]]\n{b}\n" for b in budgets))
    os.utime(path, ns=(changed * 10**9, changed * 10**9))


CHAT = 'name = "chat"\nlimit = "{limit}"\nper = "day"\nestimate = "10 tokens"'


@pytest.fixture
def from_file(tmp_path: Path) -> Any:
    def make() -> Meter:
        return Meter.from_config(tmp_path / "frugal.toml", sources=SyntheticSource(0, 10), clock=FrozenClock(), tick=60)

    return make


def test_a_changed_file_is_taken_up_without_losing_what_was_spent(tmp_path: Path, from_file: Any) -> None:
    path = tmp_path / "frugal.toml"
    written(path, CHAT.format(limit="100 tokens"), changed=1)
    with from_file() as meter:
        spend(meter, 60)
        running = meter.open_span("block")
        meter.decide(running)
        written(path, CHAT.format(limit="65 tokens"), 'name = "new"\nlimit = "3 requests"\nper = "hour"', changed=2)
        meter.settle()
        assert [b.name for b in meter.admission.budgets] == ["chat", "new"]
        assert account(meter, "chat") == (60, 10)
        with pytest.raises(BudgetRefused):
            spend(meter, 1)
        written(path, CHAT.format(limit="500 tokens"), changed=3)
        meter.settle()
        meter.close_span(running)
        assert spend(meter, 1) == "admit"
        meter.settle()
        assert account(meter, "chat") == (61, 0)
        assert meter.admission.decisions["chat", "admit"] == 3
        assert not meter.errors


def test_what_was_learnt_outlives_a_new_limit(tmp_path: Path, from_file: Any) -> None:
    path = tmp_path / "frugal.toml"
    written(path, CHAT.format(limit="10000 tokens"), changed=1)
    with from_file() as meter:
        spend(meter, 33)
        meter.settle()
        written(path, CHAT.format(limit="9000 tokens"), changed=2)
        meter.settle()
        with meter.measure("work"):
            assert account(meter, "chat").reserved == 33


def test_a_budget_that_counts_something_else_now_begins_at_nothing(tmp_path: Path, from_file: Any) -> None:
    path = tmp_path / "frugal.toml"
    written(path, CHAT.format(limit="100 tokens"), changed=1)
    with from_file() as meter:
        spend(meter, 60)
        written(path, 'name = "chat"\nlimit = "100 requests"\nper = "day"', changed=2)
        meter.settle()
        assert account(meter, "chat") == (0, 0)


@pytest.mark.parametrize(
    "text", ["[[budget", '[meter]\nservice="x"\nzone="FR"\n[[budget]]\nname="chat"\nlimit="-1 J"\nper="day"', ""]
)
def test_a_file_that_is_broken_changes_nothing_and_is_told_once(
    tmp_path: Path, from_file: Any, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "frugal.toml"
    written(path, CHAT.format(limit="100 tokens"), changed=1)
    with from_file() as meter:
        path.write_text(text)
        meter.settle()
        meter.settle()
        assert [b.name for b in meter.admission.budgets] == ["chat"]
    assert caplog.text.count("the budgets in force stay") == 1


def test_a_file_that_is_gone_changes_nothing(tmp_path: Path, from_file: Any) -> None:
    path = tmp_path / "frugal.toml"
    written(path, CHAT.format(limit="100 tokens"), changed=1)
    with from_file() as meter:
        path.unlink()
        meter.settle()
        assert [b.name for b in meter.admission.budgets] == ["chat"]
        assert not meter.errors


def test_a_budget_that_can_never_count_here_is_not_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "frugal.toml"
    written(path, CHAT.format(limit="100 tokens"), changed=1)
    with Meter.from_config(path, sources=[], clock=FrozenClock(), tick=60) as meter:
        written(path, 'name = "chat"\nlimit = "5 J"\nper = "day"', changed=2)
        meter.settle()
        assert meter.admission.budgets[0].resource == "tokens"
    assert "The budgets in force stay" in caplog.text


@pytest.mark.parametrize(
    ("change", "same"),
    [({}, True), ({"limit": "9 J"}, True), ({"limit": "5 tokens"}, False), ({"per": "hour"}, False), ({"key": "route"}, False),
     ({"sliding": True}, False), ({"basis": "full"}, False), ({"timezone": "UTC"}, False), ({"warn_at": 0.1}, True)],
)  # fmt: skip
def test_what_was_counted_stays_where_it_still_means_the_same(change: dict[str, Any], same: bool) -> None:
    given: dict[str, Any] = {"limit": "5 J", "per": "day"}
    assert _Budget("a", **{**given, **change}).counts_like(_Budget("a", **given)) is same
