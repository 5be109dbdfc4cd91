"""The meter: sources, attribution, carbon, budgets and exporters, composed for one service."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .attribution import hooks, libraries
from .attribution.gpu import declared_weights
from .attribution.idle import Baseline, HostSlice
from .attribution.ledger import Ledger
from .attribution.pools import Sections
from .attribution.sampler import Clock, Sampler, SystemClock
from .attribution.span import SPAN, Span, carry, holding
from .attribution.workers import workers_of
from .budgets.admission import Admission
from .budgets.budget import Budget
from .budgets.stores.memory import MemoryStore
from .budgets.stores.opening import share
from .carbon.factors import Factor
from .carbon.in_force import InForce
from .carbon.pue import Pue
from .config import WatchedFile
from .declaration import stated
from .degrading import MAX_BODY_BYTES, Degrading
from .errors import ConfigurationError
from .exporters.aggregates import Aggregates
from .exporters.dispatch import Dispatch
from .exporters.evidence import evidence
from .exporters.snapshot import Snapshots
from .figures import Figures
from .journal.writer import Journal, opened
from .measure import Estimate, Measure, Size
from .records import Exporter, Reading, label
from .refusal import Refusals
from .remote.told import Told
from .setup import Setup, check_callables, check_flag, prepare, warn_of_workers
from .sources import Source
from .ticking import Ticking

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .carbon.live import Live
    from .carbon.providers import Provider
    from .declaration.statement import Statement
    from .exporters.ops import OpsServer

log = logging.getLogger("frugal_meter")
_SETTLE_TIMEOUT_S = 10.0
_alive: weakref.WeakSet[Meter] = weakref.WeakSet()


class Meter(Ticking):
    """Meters one service: ``Meter(service="accueil-usagers", zone="FR", budgets=[...])``.

    service: its name, a label of every figure. zone: an emission-factor zone ("FR", "FR-COR"), never guessed.
    sources: "auto", "model", "rapl", or `Source` objects. budgets: `Budget` objects. exporters: objects with
    ``export(readings, ticks)``. tick: seconds between passes. pue: the site's, a number or `Pue`; None takes a
    published default with its range, flagged. tenant: a function of the ASGI scope that names an authenticated tenant,
    or None. host_share: this service's part of the host (0…1); None derives it. factor: a `Factor` instead of the
    bundled table's; factor_pack: a file of them; grid: a live provider ("rte", "electricity-maps", …).
    idle_watts: the host's measured idle power per source name or component. calibration: the file of
    ``frugal-meter calibrate``. host_root: where a container has the host's /proc and /sys.
    journal: "sqlite:///path", "postgresql://…" or a `Journal`: readings, books and decisions that outlive the process.
    declaration: what only people know of the service, for its public declaration and notice.
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
        declaration: Statement | Mapping[str, Any] | None = None,
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
        log_tenants: bool = False,
        refusals: Refusals | Mapping[str, Any] | None = None,
        rewrite: Mapping[str, str] | None = None,
        rewrite_limit: int = MAX_BODY_BYTES,
        qualities: Mapping[str, float] | None = None,
        usage_carbon: bool = False,
        callers: Sequence[str] = (),
        clock: Clock | None = None,
        host_root: str | Path | None = None,
        native_sections: str = "auto",
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
        super().__init__(clock or SystemClock(), tenant)
        self.service, self.setup, self.statement = setup.service, setup, stated(declaration)
        self.refusals = Refusals.of(refusals)
        self.degrading = Degrading(rewrite, rewrite_limit, qualities)
        self.told = Told.of(usage_carbon, callers)
        self.capture_usage = capture_usage
        opens_sections = libraries.wanted(native_sections)
        self.sections = Sections(self.clock.monotonic_ns, ticks=not self.disabled, automatic=opens_sections)
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
        self.admission = self._admission(list(budgets), store, on_store_error, alone=clock is not None)
        self.admission.log.tenants = check_flag("log_tenants", log_tenants)
        self.admission.reaches = self.degrading.reaches
        self.admission.evidence = partial(evidence, self)
        self.shapes = self._shaping()
        self.journal = opened(journal)
        self._dispatch = Dispatch([*exporters, *([self.journal] if self.journal is not None else [])], self.fault)
        self.snapshots = Snapshots(self)
        self._one_of_several = workers != "single" and clock is None
        self._live, self._finished = self.sampler.live, self.sampler.finished
        self._lifecycle = threading.Lock()
        self._starts = 0
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
        if self.sections.automatic:
            with self.guard("section"):
                libraries.install()
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

    def export_to(self, exporter: Exporter) -> None:
        """One more exporter, for a meter that is not started yet."""
        self._dispatch.add(exporter)
        getattr(exporter, "bind", lambda meter: None)(self)

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
        size: Size = None,
        min_quality: float | None = None,
    ) -> Measure:
        """Meter a function (sync, async, generator, async generator) or a ``with`` / ``async with`` block.

        ``fallback`` answers instead when a budget degrades; ``unit`` names what one successful call delivers.
        ``estimate`` is what it will need, where the caller knows better than what was seen so far: "3 J", "400 tokens", a list
        of such quantities, or a function of the call's arguments that returns one. ``size`` is how large its input is (a number
        in any one unit, or a function of the arguments): what inputs about as large have needed is then what is reserved.
        ``min_quality``: a fallback whose declared quality is lower, or unknown, does not answer.
        """
        if callable(name):  # @meter.measure without parentheses
            return Measure(self)(name)  # type: ignore[return-value]
        return Measure(
            self, name, model=model, fallback=fallback, unit=unit, tenant=tenant, estimate=estimate, size=size,
            min_quality=min_quality,
        )  # fmt: skip

    def remote(
        self,
        *,
        model: str,
        provider: str,
        zone: str | None = None,
        like: str | None = None,
        metered: bool = False,
        fallback: Callable[..., Any] | None = None,
        estimate: Estimate = None,
    ) -> Measure:
        """Meter a call to a model elsewhere: ``with meter.remote(model="mistral-small", provider="mistralai") as span``, then
        ``span.note(reply)``; or as a decorator of a function that returns the reply or yields its pieces.

        Its joules are ``energy_remote_j`` of the request around it, tier ``sourced``, by EcoLogits (extra ``llm``). ``zone`` is
        where the model runs (ISO 3166-1 alpha-3); ``like`` a "provider/model" to estimate as. ``metered``: the callee is metered
        by us, its ``usage.frugal`` is believed and comes first. Raises MissingExtraError, ConfigurationError.
        """
        from .remote.call import calls

        call = calls(provider, model, zone=zone, like=like, metered=metered)
        return Measure(self, f"{provider}/{model}", model=model, fallback=fallback, estimate=estimate, call=call)

    def remote_client(
        self, client: Any, *, provider: str, zone: str | None = None, like: str | None = None, metered: Sequence[str] = ()
    ) -> Any:
        """Meter every OpenAI-shaped call that ``client``, an ``httpx.Client`` or ``AsyncClient``, makes; returns it.

        ``OpenAI(http_client=meter.remote_client(httpx.Client(), provider="mistralai"))``. ``metered`` are hosts
        ("albert.interne", "10.0.0.7:8000") whose ``usage.frugal`` is believed. Raises MissingExtraError, ConfigurationError.
        """
        from .remote.client import listen

        return listen(self, client, provider=provider, zone=zone, like=like, metered=metered)

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

    def find(self, id: str) -> Reading | None:
        """The reading of that id: of the last 10,000 since an ops page was made, else of the journal. It may read a file."""
        found = super().find(id)
        if found is None and self.journal is not None:
            with self.guard("journal"):
                return self.journal.find(id)
        return found

    # -- surfaces

    @property
    def dropped(self) -> int:
        """Readings that a slow exporter lost, or a journal that could not be written for long."""
        return self._dispatch.dropped + (self.journal.dropped_readings if self.journal is not None else 0)

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type: Prometheus text, or OpenMetrics where ``accept`` asks for it."""
        from .exporters.prometheus import render

        return render(self, accept)

    def ops_app(self, *, token: str | None = None, public: bool = False) -> Starlette:
        """An ASGI application with ``/metrics``, the live page, and the pages for the public: ``/frugal-ai.json``, ``/notice``.

        It answers loopback only, and never a request that carries Forwarded headers, unless opened on purpose: with
        ``token`` (or ``$FRUGAL_OPS_TOKEN``) to whoever sends ``Authorization: Bearer``, with ``public=True`` to everybody. The
        pages for the public alone are opened by ``[declaration] public = true``.
        """
        from .declaration.serving import public_pages
        from .exporters.live_state import live_state
        from .exporters.ops import ops_app

        pages: dict[str, Any] = {"feedback": self.feedback, "citizens": public_pages(self)}
        app = ops_app(self.metrics, lambda: live_state(self), self.find, token=_ops_token(token), public=public, **pages)
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

    def _admission(self, budgets: list[Budget], store: str, on_store_error: str, *, alone: bool) -> Admission:
        has_tenants = self._tenant is not None
        admission = Admission(budgets, MemoryStore(), self.figures.amount, has_tenants=has_tenants, now_ns=self.clock.time_ns)
        for line in admission.check(self._tier_of, self.setup.unavailable, self.clock.time_ns()):
            log.warning("frugal_meter: %s", line)
        self._share = partial(share, admission, store, on_store_error, self.service, alone=alone, fault=self.fault)
        self._share()
        return admission

    def _after_fork_in_child(self) -> None:
        self._lifecycle = threading.Lock()
        self._running, self._starts = False, 0
        self.sampler.after_fork_in_child()
        self.snapshots.after_fork_in_child()
        self.aggregates, self._readings = Aggregates(self.figures, len(self.setup.sources)), []
        self._ends, self._ended = itertools.count(1), [0]
        self._live, self._finished = self.sampler.live, self.sampler.finished
        automatic = self.sections.automatic
        self.sections = self.ledger.sections = Sections(self.clock.monotonic_ns, ticks=not self.disabled, automatic=automatic)
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
