"""Companion processes: their CPU, with all that they start, paid by the spans that hold them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PATIENCE_S, assert_books_close, metered

from frugal_meter.attribution.lending import lend
from frugal_meter.errors import ConfigurationError
from frugal_meter.sources.companions import SCAN_EVERY_NS, Companions
from frugal_meter.testing import ProcTree, SyntheticSource

NS = 10**9
BURN = """
import sys, time
while time.process_time() < float(sys.argv[1]): pass
print(time.process_time(), flush=True)
sys.stdin.readline()
"""


class Imagined:
    """A /proc made of files, and a clock that the test moves."""

    def __init__(self, root: Path):
        self.tree = ProcTree(root)
        self.t_ns = 0
        self.cgroups = root / "cgroup"
        self.companions = Companions(self.tree.proc, self.cgroups, lambda: self.t_ns)

    def used(self, name="server", *, scan=False):
        if scan:
            self.t_ns += SCAN_EVERY_NS
        return self.companions.read()[name] / NS

    def cgroup(self, path, text):
        file = self.cgroups / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def machine(tmp_path):
    return Imagined(tmp_path)


def test_a_process_counts_from_the_moment_it_is_declared(machine):
    machine.tree.process(100, cpu_seconds=50)
    machine.companions.add("server", pid=100)
    assert machine.used() == 0
    machine.tree.process(100, cpu_seconds=50.5)
    assert machine.used() == pytest.approx(0.5)
    assert machine.used() == 0


def test_what_it_starts_counts_while_it_runs_and_is_not_counted_again_when_it_is_reaped(machine):
    machine.tree.process(100, cpu_seconds=1)
    machine.companions.add("server", pid=100)
    machine.tree.process(101, parent=100, start=5, cpu_seconds=2)
    assert machine.used(scan=True) == 2
    machine.tree.process(101, parent=100, start=5, cpu_seconds=3)
    assert machine.used() == 1
    machine.tree.end(101)
    assert machine.used() == 0
    machine.tree.process(100, cpu_seconds=1, reaped_seconds=3.5)
    assert machine.used() == 0.5


def test_a_child_too_short_to_be_seen_counts_when_it_is_reaped(machine):
    machine.tree.process(100)
    machine.companions.add("server", pid=100)
    machine.tree.process(100, reaped_seconds=0.25)
    assert machine.used() == 0.25


def test_a_child_and_its_child_that_end_together_are_counted_once(machine):
    machine.tree.process(100)
    machine.companions.add("server", pid=100)
    machine.tree.process(101, parent=100, start=5, cpu_seconds=1)
    machine.tree.process(102, parent=101, start=6, cpu_seconds=2)
    assert machine.used(scan=True) == 3
    machine.tree.end(102)
    machine.tree.end(101)
    machine.tree.process(100, reaped_seconds=3)
    assert machine.used() == 0


def test_a_child_whose_parent_ended_is_followed(machine):
    machine.tree.process(100)
    machine.companions.add("server", pid=100)
    machine.tree.process(101, parent=100, start=5)
    machine.used(scan=True)
    machine.tree.end(100)
    machine.tree.process(101, parent=1, start=5, cpu_seconds=2)
    assert machine.used(scan=True) == 2


def test_a_process_id_used_again_is_another_process(machine):
    machine.tree.process(100, start=1, cpu_seconds=1)
    machine.companions.add("server", pid=100)
    machine.tree.process(100, start=99, cpu_seconds=20)
    assert machine.used(scan=True) == 0
    machine.tree.process(100, start=99, cpu_seconds=30)
    assert machine.used(scan=True) == 0


def served(machine, pid, *, start, parent=7, cgroup="/a.service", command=("server", "-m", "x"), cpu_seconds=0.0):
    machine.tree.process(pid, parent=parent, start=start, name="server", command=command, cpu_seconds=cpu_seconds, cgroup=cgroup)


@pytest.fixture
def restarted(machine):
    """A companion that was named by its number, and has ended; its parent lives on."""
    machine.tree.process(7, start=2, name="systemd")
    served(machine, 100, start=50, cpu_seconds=3)
    machine.companions.add("server", pid=100)
    served(machine, 100, start=50, cpu_seconds=4)
    assert machine.used() == 1
    machine.tree.end(100)
    assert machine.used(scan=True) == 0
    return machine


def test_a_process_named_by_its_number_is_found_again_when_its_parent_restarts_it(restarted):
    served(restarted, 205, start=90, cpu_seconds=0.5)
    assert restarted.used(scan=True) == 0.5  # from its birth
    served(restarted, 205, start=90, cpu_seconds=2.5)
    assert restarted.used() == 2
    restarted.tree.end(205)
    served(restarted, 310, start=99, cpu_seconds=1)
    assert restarted.used(scan=True) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"command": ("server", "-m", "y")},
        {"cgroup": "/b.service"},
        {"parent": 8},
        {"command": ()},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_process_is_not_taken_for_one_that_ended(restarted, other):
    served(restarted, 205, **{"start": 90, "cpu_seconds": 0.5, **other})
    assert restarted.used(scan=True) == 0


def test_of_two_that_could_be_the_companion_neither_is(restarted):
    served(restarted, 205, start=90, cpu_seconds=1)
    served(restarted, 206, start=91, cpu_seconds=1)
    assert restarted.used(scan=True) == 0
    restarted.tree.end(206)
    assert restarted.used(scan=True) == 0  # what went by meanwhile is nobody's
    served(restarted, 205, start=90, cpu_seconds=1.5)
    assert restarted.used() == 0.5


def test_a_companion_whose_parent_ended_too_is_declared_again_by_hand(restarted):
    restarted.tree.process(7, start=80, name="systemd")  # the number is another process's now
    served(restarted, 205, start=90, cpu_seconds=1)
    assert restarted.used(scan=True) == 0


def test_a_real_child_that_is_killed_and_started_again_goes_on_being_metered(child):
    clock = [0]
    companions = Companions(mono=lambda: clock[0])
    first = child(0.1)
    companions.add("server", pid=first.pid)
    first.stdout.readline()
    before = companions.read()["server"]
    first.kill()
    first.wait(PATIENCE_S)
    second = child(0.1)
    used = float(second.stdout.readline())
    clock[0] += SCAN_EVERY_NS
    assert companions.read()["server"] / NS == pytest.approx(used, abs=0.03)
    assert before / NS <= 0.13


def test_a_command_is_found_again_after_a_restart_and_in_several_processes(machine):
    machine.companions.add("server", command="llama-server*")
    assert machine.used() == 0
    machine.tree.process(100, command=("/opt/bin/llama-server", "-m", "model.gguf"), cpu_seconds=1)
    machine.tree.process(200, command=("/usr/bin/postgres",), cpu_seconds=40)
    assert machine.used(scan=True) == 1
    machine.tree.end(100)
    machine.tree.process(300, start=7, command=("llama-server",), cpu_seconds=2)
    machine.tree.process(301, start=8, command=("llama-server-2",), cpu_seconds=0.5)
    assert machine.used(scan=True) == 2.5


def test_a_process_that_becomes_the_command_is_found(machine):
    machine.companions.add("server", command="*--port 8080*")
    machine.tree.process(100, name="sh", command=("sh",), cpu_seconds=1)
    assert machine.used(scan=True) == 1 - 1
    machine.tree.process(100, name="server", command=("python", "serve.py", "--port", "8080"), cpu_seconds=1)
    machine.used(scan=True)
    machine.tree.process(100, name="server", command=("python", "serve.py", "--port", "8080"), cpu_seconds=3)
    assert machine.used() == 2


def test_all_processes_are_looked_through_every_three_seconds_at_most(machine):
    machine.companions.add("server", command="server")
    machine.tree.process(100, command=("server",), cpu_seconds=1)
    assert machine.used() == 0
    machine.t_ns += SCAN_EVERY_NS - 1
    assert machine.used() == 0
    machine.t_ns += 1
    assert machine.used() == 1


def test_a_process_belongs_to_one_companion_only_and_never_is_the_service_itself(machine):
    machine.tree.process(os.getpid(), command=("server",), cpu_seconds=1)
    machine.tree.process(100, parent=os.getpid(), command=("server",))
    machine.companions.add("server", command="server")
    machine.companions.add("twin", pid=100)
    machine.tree.process(os.getpid(), command=("server",), cpu_seconds=9)
    machine.tree.process(100, parent=os.getpid(), command=("server",), cpu_seconds=2)
    assert machine.companions.read() == {"server": 2 * NS, "twin": 0}


def test_files_that_make_no_sense_count_nothing(machine):
    machine.tree.process(100)
    machine.companions.add("server", pid=100)
    (machine.tree.proc / "100/stat").write_text("100 (odd) name) S")
    assert machine.used(scan=True) == 0
    machine.tree.process(100, name="a) b (c", cpu_seconds=3)
    assert machine.used(scan=True) >= 0


@pytest.mark.parametrize(
    ("file", "text"),
    [("a/b.service/cpu.stat", "usage_usec {}\nuser_usec 1\n"), ("cpuacct/a/b.service/cpuacct.usage", "{}000\n")],
    ids=["version 2", "version 1"],
)
def test_a_cgroup_counts_all_its_processes_and_survives_being_made_anew(machine, file, text):
    machine.cgroup(file, text.format(5_000_000))
    machine.companions.add("server", cgroup="/a/b.service")
    machine.cgroup(file, text.format(7_000_000))
    assert machine.used() == 2
    (machine.cgroups / file).unlink()
    assert machine.used() == 0
    machine.cgroup(file, text.format(500_000))
    assert machine.used() == 0.5


def test_the_cgroup_of_the_service_is_no_companion(machine):
    (machine.tree.proc / "self").mkdir()
    (machine.tree.proc / "self/cgroup").write_text("0::/system.slice/app.service\n")
    with pytest.raises(ConfigurationError, match="counted already"):
        machine.companions.add("server", cgroup="/system.slice")
    machine.companions.add("server", cgroup="/system.slice/app.service-model")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("", {"pid": 100}),
        ("gpu", {"pid": 100}),
        ("native", {"command": "x"}),
        ("server", {}),
        ("server", {"pid": 100, "command": "x"}),
        ("server", {"pid": 0}),
        ("server", {"pid": True}),
        ("server", {"pid": 424242}),
        ("server", {"command": "*"}),
        ("server", {"cgroup": "/"}),
        ("server", {"cgroup": "/a/../.."}),
    ],
)
def test_a_companion_that_cannot_be_is_refused_in_one_line(machine, name, how):
    with pytest.raises(ConfigurationError, match="pool") as caught:
        machine.companions.add(name, **how)
    assert "\n" not in str(caught.value)


def test_the_service_itself_is_no_companion():
    with metered() as (meter, _), pytest.raises(ConfigurationError, match="counted already"):
        meter.pool("me", pid=os.getpid())


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.integers(0, 10**12))
def test_what_a_companion_used_is_lent_whole_by_weight_and_time(held, used):
    class Lent:
        account = None

        def __init__(self, key):
            self.key = key

    spans = [Lent(key) for key in range(len(held))]
    lent = lend({"server": used}, {"server": {key: each for key, each in enumerate(held) if each}}, spans)
    assert sum(lent) == (used if any(held) else 0)
    for each, share in zip(held, lent or [0] * len(held), strict=True):
        assert abs(share - (used * each / sum(held) if any(held) else 0)) <= 1 + used * 1e-12


class HostOf(SyntheticSource):
    """A counter of the whole machine: 1 J per CPU-second of the host."""

    scope = "host"

    def read(self, window):
        return super().read(window) if window.host_busy_ns is None else self._told(window.host_busy_ns)

    def _told(self, busy_ns):
        from frugal_meter.sources import Sample

        return Sample(busy_ns, busy_ns, busy_ns, idle_nj=0)


def burner(seconds):
    return subprocess.Popen([sys.executable, "-c", BURN, str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def child():
    started = []

    def start(seconds):
        started.append(burner(seconds))
        return started[-1]

    yield start
    for each in started:
        each.communicate("\n", timeout=PATIENCE_S)


def test_a_span_pays_for_the_companion_it_holds_out_of_what_other_programs_used(child):
    process = child(0.4)
    with metered(sources=[HostOf()]) as (meter, out):
        meter.pool("llama-server", pid=process.pid)
        meter.settle()
        before = time.process_time()
        with meter.measure("ask") as span, span.section("llama-server"):
            used = float(process.stdout.readline())
        own = time.process_time() - before
        meter.settle()
        tick = out.ticks[-1]
        reading = span.reading
        assert 0.5 * used <= reading.cpu_s <= used + own + 0.02  # its start went by before it was declared
        assert reading.energy_dynamic_j == pytest.approx(reading.cpu_s, rel=0.02)
        assert reading.energy_low_j < reading.energy_dynamic_j < reading.energy_high_j
        assert_books_close(out.ticks)
        assert tick.requests_nj[span.key] == round(reading.energy_dynamic_j * NS)


def test_two_spans_share_a_companion_by_weight(child):
    process = child(0.3)
    with metered(sources=[HostOf()]) as (meter, out):
        meter.pool("llama-server", pid=process.pid)
        meter.settle()
        with (
            meter.measure("a") as a,
            meter.measure("b") as b,
            a.section("llama-server", weight=1),
            b.section("llama-server", weight=3),
        ):
            process.stdout.readline()
        meter.settle()
        assert b.reading.cpu_s / a.reading.cpu_s == pytest.approx(3, rel=0.1)
        assert_books_close(out.ticks)


def test_a_companion_that_nobody_holds_is_another_program(child):
    process = child(0.2)
    with metered(sources=[HostOf()]) as (meter, out):
        meter.pool("llama-server", pid=process.pid)
        meter.settle()
        with meter.measure("a") as span:
            used = float(process.stdout.readline())
        meter.settle()
        assert span.reading.cpu_s < 0.3 * used
        assert sum(tick.other_nj for tick in out.ticks) >= 0.3 * used * NS
        assert_books_close(out.ticks)


def test_a_source_that_sees_this_process_only_gives_nothing_for_a_companion(child):
    process = child(0.2)
    with metered(idle_watts=0) as (meter, out):
        meter.pool("llama-server", pid=process.pid)
        meter.settle()
        before = time.process_time()
        with meter.measure("a") as span, span.section("llama-server"):
            process.stdout.readline()
        meter.settle()
        assert span.reading.energy_dynamic_j <= (time.process_time() - before) * 10
        assert_books_close(out.ticks)
