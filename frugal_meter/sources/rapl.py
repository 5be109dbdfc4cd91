"""Energy counters of processors through Linux powercap (RAPL), sorted by what each zone *covers*.

``package-N`` covers its cores, its caches and its integrated graphics; ``dram`` is beside it. What a tree may show
twice is counted once: ``core`` and ``uncore`` lie inside their package, ``psys`` contains the packages though it is
listed beside them, ``intel-rapl-mmio`` is a second door to the same package, and dies may mirror one counter
(`Siblings`). See the kernel's Documentation/power/powercap/powercap.rst and intel_rapl_common.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ..records import Tier
from . import Sample, Scope, Sensor, Window
from .counters import LAG_NS, EnergyCounter, Siblings, Step, sample
from .findings import Finding
from .powercap import Place, findings_of, integer_of, places
from .procfs import CpuModel, KeptFile

__all__ = ["CrossCheck", "Finding", "RaplFindings", "RaplZone", "discover", "sensor_of"]

#: more than any package draws (the largest of 2025 are rated 500 W). Firmware's own ``constraint_0_max_power_uw`` is
#: often 0 or a nominal figure (17 W on a part limited to 200 W), so twice that may raise this bound, never lower it
MAX_WATTS: Final = 1000.0
#: half-widths in percent, *expert assumptions*, no manufacturer states any. Package: Khan et al. 2018 (ACM TOMPECS
#: 3(2)) find RAPL strongly correlated with plug power; Hackenberg et al. 2015 (IPDPSW, doi 10.1109/IPDPSW.2015.70)
#: find sensors that measure better than those that model. DRAM: Desrochers et al. 2016 (MEMSYS, doi
#: 10.1145/2989081.2989088) find offsets, worst when idle
_MEASURED_ERROR_PERCENT: Final = {"cpu": 5, "dram": 10}
_ERROR_PERCENT: Final = {"cpu": 10, "dram": 20}
#: Intel family 6 models: Sandy Bridge and Ivy Bridge model their energy, Haswell-EP and Broadwell-EP measure it in
#: their voltage regulators (Hackenberg et al. 2015; model numbers of Linux arch/x86/include/asm/intel-family.h)
_INTEL_ESTIMATES: Final = {0x2A, 0x2D, 0x3A, 0x3E}
_INTEL_MEASURES: Final = {0x3F, 0x4F}


class CrossCheck(NamedTuple):
    """A zone that repeats, contains or lies inside a counted one: to compare with, never to add."""

    zone: RaplZone
    reason: str


class RaplFindings(NamedTuple):
    """What a powercap tree holds: ``sources`` may be summed, ``cross_checks`` may not."""

    sources: list[RaplZone]
    cross_checks: list[CrossCheck]
    findings: list[Finding]


class RaplZone:
    """The counter of one package (or of its memory); several counters where the tree lists the package by die.

    ``read`` answers a `Sample` of 0 the first time, which primes; after that the energy since the last good reading.
    ``None`` means that the counter cannot be read now. `EnergyCounter` says when a sample is a gap, `Siblings` how
    dies are told from mirrors of one counter.
    """

    tier: Tier = "measured"
    method = "rapl-powercap/1"

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        name: str,
        covers: str,
        component: str = "cpu",
        scope: Scope = "host",
        sensor: Sensor = "unknown",
    ) -> None:
        self.covers: tuple[str, ...] = (covers,)
        self.name, self.component, self.scope, self.sensor = name, component, scope, sensor
        self._files = [KeptFile(folder / "energy_uj", 64) for folder in folders]
        limits = [integer_of(folder / "constraint_0_max_power_uw") or 0 for folder in folders]
        ranges = [integer_of(folder / "max_energy_range_uj") for folder in folders]
        self.max_watts = max(MAX_WATTS, 2e-6 * max(limits))
        self._counters = [EnergyCounter(unit_nj=1000, range_units=span, max_watts=self.max_watts) for span in ranges]
        # the declared range is 2**32 - 1 hardware counts: 61 µJ each on most parts, 15 µJ on many servers
        self.resolution_nj: int | None = max(1000, *(-(-1000 * (span or 0) // (2**32 - 1)) for span in ranges))
        self._siblings = Siblings(len(folders))
        self.error_percent = (_MEASURED_ERROR_PERCENT if sensor == "physical" else _ERROR_PERCENT).get(component, 20)
        self.provenance = (
            f"{name} by Linux powercap ({', '.join(folder.name for folder in folders)}), sensor {sensor}, "
            f"± {self.error_percent} % (expert assumption) ± {self.resolution_nj} nJ"
        )

    def read(self, window: Window) -> Sample | None:
        """The energy of ``window`` in nanojoules, None while the counter cannot be read."""
        raws = [_counts(file) for file in self._files]
        if len(raws) == 1:
            step, unsure_nj = self._counters[0].advance(raws[0], window), 0
        else:
            step, unsure_nj = self._read_dies(raws, window)
        return None if step is None else sample(step, self.error_percent, self.resolution_nj or 0, unsure_nj)

    @property
    def mark(self) -> int | None:
        """The reading that the last sample ended with, for another process to `resume` from; None for several dies,
        whose readings mean something only to whoever has watched them.
        """
        return self._counters[0].raw if len(self._counters) == 1 else None

    def resume(self, mark: int, at_ns: int) -> None:
        """The next sample begins at ``mark``, another process's at ``at_ns`` (monotonic)."""
        self._counters[0].resume(mark, at_ns)

    def _read_dies(self, raws: list[int | None], window: Window) -> tuple[Step | None, int]:
        # every die but the last a second time: each later die was read between the two readings of each earlier one
        after = [_counts(file) for file in reversed(self._files[:-1])][::-1]
        steps = [counter.advance(raw, window) for counter, raw in zip(self._counters, raws, strict=True)]
        for i, step in enumerate(steps):
            if step and step.gap in ("reset", "implausible", "wrap-ambiguous"):
                self._siblings.forget(i)
        lag_nj = int(self.max_watts * LAG_NS) + 2 * (self.resolution_nj or 0)
        for j, raw in enumerate(after):
            moved_nj = None if raw is None or steps[j] is None else self._counters[j].since(raw)
            for i in range(j + 1, len(steps)):
                if moved_nj is not None and steps[i] is not None:
                    apart_nj = self._counters[i].total_nj - self._counters[j].total_nj
                    self._siblings.observe(j, i, apart_nj - moved_nj - lag_nj, apart_nj + lag_nj)
        return self._siblings.settle(steps)

    def close(self) -> None:
        """Release the handles; safe to call twice."""
        for file in self._files:
            file.close()


def _counts(file: KeptFile) -> int | None:
    try:
        counts = int(file.read())
    except (OSError, ValueError):
        return None
    return counts if counts >= 0 else None


def sensor_of(cpu: CpuModel | None) -> Sensor:
    """Whether this processor's RAPL measures or models; "unknown" where no publication tells.

    AMD models it from events (Schöne et al. 2021, "Energy Efficiency Aspects of the AMD Zen 2 Architecture", IEEE
    CLUSTER, arXiv 2108.00808).
    """
    if cpu is None:
        return "unknown"
    if cpu.vendor == "AuthenticAMD" or (cpu.vendor == "GenuineIntel" and cpu.model in _INTEL_ESTIMATES):
        return "on-chip estimate"
    return "physical" if cpu.vendor == "GenuineIntel" and cpu.model in _INTEL_MEASURES else "unknown"


def discover(root: Path = Path("/sys/class/powercap"), *, scope: Scope = "host", cpu: CpuModel | None = None) -> RaplFindings:
    """Every RAPL zone under ``root``: what counts, what only compares, and what stands in the way.

    ``scope`` is whose energy the tree holds: "vm-share" for a tree that a hypervisor hands down with this guest's
    share. ``cpu`` (see ``procfs.cpu_model``) tells what kind of sensor it is. Raises nothing.
    """
    zones = list(places(root))
    sources, checks = [], []
    groups: dict[str, list[Place]] = {}
    for place in zones:
        if place.state == "readable" and place.inside:
            checks.append(CrossCheck(_zone([place], "rapl", scope, cpu), place.inside))
        elif place.state == "readable" and place.covers:
            groups.setdefault(place.covers, []).append(place)
    for covers, members in groups.items():
        # where both doors to a package are open the MSR one counts; alone, its mmio twin does
        winner = min((place.control for place in members), key=lambda control: ("mmio" in control, control))
        sources.append(_zone([place for place in members if place.control == winner], "rapl", scope, cpu))
        twins = (place for place in members if place.control != winner)
        checks += [CrossCheck(_zone([t], t.control, scope, cpu), f"{t.control} repeats {covers} of {winner}") for t in twins]
    return RaplFindings(sources, checks, findings_of(root, zones))


def _zone(members: Sequence[Place], prefix: str, scope: Scope, cpu: CpuModel | None) -> RaplZone:
    first = members[0]
    covers = first.covers or ""
    return RaplZone(
        [place.folder for place in members],
        name=f"{prefix}:{covers.replace(':', '-')}",
        # a core zone is "package:0/core" by name, and by what it covers a part of package:0 like any other
        covers=covers.partition("/")[0],
        component=first.component,
        scope=scope,
        sensor=sensor_of(cpu),
    )
