"""The lines of ``doctor``'s report on carbon and on budgets: pairs of a label and a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..carbon import Embodied, Factor, Pue
from ..carbon.embodied import SECONDS_PER_YEAR
from ..records import Interval
from .budget_states import BudgetState
from .diagnosis import Diagnosis
from .texts import Words

_FACTOR_UNIT: Final = "gCO₂e/kWh"
Pairs = Iterator[tuple[str, str]]


def carbon_lines(d: Diagnosis, words: Words) -> Pairs:
    """Factor, other published figures, PUE, embodied, and grams per hour at the power of now."""
    if d.factor is None:
        yield "", words("no_zone")
    else:
        yield from _factor(d.factor, words, stale=bool(d.factor_stale))
        yield words("others"), _others(d.alternatives, words)
    yield words("pue"), _pue(d.pue, words)
    yield words("embodied"), words("embodied_none") if d.embodied is None else _embodied(d.embodied, words)
    grams = d.carbon_now_g_per_h
    if grams is not None:
        figure, bounds = words.figure(grams.mid, "gCO2e", grams), words.bounds(grams, "gCO2e")
        yield words("carbon_now"), words("per_hour", figure=figure, bounds=bounds, tier=words.tier(d.tier))


def _factor(factor: Factor, words: Words, *, stale: bool) -> Pairs:
    nature = [words(f"scope_{factor.scope}"), *([words(f"mix_{factor.mix}")] if factor.mix else [])]
    warning = [words("stale", year=factor.year)] if stale else []
    figure = f"{words.number(factor.grams_per_kwh)} {_FACTOR_UNIT}, {factor.zone} ({factor.zone_name}) {factor.year}"
    yield words("factor"), ", ".join([figure, factor.id, *nature, *warning])
    version = f" ({factor.version})" if factor.version else ""
    yield words("factor_source"), f"{factor.source}{version}, {words('licence', name=factor.licence)}"
    if factor.interval is not None:
        yield words("spread"), f"{_from_to(factor.interval, words)} {_FACTOR_UNIT}"


def _others(others: Sequence[Factor], words: Words) -> str:
    by: dict[str, list[str]] = {}
    for factor in others:
        by.setdefault(factor.dataset, []).append(f"{words.number(factor.grams_per_kwh)} ({factor.year})")
    return "; ".join(f"{dataset} {', '.join(shown)}" for dataset, shown in by.items()) or words("others_none")


def _pue(pue: Pue, words: Words) -> str:
    default = [words("pue_default")] if pue.flags else []
    return ", ".join([f"{words.number(pue.interval.mid)} ({_from_to(pue.interval, words)})", *default, pue.source])


def _embodied(embodied: Embodied, words: Words) -> str:
    years = embodied.lifespan_s.times(1 / SECONDS_PER_YEAR)
    span = words.number(years.mid) if years.low == years.high else _from_to(years, words)
    what = words("embodied_is", te=words.known(embodied.te_kg.times(1000), "gCO2e"), years=span)
    default = [words("embodied_default")] if embodied.flags else []
    return ", ".join([what, words(f"embodied_{embodied.covers}"), *default, embodied.source])


def _from_to(interval: Interval, words: Words) -> str:
    if interval.low == interval.high:
        return words("exact")
    return words("interval", low=words.number(interval.low), high=words.number(interval.high))


def budget_lines(budgets: Sequence[BudgetState], words: Words) -> Pairs:
    """Two lines per budget: its limit, and what it can do here."""
    if not budgets:
        yield "", words("budgets_none")
    for budget in budgets:
        each = words("by_key", keys=" × ".join(words(f"key_{key}") for key in budget.key)) if budget.key else ""
        yield budget.name, words("budget_line", limit=budget.limit, per=words(f"window_{budget.per}")) + each
        required = words.tier(budget.require_tier) if budget.require_tier else ""
        yield budget.name, words(f"state_{budget.state}", tier=words.tier(budget.tier), required=required)
