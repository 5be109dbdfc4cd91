"""CPU of companion processes: a model server beside the service, by process id, command line or cgroup.

From ``/proc/PID/stat`` (proc_stat(5): user and system time of the process and of the children it has waited for, in
ticks of 10 ms) or the cgroup's own count. What no file tells is 0 for that tick, and made up for when it is told again.
"""

from __future__ import annotations

import fnmatch
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import ConfigurationError
from .procfs import NS_PER_S

_TICK_NS: Final = NS_PER_S // os.sysconf("SC_CLK_TCK")
#: looking through all of /proc costs about 20 µs a process
SCAN_EVERY_NS: Final = 3 * NS_PER_S


class Process(NamedTuple):
    """One process as ``/proc/PID/stat`` tells it; with ``start`` its ``pid`` is unique until the next boot."""

    pid: int
    parent: int
    start: int
    name: str
    own_ns: int
    reaped_ns: int  # of children that ended and were waited for, theirs included


def process(proc: Path, pid: int) -> Process | None:
    """The process ``pid`` now; None when it is gone or may not be seen."""
    try:
        head, _, tail = (proc / str(pid) / "stat").read_bytes().rpartition(b")")
        fields = tail.split()
        user, system, reaped_user, reaped_system = (int(field) for field in fields[11:15])
        name = head.partition(b"(")[2].decode("utf-8", "replace")
        return Process(
            pid,
            int(fields[1]),
            int(fields[19]),
            name,
            (user + system) * _TICK_NS,
            max(0, reaped_user + reaped_system) * _TICK_NS,
        )
    except (OSError, ValueError, IndexError):
        return None


def own_pid(proc: Path = Path("/proc")) -> int:
    """This process's number as it is in ``proc``: a host's /proc numbers us in its own way."""
    try:
        return int((proc / "self").readlink().name)
    except (OSError, ValueError):
        return os.getpid()


class _Same:
    """A process named by its number, and whoever takes its place after it has ended.

    A number says nothing after a restart. What is started again by the same parent, in the same cgroup, with the same
    command line to the letter is the same companion; where two are, or none, nobody is taken for it: better a companion
    that is not counted than another program that is.
    """

    def __init__(self, proc: Path, first: Process) -> None:
        self._proc, self._now = proc, first
        self._parent = self._start_of(first.parent)
        self._told = self._tell(first.pid)

    def __call__(self, p: Process) -> bool:
        return p.pid == self._now.pid and p.start == self._now.start

    def look(self, processes: Mapping[int, Process]) -> None:
        """Follow a restart; ``processes`` are all there are now."""
        was = self._now
        there = processes.get(was.pid)
        if there is not None and there.start == was.start:
            self._told = self._tell(was.pid) or self._told  # it may have become another program (exec)
            return
        parent = processes.get(was.parent)
        if self._told is None or (was.parent and (parent is None or parent.start != self._parent)):
            return
        again = [p for p in processes.values() if p.parent == was.parent and p.start >= was.start]
        again = [p for p in again if self._tell(p.pid) == self._told]
        if len(again) == 1:
            self._now = again[0]

    def _start_of(self, pid: int) -> int | None:
        found = process(self._proc, pid)
        return None if found is None else found.start

    def _tell(self, pid: int) -> tuple[bytes, bytes] | None:
        """Command line and cgroup; None where there is no command line."""
        try:
            command = (self._proc / str(pid) / "cmdline").read_bytes()
            cgroup = (self._proc / str(pid) / "cgroup").read_bytes()
        except OSError:
            return None
        return (command, cgroup) if command else None


class _Tree:
    """Processes that one rule names, and all that they start; each is followed until it ends, whoever adopts it."""

    def __init__(self, is_root: Callable[[Process], bool]) -> None:
        self._is_root = is_root
        self._members: dict[int, Process] = {}  # as last counted
        self._owed: dict[int, int] = {}  # counted of ended children, and not yet seen among what their parent reaped

    def find(self, processes: Mapping[int, Process], born: set[int], taken: set[int]) -> None:
        """Take in new members; those ``born`` since the last look count from their birth. ``taken`` are others'."""
        if isinstance(self._is_root, _Same):
            self._is_root.look(processes)
        children: dict[int, list[Process]] = {}
        for each in processes.values():
            children.setdefault(each.parent, []).append(each)
        for pid in taken & self._members.keys():  # a worker that came to be known after it was found here
            del self._members[pid]
        waiting = [p for p in processes.values() if p.pid in self._members or self._is_root(p)]
        seen: set[int] = set()
        while waiting:
            each = waiting.pop()
            if each.pid in taken or each.pid in seen:
                continue
            seen.add(each.pid)
            waiting += children.get(each.pid, [])
            known = self._members.get(each.pid)
            if known is None:
                self._members[each.pid] = each._replace(own_ns=0, reaped_ns=0) if each.pid in born else each
        taken |= seen

    def used_ns(self, proc: Path) -> int:
        """CPU since the last call. What a parent reaps of a child that was counted while it lived is not counted again."""
        now = {pid: p for pid in self._members if (p := process(proc, pid)) is not None}
        gone = {pid: was for pid, was in self._members.items() if pid not in now or now[pid].start != was.start}
        for pid, was in gone.items():
            del self._members[pid]
            heir = was.parent
            while heir in gone:
                heir = gone[heir].parent
            self._owed[heir] = self._owed.get(heir, 0) + was.own_ns + was.reaped_ns + self._owed.pop(pid, 0)
        used = 0
        for pid, was in self._members.items():
            each = self._members[pid] = now[pid]
            reaped = max(0, each.reaped_ns - was.reaped_ns)
            known = min(reaped, self._owed.get(pid, 0))
            if known:
                self._owed[pid] -= known
            used += max(0, each.own_ns - was.own_ns) + reaped - known
        self._owed = {pid: ns for pid, ns in self._owed.items() if ns and pid in self._members}
        return used


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
        self._trees: dict[str, _Tree] = {}
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
                self._trees[name] = _Tree(self._is(pid) if pid is not None else self._runs(command or ""))
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
        return _Same(self.proc, first)

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
