"""Admission: which budgets concern a span, what to reserve, and what to charge when it ends.

A span is decided at most twice: at the door with the keys known there, and once more when its model (or a late
tenant or route) is named. Each time every budget concerned is asked in one all-or-nothing step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..attribution.span import Span
from ..errors import BudgetNotEnforceableError
from ..records import TIERS, Decision, Tier
from ..units import BOOKED_IN, SHOWN_IN, Resource
from .budget import Budget
from .ladder import strongest
from .leases import Book, Claim, Lease
from .stores.memory import MemoryStore

#: what a span used of a resource, in thousandths of the budget's unit; None when unknown. ``basis`` is dynamic or full
Amount = Callable[[Span, Resource, str], int | None]
_MAX_ESTIMATES = 4096
_DECISIONS: tuple[Decision, ...] = ("admit", "warn", "degrade", "refuse")


class _Plain:
    """A budget of the whole service on the fast path: its open book, and the committed amount below which all is well."""

    __slots__ = ("admitted", "below", "book", "budget", "estimates")

    def __init__(self, budget: Budget, estimates: Estimates) -> None:
        self.budget, self.estimates = budget, estimates
        self.below = int(budget.limit.amount * min(budget.warn_at, budget.degrade_at or 1.0))
        self.book: Book | None = None
        self.admitted = 0


class Estimates:
    """The running 90th percentile of what one (route, model) has used of a budget's resource.

    A stochastic quantile step: up by 9 parts when exceeded, down by 1 part when not, 5 % of the size each.
    """

    __slots__ = ("_default", "_known", "_one")

    def __init__(self, budget: Budget) -> None:
        self._default = budget.estimate
        self._one = budget.resource == "requests"
        self._known: dict[tuple[str | None, str | None], float] = {}

    def of(self, route: str | None, model: str | None) -> int:
        """The estimate in the budget's unit, at least 1."""
        known = self._known.get((route, model))
        return self._default if known is None else max(1, round(known))

    def learn(self, route: str | None, model: str | None, used: float) -> None:
        """Take note of a settled use."""
        if self._one:
            return
        key = (route, model)
        known = self._known.get(key)
        if known is None:
            if len(self._known) < _MAX_ESTIMATES:
                self._known[key] = used
            return
        self._known[key] = known + (0.9 if used > known else -0.1) * 0.05 * max(known, used)


class Admission:
    """All budgets of one meter over one store."""

    def __init__(self, budgets: Sequence[Budget], store: MemoryStore, amount: Amount, *, has_tenants: bool) -> None:
        self.budgets = tuple(budgets)
        self.store = store
        self._amount = amount
        self._has_tenants = has_tenants
        self._estimates = {b.name: Estimates(b) for b in self.budgets}
        self.tiers: dict[str, Tier | None] = {}
        self._decided: dict[tuple[str, Decision], int] = {(b.name, d): 0 for b in self.budgets for d in _DECISIONS}
        self._plain = [_Plain(b, self._estimates[b.name]) for b in self.budgets if not b.needs]
        self.needs_route = any("route" in b.needs for b in self.budgets)
        self.needs_model = any("model" in b.needs for b in self.budgets)

    def check(self, tier_of: Mapping[Resource, Tier | None], unavailable: Mapping[Resource, str], now_ns: int) -> list[str]:
        """Ask at start-up what each budget will be enforced on; raises BudgetNotEnforceableError when on nothing.

        Returns one line for each budget that can watch but, by its ``require_tier``, not refuse here.
        """
        lines = []
        for budget in self.budgets:
            why = unavailable.get(budget.resource)
            if why is not None:
                raise BudgetNotEnforceableError(budget.name, why, "Run `frugal-meter doctor` to see what this machine can tell.")
            self.tiers[budget.name] = tier = tier_of.get(budget.resource)
            self.store.open(budget, now_ns)
            if not self.can_refuse(budget):
                lines.append(
                    f"budget {budget.name!r} requires {budget.require_tier} figures and this machine gives {tier}: "
                    "it warns and degrades, and refuses nothing"
                )
        return lines

    def can_refuse(self, budget: Budget) -> bool:
        """Whether the figure it counts is good enough for its ``require_tier``."""
        tier = self.tiers.get(budget.name)
        return budget.enforce and (
            budget.require_tier is None or tier is None or TIERS.index(tier) <= TIERS.index(budget.require_tier)
        )

    @property
    def decisions(self) -> dict[tuple[str, Decision], int]:
        """Decisions so far: (budget, decision) → count."""
        out = dict(self._decided)
        for plain in self._plain:
            out[plain.budget.name, "admit"] += plain.admitted
        return out

    def admit_plainly(self, span: Span, now_ns: int) -> bool:
        """The common case, and nothing else: every budget is the whole service's and far from its first step.

        True when ``span`` was admitted; False when `admit` must be asked, and nothing has been reserved.
        """
        plain = self._plain
        if len(plain) != len(self.budgets):
            return False
        route, model = span.route, span.model
        with self.store.lock:
            leases = []
            for each in plain:
                book = each.book
                if book is None or now_ns >= book.end_ns:
                    book = each.book = self.store.book(each.budget, (), now_ns)
                estimate = each.estimates.of(route, model)
                most = each.budget.max_in_flight
                if book.settled + book.reserved + estimate >= each.below or (most is not None and book.in_flight >= most):
                    return False
                leases.append(Lease(book, estimate))
            for each, lease in zip(plain, leases, strict=True):
                lease.book.reserved += lease.estimate
                lease.book.in_flight += 1
                each.admitted += 1
        span.leases = leases
        span.decision = "admit"
        return True

    def admit(self, span: Span, now_ns: int) -> Mapping[str, Any] | None:
        """Reserve for ``span`` in every budget whose keys are now known; returns the refusal, or None.

        The decision is left on the span. What an enclosing span was already decided on is not asked again.
        """
        known = self._known(span)
        decided = _decided(span)
        claims = [
            Claim(b, b.key_of(known), self._estimates[b.name].of(span.route, span.model), self.can_refuse(b))
            for b in self.budgets
            if b.name not in decided and b.needs <= known.keys() and b.concerns(known)
        ]
        if not claims:
            return None
        decision, leases, refused = self.store.admit(claims, now_ns)
        span.decision = strongest(span.decision, decision)
        for claim in claims:
            if refused is None or claim.budget is refused.budget:
                self._decided[claim.budget.name, decision] += 1
        if refused is not None:
            claim = next(c for c in claims if c.budget is refused.budget)
            return self._refusal(refused, claim.estimate, now_ns)
        span.leases = leases if span.leases is None else [*span.leases, *leases]
        return None

    def settle(self, span: Span) -> None:
        """Charge what ``span`` has used as far as known; the estimate where nothing is. Idempotent."""
        leases: list[Lease] = span.leases
        amount = self._amount
        amounts = [amount(span, (budget := lease.book.budget).resource, budget.basis) for lease in leases]
        self.store.settle(leases, amounts)

    def correct(self, spans: Sequence[Span]) -> None:
        """After a tick has settled ``spans``: learn from them, and one summed correction per book."""
        corrections: dict[Book, int] = {}
        for span in spans:
            for lease in span.leases or ():
                budget = lease.book.budget
                milli = self._amount(span, budget.resource, budget.basis)
                if milli is None or lease.charged_milli is None or lease.corrected:
                    continue
                lease.corrected = True
                self._estimates[budget.name].learn(span.route, span.model, milli / 1000)
                if milli != lease.charged_milli:
                    corrections[lease.book] = corrections.get(lease.book, 0) + milli - lease.charged_milli
        if corrections:
            self.store.correct(corrections)

    def _known(self, span: Span) -> dict[str, str | None]:
        known: dict[str, str | None] = {}
        if span.route is not None:
            known["route"] = span.route
        if span.tenant is not None or self._has_tenants:
            known["tenant"] = span.tenant
        if span.model is not None:
            known["model"] = span.model
        return known

    def _refusal(self, book: Book, estimate: int, now_ns: int) -> dict[str, Any]:
        budget = book.budget
        scale = BOOKED_IN[budget.resource][1]
        return {
            "budget": budget.name,
            "resource": budget.resource,
            "unit": SHOWN_IN[budget.resource],
            "limit": budget.limit.amount / scale,
            "settled": book.settled / scale,
            "reserved": book.reserved / scale,
            "estimate": estimate / scale,
            "tier": self.tiers.get(budget.name),
            "window": budget.per,
            "reset": book.end_ns // 1_000_000_000,
            "retry_after_s": max(1, -(-(book.end_ns - now_ns) // 1_000_000_000)),
        }


def _decided(span: Span) -> set[str]:
    names: set[str] = set()
    at: Span | None = span
    while at is not None:
        names.update(lease.book.budget.name for lease in at.leases or ())
        at = at.parent
    return names
