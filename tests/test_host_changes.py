"""What a host does under a running meter: CPUs come and go, it sleeps, its wall clock jumps, others steal its time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support import assert_books_close, burn, metered

from frugal_meter.attribution.sampler import SystemClock
from frugal_meter.sources import Sample, Window
from frugal_meter.sources.rapl import discover
from frugal_meter.testing import FrozenClock, PowercapTree, ProcTree


class HostOf:
    """A joule per CPU-second that the host worked, and what it was told of each window."""

    name, component, covers, scope, sensor = "host", "cpu", ("host",), "host", "synthetic"
    tier, method, provenance, resolution_nj = "measured", "synthetic/1", "synthetic", 1

    def __init__(self) -> None:
        self.windows: list[Window] = []

    def read(self, window: Window) -> Sample:
        self.windows.append(window)
        nj = window.host_busy_ns or 0
        return Sample(nj, nj, nj, 0)

    def close(self) -> None:
        pass


@pytest.fixture
def host(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path / "host", cpus=4)


def test_cpus_that_come_and_go_are_counted_at_the_next_tick(tmp_path: Path, host: ProcTree) -> None:
    source = HostOf()
    online = tmp_path / "host/sys/devices/system/cpu/online"
    with metered(sources=[source], host_root=tmp_path / "host", workers="single") as (meter, out):
        for cpus in (8, 2, 4):
            online.write_text(f"0-{cpus - 1}\n")
            host.show(cpus)
            host.advance(0.25)
            with meter.measure("work"):
                burn(0.002)
            meter.settle()
            assert (source.windows[-1].host_cpus, source.windows[-1].host_cpu_scope) == (cpus, "host")
            assert source.windows[-1].host_busy_ns == 250_000_000
            assert 0 < source.windows[-1].load <= 1  # type: ignore[operator]
        assert_books_close(out.ticks)
        assert meter.errors == {}


def test_time_that_others_stole_is_nobodys(tmp_path: Path, host: ProcTree) -> None:
    """A guest kept waiting by its hypervisor: the time is in /proc/stat, but nothing here used it."""
    source = HostOf()
    with metered(sources=[source], host_root=tmp_path / "host", workers="single") as (meter, out):
        host.advance(30, "steal")
        with meter.measure("work"):
            burn(0.002)
        meter.settle()
        assert source.windows[-1].host_busy_ns == 0
        assert out.readings[-1].energy_dynamic_j == 0
        host.advance(0.5)
        host.advance(30, "steal")
        meter.settle()
        assert out.ticks[-1].energy_nj == 500_000_000
        assert_books_close(out.ticks)


def test_joules_of_a_night_asleep_are_nobodys_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own clocks tell: CLOCK_BOOTTIME goes on while it sleeps, CLOCK_MONOTONIC does not."""
    tree = PowercapTree(tmp_path / "powercap")
    zone = tree.package(0)
    with metered(sources=discover(tree.root).sources, workers="single") as (meter, out):
        asleep_ns, clock = 8 * 3600 * 10**9, time.clock_gettime_ns

        def gettime(which: int) -> int:
            return clock(which) + (asleep_ns if which == time.CLOCK_BOOTTIME else 0)

        with meter.measure("over night") as span:
            burn(0.002)
            monkeypatch.setattr(time, "clock_gettime_ns", gettime)
            tree.advance(zone, joules=20)
        meter.settle()
        assert (out.ticks[-1].gap_nj, out.ticks[-1].gap_reason) == (20 * 10**9, "suspend")
        assert span.reading.energy_dynamic_j == 0
        assert "energy:incomplete" in span.reading.flags
        tree.advance(zone, joules=1)
        meter.settle()
        assert out.ticks[-1].gap_reason is None  # once, and not for ever after
        assert_books_close(out.ticks)


class Jumps(SystemClock):
    """The machine's clock, whose date somebody sets."""

    by_s = 0.0

    def time_ns(self) -> int:  # type: ignore[override]
        return time.time_ns() + round(self.by_s * 1e9)


@pytest.mark.parametrize("by_s", [-86_400.0, 86_400.0, 31.5])
def test_a_wall_clock_that_is_set_changes_no_duration_and_no_energy(by_s: float) -> None:
    clock: Any = Jumps()
    with metered(clock=clock) as (meter, out):
        with meter.measure("work") as span:
            used = burn(0.005)
            clock.by_s = by_s
        meter.settle()
        assert 0 < span.reading.wall_s < 60
        assert used <= span.reading.cpu_s < used + 0.05
        assert all(tick.t1_ns >= tick.t0_ns for tick in out.ticks)
        assert_books_close(out.ticks)
        assert meter.errors == {}


class SetClock(FrozenClock):
    """A clock whose wall time is set."""

    def put_forward(self, seconds: float) -> None:
        self._unix_ns += round(seconds * 1e9)


def test_a_clock_that_is_set_dates_what_comes_after_and_changes_no_id() -> None:
    clock = SetClock()
    with metered(clock=clock) as (meter, out):
        with meter.measure("over") as span:
            clock.advance(1)
            clock.put_forward(3600)
            provisional = span.reading.id
            assert meter.settle()
        with meter.measure("after"):
            clock.advance(1)
        assert meter.settle()
        over, after = out.readings
        assert over.id == provisional
        assert after.started_at == pytest.approx(clock.time_ns() / 1e9 - 1)
        ends = {
            sample.exemplar.labels["reading_id"]: float(sample.exemplar.timestamp)
            for family in text_string_to_metric_families(meter.metrics("application/openmetrics-text")[0].decode())
            for sample in family.samples
            if sample.exemplar is not None
        }
        assert ends[after.id] == pytest.approx(clock.time_ns() / 1e9, abs=0.002)
