"""Levels: how much of a shared pool each worker holds, written where all of them can read it at any moment.

A worker that reads the pools for all must know what the others' sections held up to that very moment, not up to their
last tick. So each worker keeps, per pool, one cell in the ring's file: weight × time held up to its last change, the
weight since, and since when. It is written when a section opens, closes or changes, and is good until the next time:
the share of every record is the fluid one, and no worker ever asks another.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Final

#: weight × ns held (double: its steps are nanoseconds even after a year), weight now in millionths, since when (monotonic)
_BODY: Final = struct.Struct("<dQQ")
_CELL: Final = struct.Struct("<dQQQ")  # and a check sum: a cell may be read while it is written
CELL_BYTES: Final = _CELL.size
_LOOKS: Final = 8


class Levels:
    """The cells of all seats and pools, at ``start`` of a mapped file; free of locks, each has one writer."""

    def __init__(self, map_: mmap.mmap, start: int, places: int) -> None:
        self._map, self._start, self.places = map_, start, places

    def _at(self, seat: int, place: int) -> int:
        return self._start + (seat * self.places + place) * CELL_BYTES

    def write(self, seat: int, place: int, level: float, micro: int, since_ns: int) -> None:
        """``level`` was held up to ``since_ns``, and the weight ``micro`` since."""
        check = zlib.crc32(_BODY.pack(level, micro, since_ns))
        _CELL.pack_into(self._map, self._at(seat, place), level, micro, since_ns, check)

    def read(self, seat: int, place: int, now_ns: int) -> float | None:
        """The level at ``now_ns``; None where a writer died in the middle of it."""
        at = self._at(seat, place)
        for _ in range(_LOOKS):
            level, micro, since_ns, check = _CELL.unpack_from(self._map, at)
            if check == zlib.crc32(_BODY.pack(level, micro, since_ns)):
                return float(level + micro * max(0, now_ns - since_ns))
            if not check and not since_ns:
                return 0.0  # never written
        return None


class Board:
    """One worker's own cells. ``note`` is called with the lock of its sections held.

    ``places`` tells where a pool's cells are: those of every GPU for "gpu", one for a companion, none for what nobody shares.
    """

    def __init__(self, levels: Levels, seat: int, places: Mapping[str, tuple[int, ...]], mono: Callable[[], int]) -> None:
        self._levels, self._seat, self._mono = levels, seat, mono
        self.places = dict(places)
        self._held = [(0.0, 0, 0)] * levels.places
        for place in range(levels.places):
            levels.write(seat, place, 0.0, 0, 0)

    def note(self, pool: str, micro: int) -> None:
        """The weight held in ``pool`` grew by ``micro`` (or shrank), just now."""
        for place in self.places.get(pool, ()):
            level, weight, since_ns = self._held[place]
            now_ns = max(self._mono(), since_ns)
            held = self._held[place] = (level + weight * (now_ns - since_ns), weight + micro, now_ns)
            self._levels.write(self._seat, place, *held)

    def give(self, pool: str, place: int | None) -> None:
        """From now on ``pool`` is at ``place``, where nothing is held yet (None: nowhere)."""
        old = self.places.pop(pool, ())
        for gone in old:
            self._clear(gone)
        if place is not None:
            self.places[pool] = (place,)
            self._clear(place)

    def _clear(self, place: int) -> None:
        level, weight, since_ns = self._held[place]
        now_ns = max(self._mono(), since_ns)
        held = self._held[place] = (level + weight * (now_ns - since_ns), 0, now_ns)
        self._levels.write(self._seat, place, *held)
