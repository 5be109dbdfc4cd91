"""What spans used of each budget's resource."""

from __future__ import annotations

from collections.abc import Callable

from ..attribution.span import Span
from ..units import Resource
from .budget import Budget

#: what a span used, in thousandths of a budget's unit; None when unknown
Amount = Callable[[Span], int | None]


class Amounts(dict[Budget, Amount]):
    """By budget; also by those that a reload has put away, for as long as work runs that they will charge."""

    def __init__(self, amount: Callable[[Resource, str], Amount]) -> None:
        super().__init__()
        self._amount = amount

    def __missing__(self, budget: Budget) -> Amount:
        self[budget] = found = self._amount(budget.resource, budget.basis)
        return found
