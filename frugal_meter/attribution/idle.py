"""Idle: what an idle machine draws, and the part of it that is this service's to hold.

`Baseline` says how much of a source's energy is idle: configured watts, else observed at a nearly idle host, else
modelled from the table; where the figure comes from travels with every reading. `HostSlice` says how much of the
host is this service's: declared, else its cgroup CPU quota over the host's CPUs, else its CPU over the host's CPU.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import NamedTuple

from ..records import Interval
from ..sources import Sample, Window

log = logging.getLogger("frugal_meter")
#: below this load a tick's power is taken as idle power
IDLE_LOAD = 0.02
_OBSERVED_MIN_TICKS = 20
_OBSERVED_KEEP = 600
#: over shorter ticks a counter that moves every 20–100 ms tells no power
_OBSERVED_MIN_S = 0.05
#: a baseline is above what was observed when it exceeds the 5th percentile of the power of any tick by more than this
_ABOVE = 1.05


class Ends(NamedTuple):
    """What a tick's energy may be at an end of its bounds, nanojoules: dynamic, and the idle that goes with it.

    Two pairs, for the idle baseline at its low and at its high end: what idle gains, dynamic loses.
    """

    dynamic: float
    idle: float
    other_dynamic: float
    other_idle: float


class Baseline:
    """The idle power of one source, in watts.

    ``configured_watts`` wins; else the 5th percentile of the power of ticks with the host under 2 % busy (a GPU: with
    itself under 2 % busy), once there are 20 of them (a percentile, so that one glitch is not the baseline for ever);
    else ``modelled`` watts. A source that knows its own idle part is believed; ``own`` is then its interval. ``above``
    tells that a baseline which was not observed lies above what was.
    """

    __slots__ = ("_any", "_levels", "_observed", "_seen", "above", "configured_watts", "modelled", "own")

    def __init__(
        self, configured_watts: float | None = None, modelled: Interval | None = None, own: Interval | None = None
    ) -> None:
        self.configured_watts, self.modelled, self.own = configured_watts, modelled, own
        self._observed: deque[float] = deque(maxlen=_OBSERVED_KEEP)
        self._any: deque[float] = deque(maxlen=_OBSERVED_KEEP)
        self._levels: Interval | None = None  # of what was observed
        self._seen = 0
        self.above = False

    def observe(self, window: Window, sample: Sample, *, on_gpu: bool = False, name: str = "") -> None:
        """Take note of a tick; only those of a nearly idle host (or GPU) say what idle is."""
        if window.seconds < _OBSERVED_MIN_S or sample.gap is not None:
            return
        watts = sample.energy_nj / 1e9 / window.seconds
        self._any.append(watts)
        load = window.load
        if on_gpu:  # a host may sleep while its GPU works
            load = None if sample.busy_ns is None else sample.busy_ns / 1e9 / window.seconds
        if load is not None and load < IDLE_LOAD:
            self._observed.append(watts)
            if len(self._observed) >= _OBSERVED_MIN_TICKS:
                self._levels = Interval(*_percentiles(self._observed, 1, 5, 50))
        self._seen += 1
        if self._seen % _OBSERVED_MIN_TICKS == 0:
            self._compare(sample, name)

    def _compare(self, sample: Sample, name: str) -> None:
        watts, origin = self.watts
        if origin not in ("configured", "modelled") or (self.configured_watts is None and sample.idle_nj is not None):
            self.above = False
            return
        (seen,) = _percentiles(self._any, 5)
        above = watts is not None and watts > seen * _ABOVE
        if above and not self.above:
            log.warning(
                "frugal_meter: idle baseline of %s (%s, %.3g W) is above the %.3g W it was seen to draw; its dynamic energy is "
                "too low: correct idle_watts",
                name,
                origin,
                watts,
                seen,
            )
        self.above = above

    @property
    def watts(self) -> tuple[float | None, str]:
        """Idle watts and where they come from: configured, observed, modelled or none."""
        if self.configured_watts is not None:
            return self.configured_watts, "configured"
        if self._levels is not None:
            return self._levels.mid, "observed"
        if self.modelled is not None:
            return self.modelled.mid, "modelled"
        return None, "none"

    @property
    def interval(self) -> Interval | None:
        """Idle watts with their bounds: as stated when configured, the 1st to 50th percentile when observed (ticks of up to
        2 % load are in it: idle is not above their median), the table's when modelled; None when unknown.
        """
        if self.configured_watts is not None:
            return Interval(*[self.configured_watts] * 3)
        return self._levels or self.modelled

    def idle_nj(self, window: Window, sample: Sample) -> tuple[int | None, str]:
        """The idle part of ``sample`` (a source that knows its own is believed) and its origin."""
        if self.configured_watts is None and sample.idle_nj is not None:
            return sample.idle_nj, "modelled"
        watts, origin = self.watts
        return (None if watts is None else round(watts * (window.t1_ns - window.t0_ns))), origin

    def ends(self, window: Window, sample: Sample, idle_nj: int) -> tuple[Ends, Ends]:
        """Low and high ends of dynamic and idle; ``idle_nj`` is the idle part that was booked, at most the energy.

        A model's ends go together (its low idle with its low load), and what its sample says bounds both. Observed watts
        err as their sensor does, by one factor for idle and busy. Any other baseline errs by itself: its error moves
        dynamic the opposite way, and the sensor's comes on top.
        """
        ns, energy_nj = window.t1_ns - window.t0_ns, sample.energy_nj
        if self.configured_watts is None and sample.idle_nj is not None:
            own = (idle_nj, idle_nj) if self.own is None else (self.own.low * ns, self.own.high * ns)
            low_idle = min(own[0], idle_nj, sample.low_nj)
            high_idle = min(max(own[1], idle_nj), sample.high_nj)
            low = min(sample.low_nj - low_idle, energy_nj - idle_nj)
            high = max(sample.high_nj - high_idle, energy_nj - idle_nj)
            return Ends(low, low_idle, low, low_idle), Ends(high, high_idle, high, high_idle)
        watts = self.interval or Interval(0, 0, 0)
        least, most = min(watts.low * ns, idle_nj), max(watts.high * ns, idle_nj)
        if watts is self._levels and energy_nj:
            most = min(most, energy_nj)
            low, high = sample.low_nj / energy_nj, sample.high_nj / energy_nj
            return _scaled(energy_nj, least, most, low), _scaled(energy_nj, least, most, high)
        return _apart(sample.low_nj, least, most), _apart(sample.high_nj, least, most)


def _apart(energy_nj: float, least: float, most: float) -> Ends:
    """``energy_nj`` with either idle taken from it, as far as there is any."""
    least, most = min(least, energy_nj), min(most, energy_nj)
    return Ends(energy_nj - least, least, energy_nj - most, most)


def _scaled(energy_nj: float, least: float, most: float, by: float) -> Ends:
    """The energy and either idle, all of one sensor's error ``by``."""
    return Ends((energy_nj - least) * by, least * by, (energy_nj - most) * by, most * by)


def _percentiles(values: deque[float], *percents: int) -> list[float]:
    ordered = sorted(values)
    return [ordered[len(ordered) * percent // 100] for percent in percents]


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
