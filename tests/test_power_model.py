"""Watts of machines without sensors: the table, who is in it, the shapes, and the energy booked from them."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import math
import re
import tarfile
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.errors import ConfigurationError
from frugal_meter.records import Interval
from frugal_meter.sources import Window
from frugal_meter.sources.cpu_table import (
    RELATIVE_HIGH,
    RELATIVE_LOW,
    UNKNOWN,
    CpuMatch,
    identify,
    load_table,
    read_stepping,
    server_watts,
)
from frugal_meter.sources.power_model import BoardModelSource, CpuModelSource, MemoryModelSource
from frugal_meter.sources.procfs import CpuModel, cpu_model
from frugal_meter.sources.watts import (
    ASSUMPTIONS,
    MEMORY_W_PER_GB,
    OCCUPANCY,
    CpuWatts,
    board_watts,
    cpu_power,
    declared_cpu,
    load_curve,
    memory_watts,
    table_cpu,
)
from frugal_meter.trees import ProcTree

DATA = resources.files("frugal_meter.sources") / "data"
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
        assert origin.license == "Apache-2.0"
        assert origin.year == 2021
        assert re.fullmatch("[0-9a-f]{64}", origin.file_sha256)
        assert re.fullmatch("[0-9a-f]{64}", origin.archive_sha256)
        assert f"{origin.package} {origin.version}" in notice
        assert f"{origin.package} {origin.version}" in load_table().provenance


def test_every_row_of_the_table_has_an_idle_below_its_full_load():
    for row in load_table().rows.values():
        assert 0 < row.idle_w < row.full_w < 10


@pytest.fixture(scope="module")
def builder():
    path = Path(__file__).parent.parent / "benchmarks" / "build_cpu_table.py"
    spec = importlib.util.spec_from_file_location("build_cpu_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def npm_archive(folder: Path, package: str, idle: float) -> Path:
    """An archive of the origin's shape, with our figures in it."""
    source = f"""/*
 * © 2021 Example, Inc.
 */
export const CONSTANTS = {{
  MEMORY_BY_COMPUTE_PROCESSOR: {{
    [COMPUTE_PROCESSOR_TYPES.SKYLAKE]: 80.5,
    [COMPUTE_PROCESSOR_TYPES.HASWELL]: 80.5,
  }},
  MIN_WATTS_BY_COMPUTE_PROCESSOR: {{
    // CPUs
    [COMPUTE_PROCESSOR_TYPES.SKYLAKE]: {idle},
    [COMPUTE_PROCESSOR_TYPES.HASWELL]: {idle},
    [COMPUTE_PROCESSOR_TYPES.NVIDIA_T4]: 8,
  }},
  MAX_WATTS_BY_COMPUTE_PROCESSOR: {{
    [COMPUTE_PROCESSOR_TYPES.SKYLAKE]: 4,
    [COMPUTE_PROCESSOR_TYPES.HASWELL]: 4,
    [COMPUTE_PROCESSOR_TYPES.NVIDIA_T4]: 71,
  }},
  MEMORY_COEFFICIENT: 0.0004, // kWh / Gb
}}
"""
    members = {
        "package/package.json": json.dumps({"name": package, "version": "1.2.3", "license": "Apache-2.0"}),
        "package/src/domain/XFootprintEstimationConstants.ts": source,
    }
    path = folder / f"{package.strip('@').replace('/', '-')}.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def test_the_builder_takes_cpus_only_and_marks_rows_that_repeat_another(builder, tmp_path):
    archive = npm_archive(tmp_path, "@example/one", 0.5)
    table = builder.build([archive])
    assert set(table["rows"]) == {"skylake", "haswell"}
    assert table["rows"]["skylake"] | {"from": None} == {
        "label": "Intel Skylake", "idle_w": 0.5, "full_w": 4.0, "gb_per_chip": 80.5, "from": None, "copy_of": "haswell",
    }  # fmt: skip
    assert table["rows"]["haswell"]["copy_of"] is None
    assert table["origins"][0]["archive_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert table["origins"][0]["memory_w_per_gb"] == 0.4


def test_the_builder_stops_when_two_origins_disagree(builder, tmp_path):
    archives = [npm_archive(tmp_path, "@example/one", 0.5), npm_archive(tmp_path, "@example/two", 0.6)]
    with pytest.raises(SystemExit, match="disagrees"):
        builder.build(archives)


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
        (chip("GenuineIntel", 6, 0x8F, "Intel(R) Xeon(R) Platinum 8488C"), "cascade-lake", "relative"),
        (chip("GenuineIntel", 6, 0x9E), "coffee-lake", "exact"),
        (chip("GenuineIntel", 6, 0x97, "12th Gen Intel(R) Core(TM) i7-12700"), "coffee-lake", "relative"),
        (chip("GenuineIntel", 6, 0xFE), None, "unknown"),
        (chip("GenuineIntel", 15, 4), None, "unknown"),
        (chip("AuthenticAMD", 0x17, 0x01, "AMD EPYC 7571"), "amd-epyc-1st-gen", "exact"),
        (chip("AuthenticAMD", 0x17, 0x01, "AMD Ryzen 7 1700 Eight-Core Processor"), "coffee-lake", "relative"),
        (chip("AuthenticAMD", 0x17, 0x31, "AMD EPYC 7R32"), "amd-epyc-2nd-gen", "exact"),
        (chip("AuthenticAMD", 0x19, 0x01, "AMD EPYC 7R13 Processor"), "amd-epyc-3rd-gen", "exact"),
        (chip("AuthenticAMD", 0x19, 0x11, "AMD EPYC 9654 96-Core Processor"), "amd-epyc-3rd-gen", "relative"),
        (chip("AuthenticAMD", 0x1A, 0x02, "AMD EPYC"), "amd-epyc-3rd-gen", "relative"),
        (chip("AuthenticAMD", 0x15, 0x02, "AMD Opteron(tm) Processor 6376"), None, "unknown"),
        (chip("ARM", 8, 0xD0C, "Neoverse-N1"), "aws-graviton-2", "relative"),
        (chip("ARM", 8, 0xD08, "Cortex-A72"), None, "unknown"),
        (chip("Apple", 8, 0x023), None, "unknown"),
        (chip("AuthenticAMD", None, None), None, "unknown"),
        (None, None, "unknown"),
    ],
)
def test_a_cpu_is_recognised_by_its_numbers_and_by_name_where_they_leave_a_choice(cpu, row, relation):
    match = identify(cpu)
    assert (match.row, match.relation) == (row, relation)


@pytest.mark.parametrize(
    ("stepping", "match"),
    [(4, ("skylake", "exact")), (7, ("cascade-lake", "exact")), (11, ("cascade-lake", "relative"))],
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
    assert identify(cpu_model(tree.proc)) == CpuMatch("Zen 5", "amd-epyc-3rd-gen", "relative")


#: mean idle and full-load watts per thread that the table's origin published later (ccf-coefficients b0032d92, March
#: 2026) for CPUs newer than the bundled table, and the EPYC 9965 of its SPECpower list
@pytest.mark.parametrize(
    ("cpu", "idle", "full"),
    [
        (chip("AuthenticAMD", 0x19, 0x11, "AMD EPYC 9654"), 0.739, 2.282),
        (chip("AuthenticAMD", 0x1A, 0x11, "AMD EPYC 9965"), 150 / 768, 800 / 768),
        (chip("GenuineIntel", 6, 0x6A), 0.767, 3.758),
        (chip("GenuineIntel", 6, 0x8F), 1.036, 4.160),
        (chip("GenuineIntel", 6, 0xCF), 0.814, 4.482),
        (chip("GenuineIntel", 6, 0xAD), 0.582, 2.527),
    ],
)
def test_the_interval_of_a_newer_cpu_holds_what_was_measured_since(cpu, idle, full):
    low_to_high = server_watts(identify(cpu))
    for interval, measured in zip(low_to_high, (idle, full), strict=True):
        assert interval.low <= measured <= interval.high


def test_an_unknown_cpu_takes_the_envelope_of_the_table():
    idle, full = server_watts(UNKNOWN)
    for row in ROWS:
        for envelope, known in zip((idle, full), server_watts(exact(row)), strict=True):
            assert envelope.low <= known.mid <= envelope.high
    assert table_cpu(UNKNOWN, 1, virtual=False).flags == ("interval:expert-assumption", "cpu:unknown")


# --- the shapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("virtual", [False, True])
def test_at_half_load_the_interval_of_every_row_covers_30_to_95_percent_of_full(row, virtual):
    watts = table_cpu(exact(row), 8, virtual=virtual)
    half = cpu_power(watts, 0.5)
    assert half.low <= 0.30 * watts.full.mid
    assert half.high >= 0.95 * watts.full.mid


@pytest.mark.parametrize("idle", [0, 1, 10, 20])
def test_at_half_load_declared_watts_cover_30_to_95_percent_of_full(idle):
    half = cpu_power(declared_cpu(idle_watts=idle, full_watts=100), 0.5)
    assert half.low <= 30 + 1e-9
    assert half.high >= 95 - 1e-9


@pytest.mark.parametrize(("load", "percent_of_tdp"), [(0.1, 32), (0.5, 75)])
def test_the_points_that_teads_measured_lie_inside_the_shapes(load, percent_of_tdp):
    share = (percent_of_tdp - 12) / (102 - 12)
    curve = load_curve(load)
    assert curve.low <= share <= curve.high


def test_the_mid_shape_is_concave_and_above_the_straight_line():
    steps = [load_curve(i / 20).mid for i in range(21)]
    slopes = [after - before for before, after in pairwise(steps)]
    assert slopes == sorted(slopes, reverse=True)
    assert all(share > i / 20 for i, share in enumerate(steps) if 0 < i < 20)


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


def test_a_relative_is_wider_than_the_row_itself():
    own, kin = (table_cpu(CpuMatch("x", "amd-epyc-3rd-gen", relation), 2, virtual=False) for relation in ("exact", "relative"))
    assert kin.full.low == pytest.approx(RELATIVE_LOW * own.full.low)
    assert kin.full.mid == own.full.mid
    assert kin.full.high == pytest.approx(RELATIVE_HIGH * own.full.high)
    assert "cpu:relative" in kin.flags
    assert "cpu:relative" not in own.flags


def test_a_guest_shares_the_idle_power_of_what_nobody_rents_and_says_so():
    host, guest = (table_cpu(exact("skylake"), 2, virtual=virtual) for virtual in (False, True))
    assert guest.idle.low == host.idle.low
    assert guest.idle.high == pytest.approx(host.idle.high / OCCUPANCY.low)
    for end in ("low", "mid", "high"):
        above = getattr(guest.full, end) - getattr(guest.idle, end)
        assert above == pytest.approx(getattr(host.full, end) - getattr(host.idle, end))
    assert {"vm:vcpu-is-one-thread", "vm:occupancy-unknown"} <= set(guest.flags)


def test_every_flag_of_a_model_is_explained_in_french_and_english():
    watts = [table_cpu(match, 1, virtual=True) for match in (UNKNOWN, CpuMatch("x", "haswell", "relative"))]
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


def test_memory_is_bounded_by_the_coefficient_of_the_table_itself():
    assert {origin.memory_w_per_gb for origin in load_table().origins} == {MEMORY_W_PER_GB.high}
    assert memory_watts(64 * 10**9).low == pytest.approx(1.5)
    assert memory_watts(32 * 10**9).mid == pytest.approx(5)


def test_the_board_may_be_nothing_and_is_shared_like_idle_power_on_a_guest():
    host, guest = (board_watts(exact("skylake"), 4, virtual=virtual) for virtual in (False, True))
    assert host.low == guest.low == 0
    assert guest.high == pytest.approx(host.high / OCCUPANCY.low)
    assert host.mid < guest.mid


def test_cpu_memory_and_board_together_are_about_the_server_they_were_taken_from():
    """Mid figures of an idle and of a busy EPYC 2 server of the table add up to it, within a fifth."""
    row, threads = load_table().rows["amd-epyc-2nd-gen"], 128
    cpu = table_cpu(exact("amd-epyc-2nd-gen"), threads, virtual=False)
    rest = memory_watts(round(row.gb_per_chip * 1e9)).mid + board_watts(exact("amd-epyc-2nd-gen"), threads, virtual=False).mid
    assert math.isclose(cpu.idle.mid + rest, row.idle_w * threads, rel_tol=0.2)
    assert math.isclose(cpu.full.mid + rest, row.full_w * threads, rel_tol=0.25)


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
