"""The live page's three lists of things: the last requests, the budgets, the energy sources."""

from __future__ import annotations

from ..records import Interval, Reading
from .page_figures import bounds, clock, count, figure, percent, proof, tier_words
from .page_markup import Html, amount, cell, el, empty_row, join, named, notes, row, row_head
from .page_state import KEYS, MOST_REQUESTS, BudgetState, LiveState, SourceState
from .page_texts import Lang, text, word


def requests_caption(state: LiveState, lang: Lang) -> Html:
    """How many requests are listed, and whose: each worker knows its own only."""
    own = None if state.workers is None else text("requests_own", lang, str(state.workers))
    return join(text("requests_caption", lang, str(MOST_REQUESTS)), own)


def requests(state: LiveState, lang: Lang) -> Html:
    """A row for each of the last requests, newest first."""
    rows = [_request_row(reading, state, lang) for reading in state.requests[:MOST_REQUESTS]]
    return join(*rows) if rows else empty_row(text("no_requests", lang), 6)


def _request_row(r: Reading, state: LiveState, lang: Lang) -> Html:
    when = join(f"{r.method} " if r.method else None, clock(r.started_at, state.timezone, lang))
    swapped = text("asked", lang) + r.model_requested if r.model_requested and r.model_requested != r.model_served else None
    gpu = None if r.gpu_s is None else f"{figure(r.gpu_s, 's', lang)} {text('gpu', lang)}"
    answer = word("outcome", r.outcome, lang) + (f", HTTP {r.status}" if r.status else "")
    return row(
        row_head(
            named(r.route or text("route_unknown", lang), when, text("settled" if r.settled else "provisional", lang)),
            notes(el("code", r.id, class_="id")),
        ),
        cell(text("model", lang), named(r.model_served or text("model_none", lang), swapped)),
        cell(text("compute", lang), amount(figure(r.cpu_s, "s", lang), text("cpu", lang), gpu, _tokens(r, lang))),
        cell(text("energy", lang), _energy(r, lang)),
        cell(text("carbon", lang), _carbon(r, lang)),
        cell(text("verdict", lang), el("span", word("decision", _decision(r), lang)), notes(answer)),
    )


def _decision(r: Reading) -> str:
    """What the budgets decided; ``degrade`` without a smaller model to go to is "nearly reached" to a reader."""
    nobody_stood_in = r.decision == "degrade" and r.model_requested == r.model_served
    return "warn" if nobody_stood_in else r.decision or "none"


def _span(low: float | None, mid: float | None, high: float | None) -> Interval | None:
    return None if low is None or mid is None or high is None else Interval(low, mid, high)


def _tokens(r: Reading, lang: Lang) -> str | None:
    if r.tokens_in is None and r.tokens_out is None:
        return None
    return text("tokens", lang, count(r.tokens_in, lang), count(r.tokens_out, lang))


def _energy(r: Reading, lang: Lang) -> Html:
    """The full figure with its dynamic part; the dynamic one alone, and said so, when that is all there is."""
    remote = _remote(r, lang)
    dynamic = figure(r.energy_dynamic_j, "J", lang)
    if r.energy_full_j is not None:
        span = _span(r.energy_low_j, r.energy_full_j, r.energy_high_j)
        known = proof(span, "J", r.tier, lang)
        within = None if r.energy_dynamic_j is None else text("dynamic", lang, dynamic)
        return amount(figure(r.energy_full_j, "J", lang, span), known, within, remote)
    if r.energy_dynamic_j is not None:
        return amount(dynamic, proof(None, "J", r.tier, lang), text("dynamic_only", lang), remote)
    return amount(text("unknown", lang), remote)


def _remote(r: Reading, lang: Lang) -> str | None:
    """What models elsewhere drew for it, with bounds and tier of its own; "unknown" where a call has no figure."""
    if not r.remote and r.energy_remote_j is None:
        return None
    span = _span(r.energy_remote_low_j, r.energy_remote_j, r.energy_remote_high_j)
    told = text("remote", lang, figure(r.energy_remote_j, "J", lang, span))
    return told if span is None else f"{told} ({proof(span, 'J', r.remote_tier, lang)})"


def _carbon(r: Reading, lang: Lang) -> Html:
    if r.carbon_g is None:
        return amount(text("unknown", lang))
    span = _span(r.carbon_low_g, r.carbon_g, r.carbon_high_g)
    return amount(figure(r.carbon_g, "gCO2e", lang, span), proof(span, "gCO2e", r.carbon_tier or r.tier, lang))


def budgets(state: LiveState, lang: Lang) -> Html:
    """A row a budget: its bar, and everything the bar says in words."""
    rows = [_budget_row(b, state, lang) for b in state.budgets]
    return join(*rows) if rows else empty_row(text("no_budgets", lang), 4)


def _budget_row(b: BudgetState, state: LiveState, lang: Lang) -> Html:
    reset = text("rolling", lang) if b.resets_at is None else clock(b.resets_at, state.timezone, lang, with_date=True)
    return row(
        row_head(named(b.name, _whom(b, lang), word("window", b.window, lang))),
        cell(text("used", lang), _gauge(b), _used(b, lang)),
        cell(
            text("level", lang),
            el("span", _level(b, lang), class_="level"),
            notes(_force(b, lang), *_passed(b, state, lang), *_unmatched(b, state, lang)),
        ),
        cell(text("reset", lang), el("span", reset)),
    )


def _force(b: BudgetState, lang: Lang) -> str:
    """Whether it refuses here, and if not why."""
    if b.required is not None:
        return text("cannot_refuse", lang, word("tier", b.required, lang))
    return text("enforced" if b.enforced else "shadow", lang)


def _passed(b: BudgetState, state: LiveState, lang: Lang) -> list[Html]:
    """Permissions to pass it."""
    return [_at("passed", until, state, lang) for until in b.overrides]


def _unmatched(b: BudgetState, state: LiveState, lang: Lang) -> list[Html]:
    """That it has had nothing to count, which looks like a budget that is kept."""
    return [] if b.unmatched is None else [_at("unmatched", b.unmatched, state, lang)]


def _at(key: str, moment: float, state: LiveState, lang: Lang) -> Html:
    """A text with a moment in its blank, as markup."""
    before, _, after = text(key, lang).partition("{}")
    return join(before, clock(moment, state.timezone, lang, with_date=True), after)


def _whom(b: BudgetState, lang: Lang) -> str:
    """Whose budget: the whole service's, the requests it matches, each route's, or the one value that it is for."""
    which = ", ".join(value if what == "route" else f"{word('key', what, lang)} {value}" for what, value in b.match.items())
    matched = text("matching", lang, which) if which else None
    if b.key is None:
        return matched or text("whole_service", lang)
    return ", ".join(filter(None, (matched, _per(b.key, lang))))


def _per(key: str, lang: Lang) -> str:
    return text("per_key", lang) + word("key", key, lang) if key in KEYS else text("for_key", lang) + key


def _level(b: BudgetState, lang: Lang) -> str:
    if b.used is None:  # a budget that counts nothing is neither kept nor spent
        return text("unknown", lang)
    return word("level", "refuse_shadow" if b.level == "refuse" and not b.enforced else b.level, lang)


def _used(b: BudgetState, lang: Lang) -> Html:
    used, limit = figure(b.used, b.unit, lang, b.bounds), figure(b.limit, b.unit, lang)
    if b.used is None or not b.limit:
        return amount(text("of", lang, used, limit))
    known = text("counted", lang) if b.unit in ("tokens", "requests") else proof(b.bounds, b.unit, b.tier, lang)
    held = text("reserved", lang, figure(b.reserved, b.unit, lang)) if b.reserved else None
    basis = text("dynamic_basis", lang) if b.dynamic else None
    return amount(text("of_share", lang, used, limit, percent(b.used / b.limit, lang)), known, basis, held)


def _gauge(b: BudgetState) -> Html | None:
    """A decorative bar: the words under it say the same, so assistive tools skip it."""
    if b.settled is None or not b.limit:
        return None
    settled = min(1.0, max(0.0, b.settled / b.limit)) * 100
    held = min(100.0 - settled, max(0.0, (b.reserved or 0.0) / b.limit * 100))
    bars = (
        el("rect", class_="track", width="100%", height="10"),
        el("rect", class_=f"used used-{b.level}", width=f"{settled:.2f}%", height="10"),
        el("rect", fill="url(#texture-held)", x=f"{settled:.2f}%", width=f"{held:.2f}%", height="10"),
    )
    return el("svg", *bars, class_="gauge", aria_hidden="true", width="100%", height="10")


def sources(state: LiveState, lang: Lang) -> Html:
    """A row a source: what it covers, its power, whether it answers, and what it is."""
    rows = [_source_row(s, lang) for s in state.sources]
    return join(*rows) if rows else empty_row(text("no_sources", lang), 3)


def _source_row(s: SourceState, lang: Lang) -> Html:
    # sources describe themselves in English: the mark lets a French screen reader change its voice
    described = el("span", s.provenance, lang="en")
    around = None if s.watts is None else bounds(s.bounds, "W", lang)
    return row(
        row_head(named(s.name, word("component", s.component, lang), described)),
        cell(text("power", lang), amount(figure(s.watts, "W", lang, s.bounds), around, tier_words(s.tier, lang, long=True))),
        cell(text("state", lang), el("span", text("up" if s.up else "down", lang))),
    )
