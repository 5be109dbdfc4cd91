"""The answer in three sentences, and the four figures of it: per unit, per year, beside the alternative."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from ..exporters.page_figures import percent, tier_words
from ..exporters.page_markup import Html, el, join, notes
from ..periods import LEAST_PUBLIC
from ..records import Interval
from .report_view import View
from .report_words import about, apart, between, counted, in_words, listed, score, shown, times, upside_down, watt_hours
from .results import Comparison

#: alternatives told in one sentence; all stand in the table of results
MOST_TOLD = 2


def answer(view: View) -> Html:
    """What a decider reads first."""
    sentences = (_per_unit(view), _per_year(view), _beside(view))
    return join(
        *(el("p", each, class_="lead") for each in sentences if each),
        el("p", _scores(view)),
        _tiles(view),
        el("p", _proof(view), class_="note"),
        el("p", view.say("joules_before"), class_="note"),
        el("p", view.say("withheld_note", str(LEAST_PUBLIC)), class_="note") if view.withheld else None,
    )


def _per_unit(view: View) -> Html:
    study, lang, variant = view.study, view.lang, view.reference
    cost = view.cited(variant)
    if cost is None:
        return view.phrase("answer_unknown", view.quoted(variant.title))
    return view.phrase(
        "answer_unit",
        view.quoted(study.unit.description),
        view.quoted(variant.title),
        between(cost.energy_j, "J", lang),
        view.say("middle", about(cost.energy_j, "J", lang)),
        between(cost.carbon_g, "gCO2e", lang),
        view.say("middle", about(cost.carbon_g, "gCO2e", lang)),
        view.say("hardware_out" if study.embodied is None else "hardware_in"),
        view.say(f"over_{view.basis}"),
    )


def _per_year(view: View) -> Html | None:
    study, lang, variant = view.study, view.lang, view.reference
    if view.cited(variant) is None:
        return None
    if study.use is None or variant.year is None:
        return view.phrase("answer_no_year")
    idle = view.say("answer_idle", in_words(percent(variant.idle_share, lang), lang)) if variant.idle_share is not None else ""
    return view.phrase(
        "answer_year",
        counted(study.use.units, lang),
        between(watt_hours(variant.year.energy_j), "Wh", lang),
        between(variant.year.carbon_g, "gCO2e", lang),
        idle,
    )


def _beside(view: View) -> Html:
    if view.study.no_alternative is not None:
        return view.phrase("no_alternative", view.theirs(view.study.no_alternative.strip().rstrip(".")))
    told = view.alternatives[:MOST_TOLD]
    if not told:
        return join()
    clauses = [_clause(view, told[0]), *(_clause(view, each, after=told[0]) for each in told[1:])]
    said = clauses[0] if len(clauses) == 1 else view.phrase("clauses", *clauses)
    return view.phrase("versus", _over_the_year(view, told) or view.phrase("versus_test"), said)


def _over_the_year(view: View, told: Sequence[Comparison]) -> Html | None:
    """What a year makes of the test: a service that mostly waits costs nearly the same with a small model as with a large one."""
    mine, others = view.reference.in_use, [(each.variant, view.find(each.variant).in_use) for each in told]
    if view.basis != "year" or mine is None:
        return None
    figures = [
        view.phrase("figure_of", about(cost.energy_j, "J", view.lang), view.title(name))
        for name, cost in others
        if cost is not None
    ]
    own = about(mine.energy_j, "J", view.lang)
    if figures and all(about(cost.energy_j, "J", view.lang) == own for _, cost in others if cost is not None):
        return view.phrase("versus_same", own)
    return view.phrase("versus_year", own, listed(figures, view.lang)) if figures else None


def _clause(view: View, comparison: Comparison, after: Comparison | None = None) -> Html:
    reference, other = view.title(comparison.reference), view.title(comparison.variant)
    ratio = comparison.energy
    turned = None if ratio is None else upside_down(ratio)
    if ratio is None or turned is None:
        return view.phrase("ratio_unknown", reference, other)
    if ratio.high < 1:
        more = _times(view, turned, comparison.rounds)
        follows = after is not None and after.energy is not None and after.energy.high < 1
        return view.phrase("more_too", more, other) if follows else view.phrase("more_than", reference, more, other)
    if ratio.low > 1:
        return view.phrase("more_than", other, _times(view, ratio, comparison.rounds), reference)
    return view.phrase("same_as", reference, other, times(turned, view.lang))


def _times(view: View, ratio: Interval, rounds: int) -> str:
    return times(ratio, view.lang) + (view.say("one_round") if rounds < 2 else "")


def _scores(view: View) -> Html | None:
    told = view.alternatives[:MOST_TOLD]
    names = [view.reference.name, *(each.variant for each in told)]
    scored = [(name, quality) for name in names if (quality := view.find(name).quality) is not None]
    if len(scored) < len(names):
        return view.phrase("no_scores")
    figures = [view.phrase("figure_of", score(quality.score.mid, view.lang), view.title(name)) for name, quality in scored]
    close = [view.title(name) for name, quality in scored[1:] if not apart(quality.score, scored[0][1].score)]
    return view.phrase(
        "scores", listed(figures, view.lang), view.phrase("scores_close", listed(close, view.lang)) if close else ""
    )


def _proof(view: View) -> str:
    variant = view.reference
    said = tier_words(variant.tier, view.lang, long=True)
    part = view.say("measured_part", percent(variant.measured_share, view.lang))
    return f"{said[:1].upper()}{said[1:]} ({part})." if variant.measured_share is not None else f"{said[:1].upper()}{said[1:]}."


def _tiles(view: View) -> Html | None:
    variant, lang = view.reference, view.lang
    cost = view.cited(variant)
    if cost is None:
        return None
    tiles = [("tile_unit_j", cost.energy_j, "J"), ("tile_unit_g", cost.carbon_g, "gCO2e")]
    if variant.year is not None:
        tiles += [
            ("tile_year_wh", watt_hours(variant.year.energy_j), "Wh"),
            ("tile_year_g", variant.year.carbon_g, "gCO2e"),
        ]
    tier = tier_words(variant.tier, lang)
    drawn = [_tile(view.say(key), *shown(of, unit, lang), tier) for key, of, unit in tiles]
    return join(el("p", view.phrase("tiles_of", view.quoted(variant.title)), class_="of"), el("ul", *drawn, class_="headline"))


def _tile(term: str, figure: str, bounds: str, tier: str) -> Html:
    number = "".join(takewhile(lambda c: c.isdigit() or c in ",.\u202f", figure)).rstrip("\u202f")
    unit = figure[len(number) :].strip("\u202f")
    said = el("span", number, " ", el("span", unit, class_="unit"), class_="figure")
    return el("li", el("span", term, class_="term"), said, notes(f"{bounds}, {tier}"))
