"""What a request is taken to need before it has run: the running 90th percentile of its route and model, and its bias."""

from __future__ import annotations

from typing import Final

from .budget import Budget

_MAX_ESTIMATES: Final = 4096
_QUANTILE: Final = 0.9
#: one step, as a part of the size: large enough to follow a new model within an hour, small enough to be calm
_STEP: Final = 0.05
Kind = tuple[str | None, str | None]


class Estimates:
    """The running 90th percentile of what one (route, model) has used of a budget's resource.

    A stochastic quantile step (Robbins & Monro 1951): up by 9 parts when exceeded, down by 1 part when not, 5 % of the size
    each. ``estimated`` and ``used`` sum both sides of everything learnt: their ratio is the estimator's bias.
    """

    __slots__ = ("_default", "_known", "_most", "_one", "changed", "estimated", "used")

    def __init__(self, budget: Budget) -> None:
        self._known: dict[Kind, float] = {}
        self.estimated = self.used = 0
        self.changed = False
        self.adopt(budget)

    def adopt(self, budget: Budget) -> None:
        """Serve ``budget``, which may be the same with another limit; what was learnt stays."""
        self._default = budget.estimate
        self._one = budget.resource == "requests"
        self._most = max(1, int(budget.limit.amount * budget.max_fraction))

    def of(self, route: str | None, model: str | None) -> int:
        """The estimate in the budget's unit, at least 1 and at most ``max_fraction`` of the limit."""
        known = self._known.get((route, model))
        return min(self._default if known is None else max(1, round(known)), self._most)

    def clamped(self, amount: int) -> int:
        """A caller's own estimate, within the same bounds."""
        return min(max(1, amount), self._most)

    def learn(self, key: Kind, used: float) -> None:
        """Take note of a settled use, under the (route, model) that it was estimated for."""
        if self._one:
            return
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MAX_ESTIMATES:
                return
            self._known[key] = used
        else:
            self._known[key] = known + (_QUANTILE if used > known else _QUANTILE - 1) * _STEP * max(known, used)
        self.changed = True

    def compare(self, estimated: int, used: int) -> None:
        """Count one request's estimate beside what it used, both in the budget's unit."""
        self.estimated += estimated
        self.used += used

    @property
    def bias(self) -> float | None:
        """Σ estimate / Σ used; None before anything was used."""
        return self.estimated / self.used if self.used else None

    def known(self) -> dict[Kind, float]:
        """All that was learnt, by (route, model)."""
        return dict(self._known)

    def recall(self, key: Kind, amount: float) -> None:
        """Take up what was learnt before a restart; what has been learnt since stands."""
        if not self._one and amount > 0 and len(self._known) < _MAX_ESTIMATES:
            self._known.setdefault(key, amount)
