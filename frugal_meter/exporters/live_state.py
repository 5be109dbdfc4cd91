"""What the live page shows of a meter at one instant."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..budgets.budget import Budget
from ..budgets.ladder import rung_at
from ..budgets.leases import Book
from ..records import Interval, Reading, Tier
from ..units import BOOKED_IN, SHOWN_IN
from .evidence import spread
from .page_state import BudgetState, FactorLine, Level, LiveState, SourceState, StoreState
from .view import MeterView


def live_state(meter: MeterView) -> LiveState:
    """The meter as it stands now; reads what the tick left, takes no lock of the request path."""
    ticks = [t for t in meter.last_ticks if t.t1_ns > t.t0_ns]
    seconds = (ticks[0].t1_ns - ticks[0].t0_ns) / 1e9 if ticks else None
    factor, pue = meter.figures.factor, meter.figures.pue
    totals = meter.aggregates.totals_nj() if meter.aggregates.energy_nj else {}  # no tick yet: unknown, not 0
    now_s = meter.clock.time_ns() / 1e9
    process_ns = meter.sampler.process_ns_since_start
    return LiveState(
        service=meter.service,
        zone=factor.zone,
        at=now_s,
        since=(meter.since_ns + meter.figures.unix_offset_ns) / 1e9,
        watts_now=_watts(meter, seconds),
        watts_tier=meter.figures.weakest_tier,
        window_s=seconds,
        buckets_j={bucket: nj / 1e9 for bucket, nj in totals.items()},
        sources=[_source(meter, place) for place in range(len(meter.ledger.books))],
        requests=list(reversed(_recent(meter))),
        budgets=[_budget(meter, book) for book in meter.admission.store.books(meter.clock.time_ns())],
        factor=FactorLine(
            id=factor.id,
            zone=factor.zone,
            grams_per_kwh=factor.grams_per_kwh,
            dataset=factor.dataset,
            year=factor.year,
            licence=factor.licence,
            bounds=factor.interval,
        ),
        pue=pue.interval,
        method_id=meter.figures.method_id,
        flags=meter.figures.flags,
        meter_cpu_share=meter.sampler.meter_cpu_ns / process_ns if process_ns and meter.sampler.meter_cpu_ns else None,
        account_tier=meter.figures.weakest_tier,
        bounds_j=_bounds(meter, totals),
        disabled=meter.disabled,
        store=_store(meter),
        workers=meter.snapshots.workers,
        off_nj=meter.aggregates.difference_nj() if totals else None,
    )


def _bounds(meter: MeterView, totals: Mapping[str, int]) -> dict[str, Interval]:
    """Bounds of the whole as the sources told them, and of each bucket in proportion; what is allocated is wider still."""
    low, mid, high = meter.aggregates.bounds_nj()
    if not mid:
        return {}
    whole = Interval(low, mid, high).times(1e-9)
    parts = {bucket: whole.times(nj / mid) for bucket, nj in totals.items()}
    wide = parts["requests"]
    key_low, key_high = meter.ledger.key
    parts["requests"] = Interval(wide.low * key_low, wide.mid, wide.high * key_high)
    return {"total": whole, **parts}


def _recent(meter: MeterView) -> list[Reading]:
    return [meter.figures.whole(span) for span in list(meter.recent)]


def _watts(meter: MeterView, seconds: float | None) -> Interval | None:
    ticks = meter.last_ticks
    if not ticks or not seconds:
        return None
    low = sum(t.energy_nj if t.low_nj is None else t.low_nj for t in ticks)
    high = sum(t.energy_nj if t.high_nj is None else t.high_nj for t in ticks)
    return Interval(low, sum(t.energy_nj for t in ticks), high).times(1e-9 / seconds)


def _source(meter: MeterView, place: int) -> SourceState:
    books = meter.ledger.books[place]
    source = books.source
    tick = next((t for t in meter.last_ticks if t.source == source.name and t.t1_ns > t.t0_ns), None)
    ns = tick.t1_ns - tick.t0_ns if tick is not None else 1
    watts = None if tick is None else tick.energy_nj / ns
    bounds = None
    if tick is not None and tick.low_nj is not None and tick.high_nj is not None:
        bounds = Interval(tick.low_nj / ns, tick.energy_nj / ns, tick.high_nj / ns)
    return SourceState(
        name=source.name,
        component=source.component,
        tier=source.tier,
        up=books.up is not False,
        watts=watts,
        provenance=source.provenance,
        method=source.method,
        bounds=bounds,
    )


def _budget(meter: MeterView, book: Book) -> BudgetState:
    budget = book.budget
    scale = BOOKED_IN[budget.resource][1]
    used = book.committed_by_all / scale
    return BudgetState(
        name=budget.name,
        key=_key(book),
        unit=SHOWN_IN[budget.resource],
        limit=budget.limit.shown,
        settled=(book.committed_by_all - book.reserved_by_all) / scale,
        reserved=book.reserved_by_all / scale,
        window=budget.per,
        resets_at=book.end_ns / 1e9,
        level=_level(book),
        enforced=meter.admission.can_refuse(budget) and not meter.disabled,
        tier=meter.admission.tiers.get(budget.name),
        bounds=spread(meter, budget.resource, used),
        match=_match(budget.match),
        dynamic=budget.resource == "energy" and budget.basis == "dynamic",
        required=_required(meter, budget),
        overrides=_overrides(meter, book),
    )


def _key(book: Book) -> str | None:
    """The budget's key without tenants' names: those are nobody's business but the operator's."""
    shown = [what if what == "tenant" else f"{what} {value}" for what, value in zip(book.budget.key, book.key, strict=True)]
    return ", ".join(shown) or None


def _match(match: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Which requests count, by key, without tenants' names."""
    return {what: "…" if what == "tenant" else " | ".join(sorted(any_of)) for what, any_of in match.items()}


def _level(book: Book) -> Level:
    budget, limit = book.budget, book.budget.limit.amount
    if book.committed_by_all >= limit:
        return "refuse"
    rung = rung_at(book.committed_by_all, limit, budget.warn_at, budget.degrade_at, budget.throttle_at, book.rung)
    return "warn" if rung == "warn" else "degrade" if rung == "degrade" else "throttle" if rung == "throttle" else "ok"


def _required(meter: MeterView, budget: Budget) -> Tier | None:
    """The tier it lacks; a budget that only watches lacks nothing."""
    return budget.require_tier if budget.enforce and not meter.admission.can_refuse(budget) else None


def _overrides(meter: MeterView, book: Book) -> tuple[float, ...]:
    """Until when this part may be passed; by whom and why is for the log, not for a page."""
    now_s = meter.clock.time_ns() / 1e9
    told = meter.admission.log.overrides
    return tuple(o.until_s for o in told if o.budget == book.budget.name and o.key in (None, book.key) and o.holds(now_s))


def _store(meter: MeterView) -> StoreState | None:
    sharing = meter.admission.sharing
    if sharing is None or not meter.admission.budgets:
        return None
    return StoreState(kind=sharing.store.kind, up=not sharing.down, policy=sharing.on_error, holders=sharing.holders)
