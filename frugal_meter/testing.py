"""Test doubles that ship with the package: a source whose truth is known, an exporter that records, a clock that stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from .records import Interval, Reading, Tick, Tier
from .sources import Sample, Scope, Sensor, Window
from .trees import CgroupTree, PowercapTree, ProcTree

__all__ = ["CgroupTree", "FrozenClock", "PowercapTree", "ProcTree", "RecordingExporter", "SyntheticSource"]


class SyntheticSource:
    """A source whose energy is a known function of this process's CPU time.

    By default ``idle_watts`` all the time and ``watts_per_cpu`` joules per CPU-second on top. ``power`` replaces that by
    any function of the CPUs busy (CPU-seconds per second over a tick) that returns watts; ``power(0)`` is then its idle.
    ``truth_nj`` is all it has said so far.
    """

    component = "cpu"
    sensor: Sensor = "synthetic"
    scope: Scope = "process"
    method = "synthetic/1"
    provenance = "synthetic: a known function of this process's CPU time"
    resolution_nj: int | None = 1

    def __init__(
        self,
        idle_watts: float = 0.0,
        watts_per_cpu: float = 0.0,
        tier: Tier = "measured",
        *,
        power: Callable[[float], float] | None = None,
        name: str = "synthetic",
        component: str = "cpu",
        error: float = 0.0,
    ) -> None:
        self.name, self.tier, self.component = name, tier, component
        self.covers: tuple[str, ...] = (f"{component}:{name}",)
        self.idle_watts = idle_watts if power is None else power(0.0)
        self._power = power or (lambda cpus: idle_watts + watts_per_cpu * cpus)
        self._error = error
        self.truth_nj = 0

    def watts(self, cpus: float) -> Interval:
        """Power with ``cpus`` busy."""
        return Interval(*[self._power(cpus)] * 3)

    def read(self, window: Window) -> Sample | None:
        """The energy of the window: its length and this process's CPU in it are all that counts."""
        seconds = window.seconds
        if seconds <= 0:
            return Sample(0, 0, 0, idle_nj=0)
        energy = max(0, round(self._power(window.process_ns / 1e9 / seconds) * seconds * 1e9))
        self.truth_nj += energy
        idle = min(energy, round(self.idle_watts * seconds * 1e9))
        return Sample(energy, round(energy * (1 - self._error)), round(energy * (1 + self._error)), idle_nj=idle)

    def close(self) -> None:
        """Nothing to release."""


class RecordingExporter:
    """Keeps everything it is given: ``.readings`` and ``.ticks``, in order."""

    #: called on the tick thread itself, so that everything is here when `Meter.settle` returns
    inline = True

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.ticks: list[Tick] = []

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Keep ``readings`` and ``ticks``."""
        self.readings += readings
        self.ticks += ticks


class FrozenClock:
    """Wall and monotonic time that move only when told to: ``Meter(clock=FrozenClock(...))``, ``clock.advance(60)``."""

    def __init__(self, at: float = 1_767_225_600.0) -> None:  # 2026-01-01T00:00:00Z
        self._unix_ns = round(at * 1e9)
        self._mono_ns = 1_000_000_000
        self._lock = threading.Lock()

    def time_ns(self) -> int:
        """Unix time, ns."""
        return self._unix_ns

    def monotonic_ns(self) -> int:
        """Monotonic time, ns."""
        return self._mono_ns

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        with self._lock:
            self._unix_ns += round(seconds * 1e9)
            self._mono_ns += round(seconds * 1e9)
