"""Admission: which budgets concern a span, what to reserve, and what to charge when it ends.

A span is decided at most twice: at the door with the keys known there, and once more when its model (or a late
tenant or route) is named. Each time every budget concerned is asked in one all-or-nothing step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..attribution.span import Span
from ..errors import BudgetNotEnforceableError
from ..records import TIERS, Tier
from ..units import BOOKED_IN, SHOWN_IN, Resource
from .budget import Budget
from .ladder import strongest
from .leases import ACTIONS, Action, Book, Claim, Lease, Verdict
from .stores.memory import MemoryStore

#: what a span used, in thousandths of a budget's unit; None when unknown
Amount = Callable[[Span], int | None]
_AT_THE_DOOR = (None, None)
_MAX_ESTIMATES = 4096


class _Plain:
    """A budget of the whole service on the fast path: its open book, and the committed amount below which all is well."""

    __slots__ = ("admitted", "below", "book", "budget", "counts_flights", "estimate")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.below = int(budget.limit.amount * min(budget.warn_at, budget.degrade_at or 1.0))
        self.counts_flights = budget.max_in_flight is not None
        self.book: Book | None = None
        self.estimate = budget.estimate  # at the door, where neither route nor model is known
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

    def learn(self, key: tuple[str | None, str | None], used: float) -> None:
        """Take note of a settled use, under the (route, model) that it was estimated for."""
        if self._one:
            return
        known = self._known.get(key)
        if known is None:
            if len(self._known) < _MAX_ESTIMATES:
                self._known[key] = used
            return
        self._known[key] = known + (0.9 if used > known else -0.1) * 0.05 * max(known, used)


class Admission:
    """All budgets of one meter over one store."""

    def __init__(
        self, budgets: Sequence[Budget], store: MemoryStore, amount: Callable[[Resource, str], Amount], *, has_tenants: bool
    ) -> None:
        self.budgets = tuple(budgets)
        self.store = store
        self._has_tenants = has_tenants
        self._estimates = {b.name: Estimates(b) for b in self.budgets}
        self.tiers: dict[str, Tier | None] = {}
        self._decided: dict[tuple[str, Action], int] = {(b.name, action): 0 for b in self.budgets for action in ACTIONS}
        self._plain = [_Plain(b) for b in self.budgets if not b.needs]
        self._all_plain = len(self._plain) == len(self.budgets)
        self._used = {b: amount(b.resource, b.basis) for b in self.budgets}
        self.needs_route = any("route" in b.needs for b in self.budgets)
        self.needs_model = any("model" in b.needs for b in self.budgets)

    def check(self, tier_of: Callable[[Budget], Tier | None], unavailable: Mapping[Resource, str], now_ns: int) -> list[str]:
        """Ask at start-up what each budget will be enforced on; raises BudgetNotEnforceableError when on nothing.

        Returns one line for each budget that can watch but, by its ``require_tier``, not refuse here.
        """
        lines = []
        for budget in self.budgets:
            why = unavailable.get(budget.resource)
            if why is not None:
                raise BudgetNotEnforceableError(budget.name, why, "Run `frugal-meter doctor` to see what this machine can tell.")
            self.tiers[budget.name] = tier = tier_of(budget)
            self.store.open(budget, now_ns)
            if budget.enforce and not self.can_refuse(budget):
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
    def decisions(self) -> dict[tuple[str, Action], int]:
        """What each budget did so far: (budget, action) → count."""
        out = dict(self._decided)
        for plain in self._plain:
            out[plain.budget.name, "admit"] += plain.admitted
        return out

    def admit_plainly(self, span: Span, now_ns: int) -> bool:
        """The common case, and nothing else: every budget is the whole service's and far from its first step.

        True when ``span`` was admitted; False when `admit` must be asked, and nothing has been reserved.
        """
        if not self._all_plain:
            return False
        store, leases = self.store, []
        with store.lock:
            for each in self._plain:
                book = each.book
                if book is None or now_ns >= book.end_ns:
                    book = each.book = store.book(each.budget, (), now_ns)
                if book.settled + book.reserved + each.estimate >= each.below or (each.counts_flights and book.is_full):
                    return False
            for each in self._plain:
                book = each.book
                assert book is not None
                estimate = each.estimate
                each.admitted += 1
                book.reserved += estimate
                book.flight.count += 1
                leases.append(Lease(book, estimate, _AT_THE_DOOR))
        span.leases = leases
        span.decision = "admit"
        return True

    def admit(self, span: Span, now_ns: int) -> Mapping[str, Any] | None:
        """Reserve for ``span`` in every budget whose keys are now known; returns the refusal, or None.

        The decision is left on the span. What an enclosing span was already decided on is not asked again.
        """
        known = self._known(span)
        decided = _decided(span)
        kind = (span.route, span.model)
        claims = [
            Claim(b, b.key_of(known), self._estimates[b.name].of(*kind), self.can_refuse(b), kind)
            for b in self.budgets
            if b.needs <= known.keys() and (b.name, b.key_of(known)) not in decided and b.concerns(known)
        ]
        if not claims:
            return None
        verdict = self.store.admit(claims, now_ns)
        span.decision = strongest(span.decision, verdict.decision)
        with self.store.lock:
            for claim, action in zip(claims, verdict.actions, strict=False):  # a refusal ends the asking
                if verdict.refused is None or claim.budget is verdict.refused.budget:
                    self._decided[claim.budget.name, action] += 1
        if verdict.refused is not None:
            return self._refusal(verdict, claims[len(verdict.actions) - 1].estimate, now_ns)
        span.leases = verdict.leases if span.leases is None else [*span.leases, *verdict.leases]
        return None

    def settle(self, span: Span) -> None:
        """Charge what ``span`` has used as far as known; the estimate where nothing is. Idempotent."""
        leases: list[Lease] = span.leases
        used = self._used
        if span.ops or span.outcome == "refused":
            amounts = [self._settled(span, lease.book.budget) for lease in leases]
        else:
            amounts = [used[lease.book.budget](span) for lease in leases]
        self.store.settle(leases, amounts)

    def _settled(self, span: Span, budget: Budget) -> int | None:
        if span.ops:
            return 0  # a look at the meter's own pages costs no budget anything
        return self._of_refused(span, budget) if span.outcome == "refused" else self._used[budget](span)

    def _of_refused(self, span: Span, budget: Budget) -> int | None:
        # A refusal costs nothing; what was used before it does.
        return 0 if budget.resource == "requests" else self._used[budget](span)

    def correct(self, spans: Sequence[Span]) -> None:
        """After a tick has settled ``spans``: learn from them, and one summed correction per book."""
        corrections: dict[Book, int] = {}
        learnt = False
        for span in spans:
            for lease in span.leases or ():
                budget = lease.book.budget
                milli = self._settled(span, budget)
                if milli is None or lease.charged_milli is None or lease.corrected:
                    continue
                lease.corrected = True
                # What a smaller model used, or a refusal did not, says nothing of what was asked for.
                if span.outcome != "refused" and not span.ops and span.model_served in (None, span.model):
                    self._estimates[budget.name].learn(lease.learn_as, milli / 1000)
                    learnt = True
                if milli != lease.charged_milli:
                    corrections[lease.book] = corrections.get(lease.book, 0) + milli - lease.charged_milli
        if corrections:
            self.store.correct(corrections)
        if learnt:
            with self.store.lock:  # `admit_plainly` checks one figure and reserves the same
                self._learnt()

    def _learnt(self) -> None:
        for plain in self._plain:
            plain.estimate = self._estimates[plain.budget.name].of(*_AT_THE_DOOR)

    def _known(self, span: Span) -> dict[str, str | None]:
        known: dict[str, str | None] = {}
        if span.route is not None:
            known["route"] = span.route
        if span.tenant is not None or self._has_tenants:
            known["tenant"] = span.tenant
        if span.model is not None:
            known["model"] = span.model
        return known

    def _refusal(self, verdict: Verdict, estimate: int, now_ns: int) -> dict[str, Any]:
        book = verdict.refused
        assert book is not None
        budget = book.budget
        scale = BOOKED_IN[budget.resource][1]
        busy = verdict.reason == "in_flight"
        return {
            "budget": budget.name,
            "reason": verdict.reason,
            "max_in_flight": budget.max_in_flight,
            "scope": list(budget.key) or ["service"],
            "fallback_url": budget.fallback_url,
            "timezone": budget.timezone,
            "resource": budget.resource,
            "unit": SHOWN_IN[budget.resource],
            "limit": budget.limit.amount / scale,
            "settled": book.settled / scale,
            "reserved": book.reserved / scale,
            "estimate": estimate / scale,
            "tier": self.tiers.get(budget.name),
            "basis": budget.basis,
            "window": budget.per,
            "reset": book.end_ns // 1_000_000_000,
            # Whoever runs now ends soon; a spent window ends when it ends.
            "retry_after_s": 1 if busy else max(1, -(-(book.end_ns - now_ns) // 1_000_000_000)),
        }


def _decided(span: Span) -> set[tuple[str, tuple[str, ...]]]:
    names: set[tuple[str, tuple[str, ...]]] = set()
    at: Span | None = span
    while at is not None:
        names.update((lease.book.budget.name, lease.book.key) for lease in at.leases or ())
        at = at.parent
    return names
