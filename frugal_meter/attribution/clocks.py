"""Own clock: the CPU that Python threads spend while they run a span.

Each OS thread that ever runs metered code has one `Segment`: whose CPU is being spent now (``owner``) and the
thread's CPU clock when that began. A switch reads the clock once, charges the old owner and installs the new one,
so what is charged is exclusive: nested spans and eager tasks never count a nanosecond twice.

An owner is anything with an integer ``cpu_ns``. Only one thread writes an owner at a time: work that leaves the
span's own thread gets a `Cell` of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, cast

clock = time.thread_time_ns
P = ParamSpec("P")
T = TypeVar("T")


class Owner(Protocol):
    """Whoever pays for the CPU of a thread; ``cpu_ns`` only grows."""

    cpu_ns: int


class Cell:
    """CPU of a span on a thread other than its own; ``open`` while that thread is still at it."""

    __slots__ = ("billed_ns", "cpu_ns", "open")

    def __init__(self) -> None:
        self.cpu_ns = 0
        self.billed_ns = 0  # the tick's own note
        self.open = True


class Cells:
    """Cells lent to threads and used again, so that a thousand calls cost one cell; ``list.pop`` is atomic."""

    __slots__ = ("all", "spare")

    def __init__(self) -> None:
        self.all: list[Cell] = []
        self.spare: list[Cell] = []

    def borrow(self) -> Cell:
        """A cell of the caller's own until it is given back."""
        try:
            cell = self.spare.pop()
            cell.open = True
        except IndexError:
            cell = Cell()
            self.all.append(cell)
        return cell

    def give_back(self, cell: Cell) -> None:
        """Close ``cell`` and keep it for the next."""
        cell.open = False
        self.spare.append(cell)

    def total_ns(self) -> int:
        """CPU in every cell, lent or not."""
        return sum([cell.cpu_ns for cell in self.all])


class Segment:
    """What one OS thread is doing, and since when on its own CPU clock."""

    __slots__ = ("begun_ns", "clock_id", "owner", "seen_ns", "since_ns", "thread")

    def __init__(self) -> None:
        # The id is taken by the thread itself: asking for that of an exited thread crashes the process.
        self.clock_id = time.pthread_getcpuclockid(threading.get_ident())
        # Weakly: a worker thread's object may hold its event loop, which must not outlive both until the next tick.
        self.thread = weakref.ref(threading.current_thread())
        self.owner: Owner | None = None
        self.since_ns = self.begun_ns = self.seen_ns = clock()


class _Farewell:
    """Reads a thread's CPU clock for the last time: the thread itself lets go of its locals when it ends."""

    __slots__ = ("_ident", "_segment")

    def __init__(self, segment: Segment) -> None:
        self._segment, self._ident = segment, threading.get_ident()

    def __del__(self, ident: Callable[[], int] = threading.get_ident, clock: Callable[[], int] = clock) -> None:
        if ident() == self._ident:  # after a fork, and at exit, another thread clears up
            self._segment.seen_ns = clock()


#: a thread may be in the middle of a switch, its clock read and its owner not yet charged: an open stretch is taken this
#: much short, so that nobody is ever billed ahead; the next look makes up for it
_SWITCHING_NS = 100_000

#: a pool's thread uses 50 to 250 µs between two pieces of work (futex, self-pipe, queue; measured on Linux guests, idle and
#: crowded); what uses more is not that, but somebody's callback
_HANDING_OVER_NS = 500_000


class _Local(threading.local):
    segment: Segment
    farewell: _Farewell


_local = _Local()
_segments: list[Segment] = []
_dead_ns = 0
_burying = threading.Lock()


def here() -> Segment:
    """The calling thread's segment, made on first use."""
    try:
        return _local.segment
    except AttributeError:
        segment = _local.segment = Segment()
        _local.farewell = _Farewell(segment)
        _segments.append(segment)
        return segment


@coroutine
def step(coro: Coroutine[Any, Any, T], owner: Owner) -> Generator[Any, Any, T]:
    """Drive ``coro`` to its end, charging ``owner`` for each of its steps and for nothing between them.

    Behaves as the coroutine does: values, exceptions, cancellation and ``close`` pass through unchanged.
    """
    send = coro.send
    payer = owner  # a block opened inside goes on paying after an await
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            segment = _local.segment  # `here`, without the call: this is every resume of every request
        except AttributeError:
            segment = here()
        previous = segment.owner
        now = clock()
        if previous is not None:
            previous.cpu_ns += now - segment.since_ns
        segment.since_ns = now
        segment.owner = payer
        try:
            yielded = send(value) if error is None else coro.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            error = None  # a frame that keeps its own exception is a reference cycle
            now = clock()
            payer = segment.owner or owner
            payer.cpu_ns += now - segment.since_ns
            segment.since_ns = now
            segment.owner = previous
        try:
            value = yield yielded
        except GeneratorExit:
            call(payer, coro.close)
            raise
        except BaseException as caught:
            error = caught


def drive(coro: Coroutine[Any, Any, T], owner: Owner) -> Awaitable[T]:
    """`step`, typed as what it is to ``await``."""
    return cast("Awaitable[T]", step(coro, owner))


def enter(owner: Owner | None) -> Owner | None:
    """Charge this thread to ``owner`` from now on; returns who was charged before, for `leave`."""
    segment = here()
    previous = segment.owner
    now = clock()
    if previous is not None:
        previous.cpu_ns += now - segment.since_ns
    segment.since_ns = now
    segment.owner = owner
    return previous


leave = enter  # the same switch, named for how it reads at the end of a block


def take_over(owner: Owner) -> Owner | None:
    """`enter` on a pool's thread that does metered work only: ``owner`` also pays for what the thread has used since its last
    piece of work, which is handing over a result and waking up for this one; or since it was started, which was for this one.
    """
    fresh = not hasattr(_local, "segment")
    segment = here()
    if fresh and segment.since_ns <= _HANDING_OVER_NS:
        segment.since_ns = segment.begun_ns = 0
    previous = segment.owner
    now = clock()
    used_ns = now - segment.since_ns
    if previous is not None:
        previous.cpu_ns += used_ns
    elif used_ns <= _HANDING_OVER_NS:
        owner.cpu_ns += used_ns
    segment.since_ns = now
    segment.owner = owner
    return previous


def call(owner: Owner, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``fn`` on this thread at ``owner``'s expense."""
    previous = enter(owner)
    try:
        return fn(*args, **kwargs)
    finally:
        leave(previous)


def open_ns() -> dict[int, int]:
    """CPU not yet charged by threads that are inside a span now: ``id(owner)`` → ns.

    Read from the tick thread without stopping anybody, after the owners' own counters: a switch between the two then
    shows as too little, which the next tick makes up for, and never as too much.
    """
    out: dict[int, int] = {}
    for segment in _segments:
        for _ in range(3):
            owner, since = segment.owner, segment.since_ns
            if owner is None:
                break
            now = _thread_clock(segment)
            if now is None:
                break
            if segment.owner is owner and segment.since_ns == since:
                out[id(owner)] = out.get(id(owner), 0) + max(0, now - since - _SWITCHING_NS)
                break
    return out


def threads_ns() -> int:
    """CPU of every thread known here since its first metered moment; an exited thread keeps its last value.

    Any thread may ask. A thread that ends meanwhile may be counted twice for this once, and never not at all.
    """
    total = 0
    for segment in _segments.copy():
        now = _thread_clock(segment)
        if now is None:
            _bury(segment)
        else:
            segment.seen_ns = now
            total += now - segment.begun_ns
    return total + _dead_ns


def _bury(segment: Segment) -> None:
    global _dead_ns
    with _burying, contextlib.suppress(ValueError):  # another meter's look may have been first
        _segments.remove(segment)
        _dead_ns += max(segment.since_ns, segment.seen_ns) - segment.begun_ns


def metered_threads() -> dict[threading.Thread, int]:
    """Threads that have a segment, and their CPU before it, ns."""
    found = [(segment.thread(), segment.begun_ns) for segment in list(_segments)]
    return {thread: begun_ns for thread, begun_ns in found if thread is not None}


def _thread_clock(segment: Segment) -> int | None:
    # Thread ids are reused: once the Thread is over, its clock id may be another thread's.
    thread = segment.thread()
    if thread is None or not thread.is_alive():
        return None
    try:
        return time.clock_gettime_ns(segment.clock_id)
    except OSError:
        return None


def _after_fork_in_child() -> None:
    """Only the forking thread lives on, and its CPU clock starts again."""
    global _dead_ns, _burying
    _dead_ns, _burying = 0, threading.Lock()
    _segments.clear()
    segment = getattr(_local, "segment", None)
    if segment is not None:
        segment.clock_id = time.pthread_getcpuclockid(threading.get_ident())
        segment.thread = weakref.ref(threading.current_thread())
        segment.since_ns = segment.begun_ns = segment.seen_ns = clock()
        _segments.append(segment)


os.register_at_fork(after_in_child=_after_fork_in_child)
