"""Machines made of files: powercap, proc and cgroup trees on disk that the readers of this package take as real.

For tests of the meter and of services that use it, and to see what the meter makes of a machine one does not have::

    tree = PowercapTree.dual_socket_with_psys(tmp_path)
    zone = rapl.discover(tree.root).sources[0]
    tree.advance("intel-rapl:0", joules=12.5)

Files are rewritten in place, as sysfs does: a reader that keeps its handle open sees the new value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

#: what an Intel package declares: 2**32 - 1 counts of 2**-14 J (61 µJ), in µJ
RANGE_UJ: Final = 262_143_328_850


def _put(path: Path, text: str) -> None:
    """Write in place and never leave the file empty: a reader may hold it open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(handle, text.encode(), 0)
        os.ftruncate(handle, len(text.encode()))
    finally:
        os.close(handle)


def _drop(path: Path) -> None:
    """Remove a file so that handles still open on it read nothing, as they would in sysfs or procfs."""
    os.truncate(path, 0)
    path.unlink()


class PowercapTree:
    """A ``/sys/class/powercap`` in the folder ``root``. Zones are named by their id: "intel-rapl:0", "intel-rapl:0:1"."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._energy_uj: dict[str, int] = {}
        self._range_uj: dict[str, int] = {}
        self._mirrors: dict[str, list[str]] = {}
        self._package: dict[int, str] = {}
        self._gone: set[str] = set()

    def zone(
        self,
        name: str,
        *,
        parent: str | None = None,
        control: str = "intel-rapl",
        energy_uj: int = 0,
        max_range_uj: int = RANGE_UJ,
        max_power_uw: int | None = None,
        mirrors: str | None = None,
    ) -> str:
        """Add a zone called ``name`` ("package-0", "dram", "psys", …) and return its id.

        ``parent`` is the id of the zone it lies in; ``mirrors`` that of a zone whose counter it shows again.
        """
        prefix = parent or control
        zone = f"{prefix}:{sum(known.rpartition(':')[0] == prefix for known in self._energy_uj)}"
        _put(self.root / zone / "name", f"{name}\n")
        _put(self.root / zone / "max_energy_range_uj", f"{max_range_uj}\n")
        if max_power_uw is not None:
            _put(self.root / zone / "constraint_0_max_power_uw", f"{max_power_uw}\n")
        self._range_uj[zone] = max_range_uj
        if mirrors is not None:
            self._mirrors.setdefault(mirrors, []).append(zone)
            energy_uj = self._energy_uj[mirrors]
        self.set(zone, energy_uj)
        return zone

    def package(self, number: int, *, die: int | None = None, energy_uj: int = 0, max_range_uj: int = RANGE_UJ) -> str:
        """Add the package ``number`` (or one die of it) and return its id."""
        name = f"package-{number}" if die is None else f"package-{number}-die-{die}"
        zone = self.zone(name, energy_uj=energy_uj, max_range_uj=max_range_uj)
        self._package.setdefault(number, zone)
        return zone

    def dram(self, package: int, *, energy_uj: int = 0, max_range_uj: int = RANGE_UJ) -> str:
        """Add the memory of the package with this number and return its id."""
        return self.zone("dram", parent=self._package[package], energy_uj=energy_uj, max_range_uj=max_range_uj)

    def set(self, zone: str, energy_uj: int) -> None:
        """Let the counter of ``zone``, and of those that mirror it, show ``energy_uj``."""
        for each in (zone, *self._mirrors.get(zone, ())):
            self._energy_uj[each] = energy_uj
            if each not in self._gone:
                _put(self.root / each / "energy_uj", f"{energy_uj}\n")

    def advance(self, zone: str, joules: float) -> None:
        """Let the counter of ``zone`` grow by ``joules``, also while it is away; it wraps at its range."""
        self.set(zone, (self._energy_uj[zone] + round(joules * 1e6)) % self._range_uj[zone])

    def vanish(self, zone: str) -> None:
        """Take the counter of ``zone`` away, as unloading the driver does."""
        self._gone.add(zone)
        _drop(self.root / zone / "energy_uj")

    def restore(self, zone: str) -> None:
        """Bring the counter of ``zone`` back, with what it counted meanwhile."""
        self._gone.discard(zone)
        self.set(zone, self._energy_uj[zone])

    @classmethod
    def dual_socket_with_psys(cls, root: Path) -> PowercapTree:
        """Two packages with memory; psys listed between them, beside them: intel-rapl:0, :1 (psys) and :2."""
        tree = cls(root)
        tree.package(0)
        tree.dram(0)
        tree.zone("psys")
        tree.package(1)
        tree.dram(1)
        return tree

    @classmethod
    def mmio_twin(cls, root: Path) -> PowercapTree:
        """A laptop: one package with core, uncore and memory, and the package again as intel-rapl-mmio:0."""
        tree = cls(root)
        package = tree.package(0)
        tree.zone("core", parent=package)
        tree.zone("uncore", parent=package)
        tree.dram(0)
        tree.zone("package-0", control="intel-rapl-mmio", mirrors=package)
        return tree

    @classmethod
    def mirrored_dies(cls, root: Path) -> PowercapTree:
        """An AMD server whose two dies show the one counter of their package: intel-rapl:0 and intel-rapl:1."""
        tree = cls(root)
        first = tree.package(0, die=0)
        tree.zone("package-0-die-1", mirrors=first)
        return tree

    @classmethod
    def amd_core_in_package(cls, root: Path) -> PowercapTree:
        """An AMD desktop: a package (intel-rapl:0) with its core zone inside (intel-rapl:0:0), no memory."""
        tree = cls(root)
        tree.zone("core", parent=tree.package(0, max_range_uj=65_532_610_987), max_range_uj=65_532_610_987)
        return tree


_COLUMNS: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
#: a processor that no vendor sells, with the fields that readers look at
_X86: Final = {
    "vendor_id": "GenuineIntel",
    "cpu family": "6",
    "model": "85",
    "model name": "Intel(R) Xeon(R) Example CPU",
}


class ProcTree:
    """The ``/proc`` (``.proc``) and ``/sys`` (``.sys``) of a machine with ``cpus`` hardware threads, below ``root``."""

    def __init__(self, root: Path, cpus: int = 4, *, memory_kb: int = 16_000_000, hypervisor: bool = False) -> None:
        self.proc, self.sys, self.cpus = root / "proc", root / "sys", cpus
        self._ticks = dict.fromkeys(_COLUMNS, 0) | {"user": 100 * cpus, "idle": 1000 * cpus}
        _put(self.proc / "meminfo", f"MemTotal:       {memory_kb} kB\nMemFree:        {memory_kb // 2} kB\n")
        _put(self.sys / "devices/system/cpu/online", f"0-{cpus - 1}\n" if cpus > 1 else "0\n")
        self.cpuinfo(_X86 | {"flags": "fpu sse2 hypervisor" if hypervisor else "fpu sse2"})
        self._write_stat()

    def advance(self, cpu_seconds: float, column: str = "user") -> None:
        """Add CPU seconds to a column of the ``cpu`` line (user, nice, system, idle, iowait, irq, softirq, steal, guest)."""
        self._ticks[column] += round(cpu_seconds * os.sysconf("SC_CLK_TCK"))
        self._write_stat()

    def show(self, cpus: int) -> None:
        """List only ``cpus`` threads in ``stat`` while the kernel keeps all online, as lxcfs does in a container."""
        self.cpus = cpus
        self._write_stat()

    def cpuinfo(self, fields: Mapping[str, str], *, threads_per_core: int = 2) -> None:
        """Describe every thread by ``fields``; x86 threads also say their core, on one socket."""
        blocks = []
        for cpu in range(self.cpus):
            block = {"processor": str(cpu), **fields}
            if "vendor_id" in fields:
                block |= {"physical id": "0", "core id": str(cpu // threads_per_core)}
            blocks.append("".join(f"{key}\t: {value}\n" for key, value in block.items()))
        _put(self.proc / "cpuinfo", "\n".join(blocks))

    def process(
        self,
        pid: int,
        *,
        parent: int = 1,
        start: int = 1,
        name: str = "server",
        command: Sequence[str] = (),
        cpu_seconds: float = 0,
        reaped_seconds: float = 0,
        cgroup: str = "/",
    ) -> None:
        """Show a process: CPU seconds of its own, and those of children that it has waited for; ``start`` in clock ticks."""
        own, reaped = (round(seconds * os.sysconf("SC_CLK_TCK")) for seconds in (cpu_seconds, reaped_seconds))
        fields = f"S {parent} {pid} {pid} 0 -1 0 0 0 0 0 {own} 0 {reaped} 0 20 0 1 0 {start} 0 0"
        _put(self.proc / str(pid) / "stat", f"{pid} ({name}) {fields}\n")
        _put(self.proc / str(pid) / "cmdline", "".join(f"{word}\0" for word in command))
        _put(self.proc / str(pid) / "cgroup", f"0::{cgroup}\n")

    def end(self, pid: int) -> None:
        """Take a process away."""
        for name in ("stat", "cmdline", "cgroup"):
            _drop(self.proc / str(pid) / name)
        (self.proc / str(pid)).rmdir()

    def vanish(self, name: str = "stat") -> None:
        """Take a file of ``.proc`` away, from handles that hold it open as well."""
        _drop(self.proc / name)

    def _write_stat(self) -> None:
        ticks = " ".join(str(self._ticks[column]) for column in _COLUMNS)
        each = "".join(f"cpu{cpu} {' '.join(str(self._ticks[c] // self.cpus) for c in _COLUMNS)}\n" for cpu in range(self.cpus))
        _put(self.proc / "stat", f"cpu  {ticks}\n{each}intr 0\nctxt 0\nbtime 1700000000\n")


class CgroupTree:
    """A cgroup hierarchy at ``root`` (version 2, or 1 with its cpu controller), and this process's place in it.

    ``proc`` is where the process reads its own cgroup: ``self/cgroup`` below it (a `ProcTree`'s ``.proc``).
    """

    def __init__(self, root: Path, proc: Path, version: Literal[1, 2] = 2) -> None:
        self.root, self._proc, self._version = root, proc, version
        self.enter("/")

    def enter(self, path: str) -> None:
        """Put this process into the cgroup ``path`` ("/system.slice/app.service")."""
        line = f"0::{path}" if self._version == 2 else f"5:memory:/\n4:cpu,cpuacct:{path}"
        _put(self._proc / "self/cgroup", f"{line}\n")

    def limit(self, path: str, cpus: float | None, period_us: int = 100_000) -> None:
        """Allow the cgroup ``path`` so many CPUs; None lifts the limit."""
        quota = None if cpus is None else round(cpus * period_us)
        if self._version == 2:
            _put(self.root / path.lstrip("/") / "cpu.max", f"{'max' if quota is None else quota} {period_us}\n")
        else:
            folder = self.root / "cpu,cpuacct" / path.lstrip("/")
            _put(folder / "cpu.cfs_quota_us", f"{-1 if quota is None else quota}\n")
            _put(folder / "cpu.cfs_period_us", f"{period_us}\n")
