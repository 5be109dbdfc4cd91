"""Which sources a machine gets: sensors first, models for the rest, the same boundary in every tier."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugal_meter.errors import ConfigurationError, SourceError
from frugal_meter.records import Interval
from frugal_meter.sources import Window
from frugal_meter.sources.discovery import DeclaredWatts, Discovery, discover, overlap
from frugal_meter.sources.power_model import BoardModelSource, CpuModelSource, MemoryModelSource
from frugal_meter.sources.rapl import RaplZone
from frugal_meter.sources.watts import declared_cpu
from frugal_meter.trees import PowercapTree, ProcTree

SKYLAKE = {"vendor_id": "GenuineIntel", "cpu family": "6", "model": "85", "model name": "Intel(R) Xeon(R) Gold 6130 CPU"}
ZEN_5 = {"vendor_id": "AuthenticAMD", "cpu family": "26", "model": "2", "model name": "AMD EPYC", "flags": "hypervisor"}
ZEN_6, ZEN_7 = ({**ZEN_5, "model": "80"}, {**ZEN_5, "cpu family": "27"})
NOBODY = {"vendor_id": "Nobody", "cpu family": "1", "model": "1", "model name": "Abacus"}


class Machine:
    """A machine made of files, and what is discovered on it."""

    def __init__(self, root: Path, cpuinfo: dict[str, str] = SKYLAKE) -> None:
        self.tree = ProcTree(root, cpus=4)
        self.tree.cpuinfo(cpuinfo)
        self.powercap = root / "powercap"

    def discover(self, sources="auto", **settings) -> Discovery:
        return discover(sources, powercap_root=self.powercap, proc_root=self.tree.proc, sys_root=self.tree.sys, **settings)


def hardware(discovery: Discovery) -> dict[str, str]:
    """Component -> tier, GPUs of the machine that runs this test left out."""
    return {source.component: source.tier for source in discovery.sources if source.component != "gpu"}


def words(discovery: Discovery) -> list[str]:
    return [word for word in discovery.boundary if word != "gpu"]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_machine_without_sensors_is_modelled_whole(machine):
    found = machine.discover()
    assert hardware(found) == {"cpu": "modelled", "dram": "modelled", "board": "modelled"}
    assert "rapl-absent" in {finding.code for finding in found.findings}
    assert found.known_cpu
    assert found.baseline is None


def test_what_rapl_does_not_cover_is_modelled_and_added(machine):
    PowercapTree.amd_core_in_package(machine.powercap)
    found = machine.discover()
    assert hardware(found) == {"cpu": "measured", "dram": "modelled", "board": "modelled"}


def test_a_measured_memory_is_not_modelled_a_second_time(machine):
    PowercapTree.dual_socket_with_psys(machine.powercap)
    found = machine.discover()
    assert [source.covers for source in found.sources if source.tier == "measured" and source.component != "gpu"] == [
        ("package:0",), ("dram:0",), ("package:1",), ("dram:1",),
    ]  # fmt: skip
    assert hardware(found) == {"cpu": "measured", "dram": "measured", "board": "modelled"}


def test_the_boundary_is_the_same_in_every_tier(machine):
    boundaries = [words(machine.discover("model"))]
    tree = PowercapTree(machine.powercap)
    tree.package(0)
    boundaries.append(words(machine.discover()))
    tree.dram(0)
    boundaries.append(words(machine.discover()))
    assert boundaries == [["cpu", "memory", "board"]] * 3


def test_no_two_sources_of_a_discovery_cover_the_same_energy(machine):
    PowercapTree.mmio_twin(machine.powercap)
    covers = [cover for source in machine.discover().sources for cover in source.covers]
    assert not [(a, b) for i, a in enumerate(covers) for b in covers[i + 1 :] if overlap(a, b)]


def test_a_measured_cpu_takes_its_idle_baseline_from_the_table(machine):
    PowercapTree.mmio_twin(machine.powercap)
    baseline = machine.discover().baseline
    modelled = next(line for line in machine.discover("model").describe() if line.component == "cpu")
    assert baseline is not None
    assert baseline.mid == pytest.approx(modelled.idle_w.mid)
    # apart from the rest of its server it carries the doubt about its share of it
    assert baseline.low < modelled.idle_w.low
    assert baseline.high > modelled.idle_w.high
    assert machine.discover(declared=DeclaredWatts(cpu_idle=12, cpu_full=80)).baseline == Interval(12, 12, 12)


def test_a_measured_cpu_that_nobody_knows_has_no_baseline_rather_than_a_guess(tmp_path):
    machine = Machine(tmp_path, NOBODY)
    PowercapTree.mmio_twin(machine.powercap)
    found = machine.discover()
    assert (found.known_cpu, found.baseline) == (False, None)
    assert machine.discover(declared=DeclaredWatts(cpu_idle=12, cpu_full=80)).known_cpu


def test_the_model_alone_can_be_asked_for_though_sensors_are_there(machine):
    PowercapTree.dual_socket_with_psys(machine.powercap)
    found = machine.discover("model")
    assert {source.tier for source in found.sources} == {"modelled"}
    assert found.findings == ()


def test_a_required_rapl_that_is_missing_is_an_error_with_its_remedy(machine):
    with pytest.raises(SourceError, match="RAPL is required") as missing:
        machine.discover("rapl")
    assert missing.value.where == str(machine.powercap)
    assert missing.value.remedy
    PowercapTree.mmio_twin(machine.powercap)
    assert hardware(machine.discover("rapl"))["cpu"] == "measured"


def test_a_tree_without_a_package_does_not_pass_for_the_rapl_that_was_required(machine):
    PowercapTree(machine.powercap).zone("psys")
    with pytest.raises(SourceError, match="no package zone is listed"):
        machine.discover("rapl")
    assert hardware(machine.discover())["cpu"] == "modelled"


def test_a_hosts_counters_are_refused_beside_a_containers_cpu_time(machine):
    PowercapTree.dual_socket_with_psys(machine.powercap)
    machine.tree.show(cpus=1)
    found = machine.discover()
    assert hardware(found) == {"cpu": "modelled", "dram": "modelled", "board": "modelled"}
    assert found.findings[0].code == "rapl-scope"
    with pytest.raises(SourceError, match="only this container's CPU time"):
        machine.discover("rapl")


def test_a_share_handed_down_by_the_hypervisor_counts_beside_the_guests_own_cpu_time(machine):
    PowercapTree.dual_socket_with_psys(machine.powercap)
    machine.tree.show(cpus=1)
    found = machine.discover(scope="vm-share")
    assert {source.scope for source in found.sources if isinstance(source, RaplZone)} == {"vm-share"}
    assert hardware(found)["cpu"] == "measured"


def test_a_newer_cpu_and_an_unknown_one_are_said(tmp_path):
    strangers = (("a", ZEN_6, "cpu-relative", True), ("b", ZEN_7, "cpu-vendor", True), ("c", NOBODY, "cpu-unknown", False))
    for folder, cpuinfo, code, known in strangers:
        found = Machine(tmp_path / folder, cpuinfo).discover("model")
        assert [finding.code for finding in found.findings] == [code]
        assert cpuinfo["model name"] in found.findings[0].what
        assert cpuinfo["model name"] in found.findings[0].what_fr
        assert found.known_cpu is known


def test_a_guest_is_modelled_with_the_assumptions_of_a_guest(tmp_path):
    lines = Machine(tmp_path, ZEN_5).discover("model").describe()
    cpu = next(line for line in lines if line.component == "cpu")
    assert {"cpu:share-of-server", "vm:vcpu-is-one-thread", "vm:occupancy-unknown"} <= set(cpu.flags)


def test_an_arm_server_cannot_say_that_it_is_a_guest_and_is_taken_for_one(tmp_path):
    graviton = {"CPU implementer": "0x41", "CPU architecture": "8", "CPU part": "0xd0c"}
    found = Machine(tmp_path, graviton).discover("model")
    assert found.match.row == "neoverse-n1"
    assert "vm:occupancy-unknown" in found.describe()[0].flags


def test_declared_watts_replace_the_table_and_its_doubts(tmp_path):
    found = Machine(tmp_path, NOBODY).discover("model", declared=DeclaredWatts(cpu_idle=10, cpu_full=50, memory=4, board=7))
    watts = {line.component: (line.idle_w, line.full_w) for line in found.describe()}
    assert watts == {
        "cpu": (Interval(10, 10, 10), Interval(50, 50, 50)),
        "dram": (Interval(4, 4, 4), Interval(4, 4, 4)),
        "board": (Interval(7, 7, 7), Interval(7, 7, 7)),
    }
    assert found.findings == ()


def test_half_a_pair_of_declared_watts_is_refused(machine):
    with pytest.raises(ConfigurationError, match="need both cpu_idle and cpu_full"):
        machine.discover(declared=DeclaredWatts(cpu_full=50))


def test_unreadable_memory_is_left_out_of_the_boundary_and_said(machine):
    (machine.tree.proc / "meminfo").unlink()
    found = machine.discover("model")
    assert words(found) == ["cpu", "board"]
    assert [finding.code for finding in found.findings] == ["memory-unknown"]


def test_a_machine_that_hides_its_processor_is_unknown_but_counted(machine):
    (machine.tree.proc / "cpuinfo").unlink()
    found = machine.discover("model")
    assert not found.known_cpu
    assert words(found) == ["cpu", "memory", "board"]
    assert found.describe()[0].provenance.endswith("4 threads")


def test_given_sources_are_taken_as_they_are(machine):
    source = CpuModelSource(declared_cpu(idle_watts=1, full_watts=2))
    assert machine.discover(source).sources == (source,)
    both = [source, MemoryModelSource(10**9)]
    found = machine.discover(both)
    assert found.sources == tuple(both)
    assert found.boundary == ("cpu", "memory")


def test_given_sources_that_would_count_twice_are_refused_by_name(machine):
    PowercapTree.mmio_twin(machine.powercap)
    package = next(source for source in machine.discover().sources if source.component == "cpu")
    with pytest.raises(ConfigurationError, match=r"'rapl:package-0' .* 'model:cpu' .* keep one"):
        machine.discover([package, CpuModelSource(declared_cpu(idle_watts=1, full_watts=2))])


@pytest.mark.parametrize(
    ("first", "second", "twice"),
    [
        ("package:0", "package:0", True),
        ("package:0", "package:1", False),
        ("package:*", "package:1", True),
        ("package:0", "dram:0", False),
        ("node", "package:1", True),
        ("gpu:GPU-1", "node", True),
        ("psys", "dram:0", True),
        ("psys", "board", False),
        ("gpu:GPU-1", "gpu:GPU-2", False),
        ("board", "board", True),
    ],
)
def test_covers_overlap_when_they_hold_some_of_the_same_energy(first, second, twice):
    assert overlap(first, second) is overlap(second, first) is twice


def test_a_word_that_names_no_sources_is_refused_with_those_that_do(machine):
    with pytest.raises(ConfigurationError, match="unknown sources 'rappel': use auto, model, rapl, agent, codecarbon"):
        machine.discover("rappel")


def test_each_source_is_described_with_watts_or_as_a_sensor(machine):
    PowercapTree.mmio_twin(machine.powercap)
    lines = {line.name: line for line in machine.discover().describe()}
    assert (lines["rapl:package-0"].idle_w, lines["rapl:package-0"].tier) == (None, "measured")
    board = lines["model:board"]
    assert board.idle_w is not None
    assert board.idle_w == board.full_w


def test_a_discovered_machine_answers_with_joules(machine):
    tree = PowercapTree.mmio_twin(machine.powercap)
    sources = machine.discover().sources
    prime, second = (Window(i * 10**9, (i + 1) * 10**9, 2 * 10**9, 4, 0) for i in range(2))
    for source in sources:
        source.read(prime)
    tree.advance("intel-rapl:0", joules=25)
    energy = {source.component: source.read(second) for source in sources if source.component != "gpu"}
    assert all(sample is not None and sample.energy_nj > 0 for name, sample in energy.items() if name != "dram")
    assert energy["cpu"].energy_nj == 25 * 10**9
    for source in sources:
        source.close()


def test_a_board_may_be_given_as_one_figure_or_as_an_interval():
    assert BoardModelSource(5).describe().idle_w == Interval(5, 5, 5)
    assert BoardModelSource(Interval(0, 5, 9)).describe().flags == ("interval:expert-assumption",)
