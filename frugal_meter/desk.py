"""What spans and the middleware ask of a meter, from the door to the end of a request: the request path."""

from __future__ import annotations

import contextlib
import itertools
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from . import routes
from .attribution.clocks import here
from .attribution.ids import key_of
from .attribution.ledger import Ledger
from .attribution.pools import Sections
from .attribution.sampler import Clock
from .attribution.span import Kind, Late, Span
from .budgets.admission import Admission
from .budgets.ladder import strongest
from .budgets.matching import misses
from .budgets.upkeep import LOOK_NS
from .budgets.waiting import is_on_a_loop
from .degrading import Degrading
from .errors import FrugalMeterError
from .exporters.aggregates import Aggregates, Work
from .exporters.dispatch import OPS_MARK
from .exporters.trace_context import current_trace_id
from .figures import Figures
from .records import Reading, label
from .refusal import Refusals, refused
from .remote.told import Told
from .setup import switched_off
from .usage import note_usage

log = logging.getLogger("frugal_meter")
#: settled spans whose reading can still be asked for by id, where there is an ops page to ask
MOST_KEPT = 10_000


class Desk(ABC):
    """Opens, decides and closes spans, and answers what they ask (the protocol `attribution.span.Desk`).

    A base of `Meter` and not a part of it: a request then pays no call and no attribute more for the meter's being in
    several files. The parts named below are made by the meter.
    """

    sections: Sections
    ledger: Ledger
    figures: Figures
    aggregates: Aggregates
    admission: Admission
    degrading: Degrading
    refusals: Refusals
    told: Told
    shapes: bool  # what `_shaping` said last
    _live: set[Span]
    _finished: deque[Span]
    _closing: list[Callable[[Span], None]]

    def __init__(self, clock: Clock, tenant: Callable[[Mapping[str, Any]], str | None] | None) -> None:
        self.clock = clock
        self.disabled = switched_off()
        self.errors: dict[str, int] = {}
        self.declared: set[tuple[str, str]] = set()
        self._works: set[Work] = set()
        self._expected: list[tuple[str, bool]] = []
        self._tenant = tenant
        self._kept: deque[Span] = deque(maxlen=MOST_KEPT)
        self._ops_apps: list[object] = []
        self._keys = itertools.count(1)
        self._ends = itertools.count(1)
        self._ended: Any = [0]  # requests that have ended; among other workers a word of memory that outlives this process
        self._mono, self._unix_ns = clock.monotonic_ns, clock.time_ns
        self._running = False
        self._templates = routes.Templates()
        self._path_routes: dict[tuple[str, str], str] = {}
        self._routes: set[str] = set()  # of the application, once it has told them

    @abstractmethod
    def _start_lazily(self) -> None:
        """Start the meter at its first span. Never raises."""

    # -- spans, from the door to their end

    def open_span(self, kind: Kind, parent: Span | None = None) -> Span:
        """A running span, charged from the caller's next switch on; `close_span` ends it."""
        if not self._running:
            self._start_lazily()
        span = Span(self, next(self._keys), self._mono(), kind, parent, here())
        if self.disabled:
            return span
        self._live.add(span)
        if parent is not None:
            parent.adopt(span)
        else:
            span.trace_id = current_trace_id()
        return span

    def close_span(self, span: Span) -> None:
        """End ``span``: settle its budgets on what is known, and leave the rest to the tick. Never raises."""
        try:
            self._live.remove(span)
        except KeyError:  # closed before, or opened before a fork (the parent's to settle), or the meter is disabled
            span.t1_ns = span.t1_ns or self._mono()
            return
        now = self._mono
        span.t1_ns = now()
        if span.scope is not None:
            self.place(span)
        if span.leases:
            try:
                self.admission.settle(span)
            except Exception as error:
                self.fault("budget", error)
        if self._closing:
            self._tell_closing(span)
        if span.parent is None:
            self._ended[0] = next(self._ends)
        self._finished.append(span)

    def _tell_closing(self, span: Span) -> None:
        for tell in self._closing:
            try:
                tell(span)
            except Exception as error:
                self.fault("closing", error)

    def open_request(self, kind: Kind, scope: Mapping[str, Any], app: object) -> Span:
        """A span for one HTTP request or websocket, decided over the budgets whose keys are known at the door."""
        if not self._running:
            self._start_lazily()
        now = self._mono  # called in place it would be looked up anew each time
        span = Span(self, next(self._keys), now(), kind, None, here(), scope, scope.get("root_path", ""))
        self._live.add(span)
        try:
            budgets = self.admission
            if self._tenant is not None or (budgets.budgets and not budgets.admit_plainly(span, self._unix_ns())):
                self._admit_request(span, scope, app)
        except Exception as error:
            self.fault("admit", error)
        return span

    def _admit_request(self, span: Span, scope: Mapping[str, Any], app: object) -> None:
        if self._tenant is not None:
            with self.guard("tenant"):
                tenant = self._tenant(scope)
                if tenant is not None and not isinstance(tenant, str):
                    raise TypeError(f"the tenant function returned {type(tenant).__name__}, not a string or None")
                span.tenant = label(tenant)
        admission = self.admission
        if admission.budgets:
            if admission.needs_route:
                span.route = self._route_at_door(scope, app)
            if not admission.admit_plainly(span, self._unix_ns()):
                span.refusal = admission.admit(span, self._unix_ns())
                if span.refusal is not None or span.waiting is not None:
                    self._let_ops_through(span, scope, app)
                if span.waiting is not None and not is_on_a_loop():  # trio's: nothing here can be awaited on it
                    span.refusal = admission.wait_here(span, self._unix_ns, hurried=True)

    async def admitted(self, span: Span) -> None:
        """The outcome for a request that waits at the door; a fault of the meter's own lets it in."""
        try:
            span.refusal = await self.admission.wait(span, self._unix_ns)
        except Exception as error:
            self.fault("admit", error)

    def route_refused(self, span: Span, app: object) -> None:
        """The route that a refused request asked for: no router will be asked for it any more."""
        if span.route is None and span.scope is not None:
            span.route = self._route_at_door(span.scope, app)

    def _let_ops_through(self, span: Span, scope: Mapping[str, Any], app: object) -> None:
        """A spent budget must not hide the page that tells so."""
        if routes.leads_to(scope.get("app") or app, scope, self._ops_apps):
            if span.waiting is not None:
                self.admission.line.leave(span.waiting)
            span.refusal = span.decision = span.waiting = None

    def place(self, span: Span) -> None:
        """Route and method of a request from its scope, once routing has been done; then the scope is let go."""
        scope = span.scope
        if scope is None:
            return
        try:
            if span.route is None:
                span.route = self._templates.of(scope, span.root_before)
            if span.kind == "http":
                name = scope.get("method")
                span.method = name if name in routes.METHODS else routes.OTHER_METHOD
                if OPS_MARK in scope:
                    span.ops = True
        except Exception as error:
            self.fault("route", error)
        if span.t1_ns:
            span.scope = None

    def _route_at_door(self, scope: Mapping[str, Any], app: object) -> str:
        """The route that will answer, asked of the router once per method and path; only where a budget needs it."""
        path = (scope.get("method", ""), scope["path"])
        known = self._path_routes.get(path)
        if known is None:
            with self.guard("route"):
                known = routes.match(scope.get("app") or app, scope)
            if known is None or known == routes.UNMATCHED:
                return routes.UNMATCHED
            if len(self._path_routes) < 1000:
                self._path_routes[path] = known
        return known

    def decide(self, span: Span, *, later: bool = False) -> None:
        """Ask the budgets whose keys are now known; a refusal is left on the span, a decision on it and its parents.

        Where that takes a while the calling thread waits; with ``later`` it does not, and while ``span.waiting`` is set the
        outcome is brought by `decided`.
        """
        admission = self.admission
        if not admission.budgets or self.disabled:
            return
        span.refusal = admission.admit(span, self._unix_ns())
        if span.waiting is not None:
            if later:
                return
            span.refusal = admission.wait_here(span, self._unix_ns)
        self._tell_parents(span)

    async def decided(self, span: Span) -> None:
        """The outcome of a decision that ``span`` waits for."""
        span.refusal = await self.admission.wait(span, self._unix_ns)
        self._tell_parents(span)

    @staticmethod
    def _tell_parents(span: Span) -> None:
        parent = span.parent
        while parent is not None:
            parent.decision = strongest(parent.decision, span.decision)
            parent = parent.parent

    def _shaping(self) -> bool:
        """Whether requests pass through more than the watching of their exchange: the middleware asks at each."""
        return (
            bool(self.degrading.rewrite)
            or self.refusals.rate_limit
            or bool(self.told)
            or any(b.hard for b in self.admission.budgets)
        )

    # -- what spans ask (attribution.span.Desk)

    def reading(self, span: Span) -> Reading:
        """The span's figures now."""
        self.place(span)
        return self.figures.reading(span)

    def identify(self, span: Span) -> None:
        """Decide over the keys that ``span`` has just learnt; raises BudgetRefused."""
        self.decide(span)
        if span.refusal is not None:
            raise refused(span.refusal)

    def may_serve(self, span: Span, model: str, min_quality: float | None) -> bool:
        """Whether ``model`` is good enough to stand in for ``span``."""
        return self.degrading.allows(span, model, min_quality)

    def serve_smaller(self, span: Span, model: str) -> None:
        """Note that ``model`` answers for ``span``: its need is what stays reserved."""
        span.model_served = model
        if span.leases:
            self.admission.serve_smaller(span, model)

    def top_up(self, span: Span) -> None:
        """Ask for more where ``span`` is about to outgrow what is reserved for it; ``span.cut`` then says if it must end.

        Cheap enough for every streamed chunk. The leases may be its own or those of the spans around it.
        """
        now_ns = self._mono()
        if now_ns - span.looked_ns < LOOK_NS:
            return
        span.looked_ns = now_ns
        at: Span | None = span
        with self.guard("budget"):
            while at is not None:
                if at.leases:
                    self.admission.upkeep.top_up(at, self._unix_ns())
                    span.cut = span.cut or at.cut
                at = at.parent

    def find(self, id: str) -> Reading | None:
        """The reading of that id, of the last 10,000 that settled in this process since an ops page was made; else None."""
        key = key_of(id)
        return next((self.figures.reading(s) for s in list(self._kept) if s.key == key and self.figures.uuid(s) == id), None)

    def late(self, span: Span) -> Late:
        """Where work that outlives ``span`` is booked."""
        self.place(span)
        return self.ledger.late_of(span)

    def note(self, span: Span, reply: Any) -> None:
        """Take what a model's reply tells of tokens. Never raises."""
        try:
            if span.call is not None:
                span.call.heard.take(reply)
            else:
                note_usage(span, reply.get("usage") if isinstance(reply, Mapping) else getattr(reply, "usage", None))
        except Exception as error:
            self.fault("usage", error)

    def hang_up(self, span: Span) -> None:
        """Book what the call of ``span`` cost. Never raises."""
        with self.guard("remote"):
            span.call.finish(span, (self._mono() - span.t0_ns) / 1e9)

    def declare(self, block: str, model: str | None, *, unit: str | None, smaller: str | None, elsewhere: bool) -> None:
        """Note that the function ``block`` runs ``model``, or ``smaller`` when a budget degrades, and delivers ``unit``."""
        if model is not None:
            self.declared.add((block, model))
        self._works.add(Work(model or "none", unit, elsewhere))
        if smaller is not None:
            self._works.add(Work(smaller, unit))
        if self._expected:
            self._expect()

    def expect(self, app: object) -> None:
        """Have the metrics of every route of ``app`` there before its first request, and say which budgets fit none of them."""
        self._expected += [route for route in routes.templates(app, self._ops_apps) if route not in self._expected]
        self._expect()
        known = {route for route, _ in routes.templates(app, hidden=True)}
        self._routes = known | {routes.UNMATCHED} if known else known
        self.look_at_matches()

    def _expect(self) -> None:
        refused = {"http": str(self.refusals.status), "websocket": "403", "block": "none"} if self.admission.budgets else {}
        self.aggregates.expect(self._expected, sorted(self._works, key=str), refused)

    def look_at_matches(self) -> None:
        """Log a line for each budget that no route of the application fits, where its routes are known."""
        for line in misses(self.admission.budgets, self._routes):
            log.warning("frugal_meter: %s", line)

    def fault(self, stage: str, error: BaseException) -> None:
        """Count a fault of the meter's own, and log the first of each stage; the application goes on."""
        self.errors[stage] = count = self.errors.get(stage, 0) + 1
        if count == 1:
            # Our own say what, where and how to mend it: where they were raised helps nobody.
            trace, kind = None if isinstance(error, FrugalMeterError) else error, type(error).__name__
            log.warning("frugal_meter: %s failed and was passed over (%s: %s)", stage, kind, error, exc_info=trace)

    @contextlib.contextmanager
    def guard(self, stage: str) -> Any:
        """Count what fails inside and go on."""
        try:
            yield
        except Exception as error:
            self.fault(stage, error)
