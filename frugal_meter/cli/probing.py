"""The watts of now: every source read twice, a fraction of a second apart, as a tick of the meter would."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from ..records import Interval
from ..sources import Sample, Source, Window
from ..sources.procfs import HostCpu

#: long enough for 40 counts of /proc/stat (10 ms each) and for an NVML counter that moves every 20–100 ms
PAUSE_S: Final = 0.4


class Now(msgspec.Struct, frozen=True):
    """What one source draws now: ``watts`` is None when it gave no figure, ``why`` then says so in a word.

    ``why``: "still" (a sensor whose counter did not move), "gap" (a sample that cannot be attributed), "silent".
    """

    watts: Interval | None
    why: str | None = None


class Probe(Protocol):
    """Anything that takes the watts of now (`watts_now`, or a function of a test that moves its own machine)."""

    def __call__(self, sources: Sequence[Source], host: HostCpu) -> list[Now]:
        """One `Now` per source, in their order."""


def watts_now(sources: Sequence[Source], host: HostCpu, *, pause: Callable[[float], None] = time.sleep) -> list[Now]:
    """Mean watts of every source over ``PAUSE_S`` seconds, in their order."""
    cpus, scope = host.cpus(), host.scope()
    _prepare(sources)
    began_ns, busy_ns, process_ns = time.monotonic_ns(), host.busy_ns(), time.process_time_ns()
    for source in sources:
        source.read(Window(began_ns, began_ns, 0, cpus, 0, host_cpu_scope=scope))
    pause(PAUSE_S)
    _prepare(sources)
    ended_ns, later_ns = time.monotonic_ns(), host.busy_ns()
    busy = None if busy_ns is None or later_ns is None else later_ns - busy_ns
    window = Window(began_ns, ended_ns, busy, cpus, time.process_time_ns() - process_ns, host_cpu_scope=scope)
    return [_now(source, source.read(window), window) for source in sources]


def _prepare(sources: Sequence[Source]) -> None:
    """Have the host agent read, where it reads for us."""
    for source in sources:
        if (prepare := getattr(source, "prepare", None)) is not None:
            prepare(0, {})


def _now(source: Source, sample: Sample | None, window: Window) -> Now:
    if sample is None:
        return Now(None, "silent")
    if sample.gap is not None:
        return Now(None, "gap")
    if not sample.energy_nj and source.tier == "measured":
        # no powered component draws 0 W: a counter that stands still says nothing, and unknown is not 0
        return Now(None, "still")
    return Now(Interval(sample.low_nj, sample.energy_nj, sample.high_nj).times(1e-9 / window.seconds))
