"""How many CPUs the cgroup of this process may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def cgroup_cpu_quota(root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> float | None:
    """CPUs that this process may use: the tightest limit of its own cgroup and of those above it.

    ``cpu.max`` of cgroup v2 and ``cpu.cfs_quota_us`` ÷ ``cpu.cfs_period_us`` of v1 (kernel documentation,
    admin-guide/cgroup-v2 and scheduler/sched-bwc); None when nothing limits it or nothing is said.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    return min((quota for line in lines for quota in _quotas(root, line)), default=None)


def _quotas(root: Path, line: str) -> Iterator[float]:
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if controllers == "":
        # "unified" is where a machine with both versions mounts the second
        mounts, limit = (root, root / "unified"), _v2_quota
    elif "cpu" in controllers.split(","):
        mounts, limit = (root / controllers, root / "cpu"), _v1_quota
    else:
        return
    # "/../.." is a cgroup outside this namespace: only the root that is mounted here can be read
    own = Path("." if ".." in path else path.lstrip("/"))
    for mount in mounts:
        for folder in (own, *own.parents):
            quota = limit(mount / folder)
            if quota is not None:
                yield quota


def _v2_quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _v1_quota(folder: Path) -> float | None:
    try:
        quota, period = (int((folder / f"cpu.cfs_{part}_us").read_text()) for part in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
