"""CPU of the other workers: their process clocks, with proof that the number is still theirs."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Final

#: no process is seen for want of open files or memory: nothing is known of it then
BLIND: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
#: after the name in proc_pid_stat(5), whose third column comes first: state, utime, stime, starttime
_STATE, _UTIME, _STIME, _START = 0, 11, 12, 19


def started(pid: int | str = "self", proc: Path = Path("/proc")) -> int | None:
    """When a process began, in clock ticks since boot: with its number it names a process; None when it is gone."""
    try:
        fields = _fields((proc / str(pid) / "stat").read_bytes())
        return int(fields[_START])
    except (OSError, IndexError, ValueError):
        return None


def lives(pid: int, start: int, proc: Path = Path("/proc")) -> bool:
    """Whether the process that began at ``start`` still runs; one that has ended and waits for its parent does not.

    Raises OSError where no more file can be opened: that is not its end.
    """
    try:
        fields = _fields((proc / str(pid) / "stat").read_bytes())
        return int(fields[_START]) == start and fields[_STATE] not in (b"Z", b"X")
    except (IndexError, ValueError):
        return False
    except OSError as error:
        if error.errno in BLIND:
            raise
        return False


def _fields(stat: bytes) -> list[bytes]:
    return stat[stat.rindex(b")") + 2 :].split()


class _Peer:
    """A process, held by a file of its own: once the process is gone that file fails, even when its number is reused."""

    __slots__ = ("clock", "fd")

    def __init__(self, pid: int, start: int) -> None:
        self.fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        if int(self.stat()[_START]) != start:
            os.close(self.fd)
            raise ProcessLookupError(f"process {pid} is another one now")
        # CPUCLOCK_SCHED of a process, as clock_getcpuclockid(3) makes it (linux/posix-timers.h): nanoseconds, not ticks
        self.clock: int | None = ~pid << 3 | 2
        try:
            time.clock_gettime_ns(self.clock)
        except OSError:
            self.clock = None

    def stat(self) -> list[bytes]:
        return _fields(os.pread(self.fd, 1024, 0))

    def cpu_ns(self) -> int | None:
        ns = time.clock_gettime_ns(self.clock) if self.clock is not None else None
        fields = self.stat()  # after the clock: alive now, so the clock was its own
        if fields[_STATE] in (b"Z", b"X"):
            return None
        return ns if ns is not None else (int(fields[_UTIME]) + int(fields[_STIME])) * _TICK_NS


class Peers:
    """CPU clocks of processes by pid and start."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Peer] = {}
        self._own = os.getpid()

    def cpu_ns(self, pid: int, start: int, last_ns: int | None = None) -> int | None:
        """User and system CPU of a process, ns; None when it has ended, ``last_ns`` when it cannot be seen now."""
        if pid == self._own:
            return time.process_time_ns()
        try:
            peer = self._known.get((pid, start))
            if peer is None:
                peer = self._known[pid, start] = _Peer(pid, start)
            ns = peer.cpu_ns()
        except (ValueError, IndexError):
            ns = None
        except OSError as error:
            if error.errno in BLIND:
                return last_ns  # the next look makes up for it
            ns = None
        if ns is None:
            self._forget((pid, start))
        return ns

    def _forget(self, key: tuple[int, int]) -> None:
        peer = self._known.pop(key, None)
        if peer is not None:
            os.close(peer.fd)

    def close(self) -> None:
        """Let every process go."""
        for key in list(self._known):
            self._forget(key)
