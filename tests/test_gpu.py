"""Who pays for a GPU: sections, tokens, other processes, several boards, and what is not known of all that."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import assert_books_close, burn, metered

from frugal_meter import Budget
from frugal_meter.attribution.gpu import DEFAULT, Gpus, GpuShare, declared_weights
from frugal_meter.attribution.pools import GPU, UNWEIGHTED
from frugal_meter.errors import BudgetNotEnforceableError, ConfigurationError
from frugal_meter.sources import Sample
from frugal_meter.testing import FrozenClock, SyntheticSource

J = 10**9
LOOSE = GPU + UNWEIGHTED


class Board(SyntheticSource):
    """A GPU that draws 80 J of work and 20 J of idle a tick, and tells ``own`` and ``busy`` (of a second) as asked."""

    scope = "host"
    tells_busy = True

    def __init__(self, name="board", own=1.0, busy=None):
        super().__init__(idle_watts=20, name=name, component="gpu")
        self.own, self.busy, self.gap, self.there = own, busy, None, True

    def read(self, window):
        seconds = window.seconds
        if not self.there or not seconds:
            return None if seconds else Sample(0, 0, 0, idle_nj=0)
        busy = None if self.busy is None else round(self.busy * J * seconds)
        return Sample(100 * J, 90 * J, 110 * J, idle_nj=20 * J, gap=self.gap, busy_ns=busy, own_share=self.own)


class Scene:
    """A meter over ``boards``, a clock that stands still, and ticks of one second."""

    def __init__(self, meter, out, clock):
        self.meter, self.out, self.clock = meter, out, clock

    def tick(self, seconds=1.0):
        self.clock.advance(seconds)
        assert self.meter.settle()
        assert_books_close(self.out.ticks)

    def last(self, board="board"):
        return [tick for tick in self.out.ticks if tick.source == board][-1]

    def shares(self, *spans, board="board"):
        """Joules of the last tick that each span pays."""
        requests = self.last(board).requests_nj
        return [requests.get(span.key, 0) / J for span in spans]


@pytest.fixture
def scene():
    clock = FrozenClock()
    with metered(sources=[board := Board()], clock=clock, host_share=0) as (meter, out):
        made = Scene(meter, out, clock)
        made.board = board
        yield made


@pytest.fixture
def boards():
    clock = FrozenClock()
    with metered(sources=[Board("left"), Board("right")], clock=clock) as (meter, out):
        yield Scene(meter, out, clock)


def flags(span):
    return {flag for flag in span.reading.flags if flag.startswith(("gpu", "energy", "idle"))}


# -- whose energy it is


def test_the_share_of_other_processes_is_not_charged_to_requests(scene):
    scene.board.own = 0.25
    with scene.meter.measure("f") as span, span.section("gpu"):
        scene.tick()
    tick = scene.last()
    assert (scene.shares(span), tick.other_nj, tick.overhead_nj) == ([20], 60 * J, 0)
    scene.tick()
    assert scene.last().overhead_parts == {"gpu_no_section": 20 * J}
    assert "gpu:shared-unknown" not in flags(span)


def test_where_shares_are_not_told_all_is_charged_and_flagged(scene):
    scene.board.own = None
    with scene.meter.measure("f") as span, span.section("gpu"), scene.meter.measure("beside") as beside:
        scene.tick()
    scene.tick()
    assert (span.reading.energy_dynamic_j, scene.out.ticks[0].other_nj) == (80, 0)
    assert "gpu:shared-unknown" in flags(span)
    assert "gpu:shared-unknown" not in flags(beside)


def test_busy_time_is_shared_like_the_energy(scene):
    scene.board.own, scene.board.busy = 0.5, 0.8
    with scene.meter.measure("a") as a, scene.meter.measure("b") as b, a.section("gpu", weight=3), b.section("gpu", weight=1):
        scene.tick()
    scene.tick()
    assert (a.reading.gpu_s, b.reading.gpu_s) == pytest.approx((0.3, 0.1))
    assert 'frugal_gpu_seconds_total{model="none",route="a",tenant="none"} 0.4' in scene.meter.metrics()[0].decode()


def test_busy_time_that_is_not_told_is_unknown(scene):
    with scene.meter.measure("f") as span, span.section("gpu"):
        scene.tick()
    scene.tick()
    assert span.reading.gpu_s is None


def test_busy_time_of_a_nested_block_is_in_the_whole_of_its_request(scene):
    scene.board.busy = 1.0
    with scene.meter.measure("request") as span, scene.meter.measure("block") as block, block.section("gpu"):
        scene.tick()
    scene.tick()
    assert (span.reading.gpu_s, scene.meter.figures.whole(span).gpu_s) == (None, 1.0)


def test_a_budget_in_gpu_seconds_counts_them():
    clock, board = FrozenClock(), Board(busy=0.5)
    with metered(sources=[board], clock=clock, budgets=[Budget("chat", "2 GPU-s", per="day")]) as (meter, _):
        with meter.measure("f") as span, span.section("gpu"):
            clock.advance(1)
            meter.settle()
        meter.settle()
        (book,) = meter.admission.store.books(clock.time_ns())
        assert (book.settled, book.reserved) == (500_000, 0)  # µs


def test_a_budget_in_gpu_seconds_is_refused_where_no_gpu_tells_them():
    board = Board()
    board.tells_busy = False
    with (
        pytest.raises(BudgetNotEnforceableError, match="busy time"),
        metered(sources=[board], budgets=[Budget("chat", "2 GPU-s", per="day")]),
    ):
        pass


# -- several boards


def test_a_section_may_name_one_gpu_by_place_or_by_what_it_covers(boards):
    measure = boards.meter.measure
    with measure("a") as a, measure("b") as b, measure("c") as c, a.section("gpu:0"), b.section("gpu:right"), c.section("gpu"):
        boards.tick()
    assert boards.shares(a, b, c, board="left") == [40, 0, 40]
    assert boards.shares(a, b, c, board="right") == [0, 40, 40]


def test_a_gpu_that_is_not_there_costs_nothing(boards):
    with boards.meter.measure("a") as a, a.section("gpu:7"), a.section("gpu:GPU-gone", weight=3):
        boards.tick()
    assert boards.shares(a, board="left") == [0]
    assert boards.last("right").overhead_parts == {"gpu_no_section": 80 * J}


def test_tokens_weigh_each_gpu_that_a_span_held(boards):
    boards.meter.token_weights("m", a=1, b=2, source="test")
    measure = boards.meter.measure
    with measure("a", model="m") as a, measure("b", model="m") as b, a.section("gpu"), b.section("gpu:1"):
        a.add_tokens(output=10)
        b.add_tokens(output=30)
        boards.tick()
    assert boards.shares(a, b, board="left") == [80, 0]
    assert boards.shares(a, b, board="right") == [20, 60]


# -- tokens


def test_tokens_share_a_gpu_by_what_was_read_and_written_not_by_time(scene):
    scene.meter.token_weights("m", a=1, b=10, source="measured on this board")
    with scene.meter.measure("rag", model="m") as rag, scene.meter.measure("chat", model="m") as chat:
        with rag.section("gpu"):
            scene.clock.advance(1)
        with chat.section("gpu"):
            scene.clock.advance(3)
        rag.add_tokens(input=4500, cached=500, output=100)  # 5,000
        chat.add_tokens(input=250, output=75)  # 1,000
    scene.tick(0)
    assert scene.shares(rag, chat) == pytest.approx([80 * 5 / 6, 80 / 6], abs=1e-8)
    assert "gpu-weights:declared" in flags(rag)
    assert not flags(rag) & {"gpu-weights:default", "gpu:by-time"}


def test_a_default_ratio_is_flagged_and_its_other_ends_lie_inside_the_bounds(scene):
    with scene.meter.measure("reads") as reads, scene.meter.measure("writes") as writes:
        with reads.section("gpu"), writes.section("gpu"):
            scene.clock.advance(1)
        reads.add_tokens(input=1000)
        writes.add_tokens(output=100)
    scene.tick(0)
    scene.tick()
    assert (reads.reading.energy_dynamic_j, writes.reading.energy_dynamic_j) == (40, 40)
    for span, (low, high) in {reads: (0.25, 1000 / 1100), writes: (100 / 1100, 0.75)}.items():
        assert "gpu-weights:default" in flags(span)
        assert span.reading.energy_low_j <= 80 * low
        assert span.reading.energy_high_j >= 80 * high


def test_a_ratio_that_changes_nothing_is_not_flagged(scene):
    with scene.meter.measure("alone") as alone, alone.section("gpu"):
        alone.add_tokens(input=5, output=5)
        scene.tick()
    scene.tick()
    assert not flags(alone) & {"gpu-weights:default", "gpu:by-time"}


def test_a_weight_that_is_given_wins_over_tokens(scene):
    with scene.meter.measure("a") as a, scene.meter.measure("b") as b, a.section("gpu", weight=3), b.section("gpu", weight=1):
        b.add_tokens(output=1000)
        scene.tick()
    assert scene.shares(a, b) == [60, 20]


def test_a_span_without_tokens_pays_by_time_beside_those_that_told_theirs(scene):
    measure = scene.meter.measure
    with measure("a") as a, measure("b") as b, measure("mute") as mute, a.section("gpu"), b.section("gpu"), mute.section("gpu"):
        a.add_tokens(output=30)
        b.add_tokens(output=10)
        scene.clock.advance(0.75)
    scene.tick(0.25)
    scene.tick()
    mute_j, a_j, b_j = (span.reading.energy_dynamic_j for span in (mute, a, b))
    assert mute_j == pytest.approx(80 / 3, abs=1e-8)
    assert (a_j, b_j) == (pytest.approx(40, abs=1e-8), pytest.approx(40 / 3, abs=1e-8))
    assert "gpu:by-time" in flags(mute)
    assert "gpu:by-time" not in flags(a)


def test_tokens_told_at_the_end_weigh_the_last_tick_and_leave_the_past_as_it_was(scene):
    """Of 120 tokens made over four ticks a quarter falls on the last one, where the other made 10 of its own."""
    with scene.meter.measure("at once") as at_once, scene.meter.measure("stream") as stream:
        with at_once.section("gpu"), stream.section("gpu"):
            for _ in range(3):
                stream.add_tokens(output=10)
                scene.tick()
                assert scene.shares(at_once, stream) == [40, 40]
            stream.add_tokens(output=10)
            scene.clock.advance(1)
        at_once.add_tokens(output=120)
    scene.tick(0)
    assert scene.shares(at_once, stream) == [60, 20]
    assert "gpu:by-time" in flags(at_once)


def test_tokens_told_after_the_section_was_billed_do_not_weigh_the_next_one(scene):
    with scene.meter.measure("late teller") as late, scene.meter.measure("b") as b:
        with late.section("gpu"):
            scene.tick()
        late.add_tokens(output=1_000_000)
        scene.tick()
        with late.section("gpu"), b.section("gpu"):
            late.add_tokens(output=10)
            b.add_tokens(output=10)
            scene.tick()
    assert scene.shares(late, b) == [40, 40]


def test_nothing_is_remembered_of_spans_that_are_over(scene):
    for _ in range(3):
        with scene.meter.measure("f") as span, span.section("gpu"):
            span.add_tokens(output=1)
            scene.tick()
    scene.tick()
    assert scene.meter.ledger.gpus._told == {}


@pytest.mark.parametrize(
    "stated",
    [
        {"a": 0, "b": 1, "source": "s"},
        {"a": 1, "b": -1, "source": "s"},
        {"a": 1, "b": math.nan, "source": "s"},
        {"a": math.inf, "b": 1, "source": "s"},
        {"a": True, "b": 1, "source": "s"},
        {"a": "1", "b": 1, "source": "s"},
        {"a": 1, "b": 1, "source": " "},
        {"a": 1, "b": 1, "source": None},
    ],
)
def test_token_weights_that_mean_nothing_are_refused_in_one_line(scene, stated):
    with pytest.raises(ConfigurationError, match="weight") as caught:
        scene.meter.token_weights("m", **stated)
    assert "\n" not in str(caught.value)


def test_the_weights_of_a_model_keep_who_stated_them(scene):
    scene.meter.token_weights("m", a=2, b=9, source="bench of 2026-03-01")
    stated = scene.meter.ledger.gpus.weights["m"]
    assert (stated.a, stated.b, stated.source, stated.low, stated.high) == (2, 9, "bench of 2026-03-01", 4.5, 4.5)
    assert (DEFAULT.a, DEFAULT.b, DEFAULT.low, DEFAULT.high) == (1, 10, 1, 30)


# -- what is not known


def test_a_span_of_few_ticks_whose_gpu_share_matters_says_that_the_counter_lags(scene):
    with scene.meter.measure("short") as short, short.section("gpu"):
        scene.tick()
    with scene.meter.measure("cpu only") as without:
        scene.tick()
    with scene.meter.measure("long") as long, long.section("gpu"):
        for _ in range(6):
            scene.tick()
    scene.tick()
    assert "gpu:counter-lag" in flags(short)
    assert "gpu:counter-lag" not in flags(without) | flags(long)


def test_a_gpu_that_is_lost_leaves_its_spans_incomplete_and_the_joules_of_its_return_are_a_gap(scene):
    with scene.meter.measure("lost") as lost, lost.section("gpu"):
        scene.board.there = False
        scene.tick()
    scene.board.there, scene.board.gap = True, "vanished"
    with scene.meter.measure("back") as back, back.section("gpu"):
        scene.tick()
    scene.board.gap = None
    with scene.meter.measure("after") as after, after.section("gpu"):
        scene.tick()
    scene.tick()
    assert [tick.gap_nj // J for tick in scene.out.ticks if tick.energy_nj] == [100, 0, 0]
    assert ["energy:incomplete" in flags(span) for span in (lost, back, after)] == [True, True, False]
    assert (back.reading.energy_dynamic_j, after.reading.energy_dynamic_j) == (0, 80)


@pytest.mark.parametrize("wrong", [{"own": math.nan}, {"own": 1.2}, {"own": -0.1}, {"busy": -0.5}])
def test_a_gpu_that_tells_what_cannot_be_is_passed_over_and_flagged(scene, wrong):
    for name, value in wrong.items():
        setattr(scene.board, name, value)
    with scene.meter.measure("f") as span, span.section("gpu"):
        scene.tick()
    vars(scene.board).update(own=1.0, busy=None)
    scene.tick()
    assert scene.meter.errors == {"source": 1}
    assert "energy:incomplete" in flags(span)


# -- invariants


class Spanlike:
    """As much of a span as its tokens are asked of."""

    def __init__(self, key):
        self.key, self.account = key, None
        self.tokens_in = self.tokens_out = self.tokens_cached = None
        self.model = self.model_served = None


amounts = st.integers(0, 10**15)
holds = st.dictionaries(st.integers(1, 6), st.integers(1, 10**16), max_size=6)
tokens = st.dictionaries(st.integers(1, 6), st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=6)


@given(holds, holds, tokens)
def test_weights_always_sum_to_the_time_that_was_held_and_lie_in_their_bounds(weighted, loose, told):
    spans = [Spanlike(key) for key in range(1, 7)]
    for span in spans:
        span.tokens_in, span.tokens_out = told.get(span.key, (None, None))
    gpus = Gpus([Board()])
    gpus.hold({GPU: weighted, LOOSE: loose}, spans, [])
    held = gpus.shares["board"].held
    assert sum(held.weight.values()) == held.total == sum(weighted.values()) + sum(loose.values())
    for key, weight in held.weight.items():
        assert 0 <= held.low[key] <= weight <= held.high[key]
    mute = [key for key in loose if not any(told.get(key, ()))]
    assert all(held.weight[key] == loose[key] + weighted.get(key, 0) for key in mute)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)), min_size=1, max_size=8), st.integers(1, 10**12))
def test_spans_that_told_their_tokens_share_by_work(told, each):
    spans = [Spanlike(key) for key in range(len(told))]
    for span, (read, written) in zip(spans, told, strict=True):
        span.tokens_in, span.tokens_out = read, written
    gpus = Gpus([Board()])
    gpus.weights[""] = declared_weights(1, 4, "test")
    gpus.hold({LOOSE: {span.key: each for span in spans}}, [], spans)
    work = [read + 4 * written for read, written in told]
    for span, amount in zip(spans, work, strict=True):
        ideal = Fraction(each * len(told) * amount, sum(work))
        assert abs(gpus.shares["board"].held.weight[span.key] - ideal) <= 2 + ideal / 10**5


@given(amounts, st.none() | st.floats(0, 1), st.lists(st.integers(0, 10**12), max_size=6))
def test_a_gpus_energy_is_parted_without_rest(dynamic, own, weights):
    share = GpuShare([GPU], "host")
    for key, weight in enumerate(weights):
        share.held.add(key, weight, weight, weight, 0)
    whole = share.open(Sample(dynamic, dynamic, dynamic, own_share=own, busy_ns=10**9), dynamic)
    assert whole == sum(weights)
    assert 0 <= share.own_nj <= dynamic
    assert own is not None or share.own_nj == dynamic
    assert sum(share.busy.take(weights)) in (share.busy.total, 0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["open", "open", "close", "tick", "tick", "tokens", "tokens", "gap", "gone"]),
        st.integers(0, 5),
        st.sampled_from(["gpu", "gpu:0", "gpu:1", "gpu:right", "gpu:9"]),
        st.sampled_from([1, 1, 1, 0.3, 48]),
        st.none() | st.floats(0, 1),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_whatever_is_held_told_and_lost_each_joule_is_booked_once_and_lies_in_its_bounds(steps):
    clock, boards = FrozenClock(), [Board("left", busy=0.5), Board("right", own=None)]
    with metered(sources=boards, clock=clock) as (meter, out), contextlib.ExitStack() as everything:
        open_ones = []
        for do, number, pool, weight, own in steps:
            boards[0].own, boards[1].gap, boards[1].there = own, "reset" if do == "gap" else None, do != "gone"
            if do == "open":
                stack, span = everything.enter_context(contextlib.ExitStack()), meter.open_span("block")
                stack.callback(meter.close_span, span)
                stack.enter_context(span.section(pool, weight=weight))
                open_ones.append((stack, span))
            elif do == "close" and open_ones:
                open_ones.pop(number % len(open_ones))[0].close()
            elif do == "tokens" and open_ones:
                open_ones[number % len(open_ones)][1].add_tokens(input=number * 100, output=number, cached=number)
            else:
                clock.advance(0.1 + number / 10)
                meter.settle()
        everything.close()
        meter.settle()
    assert not meter.errors
    assert_books_close(out.ticks)
    billed = sum(sum(tick.requests_nj.values()) for tick in out.ticks) / J
    assert sum(reading.energy_dynamic_j or 0 for reading in out.readings) == pytest.approx(billed)
    busy = sum(tick.t1_ns - tick.t0_ns for tick in out.ticks if tick.source == "left") / J / 2
    assert sum(reading.gpu_s or 0 for reading in out.readings) <= busy + 1e-6
    for reading in out.readings:
        if reading.energy_full_j is not None:
            assert reading.energy_low_j - 1e-6 <= reading.energy_full_j <= reading.energy_high_j + 1e-6


def test_a_meter_without_a_gpu_keeps_nothing_of_sections_and_tokens():
    with metered() as (meter, out):
        with meter.measure("f") as span, span.section("gpu"):
            span.add_tokens(output=5)
            burn(0.002)
        meter.settle()
        assert span.reading.gpu_s is None
        assert flags(span) == set()
        assert_books_close(out.ticks)
