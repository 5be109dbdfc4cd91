"""A host made of files with a real agent, and services that are real processes and may read nothing of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from support import PATIENCE_S, burn

from frugal_meter import Meter
from frugal_meter.testing import PowercapTree, ProcTree, RecordingExporter

HERE = Path(__file__).parent
ROOT = HERE.parent


class Agent:
    """A running ``frugal-meter agent`` over the trees below ``folder``; it has said that it listens."""

    def __init__(self, folder: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.socket = folder / "agent.sock"
        if "--metrics" not in options:  # tests run side by side, and its usual port is one
            options = (*options, "--metrics", "off")
        trees = [
            "--proc-root",
            str(folder / "proc"),
            "--sys-root",
            str(folder / "sys"),
            "--powercap-root",
            str(folder / "powercap"),
        ]
        command = [
            sys.executable,
            "-m",
            "frugal_meter.cli",
            "agent",
            "--lang",
            "en",
            "--socket",
            str(self.socket),
            *trees,
            *options,
        ]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        )
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline()
        assert "answers at" in self.said, self.said
        self._drain = threading.Thread(target=self.process.stderr.read, daemon=True)
        self._drain.start()
        self.addresses = self.said.strip().partition("answers at ")[2].split(", ")

    def stop(self) -> int:
        self.process.terminate()
        return self._end()

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def _end(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._drain.join(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.stderr is not None and not self.process.stderr.closed:
            self.kill()


class Host:
    """The trees that an agent reads: a package and its memory, and a ``/proc/stat`` that moves when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.powercap = PowercapTree(folder / "powercap")
        self.package = self.powercap.package(0)
        self.dram = self.powercap.dram(0)
        self.machine = ProcTree(folder, cpus=4)

    def draw(self, joules: float, *, dram: float = 0.0, cpu_seconds: float = 0.0) -> None:
        """The host has drawn so much more, and its processes have used so much CPU."""
        if cpu_seconds:
            self.machine.advance(cpu_seconds)
        self.powercap.advance(self.package, joules)
        self.powercap.advance(self.dram, dram)


class Service:
    """A service in a process of its own, driven line by line; calling it gives a command and returns the answer."""

    def __init__(self, folder: Path, name: str, **env: str) -> None:
        code = "import sys; sys.path.insert(0, sys.argv[1]); import agent_house; agent_house.main(*sys.argv[2:])"
        command = [sys.executable, "-c", code, str(HERE), name]
        given = {"FRUGAL_AGENT": str(folder / "agent.sock"), "FRUGAL_RUN_DIR": str(folder / "run")}
        given |= {"FRUGAL_HOST_ROOT": str(folder), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **given, **env}
        )
        self.pid = self.answer()["pid"]

    def say(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def __call__(self, command: str) -> dict[str, Any]:
        self.say(command)
        return self.answer()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def main(name: str, workers: str = "single") -> None:
    """The service ``name``: answers each command with one line of JSON until its input ends."""
    out = RecordingExporter()
    workers = os.environ.get("TEST_WORKERS", workers)
    meter = Meter(name, zone="FR", sources=os.environ.get("TEST_SOURCES", "agent"), tick=60, exporters=[out], workers=workers)
    print(json.dumps({"pid": os.getpid(), "sources": [s.name for s in meter.setup.sources]}), flush=True)
    with contextlib.ExitStack() as held, contextlib.ExitStack() as sections:
        for line in sys.stdin:
            word, *rest = line.split()
            told: dict[str, Any] = {}
            if word == "start":
                meter.start()
                told = {"sources": [source.name for source in meter.setup.sources]}
            elif word == "burn":
                with meter.measure("work"):
                    burn(float(rest[0]))
            elif word == "hold":
                held.enter_context(meter.measure("held"))
            elif word == "gpu":
                span = sections.enter_context(meter.measure("on-gpu"))
                sections.enter_context(span.section(rest[0] if rest else "gpu"))
            elif word == "release":
                sections.close()
            elif word == "tick":
                assert meter.settle()
                told = {"errors": meter.errors, "books": books(out), "readings": readings(out)}
            elif word == "stop":
                sections.close()
                held.close()
                meter.stop()
            print(json.dumps(told), flush=True)


def books(out: RecordingExporter) -> dict[str, dict[str, Any]]:
    """What the ticks so far booked, by source; ``last_nj`` is the energy of the last tick."""
    told: dict[str, dict[str, Any]] = {}
    for tick in out.ticks:
        row = told.setdefault(
            tick.source, dict.fromkeys(("mine_nj", "idle_nj", "held_nj", "energy_nj", "gap_nj"), 0) | {"closes": True}
        )
        row["mine_nj"] += sum(tick.requests_nj.values()) + tick.late_nj + tick.overhead_nj
        row["idle_nj"] += tick.idle_nj
        row["gap_nj"] += tick.gap_nj
        row["held_nj"] += sum(tick.idle_requests_nj.values())
        row["energy_nj"] += tick.energy_nj
        row["parts"] = {**row.get("parts", {}), **tick.overhead_parts}
        row["last_nj"], row["tier"] = tick.energy_nj, tick.tier
        row["closes"] = row["closes"] and tick.closes
    return told


def readings(out: RecordingExporter) -> list[dict[str, Any]]:
    return [
        {"route": r.route, "cpu_s": r.cpu_s, "dynamic_j": r.energy_dynamic_j, "full_j": r.energy_full_j, "tier": r.tier}
        | {"gpu_s": r.gpu_s, "measured": r.measured_share, "flags": list(r.flags), "idle": r.idle_source}
        for r in out.readings
    ]
