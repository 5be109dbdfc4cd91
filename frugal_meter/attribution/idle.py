"""Idle: what an idle machine draws, and the part of it that is this service's to hold.

`Baseline` says how much of a source's energy is idle: configured watts, else observed at a nearly idle host, else
modelled from the table; where the figure comes from travels with every reading. `HostSlice` says how much of the
host is this service's: declared, else its cgroup CPU quota over the host's CPUs, else its CPU over the host's CPU.
"""

from __future__ import annotations

from collections import deque

from ..records import Interval
from ..sources import Sample, Window

#: below this host load a tick's power is taken as idle power
IDLE_LOAD = 0.02
_OBSERVED_MIN_TICKS = 20
_OBSERVED_KEEP = 600


class Baseline:
    """The idle power of one source, in watts.

    ``configured_watts`` wins; else the 5th percentile of the power of ticks with the host under 2 % busy, once there
    are 20 of them (a percentile, so that one glitch is not the baseline for ever); else ``modelled`` watts.
    """

    __slots__ = ("_observed", "configured_watts", "modelled")

    def __init__(self, configured_watts: float | None = None, modelled: Interval | None = None) -> None:
        self.configured_watts, self.modelled = configured_watts, modelled
        self._observed: deque[float] = deque(maxlen=_OBSERVED_KEEP)

    def observe(self, window: Window, sample: Sample) -> None:
        """Take note of a tick; only those of a nearly idle host count."""
        load = window.load
        if load is not None and load < IDLE_LOAD and window.seconds > 0 and sample.gap is None:
            self._observed.append(sample.energy_nj / 1e9 / window.seconds)

    @property
    def watts(self) -> tuple[float | None, str]:
        """Idle watts and where they come from: configured, observed, modelled or none."""
        if self.configured_watts is not None:
            return self.configured_watts, "configured"
        if len(self._observed) >= _OBSERVED_MIN_TICKS:
            return sorted(self._observed)[len(self._observed) // 20], "observed"
        if self.modelled is not None:
            return self.modelled.mid, "modelled"
        return None, "none"

    def idle_nj(self, window: Window, sample: Sample) -> tuple[int | None, str]:
        """The idle part of ``sample`` (a source that knows its own is believed) and its origin."""
        if self.configured_watts is None and sample.idle_nj is not None:
            return sample.idle_nj, "modelled"
        watts, origin = self.watts
        return (None if watts is None else round(watts * (window.t1_ns - window.t0_ns))), origin


class HostSlice:
    """This service's part of the host, 0…1."""

    __slots__ = ("declared", "quota_cpus")

    def __init__(self, declared: float | None = None, quota_cpus: float | None = None) -> None:
        self.declared, self.quota_cpus = declared, quota_cpus

    def of(self, window: Window, process_ns: int, whole_ns: int) -> float:
        """The slice over one tick; ``whole_ns`` is the CPU that the source's energy is divided by."""
        if self.declared is not None:
            return self.declared
        if self.quota_cpus is not None and window.host_cpus:
            return min(1.0, self.quota_cpus / window.host_cpus)
        return min(1.0, process_ns / whole_ns) if whole_ns else 0.0
