"""What each configured budget would be enforced on here: the verdict of `Admission.check`, one budget at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Literal

import msgspec

from ..budgets.admission import Admission
from ..budgets.budget import Budget
from ..budgets.stores.memory import MemoryStore
from ..errors import BudgetNotEnforceableError
from ..records import Tier
from ..setup import budget_tier, unavailable_on
from ..sources import Source
from ..units import Resource

State = Literal["enforced", "watches", "cannot-refuse", "cannot-count"]


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """One budget: ``tier`` is that of the figure it counts, None for counts (tokens, requests), which have none.

    ``state``: it can refuse; it only watches (``enforce = false``); it warns and degrades but cannot refuse, for its
    ``require_tier`` is not met; nothing here could ever count against it, so a meter would not start.
    """

    name: str
    limit: str
    per: str
    key: tuple[str, ...]
    resource: Resource
    tier: Tier | None
    require_tier: Tier | None
    state: State


def budget_states(budgets: Sequence[Budget], sources: Sequence[Source]) -> list[BudgetState]:
    """The state of every budget on a machine with these sources."""
    return [_state(budget, sources) for budget in budgets]


def _state(budget: Budget, sources: Sequence[Source]) -> BudgetState:
    admission = Admission([budget], MemoryStore(), lambda resource, basis: lambda span: None, has_tenants=False)
    state: State = "enforced" if budget.enforce else "watches"
    try:
        admission.check(partial(budget_tier, sources=sources), unavailable_on(sources), time.time_ns())
    except BudgetNotEnforceableError:
        state = "cannot-count"
    else:
        if budget.enforce and not admission.can_refuse(budget):
            state = "cannot-refuse"
    return BudgetState(
        name=budget.name, limit=budget.limit.text, per=budget.per, key=budget.key, resource=budget.resource,
        tier=admission.tiers.get(budget.name), require_tier=budget.require_tier, state=state,
    )  # fmt: skip
