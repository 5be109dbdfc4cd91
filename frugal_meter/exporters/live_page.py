"""The live page: what one service draws now, where its joules went, and what its last requests cost.

Pure functions from a `LiveState` to bytes: no clock, no socket, no state. The page is whole without JavaScript;
with it, a small inline script asks ``data.json`` every two seconds and swaps the parts that changed.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template
from typing import Any, Final

import msgspec

from ..records import as_dict
from .page_figures import clock
from .page_frame import NAMES, PALETTE
from .page_markup import Html, el, join
from .page_sections import PARTS
from .page_state import MOST_REQUESTS, BudgetState, FactorLine, LiveState, SourceState
from .page_texts import LANGUAGES, TEXTS, Lang

__all__ = [
    "REFRESH_S",
    "BudgetState",
    "FactorLine",
    "Lang",
    "LiveState",
    "SourceState",
    "content_security_policy",
    "negotiate",
    "render_data",
    "render_page",
]

#: seconds between two refreshes; the texts of the page say it too
REFRESH_S: Final = 2
#: identity and secrets of the people served stay out of the page's data, whatever the reading holds
_PRIVATE: Final = frozenset({"tenant"})


def negotiate(accept_language: str | None, lang_param: object = None) -> Lang:
    """The page's language: the ``lang`` parameter, else the best of ``Accept-Language`` (RFC 9110 §12.5.4).

    French when nothing was said, English when only other languages were; nonsense is passed over.
    """
    for lang in LANGUAGES:
        if isinstance(lang_param, str) and lang_param.strip().lower().split("-")[0] == lang:
            return lang
    if not accept_language or not accept_language.strip():
        return "fr"
    best: tuple[float, Lang] = (0.0, "en")
    # a header is a stranger's text: only its first ranges are read
    for item in accept_language[:1000].split(","):
        tag, _, parameter = item.partition(";")
        name = tag.strip().lower().split("-")[0]
        quality = _quality(parameter)
        for lang in LANGUAGES:
            if name in (lang, "*") and quality > best[0]:
                best = (quality, lang)
    return best[1]


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if name.strip() == "q" and 0 <= quality <= 1 else 0.0


def content_security_policy(nonce: str) -> str:
    """The strictest policy under which the page is whole: nothing from outside, nothing inline without ``nonce``."""
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def render_page(state: LiveState, *, lang: Lang, nonce: str | None = None) -> str:
    """The whole page as HTML; ``nonce`` marks its inline style and script (see `content_security_policy`)."""
    words: dict[str, str] = {f"t_{key}": join(value) for key, value in TEXTS[lang].items() if key.isidentifier()}
    return _template().substitute(
        words | _parts(state, lang),
        lang=lang,
        nonce=join(Html(' nonce="'), nonce, Html('"')) if nonce else "",
        palette=PALETTE,
        service=join(state.service),
        zone=join(state.zone),
        languages=_language_switch(lang),
        since=clock(state.since, state.timezone, lang, with_date=True),
        every_ms=str(REFRESH_S * 1000),
    )


def render_data(state: LiveState, *, lang: Lang | None = None) -> bytes:
    """The same figures as JSON: ``{"state": {…}, "parts": {lang: {part: html}}}``, for ``lang`` or for both.

    ``state`` is for programs (SI units, unknown is null), ``parts`` is what the page's script puts in place.
    """
    figures: dict[str, Any] = msgspec.structs.asdict(state)
    shown = state.requests[:MOST_REQUESTS]
    figures["requests"] = [{k: v for k, v in as_dict(r).items() if k not in _PRIVATE} for r in shown]
    languages = LANGUAGES if lang is None else (lang,)
    return msgspec.json.encode({"state": figures, "parts": {each: _parts(state, each) for each in languages}})


def _parts(state: LiveState, lang: Lang) -> dict[str, str]:
    return {name: str(draw(state, lang)) for name, draw in PARTS.items()}


def _language_switch(current: Lang) -> Html:
    links = (
        el("a", name, href=f"?lang={lang}", lang=lang, hreflang=lang, aria_current="true" if lang == current else None)
        for lang, name in NAMES.items()
    )
    return join(*(el("li", link) for link in links))


@cache
def _template() -> Template:
    return Template(files(__package__).joinpath("live_page.html").read_text(encoding="utf-8"))
