"""The families of samples that tell of budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..units import NJ_PER_J
from . import aggregates

if TYPE_CHECKING:
    from ..budgets.admission import Admission
    from ..budgets.budget import Budget
    from ..budgets.leases import Book
    from .sums import Service
    from .view import MeterView

#: the unit of a limit in its metric's name, by resource
LIMITS: Final = {
    "energy": "joules",
    "carbon": "grams",
    "cpu": "seconds",
    "gpu": "seconds",
    "tokens": "tokens",
    "requests": "requests",
}

#: a budget, one of its keys, and what is settled and reserved there in its integer unit
Part = tuple["Budget", tuple[str, ...], int, int]


def budget_families(meter: MeterView, service: Service) -> dict[str, list[Any]]:
    """Samples by the name of their family. Usage is that of all workers, as the one that answers was told last."""
    admission = meter.admission
    now_ns = meter.clock.time_ns()
    books = admission.store.books(now_ns)
    windows = {book.budget.name: book for book in books}
    labels = {budget.name: (budget.name, budget.resource) for budget in admission.budgets}
    limits: dict[str, list[Any]] = {f"frugal_budget_limit_{unit}": [] for unit in LIMITS.values()}
    for budget in admission.budgets:
        limits[f"frugal_budget_limit_{LIMITS[budget.resource]}"].append((labels[budget.name], budget.limit.shown))
    return {
        "frugal_budget_usage_ratio": [
            ((*labels[budget.name], _joined(key), state), amount / budget.limit.amount)
            for budget, key, *amounts in _fullest(_parts(admission, books, now_ns / 1e9))
            for state, amount in zip(("settled", "reserved"), amounts, strict=True)
        ],
        **limits,
        "frugal_budget_window_seconds": [(labels[name], (b.end_ns - b.start_ns) / 1e9) for name, b in windows.items()],
        "frugal_budget_reset_timestamp_seconds": [(labels[name], b.end_ns / 1e9) for name, b in windows.items()],
        "frugal_budget_enforced": [
            (
                (*labels[b.name], admission.tiers.get(b.name) or "counted"),
                float(admission.can_refuse(b) and not meter.disabled),
            )
            for b in admission.budgets
        ],
        "frugal_cut_energy_joules": [((), service.total.cut_nj / NJ_PER_J)] if meter.ledger.books and not meter.disabled else [],
        "frugal_budget_decisions": [
            ((*labels[name], action), n) for (name, action), n in service.total.decisions.items() if name in labels
        ],
        "frugal_budget_overrides": [
            (labels[name], sum(1 for o in admission.log.overrides if o.budget == name and o.holds(now_ns / 1e9)))
            for name in labels
        ],
        "frugal_budget_leases": [(labels[name], n) for name, n in service.budgets.leases.items() if name in labels],
        "frugal_budget_estimator_bias_ratio": [
            (labels[name], bias) for name in labels if (bias := service.total.budgets.bias(name)) is not None
        ],
        **_upkeep(admission, service),
        **_store(admission, service, books),
    }


def _upkeep(admission: Admission, service: Service) -> dict[str, list[Any]]:
    counts = service.total.budgets
    told = {
        "frugal_budget_queued_requests": service.budgets.queued,
        "frugal_budget_top_ups": counts.topped_up,
        "frugal_budget_expired_leases": counts.expired,
        "frugal_budget_blind_settlements": counts.blind,
    }
    return {name: [((), n)] if admission.budgets else [] for name, n in told.items()}


def _store(admission: Admission, service: Service, books: Sequence[Book]) -> dict[str, list[Any]]:
    """Of a shared store; budgets in memory have none, and tell nothing of it."""
    gauges = service.budgets
    shared = gauges.store is not None
    expired = dict.fromkeys(admission.budgets, 0)
    for book in books:
        if book.budget in expired:
            expired[book.budget] += book.expired
    return {
        "frugal_budget_store_up": [((gauges.store,), float(not gauges.alone))] if shared else [],
        "frugal_budget_store_holders": [((), gauges.holders)] if shared else [],
        "frugal_budget_store_exchanges": [((), service.total.budgets.exchanges)] if shared else [],
        "frugal_budget_workers_alone": [((gauges.policy,), gauges.alone)] if shared else [],
        "frugal_budget_expired_holdings": [((b.name, b.resource), n) for b, n in expired.items()] if shared else [],
    }


def _joined(key: Sequence[str]) -> str:
    """The parts of a key as one label; a part's own slashes are doubled, so that no two keys look alike."""
    return "/".join(part.replace("/", "//") for part in key)


def _parts(admission: Admission, books: Sequence[Book], now_s: float) -> list[Part]:
    """Every part of every budget, with what is settled and reserved there: this process's own, and those that its shared store
    knows of others. Where this one has just been at work, or knows of more that is settled, it knows best; else the store does.
    """
    parts: dict[tuple[str, tuple[str, ...]], Part] = {}
    sharing = admission.sharing
    for budget in admission.budgets:
        if sharing is None or sharing.down:
            break
        parts |= {
            (budget.name, use.key): (budget, use.key, use.settled, use.reserved) for use in sharing.overview.uses(budget, now_s)
        }
    for book in books:
        name = book.budget.name, book.key
        settled = book.committed_by_all - book.reserved_by_all
        if book.budget in admission.budgets and (book.idle <= 1 or name not in parts or settled > parts[name][2]):
            parts[name] = book.budget, book.key, settled, book.reserved_by_all
    return list(parts.values())


def _fullest(parts: list[Part]) -> list[Part]:
    """All the parts, or where there are too many for labels those that are nearest to their limit."""
    if len(parts) <= aggregates.MAX_LABEL_SETS:
        return parts
    return sorted(parts, key=lambda p: (p[2] + p[3]) / p[0].limit.amount, reverse=True)[: aggregates.MAX_LABEL_SETS]
