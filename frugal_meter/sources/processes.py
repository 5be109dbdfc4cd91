"""Which processes do this one's work: itself and its living descendants (an engine often runs in a child)."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from pathlib import Path

from .companions import own_pid, process


class Family:
    """Process ids of this process and its descendants, asked at most once per tick however many GPUs ask."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = root
        self._asked: tuple[int, int] | None = None
        self._pids: frozenset[int] = frozenset()

    def at(self, now_ns: int) -> frozenset[int]:
        """The family at ``now_ns`` (monotonic); this process alone where the kernel does not list children."""
        asked = os.getpid(), now_ns
        if asked != self._asked:
            self._asked, self._pids = asked, frozenset(self._descend(own_pid(self._root)))
        return self._pids

    def _descend(self, pid: int) -> Iterator[int]:
        seen, left = {pid}, [pid]
        while left:
            parent = left.pop()
            yield parent
            for child in self._children(parent):
                if child not in seen:
                    seen.add(child)
                    left.append(child)

    def _children(self, pid: int) -> Iterator[int]:
        """By ``/proc/PID/task/TID/children`` (proc_pid_task_children(5), CONFIG_PROC_CHILDREN)."""
        for listed in (self._root / str(pid) / "task").glob("*/children"):
            try:
                yield from map(int, listed.read_text().split())
            except (OSError, ValueError):  # a thread that has ended meanwhile
                continue


def forebear(pid: int, among: Container[int], proc: Path = Path("/proc")) -> int | None:
    """The process of ``among`` that ``pid`` is or descends from, the nearest; None when none is in view."""
    seen: set[int] = set()
    while pid and pid not in seen:
        if pid in among:
            return pid
        seen.add(pid)
        found = process(proc, pid)
        pid = 0 if found is None else found.parent
    return None
