"""What the live page shows of a meter at one instant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from ..budgets.budget import Budget
from ..budgets.ladder import rung_at
from ..budgets.leases import Book
from ..records import Interval, Reading, Tier
from ..units import BOOKED_IN, SHOWN_IN
from .evidence import spread
from .page_state import BUCKETS, BudgetState, FactorLine, Level, LiveState, SourceState, StoreState
from .sums import Service
from .view import MeterView

#: after so many requests a budget that has matched none of them is worth a look
ENOUGH_REQUESTS: Final = 100


def live_state(meter: MeterView) -> LiveState:
    """The service as it stands now, over all its workers; power and the last requests are those that this one saw.

    Reads what ticks left, takes no lock of the request path.
    """
    ticks = [t for t in meter.last_ticks if t.t1_ns > t.t0_ns]
    seconds = (ticks[0].t1_ns - ticks[0].t0_ns) / 1e9 if ticks else None
    factor, pue = meter.figures.factor, meter.figures.pue
    service = meter.snapshots.service()
    totals = _totals_nj(service) if meter.aggregates.energy_nj else {}  # no tick yet: unknown, not 0
    now_s = meter.clock.time_ns() / 1e9
    process_ns, meter_ns = service.total.process_ns, service.total.meter_ns
    return LiveState(
        service=meter.service,
        zone=factor.zone,
        at=now_s,
        since=service.total.since_ns / 1e9,
        watts_now=_watts(meter, seconds),
        watts_tier=meter.figures.weakest_tier,
        window_s=seconds,
        buckets_j={bucket: nj / 1e9 for bucket, nj in totals.items()},
        sources=[_source(meter, place) for place in range(len(meter.ledger.books))],
        requests=list(reversed(_recent(meter))),
        budgets=_budgets(meter),
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
        meter_cpu_share=meter_ns / process_ns if process_ns and meter_ns else None,
        account_tier=meter.figures.weakest_tier,
        bounds_j=_bounds(meter, totals),
        disabled=meter.disabled,
        store=_store(meter),
        workers=service.workers if service.workers > 1 else None,
        off_nj=service.difference_nj if totals else None,
    )


def _totals_nj(service: Service) -> dict[str, int]:
    """Where the joules of the host went since the service began, by bucket: what is charged to nobody else is requests'."""
    told = [source.unattributed_nj for source in service.sources]
    rest = {bucket: sum(reasons[bucket] for reasons in told) for bucket in BUCKETS if bucket != "requests"}
    requests = sum(source.energy_nj for source in service.sources) - sum(rest.values())
    return {bucket: rest.get(bucket, requests) for bucket in BUCKETS}


def _bounds(meter: MeterView, totals: Mapping[str, int]) -> dict[str, Interval]:
    """Bounds of the whole as the sources told them to this worker, in proportion to what they told since the service began;
    and of each bucket in proportion to that. What is allocated is wider still.
    """
    low, mid, high = meter.aggregates.bounds_nj()
    if not mid:
        return {}
    parts = {bucket: Interval(low, mid, high).times(nj / mid / 1e9) for bucket, nj in totals.items()}
    whole = Interval(low, mid, high).times(sum(totals.values()) / mid / 1e9)
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


def _budgets(meter: MeterView) -> list[BudgetState]:
    books = meter.admission.store.books(meter.clock.time_ns())
    unmatched = _unmatched(meter) if any(budget.match for budget in meter.admission.budgets) else set()
    since = (meter.since_ns + meter.figures.unix_offset_ns) / 1e9
    return [_budget(meter, book, since if book.budget.name in unmatched else None) for book in books]


def _unmatched(meter: MeterView) -> set[str]:
    """Budgets with a ``match`` that no worker of the service has decided over, once it has served enough to tell."""
    total = meter.snapshots.service().total
    if sum(count for row in total.rows.values() for count in row.outcomes.values()) < ENOUGH_REQUESTS:
        return set()
    met = {budget for (budget, _), count in total.decisions.items() if count}
    return {budget.name for budget in meter.admission.budgets if budget.match} - met


def _budget(meter: MeterView, book: Book, unmatched: float | None) -> BudgetState:
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
        unmatched=unmatched,
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
