"""Pools: what several spans use at once and that has a meter of its own.

The CPU of native threads (BLAS, llama.cpp, onnxruntime) is on no Python thread's clock, a GPU's energy on no
CPU clock at all, a companion process is another process. A span declares the time it holds such a pool with a `Section`.
Native threads are looked at whenever a section opens or closes (see `fluid`); a tick's use of any other pool is split over
the sections open in it by weight × time, which is the same fluid share for a use that is even within the tick.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from ..errors import ConfigurationError
from ..ring.levels import Board
from .fluid import NativePool

NATIVE = "native"
#: weights are kept as integers of a millionth, so that shares stay exact
_WEIGHT_UNIT = 1_000_000
#: the pool of all GPUs; "gpu:0" and "gpu:GPU-3f…" (a UUID) are one of them
GPU = "gpu"
#: sections of a GPU with weight 1, the default, are booked apart, under the pool's name and this: tokens may weigh them
UNWEIGHTED = "?"


class Section:
    """The time a span holds a pool; a context manager, ``with span.section("native", weight=2):``.

    ``weight`` may change while the section is open (tokens arrive): what was held so far keeps its old weight.
    """

    __slots__ = ("_held", "_sections", "_since_ns", "among", "billed", "book", "listed", "micro", "pool", "shown", "span_key")

    def __init__(self, sections: Sections, pool: str, span_key: int, weight: float) -> None:
        self.pool, self.span_key = pool, span_key
        self._sections = sections
        self._since_ns = 0
        self._held = 0
        self.micro = _micro(weight)
        self.book = self._book()
        self.billed = 0
        self.listed = False
        self.shown = 0  # millionths of weight that other workers see
        self.among: set[Section] | None = None  # the open ones that its span declared, where somebody asks

    @property
    def weight(self) -> float:
        """The weight now in force; setting it leaves the past as it was."""
        return self.micro / _WEIGHT_UNIT

    @weight.setter
    def weight(self, weight: float) -> None:
        micro = _micro(weight)
        if self._since_ns:
            now = self._sections.mono()
            self._held += self.micro * (now - self._since_ns)
            self._since_ns = now
            self._sections.changed(self, micro)
        self.micro = micro
        self.book = self._book()

    def _book(self) -> str:
        weighed = self.micro != _WEIGHT_UNIT or self.pool.partition(":")[0] != GPU
        return self.pool if weighed else self.pool + UNWEIGHTED

    @property
    def open(self) -> bool:
        """Whether the pool is held now."""
        return self._since_ns != 0

    def held(self, now_ns: int) -> int:
        """Weight × nanoseconds held up to ``now_ns``."""
        since = self._since_ns
        return self._held + (self.micro * max(0, now_ns - since) if since else 0)

    def __enter__(self) -> Section:
        self._since_ns = self._sections.mono()
        self._sections.take_in(self)
        self._sections.changed(self, self.micro)
        if self.among is not None:
            self.among.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        since, self._since_ns = self._since_ns, 0
        if self.among is not None:
            self.among.discard(self)
        if since:
            self._held += self.micro * (self._sections.mono() - since)
            self._sections.changed(self, 0)


class Sections:
    """Every section of a meter that is open, or closed and not yet billed; nothing is kept where nothing ``ticks``.

    ``automatic``: those of the native pool may open by themselves, see `libraries`.
    """

    def __init__(self, mono: Callable[[], int], *, ticks: bool = True, automatic: bool = False) -> None:
        self.mono, self.automatic = mono, automatic
        self._ticks = ticks
        self.native = NativePool()
        self._lock = threading.RLock()  # a generator that is collected in the middle of a step closes its section there
        self._listed: list[Section] = []
        self._board: Board | None = None

    def take_in(self, section: Section) -> None:
        """Take ``section`` into the next bill; called when it opens."""
        if section.pool == NATIVE or not self._ticks:
            return
        with self._lock:
            if not section.listed:
                section.listed = True
                self._listed.append(section)

    def changed(self, section: Section, micro: int) -> None:
        """The weight of ``section`` is ``micro`` from now on; 0 when it closes."""
        if not self._ticks:
            return
        if section.pool == NATIVE:
            self.native.note(section, section.span_key, micro)
        elif self._board is not None:
            with self._lock:
                self._show(section, micro)

    def share(self, board: Board | None) -> None:
        """Show other workers what is held, now and from now on; None: no longer."""
        with self._lock:
            self._board = board
            self._show_anew(self._listed)

    def place(self, pool: str, place: int | None) -> None:
        """Where other workers look for ``pool``; None: nowhere."""
        with self._lock:
            if self._board is not None and self._board.places.get(pool, ()) != (() if place is None else (place,)):
                self._board.give(pool, place)
                self._show_anew([section for section in self._listed if section.pool == pool])

    def _show_anew(self, sections: list[Section]) -> None:
        for section in sections:
            section.shown = 0
            if section.open:
                self._show(section, section.micro)

    def _show(self, section: Section, micro: int) -> None:
        if self._board is not None and micro != section.shown:
            self._board.note(section.pool, micro - section.shown)
            section.shown = micro

    def held_ns(self, now_ns: int) -> dict[str, int]:
        """Time that sections held each pool since the last `use`, ns, summed over them; of a changed weight, by the one now."""
        out: dict[str, int] = {}
        with self._lock:
            for section in self._listed:
                ns = max(0, section.held(now_ns) - section.billed) // section.micro
                out[section.pool] = out.get(section.pool, 0) + ns
        return out

    def use(self, now_ns: int) -> dict[str, dict[int, int]]:
        """Weight × time held since the last call: book → span key → integer. Closed sections are then forgotten."""
        out: dict[str, dict[int, int]] = {}
        with self._lock:
            kept: list[Section] = []
            for section in self._listed:
                section.listed = section.open
                if section.listed:
                    kept.append(section)
                held = section.held(now_ns)
                delta, section.billed = held - section.billed, max(held, section.billed)
                if delta > 0:
                    spans = out.setdefault(section.book, {})
                    spans[section.span_key] = spans.get(section.span_key, 0) + delta
            self._listed = kept
        return out


def check_weight(weight: float) -> None:
    """Refuse in one line what is no weight."""
    if not (isinstance(weight, int | float) and 0 < weight < 1e9):
        raise ConfigurationError(f"a section's weight must be a positive number, not {weight!r}")


def _micro(weight: float) -> int:
    check_weight(weight)
    return max(1, round(weight * _WEIGHT_UNIT))
