"""Sections: the share of a pool that a span holds, by weight and time."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import about, assert_books_close, burn, metered

from frugal_meter.attribution.pools import UNWEIGHTED, Section, Sections
from frugal_meter.errors import ConfigurationError
from frugal_meter.sources import Sample
from frugal_meter.testing import FrozenClock, SyntheticSource

MICRO = 1_000_000


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def sections(clock):
    return Sections(clock.monotonic_ns)


def use(sections, clock, pool="gpu"):
    """What ``pool`` was held for; a GPU's sections of weight 1 are booked apart."""
    books = sections.use(clock.monotonic_ns())
    return dict(Counter(books.get(pool, {})) + Counter(books.get(pool + UNWEIGHTED, {})))


def test_a_section_is_held_by_weight_and_time(sections, clock):
    with Section(sections, "gpu", 1, weight=3):
        clock.advance(2)
        with Section(sections, "gpu", 2, weight=0.5):
            clock.advance(1)
    assert use(sections, clock) == {1: 3 * MICRO * 3 * 10**9, 2: MICRO // 2 * 10**9}
    assert use(sections, clock) == {}


def test_changing_the_weight_leaves_the_past_as_it_was(sections, clock):
    with Section(sections, "gpu", 1, weight=1) as section:
        clock.advance(2)
        section.weight = 10
        clock.advance(1)
        assert section.weight == 10
    assert use(sections, clock) == {1: (2 + 10) * MICRO * 10**9}


def test_a_section_still_open_is_billed_for_what_it_held_so_far_and_once_only(sections, clock):
    section = Section(sections, "gpu", 1, weight=1)
    total = 0
    with section:
        for _ in range(3):
            clock.advance(0.1)
            total += use(sections, clock)[1]
            assert section.open
        clock.advance(0.1)
    assert not section.open
    total += use(sections, clock)[1]
    assert total == MICRO * 4 * 10**8


def test_a_section_opened_again_is_billed_again(sections, clock):
    section = Section(sections, "gpu", 1, weight=1)
    with section:
        clock.advance(1)
    with section:
        clock.advance(1)
    assert use(sections, clock) == {1: 2 * MICRO * 10**9}


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0.001, 100), st.integers(1, 1000)), max_size=10), st.integers(1, 4))
@example([(1, 1.0, 1), (1, 2.0, 1)], 1)  # the same span with and without a weight of its own: two books, one sum
def test_what_is_billed_is_what_was_held_however_often_it_is_asked(steps, every):
    clock = FrozenClock()
    sections = Sections(clock.monotonic_ns)
    billed, held = {}, {}
    for at, (span, weight, milliseconds) in enumerate(steps):
        with Section(sections, "gpu", span, weight):
            clock.advance(milliseconds / 1000)
            if at % every == 0:
                for key, amount in use(sections, clock).items():
                    billed[key] = billed.get(key, 0) + amount
            clock.advance(milliseconds / 1000)
        held[span] = held.get(span, 0) + max(1, round(weight * MICRO)) * 2 * milliseconds * MICRO
    for key, amount in use(sections, clock).items():
        billed[key] = billed.get(key, 0) + amount
    assert billed == held


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, "much", None, 1e12])
def test_a_weight_that_means_nothing_is_refused_in_one_line(sections, weight):
    with pytest.raises(ConfigurationError, match="weight") as caught:
        Section(sections, "gpu", 1, weight)
    assert "\n" not in str(caught.value)


class Gpu(SyntheticSource):
    """A GPU whose counter advances by 100 J a tick."""

    def read(self, window):
        return Sample(100 * 10**9, 95 * 10**9, 105 * 10**9, idle_nj=20 * 10**9)


def test_a_gpu_is_shared_by_weight_and_time_and_idles_otherwise():
    clock = FrozenClock()
    with metered(sources=[Gpu(name="gpu", component="gpu")], clock=clock, host_share=1.0) as (meter, out):
        with meter.measure("a") as a, meter.measure("b") as b, meter.measure("c") as c:
            with a.section("gpu", weight=3), b.section("gpu", weight=1):
                clock.advance(1)
            meter.settle()
            requests = dict(out.ticks[-1].requests_nj)
            assert requests == {a.key: 60 * 10**9, b.key: 20 * 10**9}
            clock.advance(1)
            meter.settle()
            assert dict(out.ticks[-1].requests_nj) == {}
            assert out.ticks[-1].overhead_parts == {"gpu_no_section": 80 * 10**9}
            with c.section("gpu"):
                clock.advance(1)
        meter.settle()
        assert a.reading.energy_dynamic_j == 60
        assert c.reading.energy_dynamic_j == 80
        assert_books_close(out.ticks)


def test_a_native_pool_is_paid_by_those_who_hold_it_and_by_nobody_twice():
    numpy = pytest.importorskip("numpy")
    with metered() as (meter, out):
        matrix = numpy.ones((400, 400))
        with meter.measure("holder") as holder, holder.section("native"):
            before = meter.sampler.process_ns_since_start
            for _ in range(20):
                matrix = matrix @ matrix / 400
            true = (meter.sampler.process_ns_since_start - before) / 1e9
        with meter.measure("other") as other:
            used = burn(0.02)
        meter.settle()
        assert about(other.reading.cpu_s, used)
        assert holder.reading.cpu_s <= true * 1.3 + 0.02
        assert holder.reading.cpu_s >= true * 0.9
        assert_books_close(out.ticks)


def test_a_section_of_a_pool_that_nobody_meters_costs_nothing():
    with metered() as (meter, out):
        with meter.measure("f") as span, span.section("llama-server", weight=5):
            pass
        meter.settle()
        assert not meter.errors
        assert_books_close(out.ticks)
