"""Processes as ``/proc`` tells of them: their CPU, who started them, and which of them do this one's work."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from .procfs import NS_PER_S

_TICK_NS: Final = NS_PER_S // os.sysconf("SC_CLK_TCK")


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
