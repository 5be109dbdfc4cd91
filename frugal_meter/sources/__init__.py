"""Where joules come from.

A source is read once per tick, on the tick thread, with the `Window` that the tick covers, and answers with
a `Sample` of the energy of that window, or ``None`` when it has nothing to say (a sensor that vanished).
The first call only primes the counter. What a source reads is described by `Covers`: two sources whose covers
overlap are never summed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from ..records import Tier

Scope = Literal["host", "vm-share", "process"]
Sensor = Literal["physical", "on-chip estimate", "model", "synthetic", "unknown"]


class Window(msgspec.Struct, frozen=True):
    """What one tick covers. CPU figures are deltas in nanoseconds of CPU time."""

    t0_ns: int  # monotonic
    t1_ns: int
    host_busy_ns: int | None  # user+nice+system+irq+softirq of the host; None when it cannot be seen
    host_cpus: int  # online hardware threads behind host_busy_ns
    process_ns: int  # this process, all threads
    suspended_ns: int = 0  # time asleep inside the window (boottime minus monotonic)
    host_cpu_scope: Literal["host", "container", "unknown"] = "host"

    @property
    def seconds(self) -> float:
        """Length of the window in seconds."""
        return (self.t1_ns - self.t0_ns) / 1e9

    @property
    def load(self) -> float | None:
        """Busy share of the host's CPUs over the window, 0…1; None when unseen or the window is empty."""
        span = (self.t1_ns - self.t0_ns) * self.host_cpus
        if self.host_busy_ns is None or span <= 0:
            return None
        return min(1.0, max(0.0, self.host_busy_ns / span))


class Own(msgspec.Struct, frozen=True):
    """This service's part of a sample, by a source that knows it, nJ: ``mine_nj`` of the dynamic energy, ``held_nj`` of the
    idle. ``gap_nj`` cannot be attributed; ``origin`` is where the idle baseline comes from. They are parts of one whole:
    ``idle_nj + gap_nj + mine_nj <= energy_nj`` and ``held_nj <= idle_nj``. Of a GPU also its busy time, and whether nobody told
    whose some of it was (``untold``).
    """

    mine_nj: int
    held_nj: int
    gap_nj: int
    origin: str
    busy_ns: int = 0
    untold: bool = False


class Sample(msgspec.Struct, frozen=True):
    """What a source says of one window, in nanojoules.

    ``idle_nj`` is the part drawn by an idle machine when the source itself knows it (a model does, a counter
    does not). ``low_nj … high_nj`` bound ``energy_nj``. With ``gap`` set, the energy cannot be attributed
    (suspend, a sensor back after an absence) and is booked as gap; after a reset the energy is 0: never a guess.

    A GPU may also tell how long it was busy, which part of that was this process's work (0…1), and how much each
    process used it (``users``, by process id, relative to each other); None where the driver does not say.
    With ``own`` the source has divided its energy already, only ``own.gap_nj`` of it is a gap, and ``busy_ns`` and ``users`` are
    this service's own.
    """

    energy_nj: int
    low_nj: int
    high_nj: int
    idle_nj: int | None = None
    gap: str | None = None
    busy_ns: int | None = None
    own_share: float | None = None
    users: Mapping[int, int] | None = None
    own: Own | None = None


class Source(Protocol):
    """An energy source; see the module's docstring for how it is called."""

    name: str  # unique, stable: "rapl:package-0", "nvml:GPU-3f…", "model:cpu"
    component: str  # cpu | dram | gpu | board | node
    covers: tuple[str, ...]  # ("package:0",) ("dram:0",) ("gpu:UUID",) ("board",)
    tier: Tier
    sensor: Sensor
    scope: Scope  # whose energy this is; its CPU denominator must have the same scope
    method: str  # "rapl-powercap/1", "power-model/3": part of a reading's method id
    provenance: str  # one line: what it is, dataset and year, licence
    resolution_nj: int | None

    def read(self, window: Window) -> Sample | None:
        """The energy of ``window``, or None; raises nothing for a sensor that fails."""

    def close(self) -> None:
        """Release handles; safe to call twice."""
