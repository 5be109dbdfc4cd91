"""The doubles that ship with the package: each one's promise, held to the letter."""

from __future__ import annotations

import pytest
from exchange import a_meter, later

from frugal_meter.sources import Window
from frugal_meter.testing import FrozenClock, RecordingExporter, SyntheticSource


def window(seconds: float, cpu_seconds: float) -> Window:
    return Window(0, round(seconds * 1e9), None, 4, round(cpu_seconds * 1e9))


def test_a_synthetic_source_draws_idle_power_and_joules_per_cpu_second() -> None:
    source = SyntheticSource(idle_watts=2, watts_per_cpu=10)
    sample = source.read(window(4, 1.5))
    assert sample is not None
    assert (sample.energy_nj, sample.idle_nj, sample.gap) == (23 * 10**9, 8 * 10**9, None)
    assert source.truth_nj == 23 * 10**9
    source.read(window(1, 0))
    assert source.truth_nj == 25 * 10**9


def test_its_power_may_be_any_function_of_the_cpus_busy() -> None:
    source = SyntheticSource(power=lambda cpus: 3 + 20 * cpus**0.5)
    sample = source.read(window(2, 0.5))
    assert sample is not None
    assert (sample.energy_nj, sample.idle_nj) == (26 * 10**9, 6 * 10**9)
    assert source.watts(0.25).mid == 13


def test_its_error_is_the_width_of_its_interval() -> None:
    sample = SyntheticSource(0, 10, error=0.2).read(window(1, 1))
    assert sample is not None
    assert (sample.low_nj, sample.energy_nj, sample.high_nj) == (8 * 10**9, 10 * 10**9, 12 * 10**9)


@pytest.mark.parametrize("seconds", [0, -1])
def test_an_empty_window_holds_no_energy(seconds: float) -> None:
    source = SyntheticSource(5, 10)
    sample = source.read(window(seconds, 1))
    assert sample is not None
    assert (sample.energy_nj, source.truth_nj) == (0, 0)


def test_idle_is_never_more_than_the_whole() -> None:
    sample = SyntheticSource(power=lambda cpus: 5 - 4 * cpus).read(window(1, 1))
    assert sample is not None
    assert (sample.energy_nj, sample.idle_nj) == (10**9, 10**9)


def test_a_frozen_clock_moves_when_told_and_only_then() -> None:
    clock = FrozenClock(at=1_000.5)
    wall, mono = clock.time_ns(), clock.monotonic_ns()
    assert wall == 1_000_500_000_000
    assert (clock.time_ns(), clock.monotonic_ns()) == (wall, mono)
    clock.advance(0.25)
    assert (clock.time_ns() - wall, clock.monotonic_ns() - mono) == (250_000_000, 250_000_000)


def test_a_recording_exporter_has_everything_when_settle_returns() -> None:
    exporter, source = RecordingExporter(), SyntheticSource(2, 10)
    with a_meter(exporters=[exporter], sources=source) as meter:
        for name in ("one", "two"):
            with meter.measure(name):
                sum(range(1000))
            later(meter, 1)
            assert meter.settle()
            assert exporter.readings[-1].route == name
    assert [reading.settled for reading in exporter.readings] == [True, True]
    assert all(tick.closes for tick in exporter.ticks)
    assert sum(tick.energy_nj for tick in exporter.ticks) == source.truth_nj
