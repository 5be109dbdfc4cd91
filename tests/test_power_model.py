"""Watts of machines without sensors: the table, who is in it, the shapes, and the energy booked from them."""

from __future__ import annotations

import hashlib
import math
import re
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.errors import ConfigurationError
from frugal_meter.records import Interval
from frugal_meter.sources import Window
from frugal_meter.sources.cpu_table import UNKNOWN, CpuMatch, identify, load_table, read_stepping
from frugal_meter.sources.power_model import BoardModelSource, CpuModelSource, MemoryModelSource, ServerRestSource
from frugal_meter.sources.procfs import CpuModel, cpu_model
from frugal_meter.sources.server_power import combined, server_watts
from frugal_meter.sources.watts import (
    ASSUMPTIONS,
    CPU_SHARE_FULL,
    MEMORY_SHARE,
    OCCUPANCY,
    CpuWatts,
    board_part,
    board_watts,
    cpu_power,
    declared_cpu,
    load_curve,
    memory_watts,
    table_cpu,
)
from frugal_meter.trees import ProcTree

DATA = resources.files("frugal_meter.sources") / "data"
RESULTS = Path(__file__).parent / "data"
ROWS = sorted(load_table().rows)
LOADS = st.floats(0, 1)


def chip(vendor: str, family: int | None, model: int | None, name: str = "") -> CpuModel:
    return CpuModel(vendor, family, model, name, flags_hypervisor=False, threads=4, cores=2, sockets=1)


def exact(row: str) -> CpuMatch:
    return CpuMatch(row, row, "exact")


def window(*, seconds: float = 1.0, load: float | None = 0.5, cpus: int = 4) -> Window:
    span = round(seconds * 1e9)
    return Window(0, span, None if load is None else round(span * cpus * load), cpus, 0)


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_bundled_table_is_the_one_its_checksum_names():
    recorded, name = (DATA / "cpu_watts.json.sha256").read_text().split()
    assert name == "cpu_watts.json"
    assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == recorded


def test_every_origin_of_the_table_says_version_year_licence_and_checksum():
    notice = (DATA / "NOTICE").read_text()
    for origin in load_table().origins:
        assert origin.license
        assert 2012 <= origin.year <= 2026
        assert re.fullmatch("[0-9a-f]{40}", origin.version)
        assert hashlib.sha256((RESULTS / origin.file).read_bytes()).hexdigest() == origin.file_sha256
        assert origin.version in notice
    assert load_table().origins[0].dataset in load_table().provenance


def test_every_row_of_the_table_has_an_idle_below_its_full_load():
    for row in load_table().rows.values():
        assert 10 < row.idle_w < row.full_w < 600


# --- who is in it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpu", "row", "relation"),
    [
        (chip("GenuineIntel", 6, 0x2D), "sandy-bridge", "exact"),
        (chip("GenuineIntel", 6, 0x4F, "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz"), "broadwell", "exact"),
        (chip("GenuineIntel", 6, 0x55, "Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz"), "skylake", "exact"),
        (chip("GenuineIntel", 6, 0x55, "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz"), "cascade-lake", "exact"),
        (chip("GenuineIntel", 6, 0x55, "Intel Xeon Processor (Cascadelake)"), "cascade-lake", "exact"),
        (chip("GenuineIntel", 6, 0x55, "Intel(R) Xeon(R) Processor @ 2.30GHz"), "skylake", "relative"),
        (chip("GenuineIntel", 6, 0x8F, "Intel(R) Xeon(R) Platinum 8488C"), "sapphire-rapids", "exact"),
        (chip("GenuineIntel", 6, 0x2C, "Intel(R) Xeon(R) CPU X5670 @ 2.93GHz"), "westmere", "exact"),
        (chip("GenuineIntel", 6, 0x3C, "Intel(R) Core(TM) i5-4570"), "sandy-bridge-desktop", "exact"),
        (chip("GenuineIntel", 6, 0x47), "sandy-bridge-desktop", "relative"),
        (chip("GenuineIntel", 6, 0x9E), "coffee-lake", "exact"),
        (chip("GenuineIntel", 6, 0x97, "12th Gen Intel(R) Core(TM) i7-12700"), "coffee-lake", "relative"),
        (chip("GenuineIntel", 6, 0xFE), None, "vendor"),
        (chip("GenuineIntel", 15, 4), None, "vendor"),
        (chip("AuthenticAMD", 0x17, 0x01, "AMD EPYC 7571"), "amd-epyc-1st-gen", "exact"),
        (chip("AuthenticAMD", 0x17, 0x01, "AMD Ryzen 7 1700 Eight-Core Processor"), "coffee-lake", "relative"),
        (chip("AuthenticAMD", 0x17, 0x31, "AMD EPYC 7R32"), "amd-epyc-2nd-gen", "exact"),
        (chip("AuthenticAMD", 0x19, 0x01, "AMD EPYC 7R13 Processor"), "amd-epyc-3rd-gen", "exact"),
        (chip("AuthenticAMD", 0x19, 0x11, "AMD EPYC 9654 96-Core Processor"), "amd-epyc-4th-gen", "exact"),
        (chip("AuthenticAMD", 0x1A, 0x02, "AMD EPYC"), "amd-epyc-5th-gen", "exact"),
        (chip("AuthenticAMD", 0x1A, 0x50, "AMD EPYC"), "amd-epyc-5th-gen", "relative"),
        (chip("AuthenticAMD", 0x1B, 0x01, "AMD EPYC"), None, "vendor"),
        (chip("AuthenticAMD", 0x15, 0x02, "AMD Opteron(tm) Processor 6376"), "opteron", "exact"),
        (chip("AuthenticAMD", 0x15, 0x02, "AMD FX(tm)-8350 Eight-Core Processor"), "coffee-lake", "relative"),
        (chip("ARM", 8, 0xD0C, "Neoverse-N1"), "neoverse-n1", "exact"),
        (chip("ARM", 8, 0xD49, "Neoverse-N2"), "neoverse-n1", "relative"),
        (chip("ARM", 8, 0xD4F, "Neoverse-V2"), None, "unknown"),
        (chip("ARM", 8, 0xD08, "Cortex-A72"), None, "unknown"),
        (chip("Apple", 8, 0x023), None, "unknown"),
        (chip("AuthenticAMD", None, None), None, "vendor"),
        (None, None, "unknown"),
    ],
)
def test_a_cpu_is_recognised_by_its_numbers_and_by_name_where_they_leave_a_choice(cpu, row, relation):
    match = identify(cpu)
    assert (match.row, match.relation) == (row, relation)


@pytest.mark.parametrize(
    ("stepping", "match"),
    [(4, ("skylake", "exact")), (7, ("cascade-lake", "exact")), (11, ("cooper-lake", "exact"))],
)
def test_three_generations_under_one_model_number_are_told_apart_by_stepping(tmp_path, stepping, match):
    tree = ProcTree(tmp_path)
    tree.cpuinfo({"vendor_id": "GenuineIntel", "cpu family": "6", "model": "85", "stepping": str(stepping)})
    found = identify(cpu_model(tree.proc), stepping=read_stepping(tree.proc))
    assert (found.row, found.relation) == match


def test_a_machine_that_says_no_stepping_has_none(tmp_path):
    tree = ProcTree(tmp_path)
    assert read_stepping(tree.proc) is None
    tree.vanish("cpuinfo")
    assert read_stepping(tree.proc) is None


def test_a_cpu_is_recognised_from_the_cpuinfo_of_a_machine(tmp_path):
    tree = ProcTree(tmp_path, cpus=2, hypervisor=True)
    tree.cpuinfo({"vendor_id": "AuthenticAMD", "cpu family": "26", "model": "2", "model name": "AMD EPYC", "flags": "hypervisor"})
    assert identify(cpu_model(tree.proc)) == CpuMatch("Zen 5", "amd-epyc-5th-gen", "exact")


def test_idle_power_follows_the_sockets_and_full_load_the_threads_as_well():
    """Two servers of one socket each: one with four times the threads draws little more idle, about twice when busy."""
    (small_idle, small_full), (large_idle, large_full) = (
        server_watts(exact("amd-epyc-4th-gen-dense"), threads, sockets=1) for threads in (64, 256)
    )
    assert 1 <= large_idle.mid / small_idle.mid < 1.2
    assert 1.7 < large_full.mid / small_full.mid < 2.2


def test_a_guest_is_surer_of_nothing_than_its_host():
    for row in ROWS:
        threads = load_table().rows[row].threads_per_socket
        seen, unseen = (server_watts(exact(row), threads, sockets=sockets) for sockets in (1, None))
        for host, guest in zip(seen, unseen, strict=True):
            assert guest.mid == pytest.approx(host.mid)
            assert guest.high / guest.low > host.high / host.low


@pytest.mark.parametrize(
    ("relation", "row", "vendor"), [("relative", "haswell", None), ("vendor", None, "intel"), ("unknown", None, None)]
)
def test_the_less_is_known_of_a_cpu_the_wider_is_its_interval_and_it_says_so(relation, row, vendor):
    known = server_watts(exact("haswell"), 36, sockets=1)
    stranger = server_watts(CpuMatch("x", row, relation, vendor), 36, sockets=1)
    for mine, theirs in zip(known, stranger, strict=True):
        assert theirs.high / theirs.low > mine.high / mine.low
    assert f"cpu:{relation}" in table_cpu(CpuMatch("x", row, relation, vendor), 36, virtual=False).flags


@pytest.mark.parametrize("match", [UNKNOWN, CpuMatch("x", None, "vendor", "amd"), *map(exact, ROWS)])
@pytest.mark.parametrize("threads", [1, 2, 1024])
def test_full_load_is_never_below_idle_however_odd_the_machine(match, threads):
    for sockets in (None, 1, 8):
        idle, full = server_watts(match, threads, sockets=sockets)
        assert 0 < idle.low <= full.low
        assert idle.mid <= full.mid
        assert idle.high <= full.high
        CpuWatts(idle, full, "this test")


def test_independent_errors_combine_as_squares():
    assert combined(Interval(5, 10, 20), Interval(1, 1, 1)) == Interval(5, 10, 20)
    both = combined(Interval(5, 10, 20), Interval(0.5, 1, 2))
    assert both.mid == 10
    assert both.high == pytest.approx(10 * 2 ** math.sqrt(2))
    assert both.low == pytest.approx(10 / 2 ** math.sqrt(2))


# --- the shapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "percent_of_tdp"), [(0.1, 32), (0.5, 75)])
def test_the_points_that_teads_measured_lie_inside_the_shapes(load, percent_of_tdp):
    share = (percent_of_tdp - 12) / (102 - 12)
    curve = load_curve(load)
    assert curve.low <= share <= curve.high


@pytest.mark.parametrize("load", [0.2, 0.3, 0.5, 0.7, 0.9])
def test_the_curve_of_a_warehouse_measured_by_busy_time_lies_inside_the_shapes(load):
    """Fan, Weber & Barroso 2007, eq. 2."""
    curve = load_curve(load)
    assert curve.low <= 2 * load - load**1.4 <= curve.high


def test_the_shapes_are_straight_between_tenths_of_load():
    for end in ("low", "mid", "high"):
        before, between, after = (getattr(load_curve(load), end) for load in (0.4, 0.45, 0.5))
        assert between == pytest.approx((before + after) / 2)


def test_the_shapes_meet_at_both_ends():
    assert load_curve(0) == Interval(0, 0, 0)
    assert load_curve(1) == Interval(1, 1, 1)
    declared = declared_cpu(idle_watts=10, full_watts=100)
    assert cpu_power(declared, 0) == Interval(10, 10, 10)
    assert cpu_power(declared, 1) == Interval(100, 100, 100)


@given(first=LOADS, second=LOADS, row=st.sampled_from(ROWS), virtual=st.booleans())
def test_power_never_falls_with_load_and_its_ends_never_cross(first, second, row, virtual):
    watts = table_cpu(CpuMatch("x", row, "relative"), 16, virtual=virtual)
    less, more = (cpu_power(watts, load) for load in sorted((first, second)))
    for power in (less, more):
        assert 0 < power.low <= power.mid <= power.high
    assert less.low <= more.low
    assert less.mid <= more.mid
    assert less.high <= more.high


def test_a_cpu_and_the_rest_beside_it_are_the_server_that_was_measured():
    match = exact("skylake")
    idle, full = server_watts(match, 112, sockets=2)
    cpu, rest = (part(match, 112, virtual=False, sockets=2) for part in (table_cpu, board_part))
    for server, parts in ((idle, (cpu.idle, rest.idle)), (full, (cpu.full, rest.full))):
        for end in ("low", "mid", "high"):
            assert sum(getattr(part, end) for part in parts) == pytest.approx((1 - MEMORY_SHARE) * getattr(server, end))
    assert "cpu:share-of-server" in cpu.flags


def test_a_cpu_apart_from_its_server_carries_the_doubt_about_its_share():
    beside, apart = (table_cpu(exact("skylake"), 112, virtual=False, sockets=2, apart=apart) for apart in (False, True))
    assert apart.full.mid == pytest.approx(beside.full.mid)
    assert apart.full.high / apart.full.low > beside.full.high / beside.full.low
    assert apart.full.high / apart.full.mid >= CPU_SHARE_FULL.high / CPU_SHARE_FULL.mid
    assert "cpu:share-of-server" not in apart.flags


def test_a_guest_shares_the_idle_power_of_what_nobody_rents_and_says_so():
    alone, full = server_watts(exact("skylake"), 2, sockets=None)
    guest, rest = (part(exact("skylake"), 2, virtual=True) for part in (table_cpu, board_part))
    idle = guest.idle.mid + rest.idle.mid
    assert idle == pytest.approx((1 - MEMORY_SHARE) * alone.mid / OCCUPANCY.mid)
    assert guest.idle.high / guest.idle.mid > alone.high / alone.mid
    assert guest.full.mid > 0.61 * full.mid
    assert {"vm:vcpu-is-one-thread", "vm:occupancy-unknown"} <= set(guest.flags)


def test_what_a_guest_says_of_sockets_is_not_believed():
    one, two = (table_cpu(exact("skylake"), 2, virtual=True, sockets=sockets) for sockets in (1, 2))
    assert one == two


def test_every_flag_of_a_model_is_explained_in_french_and_english():
    strangers = (UNKNOWN, CpuMatch("x", "haswell", "relative"), CpuMatch("x", None, "vendor", "amd"))
    watts = [table_cpu(match, 1, virtual=True) for match in strangers]
    for each in (*watts, declared_cpu(idle_watts=1, full_watts=2)):
        for flag in each.flags:
            assert ASSUMPTIONS[flag].keys() == {"en", "fr"}
            assert all(ASSUMPTIONS[flag].values())


# --- the energy booked -----------------------------------------------------------------------------------------------


def test_a_window_is_booked_at_its_watts_and_the_idle_part_apart():
    sample = CpuModelSource(declared_cpu(idle_watts=20, full_watts=100)).read(window(seconds=2, load=1))
    assert sample is not None
    assert (sample.energy_nj, sample.idle_nj) == (200 * 10**9, 40 * 10**9)
    assert (sample.low_nj, sample.high_nj) == (200 * 10**9, 200 * 10**9)
    assert sample.gap is None


def test_an_idle_machine_books_idle_energy_only():
    sample = CpuModelSource(table_cpu(exact("haswell"), 4, virtual=False)).read(window(load=0))
    assert sample is not None
    assert sample.energy_nj == sample.idle_nj
    assert sample.low_nj < sample.energy_nj < sample.high_nj


@given(load=LOADS, seconds=st.floats(0.001, 10))
def test_the_idle_part_is_inside_the_energy_and_the_energy_inside_its_bounds(load, seconds):
    sample = CpuModelSource(table_cpu(exact("skylake"), 4, virtual=True)).read(window(seconds=seconds, load=load))
    assert sample is not None
    assert 0 <= sample.idle_nj <= sample.energy_nj
    assert sample.low_nj <= sample.energy_nj <= sample.high_nj


def test_two_short_windows_cost_what_one_long_one_does():
    source = CpuModelSource(table_cpu(exact("broadwell"), 4, virtual=False))
    long, short = source.read(window(seconds=2, load=0.3)), source.read(window(seconds=1, load=0.3))
    assert long is not None
    assert short is not None
    assert abs(long.energy_nj - 2 * short.energy_nj) <= 2


def test_an_unseen_load_is_no_figure_and_an_empty_window_no_energy():
    source = CpuModelSource(declared_cpu(idle_watts=1, full_watts=2))
    assert source.read(window(load=None)) is None
    empty = source.read(window(seconds=0, load=None))
    assert empty is not None
    assert (empty.energy_nj, empty.low_nj, empty.high_nj, empty.idle_nj) == (0, 0, 0, 0)


@pytest.mark.parametrize("load", [None, 0.0, 1.0])
def test_memory_and_board_draw_the_same_busy_or_idle(load):
    for source in (MemoryModelSource(32 * 10**9), BoardModelSource(board_watts(exact("skylake"), 4, virtual=False))):
        sample = source.read(window(load=load))
        assert sample is not None
        assert sample.energy_nj == sample.idle_nj == round(source.watts(0).mid * 1e9)
        assert sample.low_nj < sample.energy_nj < sample.high_nj


def test_memory_is_counted_by_its_size():
    assert memory_watts(64 * 10**9).low == pytest.approx(1.5)
    assert memory_watts(32 * 10**9).mid == pytest.approx(5)


def test_the_board_apart_may_be_nothing_and_is_shared_like_idle_power_on_a_guest():
    host, guest = (board_watts(exact("skylake"), 4, virtual=virtual) for virtual in (False, True))
    assert host.low == guest.low == 0
    assert host.mid < guest.mid
    assert host.high < guest.high


def test_the_rest_of_a_server_draws_more_when_it_is_busy():
    source = ServerRestSource(board_part(exact("skylake"), 112, virtual=False, sockets=2))
    idle, busy = (source.read(window(load=load)) for load in (0.0, 1.0))
    assert idle is not None
    assert busy is not None
    assert busy.idle_nj == idle.energy_nj < busy.energy_nj
    assert source.describe().component == "board"


def test_a_source_describes_its_watts_idle_and_at_full_load():
    described = CpuModelSource(declared_cpu(idle_watts=3, full_watts=9)).describe()
    assert (described.component, described.tier) == ("cpu", "modelled")
    assert (described.idle_w, described.full_w) == (Interval(3, 3, 3), Interval(9, 9, 9))
    assert described.flags == ("cpu:declared",)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("idle", "full", "says"),
    [
        (-1, 10, "idle_watts is -1: it cannot be negative"),
        (1, float("nan"), "full_watts is nan: give a finite number"),
        (1, float("inf"), "full_watts is inf: give a finite number"),
        ("10", 20, "idle_watts is '10': give a finite number"),
        (True, 20, "idle_watts is True: give a finite number"),
        (20, 10, "full-load watts (10 W) are below idle watts (20 W): exchange them"),
    ],
)
def test_watts_that_cannot_be_are_refused_in_one_line(idle, full, says):
    with pytest.raises(ConfigurationError) as refused:
        declared_cpu(idle_watts=idle, full_watts=full)
    assert str(refused.value) == says


def test_an_interval_of_watts_is_checked_at_every_end():
    with pytest.raises(ConfigurationError, match="below idle"):
        CpuWatts(Interval(1, 2, 30), Interval(5, 10, 20), "somewhere")


def test_memory_and_board_refuse_negative_watts_and_no_figure_at_all():
    with pytest.raises(ConfigurationError, match="cannot be negative"):
        MemoryModelSource(watts=-1)
    with pytest.raises(ConfigurationError, match="needs memory_bytes or watts"):
        MemoryModelSource()
    with pytest.raises(ConfigurationError, match="give a finite number"):
        BoardModelSource(float("nan"))
