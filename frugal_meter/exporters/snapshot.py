"""A meter's own part of the metrics, and with it the service's: what all its workers told last, or this process alone."""

from __future__ import annotations

import os
import threading
from operator import add
from typing import TYPE_CHECKING

from ..ring.peers import BLIND
from ..ring.records import State
from ..sources import Window
from .budget_sums import counts_of, gauges_of
from .dispatch import OPS_MARK
from .multiprocess import Multiprocess
from .sums import NOTHING, Books, Point, Seat, Service, Sums, Total, service_of

if TYPE_CHECKING:
    from ..attribution.workers import Taken
    from .view import MeterView


class Snapshots:
    """Takes a meter's sums, tells them to the other workers of its service at every tick, and reads theirs."""

    def __init__(self, meter: MeterView) -> None:
        self._meter = meter
        sources = [f"{books.source.name} {books.source.method}" for books in meter.ledger.books]
        self._workers = Multiprocess(meter.service, sources, meter.fault)
        self._telling = threading.Lock()
        self._coverage: tuple[int, int] | None = None
        self._last: Service | None = None

    def join(self, ended: int) -> memoryview | None:
        """Be one of the service's workers; the word in which requests that end are to be counted, ``ended`` so far."""
        return self._workers.join(ended)

    def tell(self, window: Window | None = None) -> None:
        """Tell the other workers, at the start and at the end of each tick."""
        if window is not None and self._meter.ledger.coverage is not None:
            self._coverage = int(self._meter.ledger.coverage * window.process_ns), window.process_ns
        if self._workers.joined:
            with self._telling:  # the start tells on one thread and the first tick on another: never the older one last
                self._workers.publish(self.own())

    def service(self) -> Service:
        """The figures of the service as far as this process sees it."""
        if self._workers.joined:
            try:
                ended, living = self._workers.gather()
                if living:
                    ended.lose(0, len(living[0].sources))
                    self._last = service_of(ended, living)
                    return self._last
            except Exception as error:  # somebody else's hand in the folder: a scrape is answered all the same
                self._meter.fault("share", error)
                if getattr(error, "errno", None) in BLIND and self._last is not None:
                    return self._last  # no file could be opened just now: counters that fall and rise again count twice
        return self.alone()

    def alone(self) -> Service:
        """The figures of this process."""
        return service_of(Total(), [self.own()])

    def own(self) -> Sums:
        """What this process has to tell."""
        meter, sums = self._meter, self._meter.aggregates
        buckets, alone = sums.books_nj
        seat, names = meter.sampler.seat, [books.source.name for books in meter.ledger.books]
        return Sums(
            pid=os.getpid(),
            at_ns=meter.clock.monotonic_ns(),
            rows=dict(sums.rows),
            kinds=dict(sums.distributions),
            overflow={"requests": sums.overflow, "histograms": sums.overflow_kinds},
            overhead_nj=dict(sums.overhead_nj),
            sources=[
                Books(dict(alone.get(name) or NOTHING), booked["late"], booked["overhead"], books.up)
                for name, books in zip(names, meter.ledger.books, strict=True)
                for booked in [buckets.get(name) or NOTHING]
            ],
            running_nj=_running_nj(meter),
            process_ns=meter.sampler.process_ns_since_start,
            meter_ns=meter.sampler.meter_cpu_ns,
            dropped=meter.dropped,
            errors=dict(meter.errors),
            decisions={(budget, action): n for (budget, action), n in meter.admission.decisions.items()},
            in_progress=_in_progress(meter),
            coverage=self._coverage,
            seat=None if seat is None else _seat(seat, names),
            left=[_seat(each, names) for each in meter.sampler.seats_left],
            cut_nj=meter.cut_nj,
            budgets=counts_of(meter.admission),
            budgets_now=gauges_of(meter.admission, meter.clock.time_ns()),
            since_ns=meter.since_ns + meter.figures.unix_offset_ns,
        )

    def after_fork_in_child(self) -> None:
        """The parent's place is the parent's."""
        self._workers.after_fork_in_child()
        self._telling = threading.Lock()
        self._last = None


def _seat(seat: Taken, names: list[str]) -> Seat:
    return Seat(seat.born, seat.place, _point(seat.base, seat.sources, names), _point(seat.last, seat.sources, names))


def _point(state: State, shared: tuple[str, ...], names: list[str]) -> Point:
    """The ring's totals with a place for every source of the meter."""
    totals = [state.sources[shared.index(name)] if name in shared else None for name in names]
    nobody = [0] * len(state.pids)
    return Point(
        state.seq,
        state.pids,
        [t.energy_nj if t is not None else 0 for t in totals],
        [t.idle_nj if t is not None else 0 for t in totals],
        [t.gap_nj if t is not None else 0 for t in totals],
        [t.other_nj if t is not None else 0 for t in totals],
        [t.mine if t is not None else nobody for t in totals],
    )


def _running_nj(meter: MeterView) -> list[int]:
    # A span that has ended stays in progress until the next tick has settled it.
    running = [0] * len(meter.ledger.books)
    for span in [*list(meter.sampler.live), *list(meter.sampler.finished)]:
        if span.account is not None and not span.settled:
            running = list(map(add, running, span.account.sources_nj))
    return running


def _in_progress(meter: MeterView) -> int:
    """Requests now running, those for the meter's own pages left out: a scrape must not see itself."""
    spans = [span for span in list(meter.sampler.live) if span.parent is None]
    return sum(1 for span in spans if not span.ops and (span.scope is None or OPS_MARK not in span.scope))
