"""Sources of modelled energy: what a machine without sensors draws, from its load and the watts of `watts`.

Every component is a source of its own, so a machine with a RAPL package and nothing else takes the other two from
here, and its boundary is the one of a machine without any sensor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Final

import msgspec

from ..errors import ConfigurationError
from ..records import Interval, Tier
from . import Sample, Scope, Sensor, Window
from .watts import MEMORY_W_PER_GB, CpuWatts, checked, cpu_power, ends, memory_watts

_PER_GB: Final = "–".join(f"{end:.3g}" for end in ends(MEMORY_W_PER_GB))


class SourceDescription(msgspec.Struct, frozen=True):
    """One line of what is counted, for people: watts are those of the machine, None for a sensor."""

    name: str
    component: str
    tier: Tier
    idle_w: Interval | None
    full_w: Interval | None
    provenance: str
    flags: tuple[str, ...]


class ModelSource(ABC):
    """What the modelled sources share; a subclass says what a window draws."""

    tier: Tier = "modelled"
    sensor: Sensor = "model"
    scope: Scope = "host"
    resolution_nj: int | None = None
    method: str = "power-model/3"

    def __init__(self, name: str, component: str, covers: tuple[str, ...], provenance: str, flags: tuple[str, ...]) -> None:
        self.name, self.component, self.covers = name, component, covers
        self.provenance, self.flags = provenance, flags

    @abstractmethod
    def watts(self, load: float) -> Interval:
        """Watts at a busy share of 0…1."""

    def read(self, window: Window) -> Sample | None:
        """The energy of ``window``; None when the load of the host cannot be seen. Holds no counter: nothing to prime."""
        load = window.load
        if window.seconds <= 0:
            return Sample(0, 0, 0, idle_nj=0)
        return None if load is None else self._sample(load, window)

    def _sample(self, load: float, window: Window) -> Sample:
        nanoseconds = window.t1_ns - window.t0_ns  # W × ns = nJ
        energy = self.watts(load).times(nanoseconds)
        idle_nj = round(self.watts(0.0).mid * nanoseconds)
        return Sample(max(idle_nj, round(energy.mid)), math.floor(energy.low), math.ceil(energy.high), idle_nj=idle_nj)

    def describe(self) -> SourceDescription:
        """Component, tier, and watts idle and at full load."""
        return SourceDescription(
            self.name, self.component, self.tier, self.watts(0.0), self.watts(1.0), self.provenance, self.flags
        )

    def close(self) -> None:  # noqa: B027 - a model has nothing to release, and so do all of its kinds
        """Nothing is held."""


class CpuModelSource(ModelSource):
    """The CPUs of this machine by their load."""

    def __init__(self, watts: CpuWatts) -> None:
        super().__init__("model:cpu", "cpu", ("package:*",), f"power model from {watts.origin}", watts.flags)
        self._watts = watts

    def watts(self, load: float) -> Interval:
        """Watts at a busy share of 0…1."""
        return cpu_power(self._watts, load)


class ConstantSource(ModelSource):
    """A component that draws the same busy or idle: all of its energy is idle energy, whatever the load."""

    def __init__(self, name: str, component: str, covers: tuple[str, ...], watts: Interval, provenance: str) -> None:
        super().__init__(name, component, covers, provenance, ("interval:expert-assumption",) if watts.low < watts.high else ())
        for end in ends(watts):
            checked(f"{component} watts", end)
        self._watts = watts

    def watts(self, load: float) -> Interval:
        """The same watts at any load."""
        return self._watts

    def read(self, window: Window) -> Sample | None:
        """The energy of ``window``, all of it idle."""
        return self._sample(0.0, window) if window.seconds > 0 else Sample(0, 0, 0, idle_nj=0)


class MemoryModelSource(ConstantSource):
    """The memory of this machine, by its size in bytes, or by declared watts."""

    def __init__(self, memory_bytes: int | None = None, *, watts: float | None = None) -> None:
        if watts is None and memory_bytes is None:
            raise ConfigurationError("a memory model needs memory_bytes or watts")
        if watts is not None:
            given, said = Interval(watts, watts, watts), "declared by the operator"
        else:
            given, said = memory_watts(memory_bytes or 0), f"{(memory_bytes or 0) / 1e9:.1f} GB at {_PER_GB} W/GB"
        super().__init__("model:memory", "dram", ("dram:*",), given, f"memory model: {said}")


class BoardModelSource(ConstantSource):
    """The rest of the server beside a measured or declared CPU: board, fans, power supply, disks, network."""

    def __init__(self, watts: Interval | float, origin: str = "declared by the operator") -> None:
        given = watts if isinstance(watts, Interval) else Interval(watts, watts, watts)
        super().__init__("model:board", "board", ("board",), given, f"board model: {origin}")


class ServerRestSource(ModelSource):
    """The rest of the server beside a modelled CPU: losses and fans follow the load as the CPU does."""

    def __init__(self, watts: CpuWatts) -> None:
        super().__init__("model:board", "board", ("board",), f"board model: {watts.origin}", watts.flags)
        self._watts = watts

    def watts(self, load: float) -> Interval:
        """Watts at a busy share of 0…1."""
        return cpu_power(self._watts, load)
