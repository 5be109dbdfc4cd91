"""Where this machine's files are: its own ``/proc`` and ``/sys``, or those of the host mounted in a container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigurationError
from .cgroup import cgroup_cpu_quota

#: the variable that says where the host's files are mounted, for settings and commands that do not
VARIABLE = "FRUGAL_HOST_ROOT"


class Roots(msgspec.Struct, frozen=True):
    """Folders that the machine is read from; trees on disk can stand in for them."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    powercap: Path = Path("/sys/class/powercap")
    mounted: bool = False  # they are the host's, and this process has others of its own

    @property
    def cgroups(self) -> Path:
        """The cgroup tree."""
        return self.sys / "fs/cgroup"

    def quota_cpus(self) -> float | None:
        """CPUs that this process may use, by its cgroup as the host shows it and as the process itself sees it.

        A container that has the host's ``/proc`` still sees the limit of its own cgroup only in its own ``/sys``.
        """
        trees = (self, Roots()) if self.mounted else (self,)
        seen = [cgroup_cpu_quota(each.cgroups, each.proc) for each in trees]
        return min((quota for quota in seen if quota is not None), default=None)


def host_roots(host_root: Any = None) -> Roots:
    """The folders below ``host_root`` (``"/host"``: ``/host/proc`` and ``/host/sys``), else below ``$FRUGAL_HOST_ROOT``, else
    the machine's own. Without a ``sys`` there this process's own ``/sys`` is read.

    Raises ConfigurationError, in one line, where there is no ``proc``.
    """
    given = host_root if host_root is not None else os.environ.get(VARIABLE) or None
    if given is None:
        return Roots()
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise ConfigurationError(f'host_root is the folder that holds the host\'s proc and sys, such as "/host", not {given!r}')
    root = Path(given)
    try:
        is_proc = (root / "proc/stat").read_bytes()[:4] == b"cpu "
    except OSError:
        is_proc = False
    if not is_proc:
        name = "host_root" if host_root is not None else VARIABLE
        raise ConfigurationError(
            f"{name}={str(root)!r}: {root / 'proc'} is no /proc of a host; mount it there "
            f"(docker run -v /proc:{root / 'proc'}:ro -v /sys:{root / 'sys'}:ro), or leave {name} out"
        )
    sys = root / "sys" if (root / "sys").is_dir() else Path("/sys")
    return Roots(root / "proc", sys, sys / "class/powercap", mounted=True)
