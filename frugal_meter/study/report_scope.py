"""What is counted and what is not, and what no figure holds: upstream, rebound, limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..exporters.page_figures import percent
from ..exporters.page_markup import Html, el, join
from ..exporters.page_texts import TEXTS as PAGE_TEXTS
from ..periods import Period
from .report_texts import said_of
from .report_view import View, bullets, table
from .report_words import amount_of, plain
from .results import Upstream, Variant

#: a period's energy, part by part: the text's key and how the period holds it
PARTS = ("delivered", "failed", "late", "overhead", "slice")


def counted(view: View) -> Html:
    """The boundary, drawn: what is in the solid frame is in the figures. Then what the energy of the test is made of."""
    study = view.study
    energy = [_named(view, "component", part) for part in study.boundary]
    carbon = [view.say("part_building", _pue(view))]
    if study.embodied is not None:
        carbon.append(view.say("part_embodied"))
    time = [view.say(key) for key in ("part_serving", "part_waiting", "part_starting")]
    if any(v.tested is not None and v.tested.remote_j is not None for v in study.variants):
        time.append(view.say("part_elsewhere"))
    frame = el(
        "div",
        el("p", view.say("inside"), class_="frame-title"),
        _group(view.say("in_energy"), energy),
        _group(view.say("in_carbon"), carbon),
        _group(view.say("in_time"), time),
        class_="inside",
    )
    out = [_named(view, "out", part) for part in study.not_counted]
    if study.embodied is None:
        out.append(view.say("out_embodied"))
    beside = el(
        "div",
        el("div", el("p", view.say("outside"), class_="frame-title"), bullets(out), class_="outside"),
        el("div", el("p", view.say("aside"), class_="frame-title"), bullets([view.say("aside_training")]), class_="outside"),
        class_="beside",
    )
    figure = el("figure", el("div", frame, beside, class_="boundary"), el("figcaption", view.say("boundary_caption")))
    return join(figure, _parts(view))


def _pue(view: View) -> str:
    return amount_of(view.study.pue.value.mid, "", view.lang)


def _group(title: str, items: Iterable[str]) -> Html:
    return el("div", el("p", title, class_="group-title"), bullets(items), class_="group")


def _named(view: View, group: str, part: str) -> str:
    """Our own word for ``part``, or the team's as it stands."""
    return said_of(group, part, view.lang) or view.theirs(part)


def _parts(view: View) -> Html:
    variants = [v for v in view.study.variants if v.name not in view.withheld and v.load.total_nj]
    heads = [view.say("variant"), *(view.say(f"part_{part}") for part in PARTS)]

    def cells(variant: Variant) -> list[Html]:
        shares = zip(heads[1:], _shares(variant.load), strict=True)
        return [view.cell(head, percent(share, view.lang)) for head, share in shares]

    caption = "parts_caption_period" if view.study.origin == "journal" else "parts_caption"
    return table(view.say(caption), heads, ((view.named(v), cells(v)) for v in variants), class_="six")


def _shares(load: Period) -> Iterator[float | None]:
    whole = load.total_nj
    parts = (load.delivered_nj, load.failed_nj + load.refused_nj, load.late_nj, load.overhead_nj, load.slice_nj)
    return (None if part is None else part / whole for part in parts)


def upstream(view: View) -> Html:
    """What suppliers declare about training; never added to anything."""
    study = view.study
    if not study.upstream:
        return el("p", view.say("not_supplied"))
    heads = [view.say(key) for key in ("model", "energy", "carbon", "source")]

    def cells(each: Upstream) -> list[Html]:
        energy = view.say("not_told") if each.energy_kwh is None else f"{plain(each.energy_kwh, view.lang, 4)}\u202fkWh"
        carbon = view.say("not_told") if each.carbon_kg is None else f"{plain(each.carbon_kg, view.lang, 4)}\u202fkgCO₂e"
        said = [view.theirs(each.source), *([view.theirs(each.note)] if each.note else [])]
        return [view.cell(heads[1], energy), view.cell(heads[2], carbon), view.text_cell(heads[3], *said)]

    told = {each.model for each in study.upstream}
    silent = dict.fromkeys(model for v in study.variants if v.kind != "no-ai" for model in v.models if model not in told)
    missing = el("p", view.say("upstream_missing", ", ".join(silent))) if silent else None
    rows = ((el("span", each.model, class_="name"), cells(each)) for each in study.upstream)
    return join(table(view.say("upstream_caption"), heads, rows, class_="four"), missing)


def rebound(view: View) -> Html:
    """What the team says of it, or that it was not studied."""
    said = view.study.rebound
    return el("p", view.say("not_studied")) if said is None else view.passage(said)


def limits(view: View) -> Html:
    """The team's own, then what the meter found."""
    by_people = el("h3", view.say("limits_by_people"))
    people = el("p", view.say("limits_none"))
    if view.study.limits:
        people = el("blockquote", bullets(map(view.typed, view.study.limits)), lang=view.theirs_lang)
    return join(by_people, people, el("h3", view.say("limits_found")), bullets(_found(view)))


def _found(view: View) -> list[str]:
    found: list[str] = []
    shares = [v.measured_share for v in view.study.variants if v.measured_share is not None]
    if shares and min(shares) < 1:
        key = "limit_modelled" if max(shares) else "limit_all_modelled"
        found.append(view.say(key, *([percent(min(shares), view.lang)] if max(shares) else [])))
    for variant in view.study.variants:
        found += _of_variant(view, variant)
    flags = [*view.study.flags, *(flag for v in view.study.variants for flag in v.flags)]
    found += [_capital(_flag(view, flag)) + "." for flag in dict.fromkeys(flags)]
    return found


def _of_variant(view: View, variant: Variant) -> Iterator[Html]:
    title = view.quoted(variant.title)
    if variant.failed:
        why = ", ".join(variant.why_failed) or view.say("unknown")
        yield view.phrase("limit_failed", title, str(variant.failed), str(variant.requests), why)
    if view.study.origin == "scenario" and len(variant.repetitions) == 1:
        yield view.phrase("limit_one", title)
    if variant.load.gap_nj and variant.load.host_nj:
        yield view.phrase("limit_gap", title, percent(variant.load.gap_nj / variant.load.host_nj, view.lang))


def _flag(view: View, flag: str) -> str:
    return said_of("flag", flag, view.lang) or PAGE_TEXTS[view.lang].get(f"flag_{flag}", flag)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
