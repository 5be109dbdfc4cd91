"""What Linux tells of its CPUs, its memory and its limits: ``/proc``, ``/sys`` and the cgroup tree.

Each reader takes its root, so that a tree on disk (see ``frugal_meter.trees``) stands in for a machine.
An absent or garbled file is ``None``: no reader here raises for one.
"""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path
from typing import Final, Literal

from .cgroup import cgroup_cpu_quota
from .cpuinfo import CpuModel, cpu_model

__all__ = ["CpuModel", "HostCpu", "KeptFile", "boot_offset_ns", "cgroup_cpu_quota", "cpu_model", "memory_bytes", "slept_ns"]

NS_PER_S: Final = 1_000_000_000
#: proc_stat(5) counts in USER_HZ, which sysconf gives (100 on every common build: 10 ms per count)
_TICK_NS: Final = NS_PER_S // os.sysconf("SC_CLK_TCK")
#: columns of the "cpu" line in proc_stat(5): user nice system _ _ irq softirq. Guest is inside user; idle and
#: iowait are not work; steal is other tenants' work
_BUSY: Final = (0, 1, 2, 5, 6)


class KeptFile:
    """A small file of procfs or sysfs that is read once per tick: opened once, then ``pread`` from its start.

    ``size`` bytes at most are read. ``read`` raises ``OSError`` when the file has gone, after at most one attempt
    to open its path again: a driver that came back is found by path, never through the old handle.
    """

    def __init__(self, path: Path, size: int = 512) -> None:
        self.path, self._size = path, size
        self._fd: int | None = None

    def read(self) -> bytes:
        """The file's first bytes, never empty."""
        data = self._pread()
        if not data:
            self.close()
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            data = self._pread()
        if not data:
            self.close()
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA), str(self.path))
        return data

    def _pread(self) -> bytes:
        if self._fd is None:
            return b""
        try:
            return os.pread(self._fd, self._size, 0)
        except OSError:
            return b""

    def close(self) -> None:
        """Let the handle go; ``read`` opens it again. Safe to call twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class HostCpu:
    """CPU time that the host's hardware threads spent working, from ``/proc/stat``."""

    def __init__(self, root: Path = Path("/proc"), sys_root: Path = Path("/sys")) -> None:
        self.proc = root
        # the aggregate is the first line: 512 bytes hold it even after decades of uptime
        self._stat = KeptFile(root / "stat")
        self._stat_path = root / "stat"
        self._online_path = sys_root / "devices/system/cpu/online"
        self._last_ns = 0
        self._raw_ns = 0
        self._cpus: int | None = None
        self.cpus()

    def busy_ns(self) -> int | None:
        """CPU nanoseconds of user, nice, system, irq and softirq since boot, never decreasing; None when unseen.

        A small decrease (the kernel's counters are not read at one instant) repeats the last value until the
        counters have caught up; one of more than a second per CPU is a new baseline (a container restored elsewhere):
        the figure stays level for one reading, then grows again.
        """
        fields = self._fields()
        if fields is None:
            return None
        raw = sum(fields[i] for i in _BUSY) * _TICK_NS
        fell = self._raw_ns - raw
        if 0 < fell <= NS_PER_S * self.cpus():
            return self._last_ns
        self._last_ns += max(0, -fell)
        self._raw_ns = raw
        return self._last_ns

    def _fields(self) -> list[int] | None:
        try:
            line, newline, _ = self._stat.read().partition(b"\n")
            name, *fields = line.split()
            counts = [int(field) for field in fields]
        except (OSError, ValueError):
            return None
        # all zero is gVisor's way of saying that the sandbox does not see the host
        if name != b"cpu" or not newline or len(counts) <= max(_BUSY) or not any(counts) or min(counts) < 0:
            return None
        return counts

    def cpus(self) -> int:
        """Online hardware threads that ``/proc/stat`` lists; the last count seen (or Python's) when it has gone."""
        try:
            seen = len(re.findall(rb"^cpu\d+ ", self._stat_path.read_bytes(), re.MULTILINE))
        except OSError:
            seen = 0
        self._cpus = seen or self._cpus or os.cpu_count() or 1
        return self._cpus

    def scope(self) -> Literal["host", "container", "unknown"]:
        """Whose CPU time ``busy_ns`` is.

        "container" when ``/proc/stat`` lists fewer CPUs than the kernel has online (lxcfs and gVisor show a
        container its own): other processes of the host are then unseen. "unknown" when either file is missing.
        """
        try:
            online = _count_list(self._online_path.read_text())
        except (OSError, ValueError):
            return "unknown"
        if self._fields() is None:
            return "unknown"
        return "container" if self.cpus() < online else "host"

    def close(self) -> None:
        """Let the handle go; safe to call twice."""
        self._stat.close()


def _count_list(text: str) -> int:
    """How many CPUs a kernel list such as "0-3,8,10-11" names."""
    count = 0
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def memory_bytes(root: Path = Path("/proc")) -> int | None:
    """Memory of this machine in bytes (``MemTotal`` of ``meminfo``); None when it is not said."""
    try:
        found = re.search(r"^MemTotal:\s+(\d+) kB$", (root / "meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def boot_offset_ns() -> int:
    """``CLOCK_BOOTTIME`` − ``CLOCK_MONOTONIC`` in nanoseconds: all the time this machine slept since boot.

    Two clocks cannot be read at one instant; of three attempts the tightest is kept. See ``slept_ns``.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    attempts = []
    for _ in range(3):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        attempts.append((after - before, boot - (before + after) // 2))
    return min(attempts)[1]


def slept_ns(before_ns: int, after_ns: int) -> int:
    """Time asleep between two ``boot_offset_ns``: 0 below 10 ms, where preemption between two reads explains it."""
    return after_ns - before_ns if after_ns - before_ns >= 10_000_000 else 0
