"""CPU of companion processes: a model server beside the service, by process id, command line or cgroup.

From ``/proc/PID/stat`` (proc_stat(5): user and system time of the process and of the children it has waited for, in
ticks of 10 ms) or the cgroup's own count. What no file tells is 0 for that tick, and made up for when it is told again.
"""

from __future__ import annotations

import fnmatch
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError
from .process_trees import Same, Tree
from .processes import Process, own_pid, process
from .procfs import NS_PER_S

#: looking through all of /proc costs about 20 µs a process
SCAN_EVERY_NS: Final = 3 * NS_PER_S


class _Cgroup:
    """All processes of a cgroup: ``cpu.stat`` of version 2, ``cpuacct.usage`` of version 1."""

    def __init__(self, root: Path, path: str) -> None:
        own = path.strip("/")
        self._v2 = [root / own / "cpu.stat", root / "unified" / own / "cpu.stat"]
        self._v1 = [root / mount / own / "cpuacct.usage" for mount in ("cpu,cpuacct", "cpuacct")]
        self._last_ns = self._total_ns() or 0

    def used_ns(self) -> int:
        """CPU since the last call; a cgroup made anew counts from its making."""
        total = self._total_ns()
        if total is None:
            return 0
        used = total - self._last_ns if total >= self._last_ns else total
        self._last_ns = total
        return used

    def _total_ns(self) -> int | None:
        for file in self._v2:
            try:
                lines = dict(line.split() for line in file.read_text().splitlines())
                return int(lines["usage_usec"]) * 1000
            except (OSError, ValueError, KeyError):
                continue
        for file in self._v1:
            try:
                return int(file.read_text())
            except (OSError, ValueError):
                continue
        return None


class Companions:
    """The companions of a meter by name. A process belongs to the first that names it, and never to two.

    proc, cgroups: where /proc and the cgroup tree are. mono: a clock, ns; looks through all of /proc are 3 s apart.
    """

    def __init__(
        self,
        proc: Path = Path("/proc"),
        cgroups: Path = Path("/sys/fs/cgroup"),
        mono: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.proc, self._cgroup_root, self._mono = proc, cgroups, mono
        self._siblings: frozenset[int] = frozenset()
        self.rules: dict[str, str] = {}  # how each companion was named, to tell it from another of its name
        self._trees: dict[str, Tree] = {}
        self._groups: dict[str, _Cgroup] = {}
        self._known: set[tuple[int, int]] | None = None  # every process of the last look
        self._scan_ns = 0
        self._lock = threading.Lock()

    def add(self, name: str, *, pid: int | None = None, command: str | None = None, cgroup: str | None = None) -> None:
        """Count what the companion ``name`` uses from now on; a name given again is given anew. See `Meter.pool`."""
        _check(name, pid, command, cgroup)
        with self._lock:
            self._trees.pop(name, None)
            self._groups.pop(name, None)
            self.rules.pop(name, None)
            if cgroup is not None:
                self._groups[name] = self._group(cgroup)
            else:
                self._trees[name] = Tree(self._is(pid) if pid is not None else self._runs(command or ""))
                self._scan()
            self.rules[name] = f"pid={pid} command={command} cgroup={cgroup}"

    def read(self) -> dict[str, int]:
        """CPU of each companion since the last call, ns."""
        if not self._trees and not self._groups:
            return {}
        with self._lock:
            if self._trees and self._mono() >= self._scan_ns:
                self._scan()
            used = {name: tree.used_ns(self.proc) for name, tree in self._trees.items()}
            return used | {name: group.used_ns() for name, group in self._groups.items()}

    def after_fork_in_child(self) -> None:
        """A lock that another thread of the parent held would never open."""
        self._lock = threading.Lock()

    def _scan(self) -> None:
        processes = {p.pid: p for pid in self._pids() if (p := process(self.proc, pid)) is not None}
        before, self._known = self._known, {(p.pid, p.start) for p in processes.values()}
        born = set() if before is None else {p.pid for p in processes.values() if (p.pid, p.start) not in before}
        taken = {self.own_pid(), *self._siblings}
        for tree in self._trees.values():
            tree.find(processes, born, taken)
        self._scan_ns = self._mono() + SCAN_EVERY_NS

    def _pids(self) -> Iterable[int]:
        try:
            return [int(name) for name in os.listdir(self.proc) if name.isdecimal()]
        except OSError:
            return []

    def leave_out(self, siblings: frozenset[int]) -> None:
        """Other workers of this service are metered as themselves, whatever command names them too."""
        if siblings != self._siblings:
            self._siblings, self._scan_ns = siblings, 0

    def own_pid(self) -> int:
        """This process's number as it is in ``proc``."""
        return own_pid(self.proc)

    def _is(self, pid: int) -> Callable[[Process], bool]:
        first = process(self.proc, pid)
        if first is None:
            raise ConfigurationError(f"pool: there is no process {pid} to be seen here")
        if pid == self.own_pid():
            raise ConfigurationError(f"pool: {pid} is this process; its CPU is counted already")
        return Same(self.proc, first)

    def _runs(self, pattern: str) -> Callable[[Process], bool]:
        answers: dict[tuple[int, int, str], bool] = {}  # a name changes when a process becomes another program

        def runs(p: Process) -> bool:
            key = (p.pid, p.start, p.name)
            if key not in answers:
                if len(answers) > 10_000:
                    answers.clear()
                answers[key] = self._matches(p.pid, pattern)
            return answers[key]

        return runs

    def _matches(self, pid: int, pattern: str) -> bool:
        try:
            words = (self.proc / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").rstrip("\0").split("\0")
        except OSError:
            return False
        return any(fnmatch.fnmatchcase(text, pattern) for text in (words[0].rpartition("/")[2], " ".join(words)) if text)

    def _group(self, path: str) -> _Cgroup:
        try:
            own = [line.split(":", 2)[2].strip("/") for line in (self.proc / "self/cgroup").read_text().splitlines()]
        except (OSError, IndexError):
            own = []
        asked = path.strip("/")
        if any(f"{each}/".startswith(f"{asked}/") for each in own):
            raise ConfigurationError(f"pool: this process runs in the cgroup {path!r}; its CPU is counted already")
        return _Cgroup(self._cgroup_root, path)


def _check(name: str, pid: object, command: object, cgroup: object) -> None:
    if not isinstance(name, str) or not name.strip() or name in ("native", "gpu"):
        raise ConfigurationError(f'pool: a companion has a name of its own, such as "llama-server", not {name!r}')
    if sum(each is not None for each in (pid, command, cgroup)) != 1:
        raise ConfigurationError(f"pool {name!r}: give one of pid=, command= or cgroup=")
    if pid is not None and (type(pid) is not int or pid <= 0):
        raise ConfigurationError(f"pool {name!r}: pid is the number of a process, not {pid!r}")
    if command is not None and (not isinstance(command, str) or not command.strip("*? ")):
        raise ConfigurationError(f'pool {name!r}: command is a pattern such as "llama-server*", not {command!r}')
    if cgroup is not None and (not isinstance(cgroup, str) or not cgroup.strip("/") or ".." in cgroup.split("/")):
        raise ConfigurationError(f'pool {name!r}: cgroup is a path such as "/system.slice/llama.service", not {cgroup!r}')
