"""The refusal as a page for people: in their language first, in the other below; no script, nothing from outside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from .exporters.page_figures import bounds, day, figure, tier_words
from .exporters.page_frame import GROUND, NAMES, framed, policy
from .exporters.page_markup import Html, contact_link, el, join
from .exporters.page_texts import LANGUAGES, Lang
from .records import Interval
from .refusal import Refusals, spoken, waiting

_STYLE: Final = (
    GROUND
    + """.counter { display: inline-block; padding: .7rem 1.2rem; border-radius: .3rem; background: var(--link);
  color: var(--paper); font-weight: 600; text-decoration: none; }
.counter:hover { text-decoration: underline; }
code { overflow-wrap: anywhere; font-size: .8rem; }
ul { padding: 0; list-style: none; }
li { margin: 1rem 0 0; }
section { margin-top: 3rem; border-top: 1px solid var(--rule); }
"""
)
_CSP: Final = f"{policy(_STYLE)}; frame-ancestors 'none'"
#: French and English; the typographer's spaces are written in
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("Votre demande n’a pas été traitée", "Your request was not processed"),
    "title_cut": ("Votre demande n’a pas pu être achevée", "Your request could not be completed"),
    "limit": (
        "{who} une limite {what} à ne pas dépasser, et elle est atteinte {when}.",
        "{who} {what}, and it is reached {when}.",
    ),
    "in_flight": (
        "Ce service ne traite que quelques demandes à la fois, et il en traite déjà autant qu’il le peut.",
        "This service processes only a few requests at a time, and is processing as many as it can.",
    ),
    "throttled": (
        "Beaucoup de demandes attendent leur tour, et celui de la vôtre ne peut pas venir assez tôt.",
        "Many requests wait for their turn, and yours cannot come soon enough.",
    ),
    "store": (
        "Ce service ne répond pas sans consulter ses limites de consommation, et elles sont hors d’atteinte pour l’instant.",
        "This service does not answer without asking its limits of consumption, and they are out of reach at the moment.",
    ),
    "who_service": ("Ce service se donne", "This service keeps a limit"),
    "who_tenant": ("Votre compte a", "Your account has a limit"),
    "what_energy": ("d’énergie", "of energy"),
    "what_carbon": ("d’émissions de carbone", "of carbon emissions"),
    "what_cpu": ("de calcul", "of computing"),
    "what_gpu": ("de calcul", "of computing"),
    "what_tokens": ("de texte généré", "of generated text"),
    "what_requests": ("de demandes", "of requests"),
    "when_minute": ("pour cette minute", "for this minute"),
    "when_hour": ("pour cette heure", "for this hour"),
    "when_day": ("pour aujourd’hui", "for today"),
    "when_week": ("pour cette semaine", "for this week"),
    "when_month": ("pour ce mois", "for this month"),
    "kept": (
        "Ce n’est pas une panne\u00a0: cette limite évite une consommation sans fin.",
        "This is not a breakdown: the limit prevents consumption without end.",
    ),
    "todo": ("Que faire\u00a0?", "What you can do"),
    "counter": ("S’adresser à une personne", "Ask a person"),
    "again": ("Réessayer dans {}, à partir du ", "Try again in {}, from "),
    "at": ("à", "at"),
    "paris": ("heure de Paris", "Paris time"),
    "again_soon": ("Réessayer dans {}.", "Try again in {}."),
    "contact": ("Nous joindre\u00a0: ", "Contact: "),
    "quote": ("Numéro de votre demande\u00a0: ", "Number of your request: "),
    "figures": ("Les chiffres de cette limite", "The figures of this limit"),
    "budget": ("Nom", "Name"),
    "amount": ("Limite", "Limit"),
    "settled": ("Déjà utilisé", "Used so far"),
    "reserved": ("Réservé aux demandes en cours", "Held for requests in progress"),
    "estimate": ("Besoin estimé de votre demande", "Estimated need of your request"),
    "evidence": ("Nature des chiffres", "Kind of figures"),
    "counted": ("comptés", "counted"),
    "per_minute": ("par minute", "per minute"),
    "per_hour": ("par heure", "per hour"),
    "per_day": ("par jour", "per day"),
    "per_week": ("par semaine", "per week"),
    "per_month": ("par mois", "per month"),
}


def refusal_page(
    refusal: Mapping[str, Any], settings: Refusals, *, lang: Lang, service: str, now_s: float, request_id: str | None = None
) -> str:
    """The page, whole in ``lang`` and whole again in the other language. ``now_s`` is Unix time."""
    other: Lang = next(each for each in LANGUAGES if each != lang)
    parts = {each: _body(refusal, settings, each, now_s, request_id, heading=1 if each == lang else 2) for each in (lang, other)}
    switch = el("a", NAMES[other], href=f"#{other}", lang=other, hreflang=other)
    head = join(el("p", service), el("p", switch))
    body = el("main", parts[lang], el("section", parts[other], id=other, lang=other))
    return framed(lang, f"{_title(refusal, lang)} – {service}", head, body, style=_STYLE)


def page(
    refusal: Mapping[str, Any], settings: Refusals, *, lang: Lang, service: str, now_s: float, request_id: str | None = None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a refusal as ``text/html``."""
    text = refusal_page(refusal, settings, lang=lang, service=service, now_s=now_s, request_id=request_id)
    body = text.encode("utf-8", "replace")
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"content-language", ", ".join((lang, *(each for each in LANGUAGES if each != lang))).encode()),
        (b"content-security-policy", _CSP.encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        *waiting(refusal),
    ]
    return headers, body


def wants_page(accept: str) -> bool:
    """Whether ``Accept`` (RFC 9110 §12.5.1) asks for HTML by name and not less than for JSON: a person's browser does."""
    html, json, anything = 0.0, 0.0, 0.0
    for item in accept[:2000].lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        quality = _quality(parameters)
        if kind in ("text/html", "application/xhtml+xml"):
            html = max(html, quality)
        elif kind in ("application/json", "application/problem+json", "application/*"):
            json = max(json, quality)
        elif kind == "*/*":
            anything = quality
    return html > 0 and html > json and html >= anything


def _quality(parameters: list[str]) -> float:
    for each in parameters:
        if each.startswith("q="):
            try:
                return float(each[2:])
            except ValueError:
                return 0.0
    return 1.0


def _say(key: str, lang: Lang) -> str:
    return _WORDS[key][LANGUAGES.index(lang)]


def _title(refusal: Mapping[str, Any], lang: Lang) -> str:
    return _say("title_cut" if refusal["reason"] == "cut" else "title", lang)


def _why(refusal: Mapping[str, Any], lang: Lang) -> str:
    if refusal["reason"] in ("in_flight", "store", "throttled"):
        return _say(refusal["reason"], lang)
    who = "who_tenant" if "tenant" in refusal.get("scope", ()) else "who_service"
    words = {"who": who, "what": f"what_{refusal['resource']}", "when": f"when_{refusal['window']}"}
    return _say("limit", lang).format(**{name: _say(key, lang) for name, key in words.items()})


def _body(
    refusal: Mapping[str, Any], settings: Refusals, lang: Lang, now_s: float, request_id: str | None, *, heading: int
) -> Html:
    has_figures = refusal["reason"] not in ("in_flight", "store", "throttled")
    return join(
        el(f"h{heading}", _title(refusal, lang)),
        el("p", _why(refusal, lang), class_="lead"),
        el("p", _say("kept", lang)) if has_figures else None,
        el(f"h{heading + 1}", _say("todo", lang)),
        el("ul", *_ways(refusal, settings, lang, now_s, request_id)),
        el(f"h{heading + 1}", _say("figures", lang)) if has_figures else None,
        _figures(refusal, lang) if has_figures else None,
    )


def _ways(refusal: Mapping[str, Any], settings: Refusals, lang: Lang, now_s: float, request_id: str | None) -> list[Html]:
    wait = refusal["retry_after_s"]
    counter = refusal.get("fallback_url") or settings.fallback_url
    ways = [] if counter is None else [el("li", el("a", _say("counter", lang), href=counter, class_="counter"))]
    if wait > 120:
        ways.append(el("li", _say("again", lang).format(spoken(wait)), _moment(now_s + wait, refusal["timezone"], lang), "."))
    else:
        ways.append(el("li", _say("again_soon", lang).format(spoken(wait))))
    if settings.contact is not None:
        ways.append(el("li", _say("contact", lang), contact_link(settings.contact), "."))
    if request_id is not None:
        ways.append(el("li", _say("quote", lang), el("code", request_id)))
    return ways


def _moment(at_s: float, timezone: str, lang: Lang) -> Html:
    """The minute from which to try again, rounded up, on the clock that the budget's window turns by."""
    up = math.ceil(at_s / 60) * 60
    local = datetime.fromtimestamp(up, ZoneInfo(timezone))
    hour = f"{local.hour}\u00a0h\u00a0{local.minute:02d}" if lang == "fr" else f"{local:%H:%M}"
    # "CET" says nothing to most who live by it
    clock = f" ({_say('paris', lang)})" if timezone == "Europe/Paris" else f"\u00a0{local:%Z}"
    shown = f"{day(local, lang)} {_say('at', lang)} {hour}{clock}"
    return el("time", shown, datetime=datetime.fromtimestamp(up, UTC).strftime("%Y-%m-%dT%H:%MZ"))


def _settled(refusal: Mapping[str, Any], lang: Lang) -> str:
    """What was settled with its bounds, where it is joules or grams: "4,2 kJ (2,1 à 8,0 kJ)"; empty where there are none."""
    low, high, unit = refusal.get("settled_low"), refusal.get("settled_high"), refusal["unit"]
    if low is None or high is None:
        return ""
    whole = Interval(low, refusal["settled"], high)
    return f"{figure(whole.mid, unit, lang, whole)} ({bounds(whole, unit, lang)})"


def _evidence(refusal: Mapping[str, Any], tier: str) -> Html:
    ids = [refusal["method_id"], *refusal.get("factor_ids", ())] if "method_id" in refusal else []
    return join(tier, *(part for each in ids for part in (", ", el("code", each))))


def _figures(refusal: Mapping[str, Any], lang: Lang) -> Html:
    unit, tier = refusal["unit"], refusal["tier"]

    def shown(name: str) -> str:
        # the word of the sentences above: two for one thing would look like two things
        return figure(refusal[name], unit, lang).replace("requête", "demande")

    rows = {
        "budget": refusal["budget"],
        "amount": f"{shown('limit')} {_say('per_' + refusal['window'], lang)}",
        "settled": _settled(refusal, lang) or shown("settled"),
        "reserved": shown("reserved"),
        "estimate": shown("estimate"),
        "evidence": _say("counted", lang) if tier is None else _evidence(refusal, tier_words(tier, lang)),
    }
    return el("dl", *(el("div", el("dt", _say(key, lang)), el("dd", said)) for key, said in rows.items()), class_="pairs")
