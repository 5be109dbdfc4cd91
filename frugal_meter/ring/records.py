"""The ring: fixed-size records in a mapped file, each holding the whole state of the sharing after one pass.

Records hold running totals, not differences: a worker bills what the totals moved between two of its own ticks, so one
that was stopped for longer than the ring is long loses nothing, and the last whole record is all that anybody needs to
go on. A record counts once the head names it; a writer that dies before that has written nothing.

Totals are unsigned 64-bit integers that may wrap (nanojoules do after 213 days at 1 kW): take `moved`.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .election import PATIENCE_S, SharedFile
from .levels import CELL_BYTES, Levels

#: of the layout below; workers of different versions do not meet
VERSION: Final = 2
#: workers of one service on one host
SEATS: Final = 64
#: records kept: what an auditor may look back on
CAPACITY: Final = 256
#: companions that workers of one service share at once; those after them belong to nobody's requests
COMPANIONS: Final = 4
#: host CPU that cannot be seen
UNSEEN: Final = 2**64 - 1

_MAGIC: Final = b"frugal\0" + bytes([VERSION])
_HEAD: Final = struct.Struct("<8sQQ")  # magic, sequence of the last record, seats taken
_U64: Final = struct.Struct("<Q")
_HEAD_AT, _TAKEN_AT, _BORN_AT, _LEVELS_AT = 8, 16, 24, 64
_SCALARS: Final = ("seq", "t_ns", "boot_ns", "host_ns", "whole_ns", "owed_ns")
_SEAT_LISTS: Final = ("pids", "starts", "outer", "active", "raw_ns", "cpu_ns", "held_ns")
_TOTALS: Final = ("energy_nj", "low_nj", "high_nj", "idle_nj", "gap_nj", "other_nj", "gaps", "reason", "origin", "mark")
_POOL_SCALARS: Final = ("key", "t_ns", "used_ns", "untold")


def moved(now: int, before: int) -> int:
    """How far a total moved."""
    return (now - before) & UNSEEN


def plus(total: int, more: int) -> int:
    """A total after ``more``."""
    return (total + more) & UNSEEN


class Totals:
    """One source since the ring began, nJ: ``energy == idle + gap + other + Σ mine``. ``mine`` and ``held`` are by seat:
    dynamic energy that its CPU used, and its part of the service's slice of idle. ``reason`` and ``origin`` are codes of
    the last gap and of the idle baseline; ``mark`` is one more than the reading of its counter (0: none is told).
    """

    __slots__ = (*_TOTALS, "held", "mine")

    energy_nj: int
    low_nj: int
    high_nj: int
    idle_nj: int
    gap_nj: int
    other_nj: int
    gaps: int
    reason: int
    origin: int
    mark: int

    def __init__(self, values: list[int]) -> None:
        for name, value in zip(_TOTALS, values, strict=False):
            setattr(self, name, value)
        self.mine, self.held = values[-2 * SEATS : -SEATS], values[-SEATS:]

    def values(self) -> list[int]:
        """As they lie in a record."""
        return [*(getattr(self, name) for name in _TOTALS), *self.mine, *self.held]


class Pool:
    """A GPU or a companion that sections hold, since it has its place: its use by seat, and how much of it each holds.

    ``used_ns`` is busy time of a GPU or CPU of a companion, ``lent_ns`` what of it each seat's sections held; ``level`` is
    their weight × time when it was last divided (see `levels`). ``key`` names a companion (0: no one), ``t_ns`` is when it was
    last read; ``untold`` counts the records in which nobody told who used the GPU.
    """

    __slots__ = (*_POOL_SCALARS, "lent_ns", "level")

    key: int
    t_ns: int
    used_ns: int
    untold: int

    def __init__(self, values: list[int]) -> None:
        for name, value in zip(_POOL_SCALARS, values, strict=False):
            setattr(self, name, value)
        at = len(_POOL_SCALARS)
        self.lent_ns = values[at : at + SEATS]
        self.level: list[float] = [*values[at + SEATS : at + 2 * SEATS]]

    def values(self) -> list[float]:
        """As they lie in a record."""
        return [*(getattr(self, name) for name in _POOL_SCALARS), *self.lent_ns, *self.level]


_POOL_VALUES: Final = len(_POOL_SCALARS) + 2 * SEATS


class State:
    """What a record holds: when and by what clocks it was read, the seats, and the totals of every source and pool.

    ``owed_ns`` is CPU already divided that the host's coarse counter has yet to show. Of a seat: its process (``pids``,
    ``starts``; pid 0 is free; ``outer`` is the pid by the /proc that companions are read in), whether it bills through
    the ring yet (``active``), its CPU clock when last read (``raw_ns``), what of it is in the totals (``cpu_ns``), and
    the part of the host it held (share × ns, ``held_ns``).
    """

    __slots__ = (*_SCALARS, *_SEAT_LISTS, "pools", "sources")

    seq: int
    t_ns: int
    boot_ns: int
    host_ns: int
    whole_ns: int
    owed_ns: int
    pids: list[int]
    starts: list[int]
    outer: list[int]
    active: list[int]
    raw_ns: list[int]
    cpu_ns: list[int]
    held_ns: list[int]

    def __init__(self, values: list[int], pools: int = 0) -> None:
        for name, value in zip(_SCALARS, values, strict=False):
            setattr(self, name, value)
        at = len(_SCALARS)
        for name in _SEAT_LISTS:
            setattr(self, name, values[at : at + SEATS])
            at += SEATS
        each, end = len(_TOTALS) + 2 * SEATS, len(values) - pools * _POOL_VALUES
        self.sources = [Totals(values[start : start + each]) for start in range(at, end, each)]
        self.pools = [Pool(values[start : start + _POOL_VALUES]) for start in range(end, len(values), _POOL_VALUES)]

    def values(self) -> list[float]:
        """As they lie in a record."""
        out: list[float] = [getattr(self, name) for name in _SCALARS]
        for name in _SEAT_LISTS:
            out += getattr(self, name)
        for totals in self.sources:
            out += totals.values()
        for pool in self.pools:
            out += pool.values()
        return out

    def free(self, seat: int) -> None:
        """Nobody sits at ``seat`` any more."""
        self.pids[seat] = self.starts[seat] = self.outer[seat] = self.active[seat] = 0

    def seat_of(self, pid: int, start: int) -> int | None:
        """The seat of a process."""
        return next((i for i in range(SEATS) if self.pids[i] == pid and self.starts[i] == start), None)

    @property
    def taken(self) -> int:
        """Seats with somebody in them."""
        return SEATS - self.pids.count(0)


class Ring:
    """The mapped file. Everything but ``records``, ``taken`` and ``levels`` is for whoever holds the lock of ``file``.

    ``gpus`` of its ``sources`` have sections; after their places come those of companions.
    """

    def __init__(self, path: Path, sources: int, gpus: int = 0) -> None:
        self.file = SharedFile(path)
        self._pools = gpus + COMPANIONS
        integers = len(_SCALARS) + SEATS * len(_SEAT_LISTS) + sources * (len(_TOTALS) + 2 * SEATS)
        self._count = integers + self._pools * _POOL_VALUES
        self._record = struct.Struct(f"<{integers}Q" + f"{_POOL_VALUES - SEATS}Q{SEATS}d" * self._pools)
        self._records_at = _LEVELS_AT + SEATS * self._pools * CELL_BYTES
        self._step = self._record.size + _U64.size
        self._map: mmap.mmap | None = None

    def open(self, patience_s: float = PATIENCE_S) -> None:
        """Map the file, made if need be, and hold its lock. Raises OSError."""
        self.file.open(patience_s)
        size = self._records_at + CAPACITY * self._step
        if os.fstat(self.file.fd).st_size < size:
            os.truncate(self.file.fd, size)  # only ever longer: a page cut off would kill who has it mapped
        self._map = mmap.mmap(self.file.fd, size)
        if self._map[:8] != _MAGIC or (self._head() and self._at(self._head()) is None):
            # New, or no longer what was written there: whoever billed from it finds its seat gone and takes another.
            self._map[_HEAD_AT : _HEAD.size] = bytes(_HEAD.size - _HEAD_AT)
            _U64.pack_into(self._map, _BORN_AT, time.time_ns())
            self._map[:8] = _MAGIC

    @property
    def levels(self) -> Levels:
        """What each seat's sections hold of each pool; no lock needed."""
        return Levels(self.map, _LEVELS_AT, self._pools)

    @property
    def map(self) -> mmap.mmap:
        """The mapping; the ring is open."""
        assert self._map is not None
        return self._map

    @property
    def taken(self) -> int:
        """Seats taken, at the price of one look into memory; no lock needed."""
        return int(_U64.unpack_from(self.map, _TAKEN_AT)[0])

    @property
    def born(self) -> int:
        """When the file was made (Unix, ns): no two rings of one host share it."""
        return int(_U64.unpack_from(self.map, _BORN_AT)[0])

    def last(self) -> State:
        """The last whole record; an empty state where there is none."""
        head = self._head()
        return self._at(head) or max(self.records(), key=lambda state: state.seq, default=State([0] * self._count, self._pools))

    def append(self, state: State) -> None:
        """Write ``state`` as the next record; it counts from the moment that the head names it."""
        state.seq += 1
        body = self._record.pack(*state.values())
        at = self._place(state.seq)
        self.map[at : at + self._step] = _U64.pack(zlib.crc32(body)) + body
        _U64.pack_into(self.map, _HEAD_AT, state.seq)
        _U64.pack_into(self.map, _TAKEN_AT, state.taken)

    def records(self, after: int = 0) -> Iterator[State]:
        """The whole records kept, oldest first, from the one after ``after``. Needs no lock: one that is being written
        over is left out.
        """
        head = self._head()
        for seq in range(max(after + 1, head - CAPACITY + 1, 1), head + 1):
            if (state := self._at(seq)) is not None:
                yield state

    def _head(self) -> int:
        return int(_U64.unpack_from(self.map, _HEAD_AT)[0])

    def _place(self, seq: int) -> int:
        return self._records_at + seq % CAPACITY * self._step

    def _at(self, seq: int) -> State | None:
        at = self._place(seq)
        data = self.map[at : at + self._step]
        body = data[_U64.size :]
        if _U64.unpack_from(data)[0] != zlib.crc32(body):
            return None
        state = State(list(self._record.unpack(body)), self._pools)
        return state if state.seq == seq and seq else None

    def close(self) -> None:
        """Let mapping and file go; safe to call twice."""
        if self._map is not None:
            self._map.close()
            self._map = None
        self.file.close()
