"""A worker of a service, driven line by line: reads one command from its input, answers with one line of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from support import burn

from frugal_meter import Meter
from frugal_meter.records import Interval
from frugal_meter.sources import Sample, Window, nvml
from frugal_meter.sources.rapl import discover
from frugal_meter.testing import RecordingExporter

IDLE_WATTS, WATTS_PER_CPU = 2.0, 10.0


class Host:
    """The host's CPU as the test tells it, to the nanosecond."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def busy_ns(self) -> int:
        return int(self.file.read_text())

    def cpus(self) -> int:
        return 64

    def scope(self) -> str:
        return "host"


class HostPower:
    """Idle watts and joules per CPU-second of the whole host: a model that is right."""

    name, component, covers, scope, sensor = "power", "cpu", ("power",), "host", "synthetic"
    tier, method, provenance, resolution_nj = "measured", "synthetic/1", "synthetic", 1

    def watts(self, cpus: float) -> Interval:
        return Interval(*[IDLE_WATTS + WATTS_PER_CPU * cpus] * 3)

    def read(self, window: Window) -> Sample:
        idle = round(IDLE_WATTS * (window.t1_ns - window.t0_ns))
        energy = idle + round(WATTS_PER_CPU * (window.host_busy_ns or 0))
        return Sample(energy, energy, energy, idle)

    def close(self) -> None:
        pass


def main(service: str, folder: str) -> None:
    """Answer until input ends; ``folder`` holds a powercap tree and ``host_ns``, the host's CPU so far."""
    print(json.dumps({"pid": os.getpid()}), flush=True)
    out = RecordingExporter()
    rapl = discover(Path(folder) / "powercap").sources
    gpus = nvml.discover().sources if "FAKE_NVML" in os.environ else []
    names = {source.name: 0.0 for source in (*rapl, *gpus)}  # a counter of work alone: its truth hangs on no moment of reading
    sources: Any = [HostPower(), *rapl, *gpus]
    meter = Meter(service, zone="FR", sources=sources, tick=60, exporters=[out], workers="shared", idle_watts=names)
    meter.sampler.probe = Host(Path(folder) / "host_ns")
    with contextlib.ExitStack() as held, contextlib.ExitStack() as sections:
        for line in sys.stdin:
            word, *rest = line.split()
            told: dict[str, Any] = {}
            if word == "start":
                meter.start()
                told["cpu_ns"] = time.process_time_ns()
            elif word == "burn":
                with meter.measure("work"):
                    burn(float(rest[0]))
            elif word == "hold":
                held.enter_context(meter.measure("held"))
            elif word == "pool":
                meter.pool(rest[0], command=rest[1])
            elif word == "section":  # stays open until "release"
                span = sections.enter_context(meter.measure(rest[0]))
                sections.enter_context(span.section(rest[0], weight=float(rest[1])))
            elif word == "release":
                sections.close()
            elif word == "tick":
                assert meter.settle()
                told = {"cpu_ns": time.process_time_ns(), "errors": meter.errors, "books": books(out)}
                told["readings"] = [[r.route, r.cpu_s, r.gpu_s, list(r.flags)] for r in out.readings]
            elif word == "stop":
                held.close()
                meter.stop()
            print(json.dumps(told), flush=True)


def books(out: RecordingExporter) -> dict[str, dict[str, Any]]:
    """What the ticks so far booked, by source."""
    told: dict[str, dict[str, Any]] = {}
    for tick in out.ticks:
        mine = sum(tick.requests_nj.values()) + tick.late_nj + tick.overhead_nj
        row = told.setdefault(tick.source, {"mine_nj": 0, "idle_nj": 0, "held_nj": 0, "energy_nj": 0, "closes": True})
        row["mine_nj"] += mine
        row["idle_nj"] += tick.idle_nj
        row["held_nj"] += sum(tick.idle_requests_nj.values())
        row["energy_nj"] += tick.energy_nj
        row["closes"] = row["closes"] and tick.closes
    return told
