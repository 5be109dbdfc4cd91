"""A host of real processes for the tests of workers: its CPU is the sum of theirs, its counter follows from that."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import PATIENCE_S
from worker_process import WATTS_PER_CPU

from frugal_meter.ring.peers import Peers, started
from frugal_meter.ring.records import Ring, State, moved
from frugal_meter.testing import PowercapTree

HERE = Path(__file__).parent


class Process:
    """A worker process; calling it gives a command and waits for the answer, ``begin`` … ``end`` do so in two steps."""

    def __init__(self, service: str, folder: Path, env: dict[str, str]) -> None:
        code = "import sys; sys.path.insert(0, sys.argv[1]); import worker_process; worker_process.main(*sys.argv[2:])"
        command = [sys.executable, "-c", code, str(HERE), service, str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.pid = self.end()["pid"]
        self.start = started(self.pid) or 0
        self.last: dict[str, Any] = {}

    def begin(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def __call__(self, command: str) -> dict[str, Any]:
        self.begin(command)
        self.last = self.end() or self.last
        return self.last

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


class House:
    """A host with processes: its CPU is the sum of theirs, its counter follows from that."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.env = {**os.environ, "FRUGAL_RUN_DIR": str(folder / "run"), **env}
        self.gpus = sum("FAKE_NVML" in name for name in env)
        self.tree = PowercapTree(folder / "powercap")
        self.zone = self.tree.zone("package-0")
        self._peers, self._all = Peers(), contextlib.ExitStack()
        self._cpu_ns: dict[int, int] = {}
        self._joules = 0.0
        (folder / "host_ns").write_text("0")

    def process(self, service: str) -> Process:
        each = Process(service, self.folder, self.env)
        self._all.callback(self._end, each)
        self._cpu_ns[each.pid] = 0
        self._known = {**getattr(self, "_known", {}), each.pid: each}
        self.count()
        each("start")
        return each

    def count(self) -> None:
        """Bring the host's CPU and its energy counter up to date."""
        for pid, each in self._known.items():
            self._cpu_ns[pid] = self._peers.cpu_ns(pid, each.start) or self._cpu_ns[pid]
        used_ns = sum(self._cpu_ns.values())
        joules = WATTS_PER_CPU * used_ns / 1e9
        self.tree.advance(self.zone, joules=joules - self._joules)
        self._joules = joules
        (self.folder / "host_ns").write_text(str(used_ns))

    def tick(self, each: Process) -> None:
        self.count()
        assert each("tick")["errors"] == {}

    def _end(self, each: Process) -> None:
        each.kill()
        for pipe in (each.process.stdin, each.process.stdout):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        self._all.close()
        self._peers.close()

    def rings(self) -> dict[int, list[State]]:
        """The records of every ring in the run folder, by the first pid in it."""
        out = {}
        for path in (self.folder / "run").iterdir():
            ring = Ring(path, 2 + self.gpus, self.gpus)
            ring.open()
            records = list(ring.records())
            ring.close()
            out[next(pid for pid in records[0].pids if pid)] = records
        return out


def assert_every_record_is_booked_once(records: list[State]) -> None:
    for before, now in itertools.pairwise(records):
        assert now.seq == before.seq + 1
        for one, other in zip(now.sources, before.sources, strict=True):
            mine = sum(moved(a, b) for a, b in zip(one.mine, other.mine, strict=True))
            idle = moved(one.idle_nj, other.idle_nj)
            buckets = idle + moved(one.gap_nj, other.gap_nj) + moved(one.other_nj, other.other_nj)
            assert mine + buckets == moved(one.energy_nj, other.energy_nj)
            assert sum(moved(a, b) for a, b in zip(one.held, other.held, strict=True)) <= idle
