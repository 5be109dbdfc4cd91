"""What a request is taken to need before it has run: the running 90th percentile of its route, model and size, and its bias."""

from __future__ import annotations

from typing import Final

from .budget import Budget

_MAX_ESTIMATES: Final = 4096
_QUANTILE: Final = 0.9
#: one step, as a part of the size: large enough to follow a new model within an hour, small enough to be calm
_STEP: Final = 0.05
#: a class of sizes is believed once so many of it have been seen; until then, and without a size, its route and model are
ENOUGH: Final = 10
Kind = tuple[str | None, str | None]
#: route, model and class of sizes
Sized = tuple[str | None, str | None, str | None]


class Estimates:
    """The running 90th percentile of what one (route, model) has used of a budget's resource, and of it each class of sizes.

    A stochastic quantile step (Robbins & Monro 1951): up by 9 parts when exceeded, down by 1 part when not, 5 % of the size
    each; of a class it begins at the second largest of the first ten. ``estimated`` and ``used`` sum both sides of everything
    learnt: their ratio is the estimator's bias.
    """

    __slots__ = ("_classes", "_default", "_few", "_known", "_most", "_moved", "_one", "_sized", "estimated", "used")

    def __init__(self, budget: Budget) -> None:
        self._known: dict[Kind, float] = {}
        self._sized: dict[Kind, dict[str, float]] = {}
        self._few: dict[Sized, list[float]] = {}
        self._classes = 0  # in both
        self._moved: set[Sized] = set()
        self.estimated = self.used = 0
        self.adopt(budget)

    def adopt(self, budget: Budget) -> None:
        """Serve ``budget``, which may be the same with another limit; what was learnt stays."""
        self._default = budget.estimate
        self._one = budget.resource == "requests"
        self._most = max(1, int(budget.limit.amount * budget.max_fraction))

    def of(self, route: str | None, model: str | None, size: str | None = None) -> int:
        """The estimate in the budget's unit, at least 1 and at most ``max_fraction`` of the limit."""
        known = None if size is None else self._sized.get((route, model), {}).get(size)
        if known is None:
            known = self._known.get((route, model))
            few = self._few.get((route, model, size))
            if few and known is not None:  # of the largest inputs there are few, and they need more than most
                known = max(known, *few)
        return min(self._default if known is None else max(1, round(known)), self._most)

    def by_size(self, route: str | None, model: str | None) -> dict[str, int]:
        """The estimate of each class of sizes that is known of a route and model."""
        return {size: self.of(route, model, size) for size in self._sized.get((route, model), ())}

    def clamped(self, amount: int) -> int:
        """A caller's own estimate, within the same bounds."""
        return min(max(1, amount), self._most)

    def learn(self, key: Kind, used: float, size: str | None = None) -> None:
        """Take note of a settled use, under the (route, model) and the class of sizes that it was estimated for."""
        if self._one:
            return
        known = self._known.get(key)
        if known is not None or len(self._known) < _MAX_ESTIMATES:
            self._known[key] = used if known is None else _stepped(known, used)
            self._moved.add((*key, None))
        if size is not None:
            self._learn_size(key, size, used)

    def _learn_size(self, key: Kind, size: str, used: float) -> None:
        known, sized = self._sized.get(key, {}).get(size), (*key, size)
        if known is None:
            first = self._few.get(sized)
            if first is None:
                if self._classes >= _MAX_ESTIMATES:
                    return
                self._classes += 1
                first = self._few[sized] = []
            first.append(used)
            if len(first) < ENOUGH:
                return
            begins = sorted(self._few.pop(sized))[int(_QUANTILE * ENOUGH) - 1]
        self._sized.setdefault(key, {})[size] = begins if known is None else _stepped(known, used)
        self._moved.add(sized)

    def compare(self, estimated: int, used: int) -> None:
        """Count one request's estimate beside what it used, both in the budget's unit."""
        self.estimated += estimated
        self.used += used

    @property
    def bias(self) -> float | None:
        """Σ estimate / Σ used; None before anything was used."""
        return self.estimated / self.used if self.used else None

    def known(self) -> dict[Sized, float]:
        """All that was learnt, by route, model and class of sizes (None: of any size)."""
        known: dict[Sized, float] = {(*kind, None): amount for kind, amount in self._known.items()}
        return known | {(*kind, size): amount for kind, each in self._sized.items() for size, amount in each.items()}

    def moved(self) -> dict[Sized, float]:
        """What of `known` has changed since this was last asked."""
        moved, self._moved = self._moved, set()
        return {key: amount for key, amount in self.known().items() if key in moved} if moved else {}

    def recall(self, key: Kind, amount: float, size: str | None = None) -> None:
        """Take up what was learnt before a restart; what has been learnt since stands."""
        if self._one or not 0 < amount < float("inf"):
            return
        if size is None:
            if len(self._known) < _MAX_ESTIMATES:
                self._known.setdefault(key, amount)
        elif self._classes < _MAX_ESTIMATES and size not in self._sized.get(key, ()):
            self._sized.setdefault(key, {})[size] = amount
            self._classes += self._few.pop((*key, size), None) is None


def _stepped(known: float, used: float) -> float:
    return known + (_QUANTILE if used > known else _QUANTILE - 1) * _STEP * max(known, used)
