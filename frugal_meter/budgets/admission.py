"""Admission: which budgets concern a span, what to reserve, and what to charge when it ends.

A span is decided at most twice: at the door with the keys known there, and once more when its model (or a late
tenant or route) is named. Each time every budget concerned is asked in one all-or-nothing step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..attribution.span import Span
from ..errors import BudgetNotEnforceableError
from ..records import TIERS, Decision, Tier
from ..units import BOOKED_IN, SHOWN_IN, Resource
from . import sizes
from .amounts import Amount, Amounts
from .budget import Budget
from .decisions import Decisions
from .estimates import Estimates
from .keeping import Keeping
from .ladder import strongest
from .leases import ACTIONS, Action, Book, Claim, Lease, Verdict, decided_on
from .retry import fits_at_ns
from .sharing import Sharing
from .smaller import above_floor, degraded
from .stores import Estimates as Known
from .stores import Learnt, SharedStore
from .stores.memory import OTHER, MemoryStore
from .upkeep import Upkeep
from .waiting import BEHIND, Line, Waiting

_AT_THE_DOOR = (None, None)


class _Plain:
    """A budget of the whole service on the fast path, with its open book."""

    __slots__ = ("book", "budget", "by_size", "counts_flights", "estimate")

    def __init__(self, budget: Budget, estimates: Estimates) -> None:
        self.budget = budget
        self.book: Book | None = None
        self.learnt(estimates)
        self.counts_flights = budget.max_in_flight is not None

    def learnt(self, estimates: Estimates) -> None:
        """Take up estimates anew, where neither route nor model is known; the caller holds the books' lock."""
        self.estimate, self.by_size = estimates.of(*_AT_THE_DOOR), estimates.by_size(*_AT_THE_DOOR)


class Admission:
    """All budgets of one meter over its books, and over a shared store where `share` was called."""

    def __init__(
        self,
        budgets: Sequence[Budget],
        store: MemoryStore,
        amount: Callable[[Resource, str], Amount],
        *,
        has_tenants: bool,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.store = store
        self.sharing: Sharing | None = None
        self.keeping: Keeping | None = None
        self.log = Decisions()
        self._amount, self._has_tenants = amount, has_tenants
        #: by budget: what requests are taken to need, with ``estimated``, ``used`` and ``bias``
        self.estimator: dict[str, Estimates] = {}
        self.tiers: dict[str, Tier | None] = {}
        #: what a refusal says of a settled amount beside it: bounds, method and factors
        self.evidence: Callable[[Resource, float], Mapping[str, Any]] = lambda resource, settled: {}
        self._decided: dict[tuple[str, Action], int] = {}
        self.now_ns = now_ns
        self.line = Line(store, now_ns)
        #: whether a model is said to be as good as a floor asks
        self.reaches: Callable[[str, float], bool] = lambda model, floor: False
        self.upkeep = Upkeep(self)
        self.blind = 0  # settlements at the reservation, because the tick had died
        #: until when (monotonic ns) the meter's figures are alive; later settlements charge what was reserved
        self.sighted_until_ns: float = math.inf
        self._plain: list[_Plain] = []
        self._admitted = 0
        self._adopt(budgets)

    def _adopt(self, budgets: Sequence[Budget]) -> None:
        self.budgets = tuple(budgets)
        self._decided = self.decisions
        self._admitted = 0  # plainly, by every budget
        for budget in self.budgets:
            estimates = self.estimator.setdefault(budget.name, Estimates(budget))
            estimates.adopt(budget)
            for action in ACTIONS:
                self._decided.setdefault((budget.name, action), 0)
        self._plain = [_Plain(b, self.estimator[b.name]) for b in self.budgets if not b.needs]
        self._all_plain = len(self._plain) == len(self.budgets) and not any(b.sliding for b in self.budgets)
        self._looks_at_size = any(b.resource != "requests" for b in self.budgets)
        self.used = Amounts(self._amount)
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

    def reload(
        self,
        budgets: Sequence[Budget],
        tier_of: Callable[[Budget], Tier | None],
        unavailable: Mapping[Resource, str],
        now_ns: int,
    ) -> list[str]:
        """Take up changed budgets; what was spent, reserved and learnt stays where it still means the same.

        Raises BudgetNotEnforceableError, and then nothing has changed. Returns lines as `check` does.
        """
        for budget in budgets:
            if (why := unavailable.get(budget.resource)) is not None:
                raise BudgetNotEnforceableError(budget.name, why, "The budgets in force stay.")
        with self.store.lock:  # in one step: between two, a request would open the old budgets' books again
            self.store.reload(budgets)
            for old in self.budgets:
                new = next((b for b in budgets if b.name == old.name), None)
                if new is None or (new.resource, new.basis) != (old.resource, old.basis):
                    del self.estimator[old.name]
            self._adopt(budgets)
        if self.keeping is not None:
            self.keeping.look_again()
        return self.check(tier_of, unavailable, now_ns)

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
        for plain in self._plain if self._admitted else ():
            out[plain.budget.name, "admit"] += self._admitted
        return out

    def share(self, store: SharedStore, **settings: Any) -> None:
        """Keep the budgets in ``store`` with other workers, from `start` on; ``settings`` are those of `Sharing`."""
        self.sharing = Sharing(
            store, self.store, self.log, resolved=self.line.judge, recall=self.recall, now_ns=self.now_ns, **settings
        )
        self.line.store = self.sharing

    def start(self) -> None:
        """Meet the shared store, or the file beside this memory, if there is one."""
        if (behind := self.sharing or self.keeping) is not None:
            behind.start()

    def stop(self) -> None:
        """Report to the shared store a last time and return what is unused."""
        if self.sharing is not None:
            self.sharing.keep(self.learnt())
            self.sharing.stop()
        elif self.keeping is not None:
            self.keeping.stop()

    def after_fork_in_child(self) -> None:
        """Leases, queue and reports in flight are the parent's."""
        self.store.after_fork_in_child()
        self.line.after_fork_in_child()
        self.log.after_fork_in_child()
        if (behind := self.sharing or self.keeping) is not None:
            behind.after_fork_in_child()

    def learnt(self, *, moved: bool = False) -> Known:
        """What a store keeps over a restart; ``moved``: what of it has changed since that was last asked."""
        each = {b: self.estimator[b.name].moved() if moved else self.estimator[b.name].known() for b in self.budgets}
        return {
            Learnt(budget.name, budget.resource, route or "", model or "", size or ""): amount
            for budget, known in each.items()
            for (route, model, size), amount in known.items()
        }

    def recall(self, learnt: Known) -> None:
        """Take up what was learnt before a restart."""
        resources = {budget.name: budget.resource for budget in self.budgets}
        with self.store.lock:
            for (name, resource, route, model, size), amount in learnt.items():
                if resources.get(name) == resource:
                    self.estimator[name].recall((route or None, model or None), amount, size or None)
            self._learnt()

    # -- admission

    def admit_plainly(self, span: Span, now_ns: int) -> bool:
        """The common case, and nothing else: every budget is the whole service's and far from its first step.

        True when ``span`` was admitted; False when `admit` must be asked, and nothing has been reserved.
        """
        if not self._all_plain:
            return False
        store = self.store
        size = span.size = sizes.of_request(span.scope) if self._looks_at_size else None
        leases: list[Lease] = []
        with store.lock:
            for each in self._plain:
                book, estimate = each.book, each.estimate
                if size is not None:
                    estimate = each.by_size.get(size, estimate)
                if book is None or not book.start_ns <= now_ns < book.end_ns:
                    book = each.book = store.book(each.budget, (), now_ns)
                if book.settled + book.reserved + estimate >= book.calm or (each.counts_flights and book.flight.is_full):
                    store.undo(leases)
                    return False
                book.reserved += estimate
                book.flight.count += 1
                if book.shared:
                    book.note()
                leases.append(Lease(book, estimate, _AT_THE_DOOR, size))
            self._admitted += 1
        span.leases = leases
        span.decision = "admit"
        return True

    def admit(self, span: Span, now_ns: int) -> Mapping[str, Any] | None:
        """Reserve for ``span`` in every budget whose keys are now known; returns the refusal, or None.

        The decision is left on the span. What an enclosing span was already decided on is not asked again. When its turn
        or a shared store's answer has yet to come, ``span.waiting`` is set: `wait` or `wait_here` brings the outcome.
        """
        asked = self._claims(span)
        if not asked:
            return None
        with self.store.lock:
            claims = self.store.in_force(asked)
            behind = self.line.queued and self.line.is_behind(claims)
            verdict = BEHIND if behind else self.store.judge(claims, now_ns)
        if verdict.then == "done":
            return self._conclude(span, claims, verdict, now_ns)
        span.waiting = self.line.enter(claims, verdict, span.tenant)
        return None

    async def wait(self, span: Span, now_ns: Callable[[], int]) -> Mapping[str, Any] | None:
        """Wait for what ``span`` waits for, on the event loop; returns the refusal, or None. Cancelled, it leaves the queue."""
        refusal = None
        while (waiting := span.waiting) is not None:  # for the smaller model's need too, where the larger one's was refused
            span.waiting = None
            try:
                verdict = await self.line.wait(waiting)
            except BaseException:
                self.line.leave(waiting)
                raise
            refusal = self._conclude(span, waiting.claims, verdict, now_ns(), waiting)
        return refusal

    def wait_here(self, span: Span, now_ns: Callable[[], int], *, hurried: bool = False) -> Mapping[str, Any] | None:
        """`wait`, blocking the calling thread; ``hurried``, hardly: see `Line.wait_here`."""
        refusal = None
        while (waiting := span.waiting) is not None:
            span.waiting = None
            verdict = self.line.wait_here(waiting, hurried=hurried)
            refusal = self._conclude(span, waiting.claims, verdict, now_ns(), waiting)
        return refusal

    def _claims(self, span: Span, served: str | None = None) -> list[Claim]:
        known = self._known(span)
        decided = decided_on(span)
        kind, size = (span.route, served or span.model), sizes.of_span(span) if self._looks_at_size else None
        own = span.estimates if served is None else None
        claims = []
        for budget in self.budgets:
            if budget.needs <= known.keys() and budget.concerns(known):
                key = budget.key_of(known)
                # Whoever shares the account of all who came too late has it from the span around.
                if (budget.name, key) not in decided and (budget.name, (OTHER,) * len(key)) not in decided:
                    estimates = self.estimator.get(budget.name)
                    if estimates is None:
                        continue  # a reload has put it away in this very moment
                    told = own.get(budget.resource) if own else None
                    estimate = estimates.of(*kind, size) if told is None else estimates.clamped(told)
                    claims.append(Claim(budget, key, estimate, self.can_refuse(budget), kind, size))
        return claims

    def _conclude(
        self, span: Span, claims: Sequence[Claim], verdict: Verdict, now_ns: int, waited: Waiting | None = None
    ) -> Mapping[str, Any] | None:
        """Write a verdict down, on the span and in the log; returns the refusal, or None. Or ``span`` waits once more."""
        if waited is not None and waited.larger is not None:
            claims, verdict = waited.larger if verdict.refused is not None else (claims, degraded(verdict))
        elif verdict.refused is not None:
            instead = self._permitted(claims, verdict, now_ns) or self._smaller(span, claims, verdict, now_ns, waited)
            if span.waiting is not None:
                return None
            claims, verdict = instead or (claims, verdict)
        if span.smaller is not None and verdict.decision == "degrade":
            verdict = above_floor(claims, verdict, span.smaller, self._suits)
        span.decision = strongest(span.decision, verdict.decision)
        with self.store.lock:
            for claim, action in zip(claims, verdict.actions, strict=False):  # a refusal ends the asking
                if verdict.refused is None or claim.budget is verdict.refused.budget:
                    self._decided[claim.budget.name, action] += 1
        if verdict.refused is not None:
            claim = claims[len(verdict.actions) - 1]
            self._note(verdict.refused, "refuse", verdict.decision, claim.estimate, now_ns, verdict.reason)
            return self._refusal(verdict, claim.estimate, now_ns)
        for lease, action in zip(verdict.leases, verdict.actions, strict=True):
            if action not in ("admit", "override"):  # counted in sums, and noted with its reason above
                self._note(lease.book, action, verdict.decision, lease.estimate, now_ns)
        span.leases = verdict.leases if span.leases is None else [*span.leases, *verdict.leases]
        return None

    def _permitted(self, claims: Sequence[Claim], verdict: Verdict, now_ns: int) -> tuple[Sequence[Claim], Verdict] | None:
        """Ask again where an override lets the refusing budget pass: it is metered and charged all the same."""
        passed: dict[int, str] = {}
        while verdict.refused is not None:
            place = len(verdict.actions) - 1
            claim = claims[place]
            override = self.log.permit(claim.budget.name, claim.key, now_ns / 1e9)
            if override is None or place in passed:
                return None
            passed[place] = f"{override.id}: {override.who}, {override.why}"
            claims = [c if i != place else msgspec.structs.replace(c, may_refuse=False) for i, c in enumerate(claims)]
            verdict = self.store.admit(claims, now_ns, asked=True, last=True)
        for place, why in passed.items():
            verdict.actions[place] = "override"
            self._note(verdict.leases[place].book, "override", verdict.decision, claims[place].estimate, now_ns, why)
        return claims, verdict

    def _smaller(
        self, span: Span, asked: Sequence[Claim], refusal: Verdict, now_ns: int, waited: Waiting | None
    ) -> tuple[Sequence[Claim], Verdict] | None:
        """Ask again for the smaller model where the larger one's need does not fit: one degraded answer instead of none."""
        if span.smaller is None or refusal.reason not in ("limit", "store"):
            return None
        claims = self._claims(span, span.smaller)
        budgets = [claim.budget for claim in claims]
        if all(b.degrade_at is None for b in budgets) or not all(self._suits(b, span.smaller) for b in budgets):
            return None
        # A store that has not answered once is not waited for a second time.
        verdict = self.store.admit(claims, now_ns, asked=refusal.reason == "store", last=True)
        if verdict.then == "ask":  # a shared store's answer is waited for once more
            span.waiting = self.line.ask_instead(claims, (asked, refusal), waited, span.tenant)
        return (claims, degraded(verdict)) if verdict.leases else None

    def _suits(self, budget: Budget, model: str) -> bool:
        return budget.min_quality is None or self.reaches(model, budget.min_quality)

    # -- while it runs

    def serve_smaller(self, span: Span, served: str) -> None:
        """A smaller model answers: what is reserved on the model's account is its need, no longer the larger one's."""
        with self.store.lock:
            for lease in span.leases or ():
                if lease.learn_as != (span.route, span.model) or lease.charged_milli is not None:
                    continue
                estimate = self.estimator[lease.book.budget.name].of(span.route, served, lease.size)
                if estimate < lease.estimate:
                    lease.book.reserved += estimate - lease.estimate
                    lease.estimate = estimate
                    lease.book.note()
                lease.learn_as = (span.route, served)

    def cut(self, span: Span, lease: Lease, used: int, now_ns: int) -> None:
        """Tell ``span`` that it must end: it has outgrown what a hard budget had left, and no override lets it go on."""
        book = lease.book
        if span.cut is not None or self.log.permit(book.budget.name, book.key, now_ns / 1e9) is not None:
            return
        span.cut = self._refusal(Verdict("cut", [], [], book), used, now_ns)
        span.decision = "cut"
        self._decided[book.budget.name, "cut"] += 1
        self._note(book, "cut", "cut", used, now_ns)

    # -- settlement

    def settle(self, span: Span) -> None:
        """Charge what ``span`` has used as far as known; what was reserved where nothing is. Idempotent."""
        leases: list[Lease] = span.leases
        if span.ops or span.outcome == "refused" or span.t1_ns > self.sighted_until_ns:
            amounts = [self._settled(span, lease.book.budget) for lease in leases]
        else:
            used = self.used
            amounts = [used[lease.book.budget](span) for lease in leases]
        self.store.settle(leases, amounts)
        if self.line.queued:
            self.line.next_turns()

    def _settled(self, span: Span, budget: Budget) -> int | None:
        if span.ops:
            return 0  # a look at the meter's own pages costs no budget anything
        if span.outcome == "refused":
            return self._of_refused(span, budget)
        if span.t1_ns > self.sighted_until_ns and not span.settled and budget.resource in ("energy", "carbon", "gpu"):
            self.blind += 1  # the tick is dead: nothing has told joules for a while
            return None
        return self.used[budget](span)

    def _of_refused(self, span: Span, budget: Budget) -> int | None:
        # A refusal costs nothing; what was used before it does.
        return 0 if budget.resource == "requests" else self.used[budget](span)

    def correct(self, spans: Sequence[Span]) -> None:
        """After a tick has settled ``spans``: learn from them, and one summed correction per book."""
        self.store.settle_late()
        corrections: dict[Book, int] = {}
        learnt = False
        for span in spans:
            for lease in span.leases or ():
                budget = lease.book.budget
                if lease.charged_milli is None or lease.corrected:
                    continue
                milli = self._settled(span, budget)
                if milli is None:
                    continue
                lease.corrected, lease.blind = True, False
                # What a smaller model used, or a refusal did not, says nothing of what was asked for.
                as_asked = span.outcome != "refused" and span.model_served in (None, span.model, lease.learn_as[1])
                if as_asked and not span.ops and budget in self.budgets:
                    estimates = self.estimator[budget.name]
                    estimates.learn(lease.learn_as, milli / 1000, lease.size)
                    estimates.compare(lease.estimate, milli // 1000)
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
            plain.learnt(self.estimator[plain.budget.name])

    def _known(self, span: Span) -> dict[str, str | None]:
        known: dict[str, str | None] = {}
        if span.route is not None:
            known["route"] = span.route
        if span.tenant is not None or self._has_tenants:
            known["tenant"] = span.tenant
        if span.model is not None:
            known["model"] = span.model
        return known

    def _note(self, book: Book, action: Action, decision: Decision | None, estimate: int, now_ns: int, why: str = "") -> None:
        self.log.decided(book, self.tiers.get(book.budget.name), action, decision, estimate, now_ns / 1e9, why)

    def _refusal(self, verdict: Verdict, estimate: int, now_ns: int) -> dict[str, Any]:
        book = verdict.refused
        assert book is not None
        budget = book.budget
        scale = BOOKED_IN[budget.resource][1]
        soon = verdict.reason not in ("limit", "throttled")
        settled = (book.committed_by_all - book.reserved_by_all) / scale
        with self.store.lock:
            if verdict.reason == "throttled":
                fits_ns = self.line.opens_at_ns(book, estimate, now_ns)
            else:
                fits_ns = fits_at_ns(book, self.store.earlier(book), estimate, now_ns)
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
            "settled": settled,
            "reserved": book.reserved_by_all / scale,
            "estimate": estimate / scale,
            "tier": self.tiers.get(budget.name),
            **self.evidence(budget.resource, settled),
            "basis": budget.basis,
            "window": budget.per,
            "reset": book.end_ns // 1_000_000_000,
            # Whoever runs now ends soon, and so does an outage; a spent window ends when it ends.
            "retry_after_s": 1 if soon else max(1, -(-(fits_ns - now_ns) // 1_000_000_000)),
        }
