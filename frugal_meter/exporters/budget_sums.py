"""What the budgets of one process have counted, beside their decisions, and its sum over the processes of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ..budgets.admission import Admission


class BudgetCounts(msgspec.Struct, array_like=True):
    """Running sums. ``estimated`` and ``used`` are both sides of all that was estimated, by budget, in its integer unit."""

    estimated: dict[str, int] = {}
    used: dict[str, int] = {}
    topped_up: int = 0
    expired: int = 0
    blind: int = 0
    exchanges: int = 0

    def add(self, more: BudgetCounts) -> None:
        """Add another process's."""
        for into, other in ((self.estimated, more.estimated), (self.used, more.used)):
            for name, amount in other.items():
                into[name] = into.get(name, 0) + amount
        self.topped_up += more.topped_up
        self.expired += more.expired
        self.blind += more.blind
        self.exchanges += more.exchanges

    def bias(self, budget: str) -> float | None:
        """Σ estimate / Σ used of a budget; None before anything was used."""
        used = self.used.get(budget, 0)
        return self.estimated[budget] / used if used else None


class BudgetGauges(msgspec.Struct, array_like=True):
    """How things stand. ``leases`` in flight by budget; ``alone``: how many processes decide without the shared store now.

    ``store`` is its kind, None in memory; ``holders`` how many share it, as a process was told last.
    """

    leases: dict[str, int] = {}
    queued: int = 0
    store: str | None = None
    policy: str = ""
    alone: int = 0
    holders: int = 0

    def add(self, more: BudgetGauges) -> None:
        """Add another living process's."""
        for name, count in more.leases.items():
            self.leases[name] = self.leases.get(name, 0) + count
        self.queued += more.queued
        self.alone += more.alone
        self.holders = max(self.holders, more.holders)
        if more.store is not None:
            self.store, self.policy = more.store, more.policy


def counts_of(admission: Admission) -> BudgetCounts:
    """What this process's budgets have counted so far."""
    estimators, sharing = dict(admission.estimator), admission.sharing
    return BudgetCounts(
        {name: each.estimated for name, each in estimators.items()},
        {name: each.used for name, each in estimators.items()},
        admission.upkeep.topped_up,
        admission.upkeep.expired,
        admission.blind,
        sharing.exchanges if sharing is not None else 0,
    )


def gauges_of(admission: Admission, now_ns: int) -> BudgetGauges:
    """How this process's budgets stand."""
    gauges = BudgetGauges({budget.name: 0 for budget in admission.budgets}, admission.line.queued)
    for book in admission.store.books(now_ns):
        gauges.leases[book.budget.name] += book.flight.count
    sharing = admission.sharing
    if sharing is not None:
        gauges.store, gauges.policy = sharing.store.kind, sharing.on_error
        gauges.alone, gauges.holders = int(sharing.down), sharing.holders
    return gauges
