"""NVIDIA GPUs through nvidia-ml-py: the energy counter of each board, or its power integrated between ticks.

One source per physical GPU, named by UUID. A GPU in MIG mode is read once, as a whole: its instances have no energy
of their own. Names are those of the NVML API Reference Guide (NVIDIA, vR570, 2025).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from ..errors import MissingExtraError
from ..records import Tier
from . import Sample, Scope, Sensor, Window, findings
from .counters import EnergyCounter, Step, sample
from .findings import Finding
from .processes import Family

NJ_PER_MJ: Final = 1_000_000
#: more than any single board draws (1,400 W for the largest of 2025); twice the board's own limit may raise it
MAX_WATTS: Final = 2000.0
#: half-widths in percent, *expert assumptions*. Counter: NVML states ± 5 % of power for Fermi and Kepler and nothing
#: since; twice that covers a counter that moves every 20-100 ms. Integrated power: on A100 and H100 only a quarter of
#: the time is sampled, and correcting for it moves energies by 35 % on average (Yang et al. 2023, arXiv 2312.02741)
COUNTER_ERROR_PERCENT: Final = 10
POWER_ERROR_PERCENT: Final = 35
#: NVML samples utilisation every 1/6 s to 1 s, by board: a shorter look back may find no sample
_LOOK_BACK_US: Final = 1_000_000


class NvmlFindings(NamedTuple):
    """The GPUs of this machine that can be read, and what stands in the way of the others."""

    sources: list[NvmlGpu]
    findings: list[Finding]


class NvmlGpu:
    """One GPU, found by ``uuid``. ``counts`` tells whether it has an energy counter; ``shared`` whether it is in MIG mode;
    ``tells_busy`` whether its driver tells how busy it is.

    Each source holds NVML open once and lets go when the GPU stops answering, so that a driver that was reloaded is
    opened anew: one attempt per read. ``read`` is a `Sample` of 0 the first time, ``None`` while the GPU is silent.
    """

    component = "gpu"
    tier: Tier = "measured"
    sensor: Sensor = "physical"
    scope: Scope = "host"

    def __init__(
        self,
        nvml: Any,
        uuid: str,
        *,
        counts: bool,
        shared: bool = False,
        tells_busy: bool = False,
        label: str = "NVIDIA GPU",
        family: Family | None = None,
    ) -> None:
        self._family = family or Family()
        self._nvml, self.uuid, self.counts, self.shared, self.tells_busy = nvml, uuid, counts, shared, tells_busy
        self.name = f"nvml:{uuid}"
        self.covers: tuple[str, ...] = (f"gpu:{uuid}",)
        self.method = "nvml-energy/1" if counts else "nvml-power-trapezoid/1"
        self.error_percent = COUNTER_ERROR_PERCENT if counts else POWER_ERROR_PERCENT
        self.resolution_nj: int | None = NJ_PER_MJ if counts else None
        self.provenance = (
            f"{label}: {'NVML total energy counter' if counts else 'NVML power, integrated between ticks'}"
            f"{', whole board, shared by MIG instances' if shared else ''}, ± {self.error_percent} % (expert assumption)"
        )
        self._handle: Any = None
        self._open = False
        self._counter: EnergyCounter | None = None
        self._power = _PowerIntegral()

    def read(self, window: Window) -> Sample | None:
        """The energy of ``window`` in nanojoules; None while the GPU gives none."""
        raw = self._ask()
        if not self.counts:
            step = self._power.advance(raw, window)
        elif self._counter is None:
            step = None
        else:
            step = self._counter.advance(raw, window)
        if step is None:
            return None
        told = sample(step, self.error_percent, self.resolution_nj or 0)
        if step.gap is not None or window.t1_ns <= window.t0_ns:
            return told
        users = self._users_in(window)
        own = share_of(self._family.at(window.t1_ns), users)
        return msgspec.structs.replace(told, busy_ns=self._busy_ns(window), own_share=own, users=users)

    @property
    def integrates(self) -> bool:
        """Whether a sample is drawn between two readings of power, and so is not what another reader's would be."""
        return not self.counts

    @property
    def mark(self) -> int | None:
        """The reading that the last sample ended with, for another process to `resume` from."""
        return (self._counter.raw if self._counter else None) if self.counts else self._power.last_mw

    def resume(self, mark: int, at_ns: int) -> None:
        """The next sample begins at ``mark``, another process's at ``at_ns`` (monotonic)."""
        if not self.counts:
            self._power.resume(mark, at_ns)
        elif self._counter is not None:
            self._counter.resume(mark, at_ns)

    def _busy_ns(self, window: Window) -> int | None:
        """Time with a kernel at work: the utilisation that NVML tells at the end of ``window``, over its length."""
        if not self.tells_busy:
            return None
        try:
            percent = int(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)
        except self._nvml.NVMLError:
            return None
        return (window.t1_ns - window.t0_ns) * min(100, percent) // 100

    def _users_in(self, window: Window) -> dict[int, int] | None:
        """Utilisation by process; None where NVML tells none."""
        if self.shared:  # NVML knows no process utilisation under MIG; an answer would be another instance's
            return None
        return self._users(time.time_ns() // 1000 - max(_LOOK_BACK_US, (window.t1_ns - window.t0_ns) // 1000))

    def _ask(self) -> int | None:
        """Energy in mJ, or power in mW; None when the driver or the GPU does not answer."""
        nvml = self._nvml
        try:
            if self._handle is None:
                self._find()
            if self.counts:
                return int(nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
            return int(nvml.nvmlDeviceGetPowerUsage(self._handle))
        except nvml.NVMLError:
            self.close()
            return None

    def _find(self) -> None:
        if not self._open:
            self._nvml.nvmlInit()
            self._open = True
        self._handle = self._nvml.nvmlDeviceGetHandleByUUID(self.uuid)
        if self._counter is None:
            limit_watts = 2e-3 * _limit_mw(self._nvml, self._handle)
            self._counter = EnergyCounter(unit_nj=NJ_PER_MJ, range_units=None, max_watts=max(MAX_WATTS, limit_watts))

    def utilization_of(self, pids: Collection[int], since: int) -> float | None:
        """Share (0…1) of the GPU's busy time that ``pids`` used after ``since`` (Unix time, µs).

        Out of the latest sample of each process. None when NVML gives none (MIG, an idle GPU, older boards) or names
        none of ``pids``: inside a container NVML shows the host's process ids, so absence is not zero.
        """
        return share_of(pids, self._users(since))

    def _users(self, since: int) -> dict[int, int] | None:
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, since)
        except (self._nvml.NVMLError, TypeError):
            return None
        return {int(each.pid): int(each.smUtil) for each in sorted(samples, key=lambda each: int(each.timeStamp))}

    def close(self) -> None:
        """Let NVML go; ``read`` opens it again. Safe to call twice."""
        self._handle = None
        if self._open:
            self._open = False
            # the driver may have gone first
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()


def share_of(pids: Collection[int], users: Mapping[int, int] | None) -> float | None:
    """The part (0…1) of what ``users`` used that ``pids`` did; None where nobody tells, or of none of them."""
    total = sum(users.values()) if users else 0
    if not users or not total or users.keys().isdisjoint(pids):
        return None
    return sum(users[pid] for pid in pids if pid in users) / total


class _PowerIntegral:
    """Power at two tick edges, as the energy of the trapezoid between them."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._away = self._slept = False

    @property
    def last_mw(self) -> int | None:
        return None if self._last is None else self._last[0]

    def resume(self, last_mw: int, at_ns: int) -> None:
        self._last = last_mw, at_ns

    def advance(self, power_mw: int | None, window: Window) -> Step | None:
        self._slept |= window.suspended_ns > 0
        if power_mw is None:
            self._away = self._last is not None
            return None
        # what a board drew unseen or asleep lies on no line between two readings
        gap = "suspend" if self._slept else "vanished" if self._away else None
        energy_nj = 0
        if self._last is not None and gap is None:
            last_mw, last_ns = self._last
            energy_nj = (last_mw + power_mw) * max(0, window.t1_ns - last_ns) // 2000
        gap = gap if self._last is not None else None
        self._last, self._away, self._slept = (power_mw, window.t1_ns), False, False
        return Step(energy_nj, gap)


def discover(proc: Path = Path("/proc")) -> NvmlFindings:
    """Every GPU that the driver lists, and what stands in the way; ``proc`` numbers processes as the driver does.

    Raises nothing.
    """
    try:
        nvml = _nvml()
    except MissingExtraError:
        return NvmlFindings([], [findings.nvml_extra_missing()])
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return NvmlFindings([], [findings.nvml_no_driver(error)])
    try:
        return _listed(nvml, proc)
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _nvml() -> Any:
    try:
        import pynvml
    except ImportError:
        raise MissingExtraError("nvidia", "reading NVIDIA GPUs") from None
    return pynvml


def _listed(nvml: Any, proc: Path) -> NvmlFindings:
    family = Family(proc)
    sources: list[NvmlGpu] = []
    found: list[Finding] = []
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        return NvmlFindings([], [findings.nvml_no_driver(error)])
    for index in range(count):
        where = f"gpu {index}"
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            where = nvml.nvmlDeviceGetUUID(handle)
            counts = _counts(nvml, handle)
            shared = _shared(nvml, handle)
            busy, name = _tells_busy(nvml, handle), nvml.nvmlDeviceGetName(handle)
            sources.append(NvmlGpu(nvml, where, counts=counts, shared=shared, tells_busy=busy, label=name, family=family))
        except nvml.NVMLError as error:
            found.append(findings.nvml_unreadable(where, error))
            continue
        found += [findings.nvml_mig_shared(where)] if shared else []
        found += [] if counts else [findings.nvml_power_only(where)]
    return NvmlFindings(sources, found)


def _counts(nvml: Any, handle: Any) -> bool:
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        nvml.nvmlDeviceGetPowerUsage(handle)
        return False
    return True


def _shared(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return False  # boards before Ampere know no MIG


def _tells_busy(nvml: Any, handle: Any) -> bool:
    try:
        nvml.nvmlDeviceGetUtilizationRates(handle)
    except nvml.NVMLError:
        return False  # MIG mode, among others
    return True


def _limit_mw(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)[1])
    except nvml.NVMLError:
        return 0
