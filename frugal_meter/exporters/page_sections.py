"""The parts of the live page that change, each a pure function from the state to markup (tables of things: page_tables.py).

The same markup serves the first drawing and every refresh, so that the two can never disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..records import Interval
from .page_figures import bounds, clock, count, figure, percent, proof, tier_words
from .page_markup import Html, amount, cell, el, join, notes, row, row_head
from .page_state import BUCKETS, LiveState
from .page_tables import budgets, requests, requests_caption, sources
from .page_texts import Lang, text, word

#: below this share a segment of the bar is too thin to carry its letter; the table carries it all the same
_THIN: Final = 0.03
_COMPONENTS: Final = ("cpu", "dram", "gpu", "board")


def _fact(name: str, shown: str, *lines: str | None) -> Html:
    return el("div", el("dt", name), el("dd", el("span", shown, class_="figure"), notes(*lines)))


def now(state: LiveState, lang: Lang) -> Html:
    """The headline: watts now, joules since the start, the requests' share, the meter's own share."""
    return join(_watts(state, lang), _total(state, lang), _requests_share(state, lang), _meter_share(state, lang))


def _watts(state: LiveState, lang: Lang) -> Html:
    name, watts = text("watts", lang), state.watts_now
    if watts is None:
        return _fact(name, text("unknown", lang))
    window = None if state.window_s is None else text("window", lang, count(state.window_s, lang))
    around, tier = bounds(watts, "W", lang), tier_words(state.watts_tier, lang, long=True)
    return _fact(name, figure(watts.mid, "W", lang, watts), around, tier, window)


def _total(state: LiveState, lang: Lang) -> Html:
    name, total = text("energy_since", lang), state.total_j
    if total is None:
        return _fact(name, text("unknown", lang))
    known = state.bounds_j.get("total")
    around = bounds(known, "J", lang)
    own = None if state.workers is None else text("all_workers", lang, str(state.workers))
    return _fact(name, figure(total, "J", lang, known), around, tier_words(state.account_tier, lang, long=True), own)


def _requests_share(state: LiveState, lang: Lang) -> Html:
    name, total, used = text("requests_share", lang), state.total_j, state.buckets_j.get("requests")
    if not total or used is None:
        return _fact(name, text("unknown", lang))
    known = state.bounds_j.get("requests")
    joules = figure(used, "J", lang, known) + text("colon", lang) + proof(known, "J", state.account_tier, lang)
    return _fact(name, percent(used / total, lang), text("requests_share_note", lang), joules)


def _meter_share(state: LiveState, lang: Lang) -> Html:
    said = None if state.meter_cpu_share is None else text("meter_share_note", lang)
    return _fact(text("meter_share", lang), percent(state.meter_cpu_share, lang), said)


def _shares(state: LiveState) -> list[tuple[str, float, float]]:
    """(bucket, J, share of the total) in the page's order; a bucket we never heard of comes last."""
    total = state.total_j
    names = [*(b for b in BUCKETS if b in state.buckets_j), *(b for b in state.buckets_j if b not in BUCKETS)]
    return [(name, state.buckets_j[name], state.buckets_j[name] / total) for name in names] if total else []


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _look(bucket: str) -> str:
    return bucket if bucket in BUCKETS else "gap"


def account_chart(state: LiveState, lang: Lang) -> Html:
    """One bar, a segment a bucket, told apart by place, letter and texture as much as by colour."""
    shares = _shares(state)
    if not shares:
        why = "account_zero" if state.total_j is not None else "account_waits" if state.sources else "account_unknown"
        return el("p", text(why, lang), class_="empty")
    drawn, left = [], 0.0
    for index, (name, _, share) in enumerate(shares):
        place = {"x": f"{left * 100:.3f}%", "width": f"{share * 100:.3f}%", "y": "0", "height": "32"}
        drawn.append(el("rect", class_=f"fill-{_look(name)}", **place))
        drawn.append(el("rect", class_="segment", fill=f"url(#texture-{_look(name)})", **place))
        if share >= _THIN:
            drawn.append(el("text", _letter(index), x=f"{(left + share / 2) * 100:.3f}%", y="50"))
        left += share
    told = ", ".join(f"{word('bucket', name, lang)} {percent(share, lang)}" for name, _, share in shares)
    return el("svg", *drawn, class_="stack", role="img", aria_label=text("chart", lang) + told, width="100%", height="54")


def account_rows(state: LiveState, lang: Lang) -> Html:
    """The chart's table: a row a bucket and the total, each with energy, bounds, tier and share."""
    shares = _shares(state)
    parts = (
        _account_row(_key(index, name, lang), name, joules, share, state, lang)
        for index, (name, joules, share) in enumerate(shares)
    )
    return join(*parts, _account_row(text("total", lang), "total", state.total_j, 1.0 if shares else None, state, lang))


def _key(index: int, name: str, lang: Lang) -> Html:
    box = {"x": "0.5", "y": "0.5", "width": "17", "height": "17"}
    drawn = (el("rect", class_=f"fill-{_look(name)}", **box), el("rect", fill=f"url(#texture-{_look(name)})", **box))
    swatch = el("svg", *drawn, class_="swatch", aria_hidden="true", width="18", height="18")
    return el("span", swatch, el("span", _letter(index), class_="letter"), el("span", word("bucket", name, lang)), class_="key")


def _account_row(head: str, name: str, joules: float | None, share: float | None, state: LiveState, lang: Lang) -> Html:
    known: Interval | None = state.bounds_j.get(name)
    said = None if joules is None else proof(known, "J", state.account_tier, lang)
    return row(
        row_head(head),
        cell(text("energy", lang), amount(figure(joules, "J", lang, known), said)),
        cell(text("share", lang), amount(percent(share, lang))),
    )


def account_note(state: LiveState, lang: Lang) -> Html:
    """Whether the books close, from the integers of the books."""
    if state.off_nj is None:
        return join(text("closes_unknown", lang))
    return join(text("closes_not" if state.off_nj else "closes", lang, str(state.off_nj)))


def provenance(state: LiveState, lang: Lang) -> Html:
    """Emission factor with dataset, year and licence; PUE; method; what a reader should know."""
    facts = [
        (text("factor", lang), _factor(state, lang)),
        (text("pue", lang), _pue(state, lang)),
        (text("method", lang), el("code", state.method_id)),
    ]
    if state.flags:
        facts.append((text("flags", lang), el("ul", *(_flag(flag, lang) for flag in state.flags))))
    return join(*(el(tag, said) for name, fact in facts for tag, said in (("dt", name), ("dd", fact))))


def _flag(flag: str, lang: Lang) -> Html:
    """What a flag says, and the flag itself: it is what readings and metrics carry."""
    said = word("flag", flag, lang)
    return el("li", None if said == flag else f"{said} ", el("code", flag))


def _pue(state: LiveState, lang: Lang) -> Html:
    if isinstance(state.pue, str):
        return join(state.pue)
    low, mid, high = (count(value, lang) for value in (state.pue.low, state.pue.mid, state.pue.high))
    return join(mid if low == high else f"{mid} ({low} {text('to', lang)} {high})")


def _factor(state: LiveState, lang: Lang) -> Html:
    f = state.factor
    if f is None:
        return join(text("factor_none", lang))
    around = bounds(f.bounds, "gCO2e", lang) + ("/kWh" if f.bounds else "")
    year = text("year_unknown", lang) if f.year is None else str(f.year)
    # data sets and licences are named in English everywhere: the mark lets a screen reader change its voice
    dataset, licence = el("span", f.dataset, lang="en"), el("span", f.licence, lang="en")
    id = None if f.id is None else join(", ", el("code", f.id))
    cited = join(f"{f.zone}, ", dataset, f", {year}, {text('licence', lang)}", licence, id)
    return amount(figure(f.grams_per_kwh, "gCO2e", lang) + "/kWh", f"{around}, {text('published', lang)}", cited)


def uncounted(state: LiveState, lang: Lang) -> Html:
    """What no figure on this page holds: always the same things, and the parts that no source covers here."""
    covered = {s.component for s in state.sources if s.up}
    missing = [] if "node" in covered else [c for c in _COMPONENTS if c not in covered]
    listed = ", ".join(word("component", c, lang) for c in missing)
    return join(el("p", text("uncounted_always", lang)), el("p", text("uncounted_parts", lang, listed)) if missing else None)


def updated(state: LiveState, lang: Lang) -> Html:
    """When these figures were taken."""
    return join(text("figures_of", lang), clock(state.at, state.timezone, lang))


def notice(state: LiveState, lang: Lang) -> Html:
    """What a reader must know before any figure: that the meter is switched off, or budgets are kept by each worker alone."""
    said = []
    if state.disabled:
        said.append(text("disabled", lang))
    if state.store is not None and not state.store.up and not state.disabled:
        said.append(text("store_away", lang, state.store.kind) + word("alone", state.store.policy, lang))
    return join(*(el("p", line, class_="figure") for line in said))


PARTS: Final[Mapping[str, Callable[[LiveState, Lang], Html]]] = {
    "notice": notice,
    "now": now,
    "account_chart": account_chart,
    "account_rows": account_rows,
    "account_note": account_note,
    "requests_caption": requests_caption,
    "requests": requests,
    "budgets": budgets,
    "sources": sources,
    "provenance": provenance,
    "uncounted": uncounted,
    "updated": updated,
}
