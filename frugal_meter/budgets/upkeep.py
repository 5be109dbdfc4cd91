"""What running work needs of its budgets: more where it outgrows its lease, an end to leases that nobody uses any more."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ..attribution.span import Span
from .leases import Lease
from .stores import KEEP_S

if TYPE_CHECKING:
    from .admission import Admission

#: a running span asks for more before it has used up this part of its lease, and then for this part of it on top
TOP_UP_AT: Final = 0.8
TOP_UP_BY: Final = 0.5
#: work that has used no CPU for this long is no longer held for: its lease is charged as it stands
LEASE_S: Final = KEEP_S
#: a streamed chunk looks at its leases no more often than this; the tick does so in any case
LOOK_NS: Final = 20_000_000
#: without a tick for this long, or this many of its periods, nobody can tell joules: work is charged what was reserved
SIGHT_NS: Final = 20_000_000_000
SIGHT_TICKS: Final = 10
_KEEP_ESTIMATES_S: Final = 60.0


class Upkeep:
    """The tick's part of budgets, and a stream's. ``topped_up`` and ``expired`` count leases."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.topped_up = self.expired = 0
        self._kept_at = time.monotonic()

    def top_up(self, span: Span, now_ns: int) -> None:
        """Ask for more where ``span`` is about to outgrow a lease. Refused by a hard budget, ``span.cut`` says why."""
        used_of = self._admission.used
        for lease in span.leases or ():
            budget = lease.book.budget
            if lease.charged_milli is not None or budget.resource == "requests" or budget not in self._admission.budgets:
                continue
            milli = used_of[budget](span)
            if milli is not None and milli >= TOP_UP_AT * 1000 * lease.amount:
                self._more(span, lease, milli // 1000, now_ns)

    def _more(self, span: Span, lease: Lease, used: int, now_ns: int) -> None:
        admission, held = self._admission, lease.amount
        least = max(1, used + 1 - held)
        more = max(int(held * TOP_UP_BY), 2 * least)
        if admission.store.top_up(lease, more, least):
            self.topped_up += 1
            return
        sharing = admission.sharing
        if sharing is not None and not sharing.down and lease not in sharing.denied:
            sharing.ask_more(lease, more, least)
            return
        if sharing is not None:
            sharing.denied.discard(lease)  # ask again at the next look: others may have given back
        if used >= held and lease.book.budget.hard and admission.can_refuse(lease.book.budget):
            admission.cut(span, lease, used, now_ns)

    def tick(self, live: Iterable[Span], now_ns: int, mono_ns: int) -> None:
        """Top up what runs, end what nobody uses, turn the queue, let a shared store know, and forget what is over."""
        admission = self._admission
        for span in live:
            if span.leases:
                self.top_up(span, now_ns)
                if mono_ns - span.t0_ns > LEASE_S * 1e9:
                    self._renew(span, mono_ns)
        if admission.line.queued:
            admission.line.next_turns()
        admission.log.admitted(admission.budgets, admission.decisions, now_ns / 1e9)
        if admission.sharing is not None:
            if time.monotonic() - self._kept_at >= _KEEP_ESTIMATES_S:
                self._kept_at = time.monotonic()
                admission.sharing.keep(admission.learnt())
            admission.sharing.tick()
        elif admission.keeping is not None:
            admission.keeping.tick()
        admission.store.let_go(now_ns)

    def _renew(self, span: Span, mono_ns: int) -> None:
        """Old work that still uses CPU keeps its leases; one that has used none for `LEASE_S` is charged what it holds."""
        cpu_ns = span.total_cpu_ns
        if span.renewed is None or span.renewed[0] != cpu_ns:
            span.renewed = (cpu_ns, mono_ns)
        elif mono_ns - span.renewed[1] > LEASE_S * 1e9:
            owed = [lease for lease in span.leases if lease.charged_milli is None]
            self.expired += len(owed)
            self._admission.store.settle(owed, [None] * len(owed))
