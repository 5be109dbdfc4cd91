"""The native pool: what native threads used, shared over the sections that hold the pool, exactly."""

from __future__ import annotations

import gc
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_burner import burn_native
from support import PATIENCE_S, WATTS_PER_CPU, about, assert_books_close, burn, metered

from frugal_meter.attribution import clocks, strangers
from frugal_meter.attribution.clocks import Cell, call, threads_ns
from frugal_meter.attribution.fluid import Fluid, NativePool
from frugal_meter.attribution.strangers import census, native_ns, strangers_ns

MS = 1_000_000
A, B, C = "a", "b", "c"  # sections; the numbers beside them are the spans that pay


def test_weights_1_and_3_pay_a_quarter_and_three_quarters_exactly():
    fluid = Fluid()
    fluid.change(A, 1, 1)
    fluid.change(B, 2, 3)
    fluid.advance(100)
    assert fluid.take() == ({1: 25, 2: 75}, 0)


def test_who_comes_later_pays_nothing_of_what_was_used_before():
    fluid = Fluid()
    fluid.change(A, 1, 1)
    fluid.advance(60)
    fluid.change(B, 2, 2)
    fluid.advance(30)
    fluid.change(A, 1, 0)
    fluid.advance(5)
    assert fluid.take() == ({1: 70, 2: 25}, 0)


def test_a_weight_changed_while_open_reprices_only_what_comes():
    fluid = Fluid()
    fluid.change(A, 1, 1)
    fluid.change(B, 2, 1)
    fluid.advance(100)
    fluid.change(A, 1, 4)
    fluid.advance(100)
    assert fluid.take() == ({1: 130, 2: 70}, 0)


def test_what_is_used_while_nobody_holds_the_pool_is_told_apart():
    fluid = Fluid()
    fluid.advance(7)
    fluid.change(A, 1, 1)
    fluid.advance(3)
    fluid.change(A, 1, 0)
    fluid.advance(2)
    assert fluid.take() == ({1: 3}, 9)
    assert fluid.take() == ({}, 0)


def test_a_section_left_long_after_pays_tick_by_tick():
    fluid = Fluid()
    fluid.change(A, 1, 7)
    fluid.change(B, 2, 3)
    paid = {1: 0, 2: 0}
    for _ in range(10):
        fluid.advance(11)
        owed, unheld = fluid.take()
        assert (sum(owed.values()), unheld) == (11, 0)
        paid = {key: paid[key] + owed[key] for key in paid}
    fluid.change(A, 1, 0)
    fluid.change(A, 1, 0)
    fluid.advance(10)
    assert fluid.take() == ({2: 10}, 0)
    assert paid[1] == pytest.approx(77, abs=10)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, 5), st.integers(0, 10**15)),
        st.tuples(st.just("use"), st.integers(0, 10**12), st.just(0)),
        st.tuples(st.just("tick"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(derandomize=True, deadline=None)
@given(steps)
def test_every_nanosecond_is_handed_out_once_and_each_share_is_its_ideal_one(steps):
    fluid = Fluid()
    weights: dict[int, int] = {}
    ideal = dict.fromkeys(range(6), Fraction(0))
    paid = dict.fromkeys(range(6), 0)
    held = free = ticks = 0
    for what, number, weight in [*steps, ("tick", 0, 0)]:
        if what == "change":
            fluid.change(number, number, weight)
            weights[number] = weight
        elif what == "use":
            fluid.advance(number)
            whole = sum(weights.values())
            held, free = (held + number, free) if whole else (held, free + number)
            for key, each in weights.items():
                ideal[key] += Fraction(number * each, whole) if whole else 0
        else:
            ticks += 1
            owed, unheld = fluid.take()
            assert (sum(owed.values()), unheld) == (held, free)
            assert all(type(ns) is int and ns >= 0 for ns in owed.values())
            held = free = 0
            for key, ns in owed.items():
                paid[key] += ns
    assert all(abs(paid[key] - ideal[key]) <= ticks + Fraction(1, 1000) for key in paid)


@settings(derandomize=True, deadline=None)
@given(st.permutations(range(5)), st.lists(st.integers(1, 10**9), min_size=5, max_size=5), st.integers(0, 10**12))
def test_shares_do_not_depend_on_who_came_first(order, weights, use):
    fluid = Fluid()
    for key in order:
        fluid.change(key, key, weights[key])
    fluid.advance(use)
    owed, _ = fluid.take()
    assert sum(owed.values()) == use
    assert all(abs(owed.get(key, 0) - Fraction(use * weights[key], sum(weights))) <= 1 for key in order)


class Imagined:
    """A pool whose clock and whose use are set by the test."""

    def __init__(self):
        self.t_ns = self.used_ns = self.looks = 0
        self.pool = NativePool(self._used, lambda: self.t_ns)
        self.looks = 0

    def _used(self):
        self.looks += 1
        return self.used_ns

    def go(self, ms, *, used=0):
        self.t_ns += int(ms * MS)
        self.used_ns += int(used * MS)

    def tick(self, ended=(), running=(1, 2, 3)):
        mark = self.pool.look()
        list(self.pool.settle(mark))
        owed, unheld = self.pool.take()
        self.pool.let_go(set(ended), set(running))
        return {key: ns / MS for key, ns in owed.items() if ns}, unheld / MS


@pytest.fixture
def imagined():
    return Imagined()


def test_a_stretch_is_paid_by_those_who_held_the_pool_in_it(imagined):
    imagined.pool.note(A, 1, 1)
    imagined.go(100, used=90)
    imagined.pool.note(B, 2, 1)
    imagined.go(100, used=20)
    imagined.pool.note(A, 1, 0)
    imagined.go(100, used=30)
    imagined.pool.note(B, 2, 0)
    imagined.go(100, used=5)
    assert imagined.tick() == ({1: 100, 2: 40}, 5)
    assert imagined.tick() == ({}, 0)


def test_a_section_that_stays_open_pays_at_every_tick(imagined):
    imagined.pool.note(A, 1, 1)
    imagined.go(100, used=10)
    assert imagined.tick() == ({1: 10}, 0)
    imagined.go(100, used=20)
    assert imagined.tick() == ({1: 20}, 0)


def test_looks_are_rationed_and_what_lies_between_two_goes_by_time(imagined):
    for _ in range(500):  # a quick succession: one section of 0.1 ms after the other
        imagined.pool.note(A, 1, 1)
        imagined.go(0.1, used=0.1)
        imagined.pool.note(A, 1, 0)
        imagined.pool.note(B, 2, 3)
        imagined.go(0.1, used=0.1)
        imagined.pool.note(B, 2, 0)
    assert imagined.looks <= 100 / 2 + 11
    owed, unheld = imagined.tick()
    assert owed[1] + owed[2] + unheld == pytest.approx(100)
    assert owed[1] == pytest.approx(50, rel=0.03)
    assert unheld == 0


def test_between_two_looks_the_time_that_nobody_held_costs_nobody(imagined):
    while imagined.looks < 10:  # spend the looks that were saved up
        imagined.pool.note(C, 3, 1)
    imagined.pool.note(C, 3, 0)
    imagined.go(1, used=1)
    imagined.pool.note(A, 1, 1)
    imagined.go(0.5, used=1)
    imagined.pool.note(A, 1, 0)
    imagined.go(0.1)
    assert imagined.tick() == ({1: 2}, 0)


def test_a_look_that_shows_less_than_the_last_waits_until_it_has_caught_up(imagined):
    imagined.pool.note(A, 1, 1)
    imagined.go(10, used=10)
    assert imagined.tick() == ({1: 10}, 0)
    imagined.go(10, used=-4)
    assert imagined.tick() == ({}, 0)
    imagined.go(10, used=6)
    assert imagined.tick() == ({1: 2}, 0)


def test_the_section_of_a_span_that_ended_holds_nothing_more(imagined):
    imagined.pool.note(A, 1, 1)
    imagined.pool.note(B, 2, 1)
    imagined.go(10, used=10)
    assert imagined.tick(ended=[1], running=[2]) == ({1: 5, 2: 5}, 0)
    imagined.go(10, used=10)
    imagined.pool.note(A, 1, 0)  # left at last
    assert imagined.tick(running=[2]) == ({2: 10}, 0)


def test_a_section_opened_after_its_span_had_ended_is_let_go(imagined):
    imagined.pool.note(A, 1, 1)
    for _ in range(2):
        imagined.tick(running=[2])
    imagined.go(10, used=10)
    assert imagined.tick(running=[2]) == ({}, 10)


def test_notes_that_two_threads_wrote_in_the_other_order_are_put_right(imagined):
    while imagined.looks < 10:
        imagined.pool.note(C, 3, 1)
    imagined.pool.note(C, 3, 0)
    first = imagined.t_ns
    imagined.go(1)
    imagined.pool.note(B, 2, 1)
    late, imagined.t_ns = imagined.t_ns, first
    imagined.pool.note(A, 1, 1)
    imagined.t_ns = late
    imagined.go(1, used=4)
    owed, unheld = imagined.tick()
    assert (owed, unheld) == ({1: 3, 2: 1}, 0)


# -- clocks


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_thread_that_ends_leaves_none_of_its_cpu_to_native_threads():
    """What it did after its last metered moment was lost at its end, and passed for native CPU."""
    begun, known = native_ns(), threads_ns()

    def work():
        call(Cell(), burn, 0.01)
        burn(0.1)

    in_a_thread(work)
    assert threads_ns() - known >= 0.11 * 1e9
    assert native_ns() - begun < 0.02 * 1e9


def test_a_python_thread_that_was_never_metered_is_no_native_one():
    census()
    begun = native_ns()
    go, done = threading.Event(), threading.Event()

    def work():
        burn(0.05)
        done.set()
        go.wait(PATIENCE_S)
        burn(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    done.wait(PATIENCE_S)
    census()
    assert native_ns() - begun < 0.02 * 1e9
    seen = strangers_ns()
    go.set()
    while thread.is_alive():
        strangers_ns()
    census()
    assert strangers_ns() >= seen
    del thread
    gc.collect()
    assert not [t for t in strangers._strangers if not t.is_alive()]


def test_a_thread_metered_at_last_counts_as_one_and_not_as_two():
    census()
    ready, go, done = threading.Event(), threading.Event(), threading.Event()

    def work():
        burn(0.01)
        ready.set()
        go.wait(PATIENCE_S)
        begun.append(clocks.here().begun_ns)
        burn(0.05)
        done.set()
        go.clear()
        release.wait(PATIENCE_S)

    begun, release = [], threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(PATIENCE_S)
    census()
    assert thread in strangers._strangers
    before = threads_ns() + strangers_ns()
    go.set()
    done.wait(PATIENCE_S)
    assert thread in strangers._strangers  # until the next tick
    assert 0.05 * 1e9 <= threads_ns() + strangers_ns() - before < 0.08 * 1e9
    census()
    assert thread not in strangers._strangers
    counted = threads_ns() + strangers_ns() - before
    release.set()
    thread.join()
    assert 0.05 * 1e9 <= counted < 0.08 * 1e9


def test_native_threads_are_what_is_left():
    begun = native_ns()
    used = burn_native(2, 0.03)
    assert used * 1e9 <= native_ns() - begun < used * 1e9 * 1.3 + 5 * MS


# -- through a meter


def test_spans_pay_for_native_threads_while_they_hold_the_pool():
    with metered() as (meter, out):
        with meter.measure("native") as span, span.section("native"):
            true = burn_native(2, 0.05)
        with meter.measure("python") as other:
            used = burn(0.02)
        meter.settle()
        assert about(span.reading.cpu_s, true)
        assert about(other.reading.cpu_s, used)
        assert span.reading.energy_dynamic_j == pytest.approx(true * WATTS_PER_CPU, rel=0.3)
        assert_books_close(out.ticks)


def test_native_threads_at_work_for_nobody_spin():
    with metered() as (meter, out):
        with meter.measure("before") as span, span.section("native"):
            pass
        true = burn_native(2, 0.05)
        meter.settle()
        parts = out.ticks[-1].overhead_parts
        assert parts["native_spin"] >= 0.95 * true * WATTS_PER_CPU * 1e9
        assert parts["native_spin"] <= 1.3 * true * WATTS_PER_CPU * 1e9
        burn(0.05)
        meter.settle()
        assert out.ticks[-1].overhead_parts.get("native_spin", 0) < 0.2 * 0.05 * WATTS_PER_CPU * 1e9
        assert_books_close(out.ticks)


def test_a_section_open_over_a_tick_and_left_after_its_span_loses_nothing_and_costs_nothing_twice():
    with metered() as (meter, out):
        with meter.measure("a") as span:
            section = span.section("native").__enter__()
            first = burn_native(2, 0.02)
            meter.settle()
            second = burn_native(2, 0.02)
        meter.settle()
        true = first + second
        assert about(span.reading.cpu_s, true)
        assert span.reading.settled
        with meter.measure("b") as other, other.section("native"):
            third = burn_native(2, 0.02)
        meter.settle()
        assert about(other.reading.cpu_s, third)
        section.__exit__(None, None, None)
        meter.settle()
        assert_books_close(out.ticks)


@pytest.mark.parametrize("threads", [1, 4])
def test_spans_at_the_same_time_share_what_native_threads_use(threads):
    with metered() as (meter, out):
        spans, used = [], []

        def work(each):
            with meter.measure("burst") as span, span.section("native"):
                used.append(burn_native(2, 0.02 * (1 + each % 2)))
            spans.append(span)

        workers = [threading.Thread(target=work, args=[each]) for each in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        meter.settle()
        assert about(sum(span.reading.cpu_s for span in spans), sum(used), slack=0.01)
        assert_books_close(out.ticks)


def test_a_held_function_pays_by_itself_sync_and_async():
    import asyncio

    with metered() as (meter, out):
        held = meter.holding(burn_native, weight=2)
        assert held.__name__ == "burn_native"

        async def later():
            return burn_native(1, 0.01)

        async def both():
            async with meter.measure("both") as span:
                return span, held(2, 0.02) + await meter.holding(later)()

        span, true = asyncio.run(both())
        meter.settle()
        assert about(span.reading.cpu_s, true)
        assert held(1, 0.001) > 0
        assert asyncio.run(meter.holding(later)()) > 0
        assert_books_close(out.ticks)


def test_a_generator_and_a_weight_that_means_nothing_are_not_held():
    from frugal_meter.errors import ConfigurationError

    def tokens():
        yield 1

    with metered() as (meter, _):
        for fn, weight in ((tokens, 1), (5, 1), (burn, 0)):
            with pytest.raises(ConfigurationError) as caught:
                meter.holding(fn, weight=weight)
            assert "\n" not in str(caught.value)


def test_a_meter_that_is_off_keeps_no_notes(monkeypatch):
    monkeypatch.setenv("FRUGAL_DISABLED", "1")
    with metered() as (meter, _):
        for pool in ("native", "gpu"):
            with meter.measure("f") as span, span.section(pool):
                pass
        assert not meter.sections.native._notes
        assert not meter.sections._listed


def test_a_section_costs_the_request_little():
    pool = NativePool()
    begun = time.thread_time_ns()
    for _ in range(2000):
        pool.note(A, 1, 1)
        pool.note(A, 1, 0)
    assert (time.thread_time_ns() - begun) / 4000 < 50_000
