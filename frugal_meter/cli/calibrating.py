"""``frugal-meter calibrate``: kinds of work against the machine's own sensor, for the spread of W per CPU-second between them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..calibration import Calibration, bounds
from ..errors import SourceError
from ..setup import calibration_cpu
from ..sources import Source, Window
from ..sources.discovery import discover
from ..sources.host_root import Roots
from ..sources.procfs import HostCpu

ROUNDS: Final = 3
#: RAPL moves every millisecond and /proc/stat every ten: a stretch shorter than this says little
SHORTEST_S: Final = 0.1
#: other programs may use this much of the CPU time of a stretch; beyond it the stretch is theirs as much as ours
_NEIGHBOURS: Final = 0.25
#: more than the caches of most CPUs, and little enough for a small machine
_COPIED_BYTES: Final = 64 << 20

#: works for about so many seconds
Work = Callable[[float], None]


def calibrate(
    roots: Roots, seconds: float, works: Mapping[str, Work] | None = None, *, begin: Callable[[], None] = lambda: None
) -> Calibration:
    """Measure for about ``seconds`` s; raises SourceError where there is no CPU sensor, or one that tells nothing.

    ``begin`` is called once a sensor has been found.
    """
    found = discover("auto", powercap_root=roots.powercap, proc_root=roots.proc, sys_root=roots.sys)
    sensors = [source for source in found.sources if source.tier == "measured" and source.component in ("cpu", "dram")]
    host = HostCpu(roots.proc, roots.sys)
    try:
        if not any(source.component == "cpu" for source in sensors):
            raise _nothing(roots.powercap, "no energy sensor of the CPU can be read", "See frugal-meter doctor")
        begin()
        rounds = measure(sensors, host, works or kinds_of_work(), seconds)
        if len(rounds) < 2:
            raise _nothing(roots.powercap, "the sensor told no two kinds of work", "Let the machine be quiet, and give it longer")
    finally:
        host.close()
        for source in found.sources:
            source.close()
    spread = {kind: (round(min(watts), 3), round(max(watts), 3)) for kind, watts in rounds.items()}
    low, high = bounds(min(low for low, _ in spread.values()), max(high for _, high in spread.values()))
    return Calibration(
        key_low=round(low, 3),
        key_high=round(high, 3),
        date=datetime.now(UTC).date().isoformat(),
        cpu=calibration_cpu(found),
        source="+".join(source.name for source in sensors),
        watts_per_cpu=spread,
    )


def _nothing(where: Path, what: str, remedy: str) -> SourceError:
    return SourceError(f"nothing can be calibrated here: {what}", str(where), remedy)


def measure(
    sources: Sequence[Source],
    host: HostCpu,
    works: Mapping[str, Work],
    seconds: float,
    *,
    pause: Work = time.sleep,
) -> dict[str, list[float]]:
    """W above quiet per CPU busy, for each kind of work, one figure per round; kinds that were told of no joules are left out.

    A round is a quiet stretch, which is the baseline of its round, and one stretch of each kind.
    """
    stretch_s = max(SHORTEST_S, seconds / ROUNDS / (len(works) + 1))
    shared = any(source.scope == "host" for source in sources)
    rounds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        quiet = _stretch(sources, host, pause, stretch_s)
        if quiet is None:
            continue
        for kind, work in works.items():
            told = _stretch(sources, host, work, stretch_s)
            if told is None or (shared and _busy_elsewhere(told[1])):
                continue
            joules, window = told
            dynamic_j = joules - quiet[0] * window.seconds / quiet[1].seconds
            if dynamic_j > 0 and window.process_ns:
                rounds.setdefault(kind, []).append(dynamic_j / (window.process_ns * 1e-9))
    return rounds


def _stretch(sources: Sequence[Source], host: HostCpu, work: Work, seconds: float) -> tuple[float, Window] | None:
    """Joules of all sources over one stretch of ``work``; None when one of them could not tell."""
    _read(sources, _window(host, time.monotonic_ns(), host.busy_ns(), time.process_time_ns()))
    begun = (time.monotonic_ns(), host.busy_ns(), time.process_time_ns())
    work(seconds)
    window = _window(host, *begun)
    joules = _read(sources, window)
    return None if joules is None else (joules, window)


def _window(host: HostCpu, t0_ns: int, busy_ns: int | None, process_ns: int) -> Window:
    now_ns, later_ns = time.monotonic_ns(), host.busy_ns()
    busy = None if busy_ns is None or later_ns is None else later_ns - busy_ns
    return Window(t0_ns, now_ns, busy, host.cpus(), time.process_time_ns() - process_ns, host_cpu_scope=host.scope())


def _read(sources: Sequence[Source], window: Window) -> float | None:
    samples = [source.read(window) for source in sources]
    known = [sample for sample in samples if sample is not None and sample.gap is None]
    return sum(sample.energy_nj for sample in known) * 1e-9 if len(known) == len(samples) else None


def _busy_elsewhere(window: Window) -> bool:
    return window.host_busy_ns is not None and window.host_busy_ns - window.process_ns > _NEIGHBOURS * window.host_busy_ns


# -- kinds of work


def kinds_of_work() -> dict[str, Work]:
    """What is run: works that differ in what they ask of a CPU, one at a time, and one of them on every CPU at once."""
    works: dict[str, Work] = {"integer": _until(_integers), "float": _until(_floats), "hash": _until(_hash), "memory": _memory()}
    if importlib.util.find_spec("numpy") is not None:
        works["matrix"] = _matrix()
    return works | {"every CPU": _on_every_cpu(works["hash"])}


def _until(work: Callable[[], Any]) -> Work:
    def works(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            work()

    return works


def _integers() -> int:
    total = 0
    for number in range(10_000):
        total = total * 31 + number & 0xFFFFFFFF
    return total


def _floats() -> float:
    value = 1.0
    for _ in range(10_000):
        value = value * 1.0000001 + 1e-9
    return value


def _hash() -> str:
    return hashlib.sha256(b"frugal" * 20_000).hexdigest()


def _memory() -> Work:
    source, target = bytearray(_COPIED_BYTES), bytearray(_COPIED_BYTES)

    def copy() -> None:
        target[:] = source

    return _until(copy)


def _matrix() -> Work:
    import numpy as np

    side = np.full((300, 300), 1.0001)
    return _until(lambda: side @ side)


def _on_every_cpu(work: Work) -> Work:
    def works(seconds: float) -> None:
        threads = [threading.Thread(target=work, args=(seconds,)) for _ in range(len(os.sched_getaffinity(0)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return works
