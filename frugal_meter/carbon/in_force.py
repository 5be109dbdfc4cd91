"""`InForce`: which factor weighs the joules of which moment, when the factor changes with the hour."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from .factors import Factor, check_compatible

#: a changed factor is remembered for so many changes: at one in five minutes, two weeks; no span that is still open is older
MOST_STEPS: Final = 4096
SEVERAL_FLAG: Final = "factor:several"
#: from this moment (Unix time, ns) on, this factor
Step = tuple[int, Factor]


class Weight(NamedTuple):
    """What a joule of one stretch of time weighs, and the ids and flags of the factors behind it."""

    grams_per_joule: float
    ids: tuple[str, ...]
    flags: tuple[str, ...]


class InForce:
    """The factors of a meter along time: ``factor`` until the first of ``steps``, then each from its start to the next.

    Steps may lie in the future (an hourly series is known beforehand); `change` adds one now (a live grid). Times are Unix
    nanoseconds. Read by any thread, changed by one: the steps are one tuple, replaced as a whole. Raises `FactorError` for
    factors that must not be added to ``factor`` (direct to lifecycle, market to location).
    """

    def __init__(self, factor: Factor, steps: Sequence[Step] = (), *, now_ns: Callable[[], int]) -> None:
        check_compatible(factor, *(each for _, each in steps))
        self._now_ns = now_ns
        self._first = factor
        self._only: Weight | None = None
        self._put(((0, factor), *steps))

    def _put(self, steps: tuple[Step, ...]) -> None:
        self._steps = steps
        self._only = _weight(steps[0][1]) if len(steps) == 1 else None

    @property
    def constant(self) -> bool:
        """Whether one factor holds for all time so far."""
        return self._only is not None

    @property
    def now(self) -> Factor:
        """The factor in force at this moment."""
        return self.at(self._now_ns())

    def at(self, unix_ns: int) -> Factor:
        """The factor in force at ``unix_ns``."""
        steps = self._steps
        return steps[_place(steps, unix_ns)][1]

    def change(self, factor: Factor) -> None:
        """``factor`` is in force from now on; what is already weighed stays as it was. Raises `FactorError`."""
        check_compatible(self._first, factor)
        steps = self._steps
        if steps[-1][1] != factor:
            # A clock set back must not make a change that was never in force.
            since = max(self._now_ns(), steps[-1][0] + 1)
            self._put((*steps, (since, factor))[-MOST_STEPS:])

    def over(self, begin_ns: int, end_ns: int) -> Weight:
        """What a joule used between two moments weighs: where the factor changed in between, its mean over that time.

        Inside one span energy is taken as even over time; a span is seconds long and a factor holds for many minutes.
        """
        only = self._only
        if only is not None:
            return only
        steps = self._steps
        first, last = _place(steps, begin_ns), _place(steps, end_ns)
        if first >= last or end_ns <= begin_ns:
            return _weight(steps[first][1])
        edges = [begin_ns, *(since for since, _ in steps[first + 1 : last + 1]), end_ns]
        held = [(factor, until - since) for (_, factor), since, until in zip(steps[first:], edges, edges[1:], strict=False)]
        grams = sum(factor.grams_per_joule * ns for factor, ns in held) / (end_ns - begin_ns)
        ids = tuple(dict.fromkeys(factor.id for factor, _ in held))
        flags = dict.fromkeys(flag for factor, _ in held for flag in factor.flags)
        return Weight(grams, ids, (*flags, SEVERAL_FLAG))


def _place(steps: Sequence[Step], unix_ns: int) -> int:
    return max(0, bisect_right(steps, unix_ns, key=_since) - 1)


def _since(step: Step) -> int:
    return step[0]


def _weight(factor: Factor) -> Weight:
    return Weight(factor.grams_per_joule, (factor.id,), factor.flags)
