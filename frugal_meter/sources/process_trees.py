"""Processes that one rule names, with all that they start: found, followed through restarts, each counted once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .processes import Process, process


class Same:
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


class Tree:
    """Processes that one rule names, and all that they start; each is followed until it ends, whoever adopts it."""

    def __init__(self, is_root: Callable[[Process], bool]) -> None:
        self._is_root = is_root
        self._members: dict[int, Process] = {}  # as last counted
        self._owed: dict[int, int] = {}  # counted of ended children, and not yet seen among what their parent reaped

    def find(self, processes: Mapping[int, Process], born: set[int], taken: set[int]) -> None:
        """Take in new members; those ``born`` since the last look count from their birth. ``taken`` are others'."""
        if isinstance(self._is_root, Same):
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
