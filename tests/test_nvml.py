"""NVIDIA GPUs through the real nvidia-ml-py, with a driver compiled here (fake_nvml.c) behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nvml_fake import build, play, run, scene

MJ = 1_000_000  # nJ
J = 1000 * MJ


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    return build(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def tell(driver, tmp_path):
    return lambda *scenes: play(driver, tmp_path, *scenes)


def gpu(index=0, **values):
    return " ".join([f"gpu {index}", *(f"{key}={value}" for key, value in values.items())])


def energies(told):
    return [[read and (read["energy_nj"], read["gap"]) for read in reads] for reads in told["reads"]]


def test_each_gpu_is_a_source_of_its_own_counter(tell):
    told = tell(
        scene(gpu(0, energy_mj=1000), gpu(1, energy_mj=5_000_000)),
        scene(gpu(0, energy_mj=1150), gpu(1, energy_mj=5_000_007)),
    )
    assert [source["covers"] for source in told["sources"]] == [["gpu:GPU-fake-0"], ["gpu:GPU-fake-1"]]
    assert [source["name"] for source in told["sources"]] == ["nvml:GPU-fake-0", "nvml:GPU-fake-1"]
    assert told["findings"] == []
    assert energies(told) == [[(0, None), (0, None)], [(150 * MJ, None), (7 * MJ, None)]]


def test_a_gpu_says_what_it_is_and_how_far_it_is_known(tell):
    told = tell(scene(gpu(energy_mj=0)), scene(gpu(energy_mj=200_000)))
    (source,) = told["sources"]
    assert (source["component"], source["tier"], source["method"]) == ("gpu", "measured", "nvml-energy/1")
    assert source["provenance"] == "Fake H100: NVML total energy counter, ± 10 % (expert assumption)"
    read = told["reads"][1][0]
    assert (read["low_nj"], read["energy_nj"], read["high_nj"]) == (180 * J - MJ, 200 * J, 220 * J + MJ)


def test_a_gpu_cut_into_instances_is_read_once_and_flagged(tell):
    told = tell(scene(gpu(0, energy_mj=0, mig=1), gpu(1, energy_mj=0, mig=0)))
    assert [source["shared"] for source in told["sources"]] == [True, False]
    assert "shared by MIG instances" in told["sources"][0]["provenance"]
    assert [(finding["code"], finding["where"]) for finding in told["findings"]] == [("nvml-mig-shared", "GPU-fake-0")]


def test_a_gpu_without_a_counter_has_its_power_integrated(tell):
    told = tell(
        scene(gpu(power_mw=100_000)),
        scene(gpu(power_mw=300_000)),
        scene(gpu(power_mw=300_000), seconds=2),
    )
    (source,) = told["sources"]
    assert (source["method"], source["counts"], source["resolution_nj"]) == ("nvml-power-trapezoid/1", False, None)
    assert [finding["code"] for finding in told["findings"]] == ["nvml-power-only"]
    assert energies(told) == [[(0, None)], [(100 * J, None)], [(600 * J, None)]]
    read = told["reads"][2][0]
    assert (read["low_nj"], read["high_nj"]) == (390 * J, 810 * J)


def test_power_is_never_drawn_across_an_absence_or_a_suspend(tell):
    told = tell(
        scene(gpu(power_mw=100_000)),
        scene(gpu(power_mw=100_000, fail=15)),
        scene(gpu(power_mw=100_000)),
        scene(gpu(power_mw=100_000), suspended=60),
        scene(gpu(power_mw=100_000)),
    )
    assert energies(told) == [[(0, None)], [None], [(0, "vanished")], [(0, "suspend")], [(50 * J, None)]]


def test_a_gpu_that_fails_later_is_unknown_and_its_joules_come_back_as_a_gap(tell):
    told = tell(
        scene(gpu(0, energy_mj=1000), gpu(1, energy_mj=10)),
        scene(gpu(0, energy_mj=2000, fail=15), gpu(1, energy_mj=20)),
        scene(gpu(0, energy_mj=3000, fail=999), gpu(1, energy_mj=30)),
        scene(gpu(0, energy_mj=61_000), gpu(1, energy_mj=40)),
        scene(gpu(0, energy_mj=62_000), gpu(1, energy_mj=50)),
    )
    assert [reads[0] for reads in energies(told)] == [(0, None), None, None, (60 * J, "vanished"), (J, None)]
    assert [reads[1] for reads in energies(told)] == [(0, None)] + [(10 * MJ, None)] * 4


def test_a_driver_that_goes_and_comes_back_is_opened_again(tell):
    gone = scene("driver 9", gpu(energy_mj=1000, fail=1))
    told = tell(scene(gpu(energy_mj=1000)), gone, gone, scene(gpu(energy_mj=1500)), scene(gpu(energy_mj=1600)))
    assert [reads[0] for reads in energies(told)] == [(0, None), None, None, (500 * MJ, "vanished"), (100 * MJ, None)]


def test_a_counter_that_goes_backward_is_a_reset(tell):
    told = tell(scene(gpu(energy_mj=900_000)), scene(gpu(energy_mj=12)), scene(gpu(energy_mj=24)))
    assert energies(told) == [[(0, None)], [(0, "reset")], [(12 * MJ, None)]]


def test_a_jump_that_no_board_can_draw_is_not_energy(tell):
    told = tell(scene(gpu(energy_mj=0)), scene(gpu(energy_mj=10**9)), scene(gpu(energy_mj=10**9 + 5)))
    assert energies(told) == [[(0, None)], [(0, "implausible")], [(5 * MJ, None)]]


def test_a_board_with_a_higher_limit_may_draw_more(tell):
    scenes = [(0, 0.9), (3_000_000, 0.9)]
    told = tell(*(scene(gpu(energy_mj=mj, limit_mw=1_700_000), seconds=s) for mj, s in scenes))
    assert energies(told)[1] == [(3000 * J, None)]
    told = tell(*(scene(gpu(energy_mj=mj, limit_mw=700_000), seconds=s) for mj, s in scenes))
    assert energies(told)[1] == [(0, "implausible")]


def test_a_gpu_that_gives_nothing_is_said_and_hides_no_other(tell):
    told = tell(scene(gpu(0), gpu(1, energy_mj=5), gpu(2, fail=4)))
    assert [source["name"] for source in told["sources"]] == ["nvml:GPU-fake-1"]
    assert [(finding["code"], finding["where"]) for finding in told["findings"]] == [
        ("nvml-unreadable", "GPU-fake-0"),
        ("nvml-unreadable", "GPU-fake-2"),
    ]


def test_a_process_has_its_share_of_the_busy_time(tell):
    busy = ("process 0 11 1000 30", "process 0 11 2000 60", "process 0 22 2000 20", "process 0 33 500 90")
    told = tell(
        scene(gpu(energy_mj=0)),
        scene(gpu(energy_mj=0), *busy, ask=([11], 900)),
        scene(gpu(energy_mj=0), *busy, ask=([11, 22], 900)),
        scene(gpu(energy_mj=0), *busy, ask=([22, 44], 900)),
    )
    assert told["shares"] == [0.75, 1.0, 0.25]


def test_an_unseen_process_has_an_unknown_share_not_zero(tell):
    told = tell(
        scene(gpu(energy_mj=0), ask=([11], 0)),
        scene(gpu(energy_mj=0), "process 0 22 1000 50", ask=([11], 0)),
        scene(gpu(energy_mj=0), "process 0 11 1000 0", ask=([11], 0)),
    )
    assert told["shares"] == [None, None, None]


# -- a meter over it


METER = """
import json, os, time
from nvml_fake import machine
from frugal_meter import Meter
from frugal_meter.sources.nvml import discover
from frugal_meter.testing import FrozenClock, RecordingExporter

SOON = int(time.time() * 1e6) + 10**9  # us; later than any tick of this test
clock, out = FrozenClock(), RecordingExporter()


def gpu(index, joules, **more):
    values = {"energy_mj": joules * 1000, "util": 50, **more}
    return f"gpu {index} " + " ".join(f"{key}={value}" for key, value in values.items())


def process(index, pid, sm):
    return f"process {index} {pid} {SOON} {sm}"


def metered():
    return Meter("tests", zone="FR", sources=discover().sources, tick=60, exporters=[out], clock=clock, host_share=1,
                 idle_watts=IDLE_WATTS)


def tick(*lines):
    machine(*lines)
    clock.advance(1)
    assert meter.settle()


def told(span):
    r = span.reading
    return [r.energy_dynamic_j, r.gpu_s, [f for f in r.flags if f.startswith(("gpu", "energy:"))]]


def books():
    assert all(t.closes for t in out.ticks)
    return [[t.source[-1], sum(t.requests_nj.values()) // 10**9, t.overhead_nj // 10**9, t.other_nj // 10**9,
             t.idle_nj // 10**9, t.gap_nj // 10**9, t.gap_reason] for t in out.ticks if t.t1_ns > t.t0_ns]
"""


@pytest.fixture
def metered_run(driver, tmp_path):
    return lambda script, idle=20: run(driver, tmp_path, METER.replace("IDLE_WATTS", repr({"gpu": idle})) + script)


def test_a_request_pays_for_its_own_process_on_the_gpu_and_for_no_other(metered_run):
    told = metered_run("""
machine(gpu(0, 0))
with metered() as meter:
    with meter.measure("f") as span, span.section("gpu"):
        tick(gpu(0, 120), process(0, os.getpid(), 30), process(0, 1, 50), process(0, 2, 20))
    tick(gpu(0, 140))
print(json.dumps([told(span), books()]))
""")
    assert told == [
        [30, 0.15, ["gpu:counter-lag"]],
        [["0", 30, 0, 70, 20, 0, None], ["0", 0, 0, 0, 20, 0, None]],
    ]


def test_a_child_process_works_for_its_parent(metered_run):
    told = metered_run("""
import subprocess
with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
    machine(gpu(0, 0))
    with metered() as meter:
        with meter.measure("f") as span, span.section("gpu"):
            tick(gpu(0, 120), process(0, child.pid, 30), process(0, 1, 90))
        meter.settle()
print(json.dumps(told(span)))
""")
    assert told == [25, 0.125, ["gpu:counter-lag"]]


@pytest.mark.parametrize(
    ("what", "lines"),
    {
        "a container, whose process ids the driver does not know": "gpu(0, 120), process(0, 1, 50)",
        "a driver that tells no processes": "gpu(0, 120)",
        "instances": "gpu(0, 120, mig=1), process(0, os.getpid(), 50)",
    }.items(),
)
def test_a_gpu_whose_users_cannot_be_told_apart_is_charged_whole_and_flagged(metered_run, what, lines):
    mig = ", mig=1" if what == "instances" else ""
    told = metered_run(f"""
machine(gpu(0, 0{mig}))
with metered() as meter:
    with meter.measure("f") as span, span.section("gpu"):
        tick({lines})
    meter.settle()
print(json.dumps([told(span)[0], told(span)[2], books()[0]]))
""")
    assert told == [100, ["gpu:shared-unknown", "gpu:counter-lag"], ["0", 100, 0, 0, 20, 0, None]]


def test_a_busy_time_that_the_driver_does_not_tell_is_none(metered_run):
    told = metered_run("""
from frugal_meter import Budget
bare = "gpu 0 energy_mj={}".format
machine(bare(0))
with metered() as meter:
    with meter.measure("f") as span, span.section("gpu"):
        tick(bare(120_000))
    meter.settle()
print(json.dumps([told(span)[1], sorted(meter.setup.unavailable)]))
""")
    assert told == [None, ["gpu"]]


def test_a_busy_time_that_is_no_longer_told_stops_counting(metered_run):
    told = metered_run("""
machine(gpu(0, 0))
with metered() as meter:
    with meter.measure("f") as span, span.section("gpu"):
        tick(gpu(0, 120), process(0, os.getpid(), 9))
        tick("gpu 0 energy_mj=240000", process(0, os.getpid(), 9))
    meter.settle()
print(json.dumps(told(span)[:2]))
""")
    assert told == [200, 0.5]


def test_of_two_gpus_each_is_paid_by_who_named_it(metered_run):
    told = metered_run("""
machine(gpu(0, 0), gpu(1, 0))
with metered() as meter:
    with meter.measure("a") as a, meter.measure("b") as b, a.section("gpu:0"), b.section("gpu:GPU-fake-1"):
        tick(gpu(0, 120), gpu(1, 70), process(0, os.getpid(), 9), process(1, os.getpid(), 9))
    meter.settle()
print(json.dumps([told(a)[0], told(b)[0]]))
""")
    assert told == [100, 50]


@pytest.mark.parametrize(
    ("scenes", "booked"),
    [
        (["gpu(0, 500, fail=15)", "gpu(0, 600)"], ["0", 0, 0, 0, 0, 500, "vanished"]),
        (["'driver 9', gpu(0, 500, fail=1)", "gpu(0, 600)"], ["0", 0, 0, 0, 0, 500, "vanished"]),
        (["gpu(0, 1)"], ["0", 0, 0, 0, 0, 0, "reset"]),
        (["gpu(0, 10**6)"], ["0", 0, 0, 0, 0, 0, "implausible"]),
    ],
    ids=["a GPU that is lost", "a driver that is unloaded", "a counter that goes backward", "a jump that no board can draw"],
)
def test_what_a_counter_cannot_mean_is_a_gap_and_flags_who_ran(metered_run, scenes, booked):
    ticks = "; ".join(f"tick({scene})" for scene in scenes)
    told = metered_run(f"""
machine(gpu(0, 0))
with metered() as meter:
    tick(gpu(0, 100))
    out.ticks.clear()
    with meter.measure("f") as span, span.section("gpu"):
        {ticks}
    meter.settle()
print(json.dumps([told(span)[2], books()]))
""")
    assert told == [["energy:incomplete"], [booked]]


def test_a_driver_that_is_not_loaded_is_said(tell):
    told = tell(scene("driver 9", gpu(energy_mj=0)))
    (finding,) = told["findings"]
    assert told["sources"] == []
    assert finding["code"] == "nvml-no-driver"
    assert "nvidia-smi" in finding["remedy"]
    assert "nvidia-smi" in finding["remedy_fr"]


def test_a_machine_with_a_driver_and_no_gpu_has_no_source(tell):
    told = tell(scene("driver 0"))
    assert (told["sources"], told["findings"]) == ([], [])


def _discover(setup: str = "", **env: str) -> str:
    code = f"{setup}\nfrom frugal_meter.sources import nvml\nprint([(f.code, f.remedy) for f in nvml.discover().findings])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env, cwd=Path(__file__).parents[1]
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_machine_without_the_drivers_library_is_said(tmp_path):
    (tmp_path / "libnvidia-ml.so.1").write_text("no library at all")
    assert "nvml-no-driver" in _discover(LD_LIBRARY_PATH=str(tmp_path))


def test_without_nvidia_ml_py_the_pip_command_is_said():
    said = _discover("import sys; sys.modules['pynvml'] = None")
    assert "nvml-extra-missing" in said
    assert "pip install 'frugal-meter[nvidia]'" in said


def test_importing_the_module_imports_no_extra():
    code = "import sys, frugal_meter.sources.nvml, frugal_meter.sources.rapl; print('pynvml' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.stdout == "False\n", run.stderr
