"""Work whose cost is known: burns that read their own clocks, in every shape of a request's work, and a source of known joules.

A `Job` is what one request has to do and, once done, what it truly used: the CPU that its burns measured on the threads they
ran on. What the framework around them uses (routing, the response) is measured apart, on light requests without a meter.
"""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from frugal_meter.records import Interval
from frugal_meter.sources import Sample, Window

#: what a CPU-second costs on the synthetic machine, W
WATTS = 10.0
#: threads of a native burst
THREADS = 3
_SLICES = 4


@dataclass(slots=True)
class Job:
    """What a request has to do: ``ns`` of CPU in a ``shape``, at ``kind`` × `WATTS`; and what it truly used."""

    shape: str
    heavy: bool
    ns: int
    kind: float = 1.0
    cpu_ns: int = 0
    nj: int = 0
    span: Any = None


def burn(ns: int) -> int:
    """Use ``ns`` of the calling thread's CPU, whatever else the machine does; returns what was used."""
    begun = time.thread_time_ns()
    while (used := time.thread_time_ns() - begun) < ns:
        pass
    return used


class Native:
    """Burns on POSIX threads, compiled here: CPU that no Python clock sees, and joules that need not follow CPU time."""

    def __init__(self, folder: Path) -> None:
        library = folder / "native_burn.so"
        source = Path(__file__).with_name("native_burn.c")
        command = [compiler() or "cc", "-O2", "-shared", "-fPIC", "-pthread", "-o", str(library), str(source)]
        subprocess.run(command, check=True)
        self._lib = ctypes.CDLL(str(library))
        self._lib.burn.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_double, ctypes.c_int64 * 2]
        self.curve([1.0])

    def curve(self, draws: Sequence[float]) -> None:
        """``draws[n]``: what a CPU-second costs while n threads burn; the last one stands for all beyond."""
        self._lib.set_draws((ctypes.c_double * len(draws))(*draws), len(draws))

    def burn(self, threads: int, ns: int, kind: float = 1.0) -> tuple[int, int]:
        """``threads`` threads (the caller is one) burn ``ns`` each; returns (CPU ns, nJ) of them all."""
        out = (ctypes.c_int64 * 2)()
        self._lib.burn(threads, ns, kind * WATTS, out)
        return out[0], out[1]

    def totals(self) -> tuple[int, int]:
        """(CPU ns, nJ) of every burn so far, those under way included."""
        out = (ctypes.c_int64 * 2)()
        self._lib.totals(out)
        return out[0], out[1]


def compiler() -> str | None:
    """A C compiler, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


class TruthSource:
    """A source whose joules are those of the native burns; the rest of the process costs `WATTS` per CPU-second.

    No idle power, no error of its own: whatever a reading's joules are wrong by is the sharing key's error.
    """

    name, component, covers, tier, sensor, scope = "truth", "cpu", ("cpu:truth",), "measured", "synthetic", "process"
    method, provenance, resolution_nj = "synthetic/1", "the sum of what the burns booked", 1

    def __init__(self, native: Native) -> None:
        self._native = native
        self._last = native.totals()
        self.truth_nj = 0

    def watts(self, cpus: float) -> Interval:
        """Power with ``cpus`` busy at ordinary work; the meter's figure before its first tick."""
        return Interval(*[WATTS * cpus] * 3)

    def read(self, window: Window) -> Sample:
        """The energy since the last call."""
        cpu_ns, nj = self._native.totals()
        (last_cpu_ns, last_nj), self._last = self._last, (cpu_ns, nj)
        if window.seconds <= 0:
            return Sample(0, 0, 0, idle_nj=0)
        energy = nj - last_nj + round(max(0, window.process_ns - (cpu_ns - last_cpu_ns)) * WATTS)
        self.truth_nj += energy
        return Sample(energy, energy, energy, idle_nj=0)

    def close(self) -> None:
        """Nothing to release."""


def shapes(native: Native | None) -> dict[str, Callable[[Job], Awaitable[None]]]:
    """How a request's work may run; those on native threads only with a compiler."""
    found: dict[str, Callable[[Job], Awaitable[None]]] = {"loop": _loop, "children": _children, "threads": _threads}
    if native is None:
        return found

    async def on_native_threads(job: Job) -> None:
        with job.span.section("native") if job.span is not None else nullcontext():
            cpu_ns, nj = await anyio.to_thread.run_sync(native.burn, THREADS, job.ns // THREADS, job.kind)
        job.cpu_ns, job.nj = job.cpu_ns + cpu_ns, job.nj + nj

    async def of_a_kind(job: Job) -> None:
        cpu_ns, nj = await anyio.to_thread.run_sync(native.burn, 1, job.ns, job.kind)
        job.cpu_ns, job.nj = job.cpu_ns + cpu_ns, job.nj + nj

    return {**found, "native": on_native_threads, "kind": of_a_kind}


async def _loop(job: Job) -> None:
    for _ in range(_SLICES):
        job.cpu_ns += burn(job.ns // _SLICES)
        await asyncio.sleep(0)


async def _children(job: Job) -> None:
    async def child() -> None:
        job.cpu_ns += burn(job.ns // (2 * THREADS))
        await asyncio.sleep(0)
        job.cpu_ns += burn(job.ns // (2 * THREADS))

    await asyncio.gather(*(child() for _ in range(THREADS)))


async def _threads(job: Job) -> None:
    job.cpu_ns += await anyio.to_thread.run_sync(burn, job.ns // 2)
    job.cpu_ns += await asyncio.to_thread(burn, job.ns // 2)
