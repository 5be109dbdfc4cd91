"""A shared store's accounts over all workers: what a scrape tells also of keys that the worker which answers has never met."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from .budget import Budget
from .ladder import rung_at
from .stores import Account, SharedStore, State

Level = Literal["ok", "warn", "degrade", "throttle", "refuse"]
#: looked at no more often than this, nor for more than this part of the time
_LOOK_S: Final = 2.0
_MOST_OF_THE_TIME: Final = 0.02
#: and no longer than this after somebody has read it
_READ_S: Final = 300.0


class Use(NamedTuple):
    """One part of a budget in the window now open, over all workers, in its integer unit.

    ``slices``: what workers hold unused. ``host``: of a budget of each instance, whose it is. ``end_s``: Unix time at which the
    window ends (sliding: the sub-window). ``expired``: holdings (not amounts) of workers that were not heard of.
    """

    budget: Budget
    key: tuple[str, ...]
    host: str | None
    settled: int
    reserved: int
    slices: int
    end_s: int
    expired: int = 0

    @property
    def committed(self) -> int:
        """What the ladder looks at."""
        return self.settled + self.reserved

    @property
    def level(self) -> Level:
        """The rung of the ladder."""
        budget, limit = self.budget, self.budget.limit.amount
        if self.committed >= limit:
            return "refuse"
        rung = rung_at(self.committed, limit, budget.warn_at, budget.degrade_at, budget.throttle_at, None)
        return "ok" if rung == "admit" else rung  # type: ignore[return-value]


def uses(budget: Budget, states: Mapping[Account, State], now_s: float) -> list[Use]:
    """The parts of ``budget`` that have been used in the window now open, fullest first; one that is not kept per anything
    is there in any case.
    """
    start_s, end_s, until_s = budget.window(now_s)
    found: dict[tuple[tuple[str, ...], str | None], list[State]] = {}
    for account, state in states.items():
        name, _, host = account.budget.partition("@") if budget.scope == "instance" else (account.budget, "", "")
        if name != budget.name or account.resource != budget.resource or len(account.key) != len(budget.key):
            continue
        # Of a sliding window every part that still counts has an account of its own.
        same = account.start_s == start_s and account.until_s == until_s
        if same or (budget.sliding and account.until_s - account.start_s == until_s - start_s and account.until_s > now_s):
            found.setdefault((tuple(account.key), host or None), []).append(state)
    if not budget.key and not found:
        found[(), None] = []
    out = [
        Use(
            budget, key, host, sum(s.settled for s in some), sum(s.reserved for s in some),
            sum(max(0, s.held - s.reserved) for s in some), end_s, sum(s.expired for s in some),
        )
        for (key, host), some in found.items()
    ]  # fmt: skip
    return sorted(out, key=lambda use: use.committed, reverse=True)


class Overview:
    """What a store's accounts were a moment ago; looked at by the thread that asks the store, for as long as somebody reads."""

    def __init__(self, name: Callable[[Budget], str]) -> None:
        self._name = name  # what the store calls a budget
        self._of: Mapping[str, Mapping[Account, State]] = {}
        self._read_s = self._next_s = 0.0

    def look(self, store: SharedStore, now_s: float) -> None:
        """Look again where it is time to. Raises StoreError."""
        at_s = time.monotonic()
        if at_s < self._next_s or (self._next_s and at_s - self._read_s > _READ_S):
            return
        found: dict[str, dict[Account, State]] = {}
        for account, state in store.states(now_s).items():
            found.setdefault(account.budget, {})[account] = state
        self._of = found
        took_s = time.monotonic() - at_s
        self._next_s = at_s + took_s + max(_LOOK_S, took_s / _MOST_OF_THE_TIME)

    def uses(self, budget: Budget, now_s: float) -> list[Use]:
        """The parts of ``budget`` over all workers as last seen, also of keys that this one never met."""
        self._read_s = time.monotonic()
        known = self._of.get(self._name(budget))
        return uses(budget, known, now_s) if known else []
