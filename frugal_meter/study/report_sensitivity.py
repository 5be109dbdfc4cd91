"""What would change the result: one assumption at a time, drawn for the variant that the study is about and told for all."""

from __future__ import annotations

from collections.abc import Iterator

from ..exporters.page_markup import Html, el, join
from .report_plots import tornado_plot
from .report_view import View, table
from .report_words import amount_of, shown
from .results import Lever, Scenario, Variant

#: levers whose values the team supposes; the others come out of published tables
_THEIRS = ("use", "standing")
LEVERS: tuple[Lever, ...] = ("grid", "pue", "lifetime", "use", "standing")


def sensitivity(view: View) -> Html:
    """The tornado and its tables, one per assumption."""
    if not view.study.sensitivity:
        return el("p", view.say("no_sensitivity"))
    cost = view.cited(view.reference)
    plot = None if cost is None else el("figure", tornado_plot(view, cost.carbon_g), _caption(view))
    return join(plot, *_tables(view))


def _caption(view: View) -> Html:
    title = view.phrase("tornado_title", view.quoted(view.reference.title))
    return el("figcaption", title, ". ", view.say("tornado_read"), " ", view.say("tornado_key"))


def _tables(view: View) -> Iterator[Html]:
    variants = [v for v in view.study.variants if any(s.variant == v.name for s in view.study.sensitivity)]
    for lever in LEVERS:
        lines: dict[tuple[float, str | None], dict[str, Scenario]] = {}
        for each in view.study.sensitivity:
            if each.lever == lever:
                key = (each.value, each.factor.id if each.factor is not None else None)
                lines.setdefault(key, {})[each.variant] = each
        if lines:
            yield _table(view, lever, variants, [lines[key] for key in sorted(lines, key=_place)])


def _place(key: tuple[float, str | None]) -> tuple[float, str]:
    """Lines by value; those of one value by their factor's id."""
    return key[0], key[1] or ""


def _table(view: View, lever: Lever, variants: list[Variant], lines: list[dict[str, Scenario]]) -> Html:
    name = view.say(f"lever_{lever}")
    heads = [view.say("value"), *(f"{view.letters[v.name]} {v.title}" for v in variants)]
    rows = ((_value(view, next(iter(line.values()))), [_cell(view, line.get(v.name), v) for v in variants]) for line in lines)
    return table(view.say("lever_caption", name), heads, rows, class_="lever")


def _value(view: View, of: Scenario) -> Html:
    value = amount_of(of.value, of.value_unit, view.lang)
    held = el("span", view.say("in_force"), class_="badge") if of.in_force else None
    source: str | None = None
    if of.factor is not None:
        source = f"{of.factor.dataset}, {of.factor.year}, {view.say(f'scope_{of.factor.scope}')}"
    elif of.source is not None:
        source = view.theirs(of.source) if of.lever in _THEIRS else view.english(of.source)
    return join(el("span", value, class_="name"), held, el("span", source, class_="note") if source else None)


def _cell(view: View, of: Scenario | None, variant: Variant) -> Html:
    return view.cell(f"{view.letters[variant.name]} {variant.title}", *shown(of.per_unit_g if of else None, "gCO2e", view.lang))
