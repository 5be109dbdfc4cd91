"""What a meter does at each tick, on the tick's thread: books what settled, feeds exporters, tends budgets."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .attribution import libraries
from .attribution.pools import Sections
from .attribution.sampler import Clock, Sampler
from .attribution.span import Span
from .budgets.budget import Budget
from .budgets.upkeep import SIGHT_NS, SIGHT_TICKS
from .config import WatchedFile
from .desk import Desk
from .errors import FrugalMeterError
from .exporters.dispatch import Dispatch
from .exporters.page_state import MOST_REQUESTS
from .exporters.snapshot import Snapshots
from .records import Reading, Tick, Tier
from .setup import Setup, budget_tier
from .sources import Window

log = logging.getLogger("frugal_meter")


class Ticking(Desk):
    """The desk's other side: where its spans go once they have settled. The parts named below are made by the meter."""

    setup: Setup
    sections: Sections
    sampler: Sampler
    snapshots: Snapshots
    _dispatch: Dispatch
    _share: Callable[..., None]

    def __init__(self, clock: Clock, tenant: Callable[[Mapping[str, Any]], str | None] | None) -> None:
        super().__init__(clock, tenant)
        self.cut_nj = 0  # dynamic energy of requests that a hard budget cut: drawn, and nobody was served whole
        self.recent: deque[Span] = deque(maxlen=MOST_REQUESTS)
        self.last_ticks: Sequence[Tick] = ()
        self._blocks_only = True
        self._readings: list[Reading] = []
        self._config: WatchedFile | None = None

    def _settled(self, spans: list[Span]) -> None:
        recent = self.recent
        for span in spans:
            try:
                span.settled = True
                if self._ops_apps:
                    self._kept.append(span)
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
        self.figures.look_at_clock(self._unix_ns(), self._mono())
        self.aggregates.add_ticks(ticks, self.ledger.shared)
        readings, self._readings = self._readings, []
        self._dispatch.send(readings, ticks)
        with self.guard("budget"):
            self._tend_budgets()
        with self.guard("share"):
            self.snapshots.tell(window)
        if self.sections.automatic:
            with self.guard("section"):
                libraries.look()

    def _tend_budgets(self) -> None:
        admission = self.admission
        if self._config is not None and self._config.changed():
            self._reload()
        if admission.budgets:
            now_ns = self._mono()
            if self.sampler.running:
                admission.sighted_until_ns = now_ns + max(SIGHT_NS, SIGHT_TICKS * int(self.sampler.period_s * 1e9))
            admission.upkeep.tick(list(self._live), self._unix_ns(), now_ns)

    def _reload(self) -> None:
        """Take up the budgets of a configuration file that has changed; one that cannot be read changes nothing."""
        assert self._config is not None
        try:
            budgets = self._config.budgets()
            self._share(budgets=budgets)  # the first budgets may come with this file
            if self._running:
                self.admission.start()
            lines = self.admission.reload(budgets, self._tier_of, self.setup.unavailable, self._unix_ns())
        except FrugalMeterError as error:
            log.warning("frugal_meter: the budgets in force stay: %s", error)
            return
        self.shapes = self._shaping()
        log.info("frugal_meter: budgets taken up anew from %s", self._config.path)
        for line in lines:
            log.warning("frugal_meter: %s", line)
        self.look_at_matches()

    def _tier_of(self, budget: Budget) -> Tier | None:
        return budget_tier(budget, self.setup.sources)
