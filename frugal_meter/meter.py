"""The meter: sources, attribution, carbon, budgets and exporters, composed for one service."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import routes
from .attribution import hooks
from .attribution.clocks import here
from .attribution.gpu import declared_weights
from .attribution.idle import Baseline, HostSlice
from .attribution.ledger import Ledger
from .attribution.pools import Sections
from .attribution.sampler import Clock, Sampler, SystemClock
from .attribution.span import SPAN, Kind, Late, Span, carry, holding
from .attribution.workers import workers_of
from .budgets.admission import Admission
from .budgets.budget import Budget
from .budgets.ladder import strongest
from .budgets.stores.memory import MemoryStore
from .budgets.stores.opening import share
from .budgets.upkeep import LOOK_NS, SIGHT_NS, SIGHT_TICKS
from .budgets.waiting import is_on_a_loop
from .carbon.factors import Factor
from .carbon.in_force import InForce
from .carbon.pue import Pue
from .config import WatchedFile
from .degrading import MAX_BODY_BYTES, Degrading
from .errors import ConfigurationError, FrugalMeterError
from .exporters.aggregates import Aggregates
from .exporters.dispatch import OPS_MARK, Dispatch
from .exporters.page_state import MOST_REQUESTS
from .exporters.snapshot import Snapshots
from .exporters.trace_context import current_trace_id
from .figures import Figures
from .journal.writer import Journal, opened
from .measure import Estimate, Measure
from .records import Exporter, Reading, Tick, Tier, label
from .refusal import Refusals, refused
from .setup import Setup, budget_tier, check_callables, prepare, switched_off, warn_of_workers
from .sources import Source, Window

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .carbon.live import Live
    from .carbon.providers import Provider
    from .exporters.ops import OpsServer

log = logging.getLogger("frugal_meter")
_SETTLE_TIMEOUT_S = 10.0
_alive: weakref.WeakSet[Meter] = weakref.WeakSet()


class Meter:
    """Meters one service: ``Meter(service="accueil-usagers", zone="FR", budgets=[...])``.

    service: its name, a label of every figure. zone: an emission-factor zone ("FR", "FR-COR"), never guessed.
    sources: "auto", "model", "rapl", or `Source` objects. budgets: `Budget` objects. exporters: objects with
    ``export(readings, ticks)``. tick: seconds between passes. pue: the site's, a number or `Pue`; None takes a
    published default with its range, flagged. tenant: a function of the ASGI scope that names an authenticated tenant,
    or None. host_share: this service's part of the host (0…1); None derives it. factor: a `Factor` instead of the
    bundled table's; factor_pack: a file of them; grid: a live provider ("rte", "electricity-maps", …).
    idle_watts: the host's measured idle power per source name or component. calibration: the file of
    ``frugal-meter calibrate``. host_root: where a container has the host's /proc and /sys.
    journal: "sqlite:///path" or a `Journal`: readings, books and decisions that outlive the process.
    Further settings: see docs/settings.md.

    Raises ConfigurationError (UnknownZoneError, BudgetNotEnforceableError, …) at once for what cannot work.
    """

    def __init__(
        self,
        service: str,
        *,
        zone: str | None = None,
        sources: str | Source | Sequence[Source] = "auto",
        budgets: Sequence[Budget] = (),
        exporters: Sequence[Exporter] = (),
        journal: str | Journal | None = None,
        tick: float = 0.5,
        pue: float | Pue | None = None,
        tenant: Callable[[Mapping[str, Any]], str | None] | None = None,
        host_share: float | None = None,
        factor: Factor | None = None,
        factor_pack: str | Path | None = None,
        grid: str | Provider | None = None,
        embodied: Any = "default",
        idle_watts: Mapping[str, float] | None = None,
        declared: Any = None,
        calibration: str | Path | None = None,
        capture_usage: bool = True,
        workers: str = "auto",
        store: str = "auto",
        on_store_error: str = "local",
        refusals: Refusals | Mapping[str, Any] | None = None,
        rewrite: Mapping[str, str] | None = None,
        rewrite_limit: int = MAX_BODY_BYTES,
        qualities: Mapping[str, float] | None = None,
        clock: Clock | None = None,
        host_root: str | Path | None = None,
    ) -> None:
        setup: Setup = prepare(
            service=service,
            zone=zone,
            sources=sources,
            budgets=budgets,
            tick=tick,
            pue=pue,
            host_share=host_share,
            factor=factor,
            factor_pack=factor_pack,
            grid=grid,
            embodied=embodied,
            idle_watts=idle_watts,
            declared=declared,
            calibration=calibration,
            host_root=host_root,
        )
        check_callables(tenant, exporters, capture_usage)
        self.service, self.setup = setup.service, setup
        self.refusals = Refusals.of(refusals)
        self.degrading = Degrading(rewrite, rewrite_limit, qualities)
        self.clock: Clock = clock or SystemClock()
        self.disabled = switched_off()
        self.capture_usage = capture_usage
        self.errors: dict[str, int] = {}
        self.sections = Sections(self.clock.monotonic_ns, ticks=not self.disabled)
        baselines = [Baseline(setup.idle_watts_of(s), setup.modelled_idle_of(s), setup.own_idle_of(s)) for s in setup.sources]
        priors = [setup.prior_of(s) for s in setup.sources]
        self.ledger = Ledger(
            setup.sources,
            baselines,
            priors,
            HostSlice(host_share, setup.quota_cpus),
            self.sections,
            setup.embodied_grams,
            self.fault,
            setup.key,
            setup.roots,
        )
        self.sampler = Sampler(
            self.ledger,
            setup.probe,
            self.clock,
            tick,
            on_chunk=self._settled,
            on_tick=self._ticked,
            on_error=self.fault,
            workers=workers_of(workers, service, self.ledger, own_clock=clock is not None, fault=self.fault),
        )
        offset_ns = self.clock.time_ns() - self.clock.monotonic_ns()
        self.figures = Figures(
            service,
            self.ledger,
            InForce(setup.factor, setup.steps, now_ns=self.clock.time_ns),
            setup.pue,
            boundary=setup.discovery.boundary,
            embodied_spread=setup.embodied_spread,
            method_flags=setup.flags,
            now_ns=self.clock.monotonic_ns,
            unix_offset_ns=offset_ns,
        )
        self._grid = self._live_grid(setup)
        self.aggregates = Aggregates(self.figures, len(setup.sources))
        self.declared: set[tuple[str, str]] = set()
        self._tenant = tenant
        self.admission = self._admission(list(budgets), store, on_store_error, alone=clock is not None)
        self._config: WatchedFile | None = None
        self.admission.reaches = self.degrading.reaches
        self.shapes = self._shaping()
        self.cut_nj = 0  # dynamic energy of requests that a hard budget cut: drawn, and nobody was served whole
        self.recent: deque[Span] = deque(maxlen=MOST_REQUESTS)
        self._blocks_only = True
        self._ops_apps: list[object] = []
        self.last_ticks: Sequence[Tick] = ()
        self.journal = opened(journal)
        self._dispatch = Dispatch([*exporters, *([self.journal] if self.journal is not None else [])], self.fault)
        self._readings: list[Reading] = []
        self._keys = itertools.count(1)
        self.snapshots = Snapshots(self)
        self._one_of_several = workers != "single" and clock is None
        self._ends = itertools.count(1)
        self._ended: Any = [0]  # requests that have ended; among other workers a word of memory that outlives this process
        self._mono, self._unix_ns = self.clock.monotonic_ns, self.clock.time_ns
        self._live, self._finished = self.sampler.live, self.sampler.finished
        self._lifecycle = threading.Lock()
        self._starts = 0
        self._running = False
        self._templates = routes.Templates()
        self._path_routes: dict[tuple[str, str], str] = {}
        self.since_ns = self._mono()
        self._closing = self._dispatch.closing
        self._dispatch.bind(self)
        _alive.add(self)

    # -- life

    @classmethod
    def from_config(cls, path: str | Path | None = None, **more: Any) -> Meter:
        """A meter from ``frugal.toml`` (or ``$FRUGAL_CONFIG``); keyword arguments win over the file."""
        from .config import load
        from .exporters.otel import with_otel

        meter = cls(**with_otel({**load(path), **more}))
        if "budgets" not in more:
            meter._config = WatchedFile(path)
        return meter

    def start(self) -> None:
        """Start ticking; counted, so that two applications can share a meter."""
        with self._lifecycle:
            self._starts += 1
            self._start()

    def stop(self) -> None:
        """End one start; the last one settles what is finished, flushes exporters and ends the tick thread."""
        with self._lifecycle:
            self._starts = max(0, self._starts - 1)
            if self._starts == 0 and self._running:
                self._running = False
                if self._grid is not None:
                    self._grid.stop()
                self.sampler.stop()
                with self.guard("store"):
                    self.admission.stop()
                self._dispatch.stop()

    def __enter__(self) -> Meter:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _start(self) -> None:
        if self._running or self.disabled:
            return
        if self.admission.sharing is None:
            warn_of_workers(self.admission.budgets)
        with self.guard("store"):
            self.admission.start()
        hooks.install()
        self._dispatch.start()
        if self._one_of_several:
            self._ended = self.snapshots.join(self._ended[0]) or self._ended
        self.sampler.start()
        if self._grid is not None:
            self._grid.start()
        with self.guard("share"):
            self.snapshots.tell()
        self._running = True

    def _start_lazily(self) -> None:
        with self._lifecycle, self.guard("start"):
            self._start()

    def settle(self, timeout: float = _SETTLE_TIMEOUT_S) -> bool:
        """Force one tick and wait until it is booked and exported; False when that took longer than ``timeout`` s."""
        return self.sampler.settle(timeout) and self._dispatch.flush(timeout)

    # -- spans

    def current(self) -> Span | None:
        """The running span, or None."""
        return SPAN.get()

    def carry(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """``fn`` at the expense of the span that runs now, on whatever thread it is called (one our hooks do not see)."""
        return carry(fn)

    def measure(
        self,
        name: str | Callable[..., Any] | None = None,
        *,
        model: str | None = None,
        fallback: Callable[..., Any] | None = None,
        unit: str | None = None,
        tenant: str | None = None,
        estimate: Estimate = None,
        min_quality: float | None = None,
    ) -> Measure:
        """Meter a function (sync, async, generator, async generator) or a ``with`` / ``async with`` block.

        ``fallback`` answers instead when a budget degrades; ``unit`` names what one successful call delivers.
        ``estimate`` is what it will need, where the caller knows better than what was seen so far: "3 J", "400 tokens", a list
        of such quantities, or a function of the call's arguments that returns one.
        ``min_quality``: a fallback whose declared quality is lower, or unknown, does not answer.
        """
        if callable(name):  # @meter.measure without parentheses
            return Measure(self)(name)  # type: ignore[return-value]
        return Measure(
            self, name, model=model, fallback=fallback, unit=unit, tenant=tenant, estimate=estimate, min_quality=min_quality
        )

    def declare(self, block: str, model: str) -> None:
        """Note that the measured function ``block`` runs ``model``."""
        self.declared.add((block, model))

    def expect(self, app: object) -> None:
        """Have the metrics of every route of ``app`` there before its first request."""
        self.aggregates.expect(list(routes.templates(app, self._ops_apps)), sorted({model for _, model in self.declared}))

    def pool(self, name: str, *, pid: int | None = None, command: str | None = None, cgroup: str | None = None) -> None:
        """Meter a companion process with all that it starts; spans pay for it by ``span.section(name, weight=…)``.

        ``pid`` is one process; ``command`` a pattern of its program or command line ("llama-server*"), ``cgroup`` a path
        ("/system.slice/llama.service"): these two also find it after a restart, a number only where the same parent starts
        the same command again. Raises ConfigurationError.
        """
        self.ledger.companions.add(name, pid=pid, command=command, cgroup=cgroup)

    def holding(self, fn: Callable[..., Any], pool: str = "native", *, weight: float = 1) -> Callable[..., Any]:
        """``fn``, a function or coroutine function, run in a section of ``pool`` of the span that runs when it is called."""
        return holding(fn, pool, weight)

    def token_weights(self, model: str, *, a: float, b: float, source: str) -> None:
        """State what an input token (``a``, not cached) and an output token (``b``) of ``model`` cost a GPU, relative to each
        other, and where that comes from. It weighs sections of a GPU that have no weight of their own. Unstated: 1 : 10, flagged.
        """
        self.ledger.gpus.weights[label(model) or ""] = declared_weights(a, b, source)

    def quality_of(self, model: str, score: float, *, metric: str | None = None) -> None:
        """State how good the answers of ``model`` are, 0…1, and by which metric that was found: what a budget's
        ``min_quality`` and ``measure(min_quality=)`` compare with before it stands in for a larger one.
        """
        self.degrading.declare(model, score, metric)

    def feedback(self, reading_id: str, score: float, metric: str | None = None) -> None:
        """How good an answer was, 0…1, said later, by the id of its reading; kept in the journal. Raises ConfigurationError."""
        if self.journal is None:
            raise ConfigurationError('feedback is kept in a journal and there is none: give Meter(journal="sqlite:///path")')
        self.journal.feedback(reading_id, score, metric)

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

    def late(self, span: Span) -> Late:
        """Where work that outlives ``span`` is booked."""
        self.place(span)
        return self.ledger.late_of(span)

    # -- the tick's side

    def _settled(self, spans: list[Span]) -> None:
        recent = self.recent
        for span in spans:
            try:
                span.settled = True
                if span.scope is not None:
                    self.place(span)
                if span.parent is not None:
                    self._fold(span, span.parent)
                elif not span.ops:
                    if span.kind == "block" or self._blocks_only:
                        self._remember(span)
                    else:
                        recent.append(span)
                    if span.decision == "cut":
                        self.cut_nj += span.dynamic_nj
            except Exception as error:
                self.fault("settle", error)
        self.aggregates.add_all(spans, self.fault)
        if self.admission.budgets:
            self.admission.correct(spans)
        if self._dispatch.needs_readings:
            self._readings += [self.figures.reading(span) for span in spans]

    @staticmethod
    def _fold(span: Span, parent: Span) -> None:
        parent.fold(span)
        if span.model is not None and parent.model is None and span.outcome != "refused":
            parent.model, parent.model_served = span.model, span.model_served

    def _remember(self, span: Span) -> None:
        """Keep ``span`` for the live page: requests, and blocks only for as long as there has been no request."""
        if span.kind != "block" and self._blocks_only:
            self._blocks_only = False
            self.recent.clear()
        if span.kind != "block" or self._blocks_only:
            self.recent.append(span)

    def _ticked(self, ticks: Sequence[Tick], window: Window) -> None:
        self.last_ticks = ticks
        self.aggregates.add_ticks(ticks)
        readings, self._readings = self._readings, []
        self._dispatch.send(readings, ticks)
        with self.guard("budget"):
            self._tend_budgets()
        with self.guard("share"):
            self.snapshots.tell(window)

    def _tend_budgets(self) -> None:
        admission = self.admission
        if self._config is not None and self._config.changed():
            self._reload()
        if admission.budgets:
            now_ns = self._mono()
            if self.sampler.running:
                admission.sighted_until_ns = now_ns + max(SIGHT_NS, SIGHT_TICKS * int(self.sampler.period_s * 1e9))
            admission.upkeep.tick(list(self._live), self._unix_ns(), now_ns)

    def _shaping(self) -> bool:
        """Whether requests pass through more than the watching of their exchange: the middleware asks at each."""
        return bool(self.degrading.rewrite) or self.refusals.rate_limit or any(b.hard for b in self.admission.budgets)

    def _reload(self) -> None:
        """Take up the budgets of a configuration file that has changed; one that cannot be read changes nothing."""
        assert self._config is not None
        try:
            budgets = self._config.budgets()
            lines = self.admission.reload(budgets, self._tier_of, self.setup.unavailable, self._unix_ns())
        except FrugalMeterError as error:
            log.warning("frugal_meter: the budgets in force stay: %s", error)
            return
        self.shapes = self._shaping()
        log.info("frugal_meter: budgets taken up anew from %s", self._config.path)
        for line in lines:
            log.warning("frugal_meter: %s", line)

    def fault(self, stage: str, error: BaseException) -> None:
        """Count a fault of the meter's own, and log the first of each stage; the application goes on."""
        self.errors[stage] = count = self.errors.get(stage, 0) + 1
        if count == 1:
            log.warning(
                "frugal_meter: %s failed and was passed over (%s: %s)", stage, type(error).__name__, error, exc_info=error
            )

    @contextlib.contextmanager
    def guard(self, stage: str) -> Any:
        """Count what fails inside and go on."""
        try:
            yield
        except Exception as error:
            self.fault(stage, error)

    @property
    def dropped(self) -> int:
        """Readings that a slow exporter lost, or a journal that could not be written for long."""
        return self._dispatch.dropped + (self.journal.dropped_readings if self.journal is not None else 0)

    # -- surfaces

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type: Prometheus text, or OpenMetrics where ``accept`` asks for it."""
        from .exporters.prometheus import render

        return render(self, accept)

    def ops_app(self, *, token: str | None = None, public: bool = False) -> Starlette:
        """An ASGI application with ``/metrics`` and the live page.

        It answers loopback only, and never a request that carries Forwarded headers, unless opened on purpose: with
        ``token`` (or ``$FRUGAL_OPS_TOKEN``) to whoever sends ``Authorization: Bearer``, with ``public=True`` to everybody.
        """
        from .exporters.live_state import live_state
        from .exporters.ops import ops_app

        app = ops_app(self.metrics, lambda: live_state(self), token=_ops_token(token), public=public, feedback=self.feedback)
        self._ops_apps.append(app)
        return app

    def serve_ops(self, address: str = "127.0.0.1:9464", *, token: str | None = None, public: bool = False) -> OpsServer:
        """The ops application on a port of its own, on a thread of its own; returns the server, ``.stop()`` ends it.

        Listening beyond loopback needs ``token`` or ``public=True``.
        """
        from .exporters.ops import OpsServer

        return OpsServer(self.ops_app(token=token, public=public), address, guarded=not public and _ops_token(token) is None)

    def _live_grid(self, setup: Setup) -> Live | None:
        if setup.grid is None:
            return None
        from .carbon.live import Live, cache_folder

        change, now = self.figures.in_force.change, lambda: self.clock.time_ns() / 1e9
        return Live(setup.grid, setup.factor, change, fault=self.fault, cache=cache_folder(), now=now)

    def _tier_of(self, budget: Budget) -> Tier | None:
        return budget_tier(budget, self.setup.sources)

    def _admission(self, budgets: list[Budget], store: str, on_store_error: str, *, alone: bool) -> Admission:
        has_tenants = self._tenant is not None
        admission = Admission(budgets, MemoryStore(), self.figures.amount, has_tenants=has_tenants, now_ns=self.clock.time_ns)
        for line in admission.check(self._tier_of, self.setup.unavailable, self.clock.time_ns()):
            log.warning("frugal_meter: %s", line)
        share(admission, store, on_store_error, self.service, alone=alone, fault=self.fault)
        return admission

    def _after_fork_in_child(self) -> None:
        self._lifecycle = threading.Lock()
        self._running = False
        self._starts = 0
        self.sampler.after_fork_in_child()
        self.snapshots.after_fork_in_child()
        self.aggregates, self._readings = Aggregates(self.figures, len(self.setup.sources)), []
        self._ends, self._ended = itertools.count(1), [0]
        self._live, self._finished = self.sampler.live, self.sampler.finished
        self.sections = self.ledger.sections = Sections(self.clock.monotonic_ns, ticks=not self.disabled)
        self.admission.after_fork_in_child()
        self._dispatch.after_fork_in_child()
        self.figures.after_fork_in_child()


def _ops_token(token: str | None) -> str | None:
    # An empty one is a variable that somebody forgot to fill in, not a secret.
    return token or os.environ.get("FRUGAL_OPS_TOKEN") or None


def _after_fork_in_child() -> None:
    SPAN.set(None)  # the request that forked is the parent's
    for meter in list(_alive):
        meter._after_fork_in_child()


def _flush_at_exit() -> None:
    for meter in list(_alive):
        if meter._running:
            meter._starts = 1
            with meter.guard("exit"):
                meter.stop()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_flush_at_exit)
