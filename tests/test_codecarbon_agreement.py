"""codecarbon's CPU model as a source, and our whole-host energy beside codecarbon's own tracker.

What the two sides share in the agreement test: one machine made of files, whose ``/proc/stat`` both read (codecarbon
through psutil, which is pointed at it by its documented ``PROCFS_PATH``; we through `HostCpu`), the clock, which is that
machine's own (its CPU counters say how much time has passed), and the model's two inputs, the CPU's TDP and the watts of
the memory. codecarbon's tracker, hardware classes, load meter and unit conversions are its own and run as released;
the curve, the load, the window and the integration on our side are ours.
"""

from __future__ import annotations

import itertools
import os
import sys
import types
from pathlib import Path

import pytest

from frugal_meter.errors import ConfigurationError, MissingExtraError
from frugal_meter.sources import Window
from frugal_meter.sources.codecarbon_model import CodecarbonCpuModelSource, match_tdp
from frugal_meter.sources.discovery import DeclaredWatts, discover
from frugal_meter.sources.power_model import MemoryModelSource
from frugal_meter.sources.procfs import HostCpu
from frugal_meter.trees import ProcTree

TDP_WATTS, MEMORY_WATTS, CPUS = 180.0, 20.0, 4
LOADS = (0.0, 0.25, 0.5, 1.0)
J_PER_KWH = 3.6e6


class Host:
    """A machine of files that works at a given load for a given time; its clock is what its CPU counters add up to."""

    def __init__(self, root: Path) -> None:
        self.tree = ProcTree(root, cpus=CPUS)
        self.cpu = HostCpu(self.tree.proc, self.tree.sys)
        self._readings = itertools.count()

    def work(self, load: float, seconds: float) -> None:
        self.tree.advance(load * seconds * CPUS, "user")
        self.tree.advance((1 - load) * seconds * CPUS, "idle")

    def perf_counter(self) -> float:
        counters = (self.tree.proc / "stat").read_text().split("\n", 1)[0].split()[1:]
        # a clock moves between two readings, and codecarbon divides by what it moved: a microsecond each
        return sum(map(int, counters)) / os.sysconf("SC_CLK_TCK") / CPUS + next(self._readings) * 1e-6


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path / "machine")


@pytest.fixture
def tracker(host, tmp_path, monkeypatch):
    """codecarbon's offline tracker in machine mode on that machine, writing nothing."""
    pytest.importorskip("codecarbon", reason="needs codecarbon: pip install 'frugal-meter[codecarbon]'")
    import codecarbon.emissions_tracker
    import codecarbon.external.hardware
    import psutil

    # its home and working directory could hold a .codecarbon.config; its own cache goes there too
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    clock = types.SimpleNamespace(**{name: getattr(sys.modules["time"], name) for name in ("time", "sleep")})
    clock.perf_counter = host.perf_counter
    monkeypatch.setattr(codecarbon.emissions_tracker, "time", clock)
    monkeypatch.setattr(codecarbon.external.hardware, "time", clock)
    tracker = codecarbon.emissions_tracker.OfflineEmissionsTracker(
        country_iso_code="FRA",
        tracking_mode="machine",
        force_mode_cpu_load=True,
        force_cpu_power=TDP_WATTS,
        force_ram_power=MEMORY_WATTS,
        gpu_ids=[],
        output_methods=[],
        measure_power_secs=3600,
        log_level="error",
    )
    tracker.get_detected_hardware()
    # psutil looks for this process below /proc while the hardware is set up; from here on only the load is read
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(host.tree.proc))
    yield tracker
    monkeypatch.undo()
    tracker.stop()


def ours(host: Host, load: float, seconds: float) -> float:
    """Joules of the whole host by our own sources while it works."""
    sources = (CodecarbonCpuModelSource(TDP_WATTS), MemoryModelSource(watts=MEMORY_WATTS))
    t0, busy0 = host.perf_counter(), host.cpu.busy_ns()
    host.work(load, seconds)
    t1, busy1 = host.perf_counter(), host.cpu.busy_ns()
    assert busy0 is not None
    assert busy1 is not None
    window = Window(round(t0 * 1e9), round(t1 * 1e9), busy1 - busy0, host.cpu.cpus(), 0)
    samples = [source.read(window) for source in sources]
    return sum(sample.energy_nj for sample in samples if sample is not None) / 1e9


def test_over_one_sequential_load_we_agree_with_codecarbons_own_tracker(host, tracker):
    disagreement = {}
    for load in LOADS:
        tracker.start_task(f"{load:.0%}")
        joules = ours(host, load, seconds=60)
        theirs = tracker.stop_task().energy_consumed * J_PER_KWH
        assert theirs > 60 * MEMORY_WATTS
        disagreement[load] = abs(joules / theirs - 1)
    assert max(disagreement.values()) < 0.02, disagreement


def test_the_agreement_is_not_that_of_any_two_models(host, tracker):
    """At half load the straight line of other models is far from codecarbon's cube: the comparison can fail."""
    tracker.start_task("half")
    host.work(0.5, 60)
    theirs = tracker.stop_task().cpu_energy * J_PER_KWH
    straight_line = 60 * TDP_WATTS * (0.1 + 0.9 * 0.5)
    assert abs(straight_line / theirs - 1) > 0.5


def test_codecarbons_table_is_asked_by_the_name_of_the_cpu():
    pytest.importorskip("codecarbon", reason="needs codecarbon: pip install 'frugal-meter[codecarbon]'")
    source = CodecarbonCpuModelSource(cpu_name="AMD EPYC 7742 64-Core Processor", sockets=2)
    assert source.tdp_watts == 2 * 225
    assert "MIT" in source.provenance
    assert source.watts(0).mid == pytest.approx(45)
    assert source.watts(1).mid == pytest.approx(450)


def test_a_cpu_codecarbon_does_not_know_is_refused_not_guessed():
    pytest.importorskip("codecarbon", reason="needs codecarbon: pip install 'frugal-meter[codecarbon]'")
    with pytest.raises(ConfigurationError, match="knows no TDP of 'AMD EPYC': give tdp_watts"):
        CodecarbonCpuModelSource(cpu_name="AMD EPYC")
    with pytest.raises(ConfigurationError, match="name of this CPU is not known"):
        CodecarbonCpuModelSource()


@pytest.mark.parametrize(
    ("name", "tdp"),
    [
        ("Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz", 125.0),
        ("Intel Xeon Gold 6130", 125.0),
        ("AMD EPYC 7742 64-Core Processor", 225.0),
        ("Intel(R) Xeon(R) Gold 6130F CPU @ 2.10GHz", None),
        ("AMD EPYC", None),
    ],
)
def test_a_tdp_is_matched_by_equal_names_once_clock_and_core_count_are_dropped(name, tdp):
    table = [("Intel Xeon Gold 6130", 125), ("AMD EPYC 7742", 225), ("AMD EPYC 7742P", 999)]
    assert match_tdp(name, table) == tdp


def test_without_the_extra_the_table_says_how_to_install_it(monkeypatch):
    # None in sys.modules is Python's own way to say that an import fails
    monkeypatch.setitem(sys.modules, "codecarbon.input", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'frugal-meter\[codecarbon\]'"):
        CodecarbonCpuModelSource(cpu_name="AMD EPYC 7742")


def test_its_interval_runs_from_its_own_cube_to_the_highest_published_shape():
    watts = CodecarbonCpuModelSource(100).watts(0.5)
    assert watts.low == watts.mid == pytest.approx(100 * (0.1 + 0.9 * 0.125))
    assert watts.high == pytest.approx(100 * (0.1 + 0.9 * 0.7))


def test_codecarbons_model_can_be_chosen_for_the_cpu_alone(tmp_path):
    pytest.importorskip("codecarbon", reason="needs codecarbon: pip install 'frugal-meter[codecarbon]'")
    tree = ProcTree(tmp_path)
    tree.cpuinfo({"vendor_id": "AuthenticAMD", "cpu family": "23", "model": "49", "model name": "AMD EPYC 7742"})
    found = discover("codecarbon", proc_root=tree.proc, sys_root=tree.sys, declared=DeclaredWatts(memory=5))
    assert [source.name for source in found.sources] == ["model:codecarbon-cpu", "model:memory", "model:board"]
    assert found.boundary == ("cpu", "memory", "board")
