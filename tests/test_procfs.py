"""The readers of /proc, /sys and cgroups, on trees of files and on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from frugal_meter.sources.procfs import (
    HostCpu,
    KeptFile,
    boot_offset_ns,
    cgroup_cpu_quota,
    cpu_model,
    memory_bytes,
    slept_ns,
)
from frugal_meter.trees import CgroupTree, ProcTree

SECOND = 1_000_000_000


@pytest.fixture
def tree(tmp_path):
    return ProcTree(tmp_path, cpus=4)


@pytest.fixture
def host(tree):
    cpu = HostCpu(tree.proc, tree.sys)
    yield cpu
    cpu.close()


@pytest.mark.parametrize("column", ["user", "nice", "system", "irq", "softirq"])
def test_work_counts_as_busy(tree, host, column):
    before = host.busy_ns()
    tree.advance(2.5, column)
    assert host.busy_ns() - before == 2_500_000_000


@pytest.mark.parametrize("column", ["idle", "iowait", "steal", "guest", "guest_nice"])
def test_waiting_and_other_tenants_do_not_count_as_busy(tree, host, column):
    before = host.busy_ns()
    tree.advance(2.5, column)
    assert host.busy_ns() == before


def test_a_small_decrease_repeats_the_last_value_until_the_counters_catch_up(tree, host):
    before = host.busy_ns()
    tree.advance(-0.05)
    assert host.busy_ns() == before
    tree.advance(0.05)
    assert host.busy_ns() == before
    tree.advance(1)
    assert host.busy_ns() == before + SECOND


def test_a_container_restored_elsewhere_goes_on_from_where_it_was(tree, host):
    tree.advance(1000)
    before = host.busy_ns()
    tree.advance(-900)
    assert host.busy_ns() == before
    tree.advance(3)
    assert host.busy_ns() == before + 3 * SECOND


def test_a_stat_file_that_vanishes_is_unknown_and_found_again(tree, host):
    before = host.busy_ns()
    tree.vanish("stat")
    assert host.busy_ns() is None
    assert host.scope() == "unknown"
    assert host.cpus() == 4
    tree.advance(1)
    assert host.busy_ns() == before + SECOND


@pytest.mark.parametrize(
    "line",
    ["", "\n", "cpu", "cpu  12 0 3", "cpu  12 0 3 4 5 6\n", "cpu  12 0 3 4 5 6 7 8", "cpu  a b c d e f g h\n",
     "intr 1 2 3 4 5 6 7 8\n", "cpu  -5 0 0 9 0 0 0 0\n", "cpu  0 0 0 0 0 0 0 0 0 0\n"],
)  # fmt: skip
def test_a_garbled_cpu_line_is_unknown(tmp_path, line):
    (tmp_path / "stat").write_text(line)
    assert HostCpu(tmp_path, tmp_path).busy_ns() is None


def test_a_container_that_sees_fewer_cpus_than_the_kernel_says_so(tree, host):
    assert host.scope() == "host"
    tree.show(2)
    assert host.cpus() == 2
    assert host.scope() == "container"


def test_the_scope_is_unknown_without_the_list_of_online_cpus(tree, tmp_path):
    assert HostCpu(tree.proc, tmp_path / "nowhere").scope() == "unknown"
    (tree.sys / "devices/system/cpu/online").write_text("all of them\n")
    assert HostCpu(tree.proc, tree.sys).scope() == "unknown"


def test_online_cpus_with_holes_are_counted(tree):
    (tree.sys / "devices/system/cpu/online").write_text("0-2,8\n")
    assert HostCpu(tree.proc, tree.sys).scope() == "host"
    (tree.sys / "devices/system/cpu/online").write_text("0-2,8,10-11\n")
    assert HostCpu(tree.proc, tree.sys).scope() == "container"


def test_this_machine_was_busy_and_stays_so(tmp_path):
    host = HostCpu()
    first, second = host.busy_ns(), host.busy_ns()
    assert 0 < first <= second
    assert host.cpus() >= 1


def test_reading_the_host_costs_no_open_per_tick(tree, host):
    host.busy_ns()
    handle = host._stat._fd
    tree.advance(1)
    host.busy_ns()
    assert host._stat._fd == handle
    host.close()
    host.close()
    assert host.busy_ns() > 0


def test_a_kept_file_follows_its_path_after_it_was_replaced(tmp_path):
    path = tmp_path / "energy_uj"
    path.write_text("1\n")
    kept = KeptFile(path)
    assert kept.read() == b"1\n"
    path.write_text("")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        kept.read()
    path.write_text("")
    with pytest.raises(OSError, match="No data"):
        kept.read()
    path.write_text("2\n")
    assert kept.read() == b"2\n"
    kept.close()


def test_a_handle_that_answers_with_an_error_is_opened_anew_once(tmp_path):
    # a folder opens and then refuses to be read, as a sysfs file does whose device has gone
    with pytest.raises(OSError, match="No data"):
        KeptFile(tmp_path).read()


def test_an_intel_server_is_described_by_its_cpuinfo(tree):
    model = cpu_model(tree.proc)
    assert (model.vendor, model.family, model.model) == ("GenuineIntel", 6, 85)
    assert (model.threads, model.cores, model.sockets) == (4, 2, 1)
    assert not model.flags_hypervisor


def test_a_virtual_machine_is_known_by_its_hypervisor_flag(tmp_path):
    assert cpu_model(ProcTree(tmp_path, hypervisor=True).proc).flags_hypervisor


def test_an_arm_server_is_described_by_its_implementer_and_part(tree):
    tree.cpuinfo({"BogoMIPS": "243.75", "CPU implementer": "0x41", "CPU architecture": "8", "CPU part": "0xd0c"})
    model = cpu_model(tree.proc)
    assert (model.vendor, model.family, model.model, model.name) == ("ARM", 8, 0xD0C, "Neoverse-N1")
    assert (model.threads, model.cores, model.sockets) == (4, None, None)


def test_an_arm_processor_nobody_listed_keeps_its_numbers(tree):
    tree.cpuinfo({"CPU implementer": "0x99", "CPU architecture": "AArch64", "CPU part": "0x001"})
    model = cpu_model(tree.proc)
    assert (model.vendor, model.family, model.model, model.name) == ("0x99", None, 1, None)


def test_an_x86_guest_that_hides_its_topology_has_unknown_cores(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu\n\nprocessor\t: 1\n\n")
    model = cpu_model(tmp_path)
    assert (model.threads, model.cores, model.sockets, model.family, model.name) == (2, None, None, None, None)


def test_no_cpuinfo_is_no_model(tmp_path):
    assert cpu_model(tmp_path) is None
    (tmp_path / "cpuinfo").write_text("nothing of use\n")
    assert cpu_model(tmp_path) is None


def test_memory_is_in_bytes_and_unknown_where_it_is_not_said(tree, tmp_path):
    assert memory_bytes(tree.proc) == 16_384_000_000
    assert memory_bytes(tmp_path / "nowhere") is None
    (tree.proc / "meminfo").write_text("MemFree: 12 kB\n")
    assert memory_bytes(tree.proc) is None


@pytest.mark.parametrize("version", [1, 2])
def test_the_quota_of_the_own_cgroup_is_read(tmp_path, version):
    tree = CgroupTree(tmp_path / "cgroup", tmp_path / "proc", version)
    assert cgroup_cpu_quota(tree.root, tmp_path / "proc") is None
    tree.enter("/system.slice/app.service")
    tree.limit("/system.slice/app.service", 1.5)
    assert cgroup_cpu_quota(tree.root, tmp_path / "proc") == 1.5


@pytest.mark.parametrize("version", [1, 2])
def test_a_tighter_limit_above_the_own_cgroup_wins(tmp_path, version):
    tree = CgroupTree(tmp_path / "cgroup", tmp_path / "proc", version)
    tree.enter("/pods/pod1/main")
    tree.limit("/pods/pod1/main", 4)
    tree.limit("/pods/pod1", 0.5, period_us=50_000)
    tree.limit("/pods", None)
    tree.limit("/pods/pod2", 0.1)
    assert cgroup_cpu_quota(tree.root, tmp_path / "proc") == 0.5


@pytest.mark.parametrize("version", [1, 2])
def test_a_lifted_limit_is_no_limit(tmp_path, version):
    tree = CgroupTree(tmp_path / "cgroup", tmp_path / "proc", version)
    tree.limit("/", None)
    assert cgroup_cpu_quota(tree.root, tmp_path / "proc") is None


def test_a_container_that_mounts_its_own_cgroup_at_the_root_is_limited_by_it(tmp_path):
    tree = CgroupTree(tmp_path / "cgroup", tmp_path / "proc")
    tree.limit("/", 2)
    for path in ("/docker/0123456789", "/../../elsewhere"):
        tree.enter(path)
        assert cgroup_cpu_quota(tree.root, tmp_path / "proc") == 2


@pytest.mark.parametrize("text", ["", "100000", "50000 0", "many few", "1 2 3"])
def test_a_garbled_limit_is_no_limit(tmp_path, text):
    tree = CgroupTree(tmp_path / "cgroup", tmp_path / "proc")
    tree.root.mkdir()
    (tree.root / "cpu.max").write_text(text)
    assert cgroup_cpu_quota(tree.root, tmp_path / "proc") is None


def test_without_cgroups_there_is_no_quota(tmp_path):
    assert cgroup_cpu_quota(tmp_path, tmp_path) is None


def test_two_looks_at_the_clocks_in_a_row_show_no_sleep():
    before = boot_offset_ns()
    assert slept_ns(before, boot_offset_ns()) == 0
    assert slept_ns(before, before + 3 * SECOND) == 3 * SECOND


def test_the_boot_offset_is_the_difference_of_the_clocks():
    expected = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert abs(boot_offset_ns() - expected) < SECOND


def test_a_tree_looks_like_the_real_files(tree):
    real = Path("/proc/stat").read_text().splitlines()
    ours = (tree.proc / "stat").read_text().splitlines()
    assert len(ours[0].split()) == len(real[0].split())
    assert ours[1].startswith("cpu0 ")
