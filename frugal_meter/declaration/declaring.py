"""From a statement and the figures of a period to the `Declaration`: small numbers left out, figures rounded outward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context
from importlib import metadata
from typing import Any, Final

import msgspec

from ..budgets.budget import Budget
from ..carbon.factors import Factor
from ..periods import LEAST_PUBLIC, Period, public
from ..records import Interval
from ..units import J_PER_KWH
from .calendar import valid_until
from .document import (
    COUNTED_IN,
    REASONS,
    SCHEMA,
    Boundary,
    Bounds,
    BudgetLine,
    Carbon,
    Code,
    Declaration,
    Each,
    FactorLine,
    Legal,
    Method,
    Organisation,
    Provenance,
    Quality,
    Service,
    Stretch,
    Unit,
    Unknown,
    Volume,
    Year,
    nulls,
)
from .keeping import Kept
from .statement import Statement

DIGITS: Final = 3
YEAR_S: Final = 365 * 86_400.0
#: a year is told from a period only where books cover at least this share of it
LEAST_COVERED: Final = 0.5
#: factors and PUEs that are listed; an hourly series has thousands
MOST_LISTED: Final = 20
#: what no figure of ours holds, whatever the service
EXCLUDED: Final = ("the network", "the devices of users", "the training of models", "the development of the service")
_REFERENCE: Final = "frugal-meter {}, docs/method.md and docs/declaration.md"
Lookup = Callable[[str], Factor | None]


def declare(
    statement: Statement,
    service: str,
    kept: Kept | Code,
    *,
    begin: datetime,
    end: datetime,
    now: datetime,
    budgets: Sequence[Budget] = (),
    factor: Lookup = lambda id: None,
) -> Declaration:
    """The declaration of one service. ``kept`` are the figures between ``begin`` and ``end``, or why there are none.

    ``factor`` finds an emission factor by its id. Figures of fewer than 5 requests or units are left out whole.
    """
    figures, why = _public(kept)
    reasons: dict[str, Code] = {}
    described = _service(statement, service, kept, figures, why, reasons, budgets, factor)
    version = metadata.version("frugal-meter")
    covered = None if figures is None else round(figures.covered_s / (figures.end_s - figures.begin_s), 3)
    whole = Declaration(
        schema=SCHEMA,
        declared_at=now,
        valid_until=valid_until(begin, end),
        period=Stretch(begin=begin, end=end, covered_share=None if covered is None else min(1.0, covered)),
        organisation=Organisation(
            name=statement.organisation, siret=statement.siret, contact=statement.contact, answerable=statement.answerable
        ),
        services=(described,),
        unknown=(),
        provenance=Provenance(
            tool="frugal-meter", version=version, figures_sha256=kept.sha256 if isinstance(kept, Kept) and figures else None
        ),
        licence=statement.licence,
    )
    return _explained(whole, {"/period/covered_share": why, "/provenance/figures_sha256": why, **reasons})


def _public(kept: Kept | Code) -> tuple[Period | None, Code]:
    if not isinstance(kept, Kept):
        return None, kept
    figures = public(kept.figures)
    if figures is None:
        return None, "too_few"
    return figures, "no_books"


def _service(
    statement: Statement,
    service: str,
    kept: Kept | Code,
    figures: Period | None,
    why: Code,
    reasons: dict[str, Code],
    budgets: Sequence[Budget],
    factor: Lookup,
) -> Service:
    at = "/services/0"
    acted = kept.acted if isinstance(kept, Kept) and figures is not None else None
    for name in ("volume/requests", "volume/failed", "volume/refused", "unit/delivered", "method/tier", "method/measured_share"):
        reasons[f"{at}/{name}"] = why
    for name in ("it_energy_kwh", "co2e", "per_unit", "per_year", "quality", "elsewhere_kwh"):
        reasons[f"{at}/{name}"] = why
    each = year = quality = None
    if figures is not None:
        each, year, quality = _each(figures), _year(figures), _quality(figures)
        reasons |= {
            f"{at}/per_unit": "none_delivered",
            f"{at}/per_year": "partly_covered",
            f"{at}/quality": _no_quality(figures),
            f"{at}/elsewhere_kwh": "not_told",
            f"{at}/method/measured_share": "no_books",
        }
    return Service(
        id=line(service),
        name=statement.name,
        purpose=statement.purpose,
        status=statement.status,
        users=statement.users,
        necessity=statement.necessity,
        contribution=statement.contribution,
        human_oversight=statement.human_oversight,
        human_alternative=statement.human_alternative,
        human_alternative_url=statement.human_alternative_url,
        legal=statement.legal or Legal(individual_decisions=None, rules_url=None, ai_act_class=None),
        models=statement.models or None,
        suppliers=statement.suppliers,
        unit=Unit(name=statement.unit, delivered=None if figures is None else in_fives(figures.units)),
        volume=_volume(figures),
        it_energy_kwh=None if figures is None else bounds(figures.energy_j, 1 / J_PER_KWH),
        co2e=None if figures is None else _carbon(figures),
        per_unit=each,
        per_year=year,
        elsewhere_kwh=None if figures is None or figures.remote_j is None else rounded(figures.remote_j / J_PER_KWH),
        boundary=Boundary(
            included=tuple(map(line, figures.boundary)) if figures else (), excluded=(*EXCLUDED, *statement.not_counted)
        ),
        method=_method(kept if isinstance(kept, Kept) else None, figures, factor, reasons),
        budgets=tuple(_budget(place, budget, acted, why, reasons) for place, budget in enumerate(budgets[:100])),
        objective=statement.objective,
        quality=quality,
        impact_study_url=statement.impact_study_url,
        rgesn_url=statement.rgesn_url,
    )


def _volume(figures: Period | None) -> Volume:
    if figures is None:
        return Volume(requests=None, failed=None, refused=None)
    return Volume(requests=in_fives(figures.requests), failed=in_fives(figures.failed), refused=in_fives(figures.refused))


def _carbon(figures: Period) -> Carbon:
    operational, embodied, total = figures.operational_g, figures.embodied_g, figures.carbon_g
    return Carbon(operational_kg=bounds(operational, 1e-3), embodied_kg=bounds(embodied, 1e-3), total_kg=bounds(total, 1e-3))


def _each(figures: Period) -> Each | None:
    if figures.per_unit_j is None or figures.per_unit_g is None:
        return None
    return Each(it_energy_j=bounds(figures.per_unit_j), co2e_g=bounds(figures.per_unit_g))


def _year(figures: Period) -> Year | None:
    length_s = figures.end_s - figures.begin_s
    if figures.covered_s < LEAST_COVERED * length_s:
        return None
    pace = YEAR_S / length_s
    return Year(it_energy_kwh=bounds(figures.energy_j, pace / J_PER_KWH), co2e_kg=bounds(figures.carbon_g, pace * 1e-3))


def _quality(figures: Period) -> Quality | None:
    if figures.quality is None or figures.quality_count < LEAST_PUBLIC:
        return None
    return Quality(mean=min(1.0, rounded(figures.quality, digits=2)), scores=in_fives(figures.quality_count))


def _no_quality(figures: Period) -> Code:
    if len(figures.quality_metrics) > 1:
        return "several_metrics"
    return "too_few" if figures.quality_count else "not_measured"


def _method(kept: Kept | None, figures: Period | None, factor: Lookup, reasons: dict[str, Code]) -> Method:
    reference = _REFERENCE.format(metadata.version("frugal-meter"))
    if kept is None or figures is None:
        return Method(
            ids=(), reference=reference, tier=None, measured_share=None, pue=(), factors=(), factors_left_out=0, flags=()
        )  # fmt: skip
    ids = figures.factor_ids
    return Method(
        ids=tuple(map(line, figures.method_ids[:MOST_LISTED])),
        reference=reference,
        tier=figures.tier,
        measured_share=None if figures.measured_share is None else round(min(1.0, figures.measured_share), 3),
        pue=tuple(bounds(pue) for pue in kept.pues[:MOST_LISTED]),
        factors=tuple(_factor(place, id, factor(id), reasons) for place, id in enumerate(ids[:MOST_LISTED])),
        factors_left_out=max(0, len(ids) - MOST_LISTED),
        flags=tuple(map(line, figures.flags[:100])),
    )


def _factor(place: int, id: str, found: Factor | None, reasons: dict[str, Code]) -> FactorLine:
    where = f"/services/0/method/factors/{place}"
    names = ("grams_per_kwh", "zone", "dataset", "version", "year", "scope", "basis", "licence", "sha256")
    code: Code = "not_resolved" if found is None else "not_told"
    reasons |= dict.fromkeys((f"{where}/{name}" for name in names), code)
    raw = {name: getattr(found, name, None) for name in names}
    told: dict[str, Any] = {name: line(value) if isinstance(value, str) else value for name, value in raw.items()}
    return FactorLine(id=line(id), **told)


def _budget(place: int, budget: Budget, acted: object, why: Code, reasons: dict[str, Code]) -> BudgetLine:
    reasons |= dict.fromkeys(
        (f"/services/0/budgets/{place}/{name}" for name in ("warned", "degraded", "throttled", "refused")), why
    )

    def times(action: str) -> int | None:
        return in_fives(acted.get((budget.name, action), 0)) if isinstance(acted, dict) else None

    return BudgetLine(
        name=line(budget.name),
        limit=line(budget.limit.text),
        per=budget.per,
        key=budget.key,  # type: ignore[arg-type]
        enforced=budget.enforce,
        warned=times("warn"),
        degraded=times("degrade"),
        throttled=times("throttle"),
        refused=times("refuse"),
    )


def _explained(whole: Declaration, reasons: dict[str, Code]) -> Declaration:
    codes = [(path, reasons.get(path, "not_declared")) for path in nulls(msgspec.to_builtins(whole))]
    unknown = tuple(Unknown(path=path, code=code, reason=REASONS[code]) for path, code in codes)
    return msgspec.structs.replace(whole, unknown=unknown)


def line(text: str) -> str:
    """A name of the operator's as the schema takes it: one line of at most 600 characters."""
    shown = "".join(c if c.isprintable() else "�" for c in text.encode("utf-8", "replace").decode())[:600]
    return shown if shown.strip() else "–"


def in_fives(count: float) -> int:
    """The nearest multiple of 5."""
    return COUNTED_IN * round(count / COUNTED_IN)


def rounded(value: float, rounding: str = ROUND_HALF_EVEN, digits: int = DIGITS) -> float:
    """``value`` to three digits, or as many as asked."""
    return float(Context(prec=digits, rounding=rounding).create_decimal(repr(float(value))))


def bounds(of: Interval, factor: float = 1.0) -> Bounds:
    """The interval × ``factor`` to three digits, its ends outward."""
    scaled = of.times(factor)
    return Bounds(low=rounded(scaled.low, ROUND_FLOOR), mid=rounded(scaled.mid), high=rounded(scaled.high, ROUND_CEILING))
