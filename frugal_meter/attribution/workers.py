"""Several workers of one service on one host, billed from the same records.

A worker that ticks takes the turn, reads every source, the host, the companions and all workers in one pass, appends a
record and bills its own part of what the totals moved since its last tick. Every worker is thus the reader when it needs
one: a record always ends where its spans' clocks were read, and there is no reader whose death would have to be noticed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ..errors import ConfigurationError
from ..ring.election import is_one_of_several, ring_name, run_folder
from ..ring.peers import Peers, started
from ..ring.records import SEATS, UNSEEN, VERSION, Ring, State, moved
from ..sources import Sample, Window
from ..sources.procfs import boot_offset_ns, slept_ns
from .ledger import Ledger, SourceBooks
from .shared_pools import SharedPools
from .shares import Step, advance, book, book_own, hold, part_of, rest_of

MODES: Final = ("auto", "shared", "single")
#: many workers start at once, one after another
_JOIN_PATIENCE_S: Final = 0.5


def workers_of(mode: str, service: str, ledger: Ledger, *, own_clock: bool, fault: Fault) -> Workers | None:
    """How a meter shares with other workers of its service; None when it does not.

    "shared": always through the ring. "auto": as soon as a second worker of the service is there. Energy of this
    process alone is never shared; nor is anything by a clock of the meter's own (``own_clock``).
    Raises ConfigurationError for another mode, and for "shared" where there is nothing to share or nowhere to meet.
    """
    if mode not in MODES:
        raise ConfigurationError(f'workers={mode!r} cannot be: it is "auto", "shared" or "single"')
    shared = [books for books in ledger.books if books.source.scope != "process"]
    if mode == "single" or own_clock or not shared:
        if mode == "shared":
            raise ConfigurationError('workers="shared" needs a source that counts the host, and the machine\'s own clock')
        return None
    try:
        return Workers(mode, service, ledger, shared, fault)
    except ConfigurationError as error:
        if mode == "shared" or os.environ.get("FRUGAL_RUN_DIR"):
            raise
        if is_one_of_several():  # the others are there all the same, and bill the same joules
            ledger.unaligned = True
            fault("workers", error)
    except OSError as error:
        if mode == "shared":
            raise ConfigurationError(f'workers="shared" needs Linux and its /proc ({error})') from None
    return None  # nowhere to meet: as if alone


Fault = Callable[[str, BaseException], None]


class Taken(NamedTuple):
    """A seat in the ring that was made at ``born`` (Unix, ns): the names of the sources in it, the totals at which its worker
    began to bill, and those that it billed last.
    """

    born: int
    place: int
    sources: tuple[str, ...]
    base: State
    last: State


class Workers:
    """This process's seat among the workers of its service."""

    def __init__(self, mode: str, service: str, ledger: Ledger, shared: list[SourceBooks], fault: Fault) -> None:
        self._mode, self._ledger, self._fault = mode, ledger, fault
        self._shared = shared
        self._others = [books for books in ledger.books if books not in shared]
        self._gpus = [books for books in shared if books.on_gpu]
        self._pools = SharedPools(ledger, self._gpus, fault)
        names = [f"{books.source.name} {books.source.method}" for books in shared]
        self._path = run_folder() / ring_name(service, names, VERSION)
        self._ring: Ring | None = None
        self._peers = Peers()
        self._locked = False
        self._before: State | None = None  # the totals billed so far; None: not billing through the ring
        self._entered: State | None = None  # the totals from which this worker has billed
        self.left: list[Taken] = []  # seats given up: a meter that is stopped, or started again, has billed what it has
        self._read_at = [0] * len(shared)

    @property
    def sharing(self) -> bool:
        """Whether this worker bills through the ring."""
        return self._before is not None

    @property
    def seat(self) -> Taken | None:
        """Where this worker sits and what it has billed; None when it bills alone."""
        if self._ring is None or self._entered is None or self._before is None:
            return None
        names = tuple(books.source.name for books in self._shared)
        return Taken(self._born, self._seat, names, self._entered, self._before)

    def join(self, host_ns: int | None) -> None:
        """Take a seat; and bill through the ring from now on where that is asked for or others are there.

        Sources have just been primed; ``host_ns`` is the host's cumulative CPU. What fails is told and leaves this worker
        billing alone.
        """
        if self._ring is not None:
            return
        ring = Ring(self._path, len(self._shared), len(self._gpus))
        start = started()
        try:
            ring.open(_JOIN_PATIENCE_S)
            if start is not None and self._take_seat(ring, start):
                self._ring, self._peers = ring, Peers()
                if self._mode == "shared" or ring.taken > 1 or is_one_of_several():
                    self._enter(ring, host_ns)
                ring.file.unlock()
                return
        except (OSError, ValueError) as error:
            self._ledger.unaligned = True
            self._fault("workers", error)
        ring.close()

    def _take_seat(self, ring: Ring, start: int) -> bool:
        state = ring.last()
        for i, raw in enumerate(self._raw_ns(state)):
            if raw is None:
                state.free(i)
        if state.seat_of(os.getpid(), start) is not None:
            return False  # another meter of this very process: it bills the same CPU
        if state.taken == SEATS:
            self._ledger.unaligned = True
            return False
        seat = state.pids.index(0)
        state.pids[seat], state.starts[seat], state.active[seat] = os.getpid(), start, 0
        state.outer[seat] = self._ledger.companions.own_pid()
        self._seat, self._who, self._born = seat, (os.getpid(), start), ring.born
        ring.append(state)
        return True

    def _enter(self, ring: Ring, host_ns: int | None) -> None:
        """Bill through the ring from now on: with the lock held."""
        state, seat = ring.last(), self._seat
        if not any(state.active):  # nobody has read for a while: begin anew, at this moment
            state.t_ns, state.boot_ns = time.monotonic_ns(), max(0, boot_offset_ns())
            state.host_ns, state.owed_ns = UNSEEN if host_ns is None else host_ns, 0
            self._meet(f"ring-{ring.born}")
            for books, totals in zip(self._shared, state.sources, strict=True):
                totals.mark = _mark_of(books)
        else:  # counters go on from the last record, so that this worker's next record begins there too
            self._meet(f"ring-{ring.born}")
            for books, totals in zip(self._shared, state.sources, strict=True):
                if totals.mark and getattr(books.source, "mark", None) is not None:
                    books.source.resume(totals.mark - 1, state.t_ns)  # type: ignore[attr-defined]
        state.active[seat], state.raw_ns[seat] = 1, time.process_time_ns()
        self._pools.open(ring, state, seat, time.monotonic_ns())
        ring.append(state)
        self._before = self._entered = state
        self._read_at = [totals.energy_nj for totals in state.sources]
        self._ledger.unaligned = False

    def _meet(self, group: str | None) -> None:
        """Who divides energy for us divides it for all workers of ``group`` together."""
        for books in self._shared:
            if (meet := getattr(books.source, "meet", None)) is not None:
                meet(group)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Held while the clocks of a tick are read.

        Raises TimeoutError when another worker does not end its turn; nothing has been read then.
        """
        ring = self._ring
        if ring is None or (self._before is None and ring.taken <= 1):
            yield
            return
        ring.file.lock()
        self._locked = True
        try:
            yield
        finally:
            self._locked = False
            ring.file.unlock()

    def read(self, window: Window, host_ns: int | None) -> int:
        """Read every source for the tick ``window``; the CPU of this process in it, by the records where they are shared.

        ``host_ns`` is the host's cumulative CPU at the window's end.
        """
        ring, ledger = self._ring, self._ledger
        if ring is None or self._before is None:
            ledger.read(window)
            if ring is not None and self._locked:
                self._enter(ring, host_ns)
            return window.process_ns
        state = ring.last()
        if state.seat_of(*self._who) != self._seat or state.seq < self._before.seq or not ring.file.is_current():
            return self._begin_anew(window, host_ns)
        slept = slept_ns(state.boot_ns, boot := max(0, boot_offset_ns()))
        t0_ns = state.t_ns
        cpus = window.host_cpus
        self._pools.look(state, window.t1_ns)
        lent = self._pools.read(state, window.t1_ns)
        raw_ns = self._raw_ns(state)
        step = advance(state, t_ns=window.t1_ns, boot_ns=boot, host_ns=host_ns, cpus=cpus, raw_ns=raw_ns, companions=lent)
        record = Window(t0_ns, window.t1_ns, step.host_ns, cpus, step.workers_ns, slept, window.host_cpu_scope)
        share = ledger.slice.of(record, step.workers_ns, step.whole_ns)
        hold(state, step, int(share * (record.t1_ns - record.t0_ns)))
        for i, books in enumerate(self._shared):
            self._book(state, step, i, books, window, record, share)
        ring.append(state)
        for books in self._others:
            ledger.read_one(books, window)
        return self._bill(state, self._before)

    def _begin_anew(self, window: Window, host_ns: int | None) -> int:
        """This tick alone, and another seat: the file was taken away, or somebody's hand was in it. Its totals are no longer
        those that were billed, and a seat that is another's, or nobody's, would bill nothing for ever.
        """
        self._fault("workers", OSError(f"{self._path}: this worker's seat was gone; it has taken another"))
        self._let_go()
        self._ledger.read(window)
        self.join(host_ns)
        return window.process_ns

    def _raw_ns(self, state: State) -> list[int | None]:
        return [
            self._peers.cpu_ns(pid, start, last_ns) if pid else 0
            for pid, start, last_ns in zip(state.pids, state.starts, state.raw_ns, strict=True)
        ]

    def _book(self, state: State, step: Step, i: int, books: SourceBooks, window: Window, record: Window, share: float) -> None:
        """Read one source and book what nobody has booked yet.

        A model answers for the record alone, and so does power that is integrated from one reading to the next. A
        counter tells what it moved since *this* worker read it, of which other readers have booked a part: the rest is
        the record's. So no joule is lost with a reader that dies.
        """
        totals, place = state.sources[i], self._pools.place_of(books)
        model = books.source.sensor in ("model", "synthetic")
        if getattr(books.source, "integrates", False):
            model = True
            if totals.mark:
                books.source.resume(totals.mark - 1, record.t0_ns)  # type: ignore[attr-defined]
        told_over = record if model else window
        self._ledger.read_one(books, told_over)
        sample = books.sample
        if sample is None or sample.own is not None:
            if sample is not None and sample.own is not None:
                use = None if place is None else self._pools.use(state, place, sample, record, told_over)
                book_own(state, step, i, sample, sample.own, use)
            if hasattr(books.source, "meet") or sample is not None:
                totals.mark = _mark_of(books)  # while it is away, none: what another worker has read by itself is void too
            return
        books.baseline.observe(told_over, sample, on_gpu=books.on_gpu, name=books.source.name)
        use = None if place is None else self._pools.use(state, place, sample, record, told_over)
        if not model:
            gap = None if sample.gap == "suspend" and not record.suspended_ns else sample.gap  # else booked by who woke first
            sample = rest_of(sample, moved(totals.energy_nj, self._read_at[i]), sample.idle_nj, gap)
        idle_nj, origin = books.baseline.idle_nj(record, sample)
        book(state, step, i, sample, idle_nj, origin, share, use)
        self._read_at[i] = totals.energy_nj
        totals.mark = _mark_of(books)

    def _bill(self, state: State, before: State) -> int:
        seat, self._ledger.shared = self._seat, frozenset(books.source.name for books in self._shared)
        for i, books in enumerate(self._shared):
            part = part_of(state, before, i, seat, self._pools.place_of(books))
            if part.energy_nj or books.sample is not None:
                books.part = part
                books.sample = Sample(part.energy_nj, part.low_nj, part.high_nj, part.idle_nj, part.gap)
        self._ledger.lent_ns = self._pools.lent(state, before, seat)
        elapsed = state.t_ns - before.t_ns
        self._ledger.held_share = moved(state.held_ns[seat], before.held_ns[seat]) / elapsed if elapsed > 0 else 0.0
        self._before = state
        return moved(state.cpu_ns[seat], before.cpu_ns[seat])

    def leave(self) -> None:
        """Give the seat up; the last one takes the file away."""
        ring = self._ring
        if ring is None:
            return
        with contextlib.suppress(OSError):  # a seat that is not given up is taken back by whoever comes next
            ring.file.lock()
            state = ring.last()
            if state.seat_of(*self._who) == self._seat:
                state.free(self._seat)
                ring.append(state)
            if not state.taken and ring.file.is_current():
                ring.file.remove()
        self._let_go()

    def _let_go(self) -> None:
        if (seat := self.seat) is not None:
            self.left.append(seat)
        ring, self._ring, self._before, self._ledger.held_share = self._ring, None, None, None
        self._pools.close()
        self._meet(None)
        if ring is not None:
            ring.close()
        self._peers.close()

    def after_fork_in_child(self) -> None:
        """The seat is the parent's; the child takes one of its own when it starts."""
        ring, self._ring, self._before, self._locked = self._ring, None, None, False
        self.left = []
        self._ledger.held_share, self._ledger.unaligned = None, False
        if ring is not None:
            self._pools.close()  # its cells are the parent's too
            ring.close()
        self._peers.close()
        self._peers = Peers()


def _mark_of(books: SourceBooks) -> int:
    mark = getattr(books.source, "mark", None)
    return 0 if mark is None else mark + 1
