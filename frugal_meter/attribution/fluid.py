"""The native pool: CPU of native threads, shared as a fluid over the sections that hold the pool.

``V += Δuse / Σ weights`` whenever the pool is looked at, and a section pays ``weight × (V at its end − V at its
begin)``: the fluid share of generalised processor sharing (Parekh & Gallager 1993). Sections only write a note; the
tick replays them in order, so that no request waits for another.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, NamedTuple

from .split import Divider
from .strangers import census, count, native_ns

#: V is an integer of 2^-80 ns per unit of weight: what one step cannot divide is carried to the next
_SCALE: Final = 80
_HALF: Final = 1 << (_SCALE - 1)
#: one look per so many ns in the long run, and per thread that it asks: 6 µs each makes 5 % of a CPU at most
_REST_NS: Final = 2_000_000
_REST_PER_THREAD_NS: Final = 120_000
#: looks saved up in quiet times
_SAVED: Final = 10
_REPLAY_CHUNK: Final = 500


class Fluid:
    """Who holds the pool with which weight, and what each has come to pay; pure and exact.

    What `take` hands out since the last time sums to the use that was advanced while somebody held the pool.
    """

    __slots__ = ("_due", "_level", "_rest", "_weight", "holders", "unheld_ns")

    def __init__(self) -> None:
        self.holders: dict[Hashable, tuple[int, int, int]] = {}  # holder → who pays, weight, V since
        self._weight = self._level = self._rest = 0
        self._due: dict[int, int] = {}
        self.unheld_ns = 0  # used while nobody held the pool, since the last `take`

    def change(self, holder: Hashable, payer: int, weight: int) -> None:
        """From now on ``holder`` holds with ``weight`` (0: not at all), at ``payer``'s expense; the past keeps its price."""
        self._settle(holder)
        _, old, _ = self.holders.pop(holder, (payer, 0, 0))
        self._weight += weight - old
        if weight:
            self.holders[holder] = (payer, weight, self._level)

    def advance(self, use_ns: int) -> None:
        """``use_ns`` was used by those who hold the pool now."""
        if not self._weight:
            self.unheld_ns += use_ns
            return
        step, self._rest = divmod((use_ns << _SCALE) + self._rest, self._weight)
        self._level += step

    def take(self) -> tuple[dict[int, int], int]:
        """What each payer owes since the last call, ns, and what nobody held."""
        for holder in self.holders:
            self._settle(holder)
        out: dict[int, int] = {}
        reached = given = 0
        for payer, due in self._due.items():
            reached += due
            out[payer] = ((reached + _HALF) >> _SCALE) - given
            given += out[payer]
        self._due = {}
        unheld, self.unheld_ns = self.unheld_ns, 0
        return out, unheld

    def _settle(self, holder: Hashable) -> None:
        held = self.holders.get(holder)
        if held is not None:
            payer, weight, since = held
            if self._level != since:
                self._due[payer] = self._due.get(payer, 0) + weight * (self._level - since)
                self.holders[holder] = (payer, weight, self._level)


class Note(NamedTuple):
    """A section's weight changed at ``t_ns``; ``used_ns`` is what the pool had used by then, where somebody looked."""

    t_ns: int
    used_ns: int | None
    holder: Hashable
    payer: int
    weight: int


class NativePool:
    """Notes of sections, replayed by the tick; see the module.

    used: CPU of native threads so far, ns. mono: a clock, ns; the real one, since it only spaces the looks.
    """

    def __init__(self, used: Callable[[], int] = native_ns, mono: Callable[[], int] = time.monotonic_ns) -> None:
        self._used, self._mono = used, mono
        self._notes: deque[Note] = deque()
        self._spent_ns = mono() - _SAVED * _REST_NS  # looks are paid for up to here: a bucket that refills with time
        self._rest_ns = _REST_NS
        self._fluid = Fluid()
        self._old: set[Hashable] = set()
        self.prime()

    def prime(self) -> None:
        """What was used before now is nobody's."""
        census()
        self._t_ns, self._used_ns = self._mono(), self._used()

    def note(self, holder: Hashable, payer: int, weight: int) -> None:
        """``holder`` holds the pool with ``weight`` from now on (0: no longer); looks at the pool unless it just was."""
        now, used = self._mono(), None
        if self._spent_ns <= now:
            self._spent_ns = max(self._spent_ns, now - _SAVED * self._rest_ns) + self._rest_ns
            used = self._used()
        self._notes.append(Note(now, used, holder, payer, weight))

    def look(self) -> Note:
        """The tick's own look; `settle` replays up to it."""
        census()
        self._rest_ns = max(_REST_NS, _REST_PER_THREAD_NS * count())
        mark = Note(self._mono(), self._used(), None, 0, 0)
        self._notes.append(mark)
        return mark

    def settle(self, mark: Note) -> Iterator[None]:
        """Replay the notes up to ``mark``, a chunk at a time; `take` then tells what came of it."""
        stretch: list[Note] = []
        for place in range(1, len(self._notes) + 1):
            note = self._notes.popleft()
            stretch.append(note)
            if note.used_ns is not None:
                stretch.sort(key=lambda each: each.t_ns)  # two threads may have written in the other order
                self._replay(stretch, note.used_ns)
                stretch = []
            if note is mark:
                return
            if not place % _REPLAY_CHUNK:
                yield

    @property
    def held(self) -> bool:
        """Whether a section was open at the last `settle`, or the one before."""
        return bool(self._fluid.holders or self._old)

    def take(self) -> tuple[dict[int, int], int]:
        """What each payer owes of this tick, ns, and what was used while nobody held the pool."""
        return self._fluid.take()

    def let_go(self, ended: set[int], running: set[int]) -> None:
        """A section of a payer that ended is over, and so is one whose payer nobody has known for a tick."""
        for holder, (payer, _, _) in list(self._fluid.holders.items()):
            if payer in ended or (payer not in running and holder in self._old):
                self._fluid.change(holder, payer, 0)
        self._old = set(self._fluid.holders)

    def _replay(self, stretch: Sequence[Note], used_ns: int) -> None:
        """Share what was used since the last look, evenly over the time in which somebody held the pool."""
        use = max(0, used_ns - self._used_ns)
        self._used_ns += use
        lengths, held = self._lengths(stretch)
        if any(held):
            divider = Divider(use, sum(held))
            shares = divider.take(held)
        else:
            shares = [use, *[0] * (len(lengths) - 1)]
        for note, share in zip(stretch, shares, strict=True):
            self._fluid.advance(share)
            if note.holder is not None:
                self._fluid.change(note.holder, note.payer, note.weight)
        self._t_ns += sum(lengths)

    def _lengths(self, stretch: Sequence[Note]) -> tuple[list[int], list[int]]:
        """Time before each note, and the same where somebody held the pool (else 0)."""
        changed: dict[Hashable, bool] = {}
        holding, t = len(self._fluid.holders), self._t_ns
        lengths: list[int] = []
        held: list[int] = []
        for note in stretch:
            length = max(0, note.t_ns - t)
            t += length
            lengths.append(length)
            held.append(length if holding else 0)
            if note.holder is not None:
                before = changed.get(note.holder, note.holder in self._fluid.holders)
                changed[note.holder] = bool(note.weight)
                holding += bool(note.weight) - before
        return lengths, held
