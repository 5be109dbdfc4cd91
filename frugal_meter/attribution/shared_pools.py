"""GPUs and companions under the ring: where each is in a record, what nobody has booked of it, and whose it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import ConfigurationError
from ..ring.levels import Board, Levels
from ..ring.records import COMPANIONS, SEATS, Pool, Ring, State, moved, plus
from ..sources import Sample, Window
from ..sources.processes import forebear
from .ledger import Ledger, SourceBooks
from .shares import Lent, Use, divide, held_since, lent_of, use_of

#: longer than two of the slowest ticks: a companion that nobody has read for so long is declared by nobody any more
_FORGOTTEN_NS: Final = 150_000_000_000


class SharedPools:
    """The pools of one worker's meter, as it reads them for all and bills its part."""

    def __init__(self, ledger: Ledger, gpus: Sequence[SourceBooks], fault: Callable[[str, BaseException], None]) -> None:
        self._ledger = ledger
        self._gpus = {books.source.name: place for place, books in enumerate(gpus)}
        self._names = {books.source.name: books.gpu.names for books in gpus if books.gpu is not None}
        self._booked: dict[str, tuple[int, int]] = {}  # companion → its key, and its total when last read here
        self._places: dict[str, int] = {}
        self._now: list[list[float | None]] = []
        self._fault, self._complained = fault, False

    def place_of(self, books: SourceBooks) -> int | None:
        """The place of a GPU; None for other sources."""
        return self._gpus.get(books.source.name)

    def open(self, ring: Ring, state: State, seat: int, now_ns: int) -> None:
        """Show from now on what this worker's sections hold; with the lock held."""
        places: dict[str, tuple[int, ...]] = {}
        for gpu, place in self._gpus.items():
            for name in self._names[gpu]:
                places[name] = (*places.get(name, ()), place)
        sections = self._ledger.sections
        self._levels: Levels = ring.levels
        for pool in state.pools:
            pool.level[seat] = 0.0
        sections.share(Board(self._levels, seat, places, sections.mono))
        self._booked, self._places = {}, {}
        self.look(state, now_ns)
        self.read(state, now_ns)

    def look(self, state: State, now_ns: int) -> None:
        """What each seat's sections hold up to now, to be divided by; before a seat whose process has ended is let go."""
        self._now = [
            [self._levels.read(seat, place, now_ns) if state.pids[seat] else None for seat in range(SEATS)]
            for place in range(self._levels.places)
        ]

    def read(self, state: State, now_ns: int) -> list[Lent]:
        """What companions used that no worker has booked yet, and who held them meanwhile."""
        companions, lent = self._ledger.companions, []
        companions.leave_out(frozenset(state.outer))
        used = companions.read()
        for name, rule in companions.rules.items():
            key = int.from_bytes(hashlib.sha256(f"{name}\0{rule}".encode()).digest()[:8], "little") or 1
            place = self._find(state, key, now_ns)
            self._ledger.sections.place(name, place)
            if place is None:
                self._no_place(name)
                continue
            pool, (known, booked_ns) = state.pools[place], self._booked.get(name, (0, 0))
            # Read here for the first time: what it used before was booked by others, or in nobody's time.
            rest_ns = max(0, used.get(name, 0) - moved(pool.used_ns, booked_ns)) if known == key else 0
            lent.append(Lent(pool, rest_ns, held_since(pool, self._now[place])))
            pool.t_ns = now_ns
            self._booked[name], self._places[name] = (key, plus(pool.used_ns, rest_ns)), place
        return lent

    def _no_place(self, name: str) -> None:
        if not self._complained:
            self._complained = True
            why = f"workers share {COMPANIONS} companions at most: {name!r} is billed to no request; name fewer pools"
            self._fault("workers", ConfigurationError(why))

    def _find(self, state: State, key: int, now_ns: int) -> int | None:
        places = range(len(self._gpus), len(self._gpus) + COMPANIONS)
        found = next((place for place in places if state.pools[place].key == key), None)
        if found is not None:
            return found
        for place in places:
            pool = state.pools[place]
            if not pool.key or now_ns - pool.t_ns > _FORGOTTEN_NS:
                pool.key, pool.used_ns, pool.lent_ns = key, 0, [0] * SEATS
                pool.level = [level or 0.0 for level in self._now[place]]
                return place
        return None

    def use(self, state: State, place: int, sample: Sample, record: Window, told_over: Window) -> Use:
        """Who used a GPU in ``record``; its busy time, told for the window ``told_over``, is divided alike."""
        pool: Pool = state.pools[place]
        seats = {}
        workers = {pid: seat for seat, pid in enumerate(state.outer) if pid}
        for pid in sample.users or ():
            worker = forebear(pid, workers, self._ledger.companions.proc)
            if worker is not None:
                seats[pid] = workers[worker]
        use = use_of(state, sample.users, seats, held_since(pool, self._now[place]))
        if sample.gap is None:
            own = sample.own
            untold = not use.told if own is None else own.untold or (own.mine_nj > 0 and not use.told)
            pool.untold = plus(pool.untold, untold)
            over_ns = told_over.t1_ns - told_over.t0_ns
            busy_ns = (sample.busy_ns or 0) * (record.t1_ns - record.t0_ns) // over_ns if over_ns > 0 else 0
            divide(state, pool, busy_ns, use.weights, use.whole)
        return use

    def lent(self, state: State, before: State, seat: int) -> dict[str, int]:
        """CPU of companions that this worker's sections held, ns."""
        return {name: lent_of(state, before, place, seat) for name, place in self._places.items()}

    def close(self) -> None:
        """Show nothing any more."""
        self._ledger.sections.share(None)
