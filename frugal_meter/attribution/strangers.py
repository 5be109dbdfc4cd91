"""Python threads that never ran metered code, and with them what is left for native threads.

The CPU of a process that is on no Python thread's clock was used by native threads. A Python thread without a segment
would pass for one: the tick counts these threads, and their clocks are read from outside.
"""

from __future__ import annotations

import os
import threading
import time

from .clocks import metered_threads, threads_ns


class _Stranger:
    __slots__ = ("base_ns", "clock_id", "last_ns")

    def __init__(self, clock_id: int, base_ns: int) -> None:
        self.clock_id = clock_id
        self.base_ns = self.last_ns = base_ns


_strangers: dict[threading.Thread, _Stranger] = {}
_gone_ns = 0
_counting = threading.Lock()


def _clock_id(native_id: int) -> int:
    """The kernel's id of a thread's CPU clock (clock_gettime(2), "Dynamic clocks"; what pthread_getcpuclockid(3) computes).

    Unlike pthread_getcpuclockid, reading it for a thread that has ended is an error and not a crash.
    """
    return (~native_id << 3) | 6


def _read(clock_id: int) -> int | None:
    try:
        return time.clock_gettime_ns(clock_id)
    except OSError:
        return None


def _clocks_can_be_read() -> bool:
    return time.pthread_getcpuclockid(threading.get_ident()) == _clock_id(threading.get_native_id())


_first = True


def census() -> None:
    """Take in the Python threads begun since the last census and let go of those that ended or were metered since.

    A thread begun since counts from its birth, one found by the first census from then on.
    """
    global _gone_ns, _first
    with _counting:
        metered = metered_threads()
        alive = {t for t in threading.enumerate() if t.native_id is not None and not isinstance(t, threading._DummyThread)}
        for thread in [t for t in _strangers if t not in alive or t in metered]:
            stranger = _strangers[thread]
            _gone_ns += metered.get(thread, stranger.last_ns) - stranger.base_ns
            del _strangers[thread]
        if _clocks_can_be_read():
            for thread in alive - metered.keys() - _strangers.keys():
                clock_id = _clock_id(thread.native_id or 0)
                now = _read(clock_id)
                if now is not None:
                    _strangers[thread] = _Stranger(clock_id, now if _first else 0)
        _first = False


def strangers_ns() -> int:
    """CPU of Python threads that never ran metered code, since the first census; one that ended keeps its last value."""
    total, metered = 0, metered_threads()
    for thread, stranger in list(_strangers.items()):
        now = metered.get(thread)  # metered since the census: `threads_ns` counts it from there on
        if now is None and thread.is_alive():
            now = _read(stranger.clock_id)
        if now is not None:
            stranger.last_ns = now
        total += stranger.last_ns - stranger.base_ns
    return total + _gone_ns


def count() -> int:
    """How many threads `native_ns` asks for their clocks."""
    return len(_strangers) + len(metered_threads())


def native_ns() -> int:
    """CPU of this process on no Python thread's clock, ns; only its growth means anything. Any thread may ask.

    The process's clock is read first: what others burn meanwhile shows as too little, which the next look makes up for.
    """
    process_ns = time.process_time_ns()
    return process_ns - threads_ns() - strangers_ns()


def _after_fork_in_child() -> None:
    global _gone_ns, _first, _counting
    _gone_ns, _first, _counting = 0, True, threading.Lock()
    _strangers.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
