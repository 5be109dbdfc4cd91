"""What was compared, and what came out: per unit, per year, against each other, and quality beside energy."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR

from ..carbon.uncertainty import digits
from ..exporters.page_figures import DIGITS, HOLD, count, figure, percent, tier_words
from ..exporters.page_markup import Html, el, join
from ..records import Interval
from .report_plots import pareto_plot
from .report_view import View, facts, table
from .report_words import counted, plain, score, shown, upside_down, watt_hours
from .results import Comparison, Cost, Variant


def compared(view: View) -> Html:
    """What the service is for, the unit, the use supposed, and the variants."""
    study, use = view.study, view.study.use
    supposed = None
    if use is not None:
        hours, starts = count(use.hours, view.lang), count(use.starts, view.lang)
        supposed = view.phrase("use_said", counted(use.units, view.lang), hours, starts, view.theirs(use.source))
    said = facts(
        (
            (view.say("purpose"), view.theirs(study.purpose) if study.purpose else view.say("not_told")),
            (view.say("unit"), view.theirs(study.unit.description)),
            (view.say("rationale"), view.theirs(study.unit.rationale) if study.unit.rationale else view.say("not_told")),
            (view.say("use"), supposed or view.say("not_told")),
        )
    )
    heads = [view.say(key) for key in ("variant", "nature", "models", "requests", "failed")]
    rows = ((view.named(v), _variant(view, v, heads)) for v in study.variants)
    return join(said, table(view.say("variants_caption"), heads, rows, class_="five"))


def _variant(view: View, variant: Variant, heads: Sequence[str]) -> list[Html]:
    failed = view.say("failed_said", str(variant.failed), str(variant.requests)) if variant.failed else "0"
    refused = view.say("refused_said", str(variant.refused)) if variant.refused else None
    return [
        view.text_cell(heads[1], view.say(f"kind_{variant.kind}")),
        view.text_cell(heads[2], ", ".join(variant.models) or view.say("none")),
        view.text_cell(heads[3], count(variant.requests, view.lang)),
        view.text_cell(heads[4], failed, *variant.why_failed[:3], refused),
    ]


def results(view: View) -> Html:
    """The figures of every variant."""
    return join(
        _per_unit(view),
        _per_year(view) if view.study.use is not None else None,
        _ratios(view) if view.study.comparisons else None,
        _readings(view),
        _runs(view) if view.study.origin == "scenario" else None,
    )


def _per_unit(view: View) -> Html:
    caption = {"year": "unit_caption", "test": "unit_caption_test", "period": "unit_caption_period"}[view.basis]
    heads = [view.say(key) for key in ("variant", "energy", "carbon", "quality", "proof")]

    def cells(variant: Variant) -> list[Html]:
        cost = view.cited(variant)
        return [
            _joules(view, variant, heads[1], cost, "J"),
            _grams(view, variant, heads[2], cost),
            _quality(view, variant, heads[3]),
            view.text_cell(heads[4], tier_words(variant.tier, view.lang), _measured(view, variant)),
        ]

    rows = ((view.named(v), cells(v)) for v in view.study.variants)
    shown_here = table(view.say(caption), heads, rows, class_="five")
    return join(shown_here, el("p", el("a", view.say("eq_see", "1–5"), href="#equations"), class_="note"))


def _measured(view: View, variant: Variant) -> str | None:
    share = variant.measured_share
    return None if share is None else view.say("measured_part", percent(share, view.lang))


def _joules(view: View, variant: Variant, head: str, cost: Cost | None, unit: str) -> Html:
    if variant.name in view.withheld:
        return view.cell(head, view.say("withheld"))
    energy, remote = (None, None) if cost is None else (cost.energy_j, cost.remote_j)
    if unit == "Wh":
        energy, remote = (None if each is None else watt_hours(each) for each in (energy, remote))
    elsewhere = None if remote is None else view.say("remote_part", figure(remote.mid, unit, view.lang, remote))
    return view.cell(head, *shown(energy, unit, view.lang), elsewhere)


def _grams(view: View, variant: Variant, head: str, cost: Cost | None) -> Html:
    if variant.name in view.withheld:
        return view.cell(head, view.say("withheld"))
    if cost is None:
        return view.cell(head, *shown(None, "gCO2e", view.lang))
    making = figure(cost.embodied_g.mid, "gCO2e", view.lang, cost.embodied_g)
    return view.cell(head, *shown(cost.carbon_g, "gCO2e", view.lang), view.say("embodied_part", making))


def _quality(view: View, variant: Variant, head: str) -> Html:
    quality = variant.quality
    if variant.name in view.withheld:
        return view.cell(head, view.say("withheld"))
    if quality is None:
        return view.cell(head, view.say("no_quality"))
    low, high = (score(end, view.lang) for end in (quality.score.low, quality.score.high))
    held = view.say("quality_said", low, high, count(quality.judged, view.lang), count(quality.distinct, view.lang))
    unjudged = view.say("unjudged", str(quality.unjudged)) if quality.unjudged else None
    return view.cell(head, score(quality.score.mid, view.lang), held, unjudged, quality.metric)


def _per_year(view: View) -> Html:
    heads = [view.say(key) for key in ("variant", "energy", "carbon", "idle_share")]

    def cells(variant: Variant) -> list[Html]:
        watts = variant.standing_w
        up = None if watts is None else view.say("standing_said", figure(watts.mid, "W", view.lang, watts))
        return [
            _joules(view, variant, heads[1], variant.year, "Wh"),
            _grams(view, variant, heads[2], variant.year),
            view.cell(heads[3], percent(variant.idle_share, view.lang), up),
        ]

    rows = ((view.named(v), cells(v)) for v in view.study.variants)
    return table(view.say("year_caption"), heads, rows, class_="four")


def _ratios(view: View) -> Html:
    heads = [view.say(key) for key in ("variant", "ratio_energy", "ratio_carbon", "gap_quality")]

    def cells(each: Comparison) -> list[Html]:
        gap = view.say("no_quality") if each.quality is None else signed(each.quality, view)
        rounds = view.say("rounds_one") if each.rounds == 1 else view.say("rounds_said", str(each.rounds))
        return [_ratio(view, heads[1], each.energy, rounds), _ratio(view, heads[2], each.carbon), view.cell(heads[3], gap)]

    rows = ((view.named(view.find(each.variant)), cells(each)) for each in view.alternatives)
    caption = view.phrase("ratios_caption", view.quoted(view.reference.title))
    see = el("a", view.say("eq_see", "6–7"), href="#equations")
    note = el("p", view.say("ratio_note"), " ", see, class_="note")
    return join(table(caption, heads, rows, class_="four"), note)


def signed(value: float, view: View) -> str:
    """A difference of scores, with its sign."""
    return f"{'+' if value >= 0 else '−'}{score(abs(value), view.lang)}"


def _ratio(view: View, head: str, ratio: Interval | None, *more: str) -> Html:
    if ratio is None:
        return view.cell(head, view.say("unknown"))
    # 180 times less reads better than 0.0056 times as much
    turned = upside_down(ratio) if ratio.mid < 1 else None
    of, sign = (ratio, "×") if turned is None else (turned, "÷")
    low, high = plain(of.low, view.lang, rounding=ROUND_FLOOR), plain(of.high, view.lang, rounding=ROUND_CEILING)
    middle = plain(of.mid, view.lang, digits(of, DIGITS))
    return view.cell(head, f"{sign}{HOLD}{middle}", view.say("ratio_bounds", low, high), *more)


def _readings(view: View) -> Html:
    own = "read_period" if view.study.origin == "journal" else "read_test"
    kinds = [*(["read_year"] if view.basis == "year" else []), own, "read_running"]
    heads = [view.say("variant"), *(view.say(kind) for kind in kinds)]

    def cells(variant: Variant) -> list[Html]:
        ran = figure(variant.while_it_ran_j, "J", view.lang, variant.tested.energy_j if variant.tested else None)
        if variant.name in view.withheld:
            ran = view.say("withheld")
        return [
            *([_joules(view, variant, heads[1], variant.in_use, "J")] if view.basis == "year" else []),
            _joules(view, variant, heads[-2], variant.tested, "J"),
            view.cell(heads[-1], ran, view.say("read_running_note")),
        ]

    width = {3: "three", 4: "four"}[len(heads)]
    return table(view.say("readings_caption"), heads, ((view.named(v), cells(v)) for v in view.study.variants), class_=width)


def _runs(view: View) -> Html:
    heads = [view.say(key) for key in ("variant", "repetitions", "latency")]

    def cells(variant: Variant) -> list[Html]:
        spread, waited, lang = variant.spread_j, variant.latency, view.lang
        ends = None
        if spread is not None:
            ends = view.say("spread_said", *(figure(end, "J", lang) for end in (spread.least, spread.most)))
        median = p95 = None
        if waited is not None:
            median = view.say("latency_said", figure(waited.p50_s, "s", lang))
            p95 = view.say("latency_p95", figure(waited.p95_s, "s", lang))
        repetitions = str(spread.n if spread is not None else len(variant.repetitions))
        return [view.cell(heads[1], repetitions, ends), view.cell(heads[2], median or view.say("unknown"), p95)]

    return table(view.say("runs_caption"), heads, ((view.named(v), cells(v)) for v in view.study.variants), class_="three")


def pareto(view: View) -> Html:
    """Quality beside energy: the plot, how to read it, and its points."""
    study = view.study
    if not study.pareto:
        return el("p", view.say("no_pareto"))
    heads = [view.say(key) for key in ("variant", "energy", "score", "front")]

    def cells(place: int) -> list[Html]:
        point = study.pareto[place]
        ends = (score(end, view.lang) for end in (point.quality.low, point.quality.high))
        sure = "front_clear" if point.clear else "front_unclear"
        return [
            view.cell(heads[1], *shown(point.energy_j, "J", view.lang)),
            view.cell(heads[2], score(point.quality.mid, view.lang), view.say("ratio_bounds", *ends)),
            view.cell(heads[3], view.say("front_yes" if point.front else "front_no"), view.say(sure)),
        ]

    rows = ((view.named(view.find(p.variant)), cells(place)) for place, p in enumerate(study.pareto))
    key = el("ul", el("li", view.say("key_front")), el("li", view.say("key_behind")), class_="key")
    figcaption = el("figcaption", view.say("pareto_title"), ". ", view.say("pareto_read"))
    return join(el("figure", pareto_plot(view), key, figcaption), table(view.say("pareto_caption"), heads, rows, class_="four"))
