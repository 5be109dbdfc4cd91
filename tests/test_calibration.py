"""The sharing key's bounds, measured: the rule, the file, the meter that reads it, and the command that writes it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import burn, metered
from typer.testing import CliRunner

from frugal_meter import config
from frugal_meter.attribution.ledger import KEY_HIGH, KEY_LOW
from frugal_meter.calibration import RARE, Calibration, bounds, load
from frugal_meter.cli import calibrating
from frugal_meter.cli.app import app
from frugal_meter.cli.calibrating import ROUNDS, calibrate, kinds_of_work, measure
from frugal_meter.cli.diagnosis import Roots
from frugal_meter.errors import ConfigurationError, SourceError
from frugal_meter.setup import calibration_cpu
from frugal_meter.sources import rapl
from frugal_meter.sources.discovery import discover
from frugal_meter.sources.procfs import HostCpu
from frugal_meter.testing import PowercapTree, ProcTree, SyntheticSource

SKYLAKE = {"vendor_id": "GenuineIntel", "cpu family": "6", "model": "85", "model name": "Intel(R) Xeon(R) Gold 6130 CPU"}
QUIET_WATTS, COOL_WATTS, HOT_WATTS = 3.0, 5.0, 10.0


# -- the rule


@given(st.lists(st.floats(1, 5), min_size=1, max_size=60), st.integers(0, 60))
def test_whatever_the_mix_of_a_tick_nine_requests_in_ten_of_equal_cpu_lie_inside(kinds, extremes):
    """Each is charged the tick's mean; a crowd at the top is the worst that can happen to the cool ones."""
    kinds += [max(kinds)] * extremes
    low, high = bounds(min(kinds), max(kinds))
    mean = sum(kinds) / len(kinds)
    outside = sum(not low * mean * (1 - 1e-9) <= kind <= high * mean * (1 + 1e-9) for kind in kinds)
    assert outside <= RARE * len(kinds)


def test_bounds_are_those_of_the_spread():
    assert bounds(7.0, 7.0) == (1.0, 1.0)
    assert bounds(1.0, 1.5) == pytest.approx((1 / 1.45, 1.5 / 1.05))
    assert bounds(2.0, 3.0) == pytest.approx(bounds(1.0, 1.5))


# -- the file


def written(folder: Path, *, cpu: str | None = None, **more: object) -> Path:
    cpu = calibration_cpu(discover(SyntheticSource())) if cpu is None else cpu
    made = Calibration(
        **{
            "key_low": 0.8,
            "key_high": 1.25,
            "date": "2026-01-01",
            "cpu": cpu,
            "source": 'rapl:"0"',
            "watts_per_cpu": {"integer": (9.5, 10.5)},
            **more,
        }
    )
    file = folder / "calibration.toml"
    file.write_text(made.toml(), encoding="utf-8")
    assert load(file) == made
    file.with_suffix(".json").write_text(made.json(), encoding="utf-8")
    assert load(str(file.with_suffix(".json"))) == made
    return file


def test_what_is_written_is_read_again(tmp_path):
    written(tmp_path, cpu='a "quoted" \\ CPU é')


@pytest.mark.parametrize(
    "text",
    ["", "key_low = ", "key_low = 0.8\nkey_hihg = 1.2", "\udcff"],
    ids=["empty", "not TOML", "a key that does not exist", "not UTF-8"],
)
def test_a_file_that_says_nothing_is_refused_in_one_line(tmp_path, text):
    file = tmp_path / "calibration.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=r"\Acalibration: .*frugal-meter calibrate\Z"):
        load(file)


@pytest.mark.parametrize(("low", "high"), [(1.1, 1.2), (0.5, 0.9), (0, 1.5), (0.5, float("nan")), (0.5, 1e6)])
def test_bounds_that_cannot_be_are_refused(tmp_path, low, high):
    file = written(tmp_path)
    text = file.read_text().replace("key_low = 0.8", f"key_low = {low}").replace("key_high = 1.25", f"key_high = {high}")
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="cannot be"):
        load(file)


@pytest.mark.parametrize("path", [3, "nowhere/calibration.toml"])
def test_a_path_that_is_none_or_leads_nowhere_is_refused(path):
    with pytest.raises(ConfigurationError, match="frugal-meter calibrate"):
        load(path)


def test_the_path_in_a_configuration_file_is_relative_to_that_file(tmp_path):
    (tmp_path / "frugal.toml").write_text('[meter]\nservice = "s"\ncalibration = "calibration.toml"\n')
    assert config.load(tmp_path / "frugal.toml")["calibration"] == str(tmp_path / "calibration.toml")


# -- the meter


def bounds_of_a_reading(**settings):
    with metered(idle_watts=0, **settings) as (meter, _):
        burn(0.01)
        meter.settle()  # a tick with work in it, from which provisional figures take joules per CPU-second
        with meter.measure("work") as span:
            burn(0.01)
        provisional = span.reading
        meter.settle()
        reading = span.reading
    # at once as after the tick
    for each in (provisional, reading):
        yield each.flags, each.energy_low_j / each.energy_full_j, each.energy_high_j / each.energy_full_j


def test_a_calibrated_meter_gives_the_measured_bounds_and_says_so(tmp_path):
    for flags, low, high in bounds_of_a_reading(calibration=written(tmp_path)):
        assert (low, high) == pytest.approx((0.8, 1.25))
        assert "interval:calibrated" in flags
        assert "interval:expert-assumption" not in flags


def test_a_calibration_of_another_cpu_is_left_aside_and_told(tmp_path, caplog):
    for flags, low, high in bounds_of_a_reading(calibration=written(tmp_path, cpu="Abacus")):
        assert (low, high) == pytest.approx((KEY_LOW, KEY_HIGH))
        assert "interval:expert-assumption" in flags
        assert "interval:calibrated" not in flags
    assert "Abacus" in caplog.text


# -- the measurement


class Clockwork:
    """A clock that moves with work and rest alone, so that no neighbour of the tests comes between; ns."""

    def __init__(self) -> None:
        self.now_ns = self.used_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def process_time_ns(self) -> int:
        return self.used_ns

    def move(self, lasted_s: float, used_s: float) -> None:
        self.now_ns += round(lasted_s * 1e9)
        self.used_ns += round(used_s * 1e9)


class Machine:
    """A machine made of files, whose package draws a known function of the work done on it."""

    def __init__(self, root: Path) -> None:
        self.proc = ProcTree(root, cpus=4)
        self.proc.cpuinfo(SKYLAKE)
        self.roots = Roots(self.proc.proc, self.proc.sys, root / "powercap")
        self.tree = PowercapTree(self.roots.powercap)
        self.zone = self.tree.package(0)
        self.clock = Clockwork()

    def keep_time(self, monkeypatch) -> None:
        """Have calibration read this machine's clock, which `rest` and `toil` move."""
        monkeypatch.setattr(calibrating, "time", self.clock)

    def toil(self, watts: float, *, elsewhere: float = 0.0):
        """Works for so many seconds of its clock, and waits for a fifth as long."""

        def works(seconds: float) -> None:
            self.clock.move(1.2 * seconds, seconds)
            self.proc.advance(elsewhere)
            self.tree.advance(self.zone, watts * seconds + QUIET_WATTS * 1.2 * seconds)

        return works

    def work(self, watts: float):
        """Burns for so many seconds, and moves the counter as a machine that draws nothing when quiet would."""

        def works(seconds: float) -> None:
            self.tree.advance(self.zone, watts * burn(seconds))

        return works

    def rest(self, seconds: float) -> None:
        self.clock.move(seconds, 0)
        self.tree.advance(self.zone, QUIET_WATTS * seconds)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_watts_above_quiet_are_found_for_each_kind(machine, monkeypatch):
    machine.keep_time(monkeypatch)
    (zone,) = rapl.discover(machine.tree.root).sources
    host = HostCpu(machine.proc.proc, machine.proc.sys)
    works = {"cool": machine.toil(COOL_WATTS), "hot": machine.toil(HOT_WATTS)}
    told = measure([zone], host, works, 0, pause=machine.rest)
    assert {kind: len(watts) for kind, watts in told.items()} == {"cool": ROUNDS, "hot": ROUNDS}
    assert told["cool"] == pytest.approx([COOL_WATTS] * ROUNDS, rel=1e-3)
    assert told["hot"] == pytest.approx([HOT_WATTS] * ROUNDS, rel=1e-3)
    host.close()
    zone.close()


def test_a_stretch_that_others_used_is_left_out(machine, monkeypatch):
    machine.keep_time(monkeypatch)
    (zone,) = rapl.discover(machine.tree.root).sources
    host = HostCpu(machine.proc.proc, machine.proc.sys)
    works = {"ours": machine.toil(COOL_WATTS), "theirs": machine.toil(COOL_WATTS, elsewhere=5)}
    assert measure([zone], host, works, 0, pause=machine.rest).keys() == {"ours"}
    host.close()
    zone.close()


def test_a_calibration_holds_the_spread_of_a_known_machine(machine):
    works = {"cool": machine.work(COOL_WATTS), "hot": machine.work(HOT_WATTS)}
    found = calibrate(machine.roots, 0, works)
    assert (found.key_low, found.key_high) == pytest.approx(bounds(COOL_WATTS, HOT_WATTS), rel=0.1)
    assert (found.cpu, found.source) == (SKYLAKE["model name"], "rapl:package-0")
    assert found.watts_per_cpu.keys() == works.keys()


def test_a_counter_that_stands_still_calibrates_nothing(machine):
    with pytest.raises(SourceError, match="told no two kinds"):
        calibrate(machine.roots, 0, {"cool": burn, "hot": burn})


def test_every_kind_of_work_runs_and_ends():
    kinds = kinds_of_work()
    for work in kinds.values():
        work(0.001)
    assert kinds.keys() >= {"integer", "float", "hash", "memory", "every CPU"}


# -- the command


def run(machine, *options):
    roots = ("--proc-root", machine.roots.proc, "--sys-root", machine.roots.sys, "--powercap-root", machine.roots.powercap)
    return CliRunner().invoke(app, ["calibrate", "--seconds", "1", *map(str, roots), *options], env={"LC_ALL": "C"})


def test_the_command_writes_what_a_meter_reads(machine, tmp_path):
    """The package follows this process's CPU time; what the kinds of work are found to draw is then of one order."""
    over = threading.Event()

    def draw() -> None:
        last = time.process_time()
        while not over.wait(0.002):
            now = time.process_time()
            machine.tree.advance(machine.zone, HOT_WATTS * (now - last))
            last = now

    drawing = threading.Thread(target=draw)
    drawing.start()
    try:
        told = run(machine)
    finally:
        over.set()
        drawing.join()
    assert told.exit_code == 0, told.stderr
    (tmp_path / "calibration.toml").write_text(told.stdout)
    found = load(tmp_path / "calibration.toml")
    assert 0 < found.key_low <= 1 <= found.key_high
    assert "calibrating, about 1 s" in told.stderr


@pytest.mark.parametrize("lang", ["fr", "en"])
def test_without_a_sensor_the_command_says_so_in_one_line_and_exits_1(machine, lang):
    (machine.tree.root / machine.zone / "energy_uj").unlink()
    told = run(machine, "--lang", lang)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith("frugal-meter: nothing can be calibrated here")
    assert len(told.stderr.splitlines()) == 1
    document = json.loads(run(machine, "--json").stdout)
    assert (document["exit_code"], document["error"]) == (1, "SourceError")
