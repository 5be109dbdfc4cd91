"""The idle baseline: where it comes from, how far it is known, and what its error does to the figures."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter import Meter
from frugal_meter.attribution.idle import Baseline
from frugal_meter.records import Interval
from frugal_meter.sources import Sample, Window
from frugal_meter.testing import FrozenClock, RecordingExporter, SyntheticSource


def window(seconds=1.0, busy=0.0, cpus=4):
    return Window(0, round(seconds * 1e9), round(busy * 1e9), cpus, 0)


def sample(joules):
    nj = round(joules * 1e9)
    return Sample(nj, nj, nj)


def test_observed_idle_watts_are_bounded_by_what_was_seen_and_a_modelled_one_by_its_table():
    seen = Baseline(modelled=Interval(20, 30, 40))
    assert seen.interval == Interval(20, 30, 40)
    for joules in range(100):
        seen.observe(window(busy=0.01), sample(joules))
    assert seen.interval == Interval(1, 5, 50)
    assert Baseline(12.5, Interval(20, 30, 40)).interval == Interval(12.5, 12.5, 12.5)
    assert Baseline().interval is None


def test_short_ticks_and_gaps_say_nothing_of_idle():
    baseline = Baseline()
    for _ in range(40):
        baseline.observe(window(0.01), sample(0))
        baseline.observe(window(), Sample(0, 0, 0, gap="reset"))
    assert baseline.watts == (None, "none")


def test_a_gpu_idles_when_it_is_idle_itself_whatever_its_host_does():
    baseline, unseen = Baseline(), Baseline()
    for _ in range(20):
        baseline.observe(window(busy=3.9), msgspec.structs.replace(sample(50), busy_ns=10**6), on_gpu=True)
        baseline.observe(window(busy=0.0), msgspec.structs.replace(sample(300), busy_ns=10**9), on_gpu=True)
        unseen.observe(window(busy=0.0), sample(300), on_gpu=True)
    assert baseline.watts == (50, "observed")
    assert unseen.watts == (None, "none")


@pytest.mark.parametrize(
    ("baseline", "above"), [(Baseline(60), True), (Baseline(52), False), (Baseline(modelled=Interval(50, 60, 70)), True)]
)
def test_a_baseline_above_what_was_observed_is_told_once(caplog, baseline, above):
    for _ in range(60):
        baseline.observe(window(busy=2.0), sample(50), name="rapl:package-0")
    assert baseline.above is above
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == above
    assert all("rapl:package-0" in line and "60 W" in line and "50 W" in line for line in told)


def test_a_baseline_that_is_observed_in_the_end_is_not_above_itself():
    baseline = Baseline(modelled=Interval(50, 60, 70))
    for _ in range(20):
        baseline.observe(window(busy=2.0), sample(50))
    assert baseline.above
    for _ in range(20):
        baseline.observe(window(busy=0.0), sample(50))
    assert not baseline.above


def test_readings_say_that_the_baseline_is_above_what_was_observed():
    clock = FrozenClock()

    class Counter(SyntheticSource):
        def read(self, window):
            nj = round(10e9 * window.seconds)
            return Sample(nj, nj, nj)

    out, settings = RecordingExporter(), {"zone": "FR", "tick": 60, "clock": clock}
    with Meter("tests", sources=Counter(), idle_watts={"cpu": 11}, exporters=[out], **settings) as meter:
        for _ in range(20):
            with meter.measure("f"):
                clock.advance(1)
            meter.settle()
        assert ["idle:above-observed" in reading.flags for reading in out.readings] == [False] * 19 + [True]


def bounds_of(baseline, energy, share, held):
    """Least and most joules of ``share`` of the dynamic and ``held`` of the idle energy of a one-second tick."""
    known, _ = baseline.idle_nj(window(), energy)
    ends = baseline.ends(window(), energy, min(known or 0, energy.energy_nj))
    pairs = [[(end.dynamic, end.idle), (end.other_dynamic, end.other_idle)] for end in ends]
    low, high = ([(share * dynamic + held * idle) / 1e9 for dynamic, idle in pair] for pair in pairs)
    return min(low), max(high)


watts = st.floats(0, 200)


@given(watts, watts, watts, st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_every_idle_and_every_energy_within_their_intervals_is_within_the_bounds(joules, at, idle, error, share, held, own):
    low, mid, high = sorted((joules / 2, idle, at))
    energy = round(joules * 1e9)
    of_it = min(energy, round(mid * 1e9)) if own else None
    said = Sample(energy, int(energy * (1 - error)), math.ceil(energy * (1 + error)), idle_nj=of_it)
    interval = Interval(low, mid, high)
    least, most = bounds_of(Baseline(own=interval) if own else Baseline(modelled=interval), said, share, held)
    booked = min(joules, mid)
    assert least - 1e-6 <= share * (joules - booked) + held * booked <= most + 1e-6
    if own:
        return
    for true_idle in (low, mid, high):
        for true in (said.low_nj / 1e9, joules, said.high_nj / 1e9):
            inside = min(true_idle, true)
            assert least - 1e-6 <= share * (true - inside) + held * inside <= most + 1e-6


def test_an_error_of_the_baseline_moves_dynamic_and_idle_in_opposite_directions():
    """A request that is the whole of both does not feel it; one that holds all of the idle and little else does."""
    baseline = Baseline(modelled=Interval(20, 30, 40))
    assert bounds_of(baseline, sample(100), 1, 1) == (100, 100)
    assert bounds_of(baseline, sample(100), 0, 1) == (20, 40)
    assert bounds_of(baseline, sample(100), 1, 0) == (60, 80)


def test_observed_watts_err_as_their_sensor_does():
    baseline = Baseline()
    for _ in range(20):
        baseline.observe(window(busy=0.01), sample(90))
    energy = Sample(100 * 10**9, 80 * 10**9, 120 * 10**9)
    assert bounds_of(baseline, energy, 1, 0) == pytest.approx((8, 12))
    assert bounds_of(Baseline(90), energy, 1, 0) == (0, 30)
