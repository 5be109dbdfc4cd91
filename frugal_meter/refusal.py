"""What a refused request is told: RFC 9457 problem details, in English and French, and the settings of it (`Refusals`)."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .errors import BudgetRefused, ConfigurationError
from .links import checked_url, is_line
from .units import format_si

_TYPES: Final = "https://iana.org/assignments/http-problem-types#"
TYPE: Final = _TYPES + "quota-exceeded"
#: for a shared store that cannot be asked: not this client's doing
TYPE_STORE: Final = _TYPES + "temporary-reduced-capacity"
#: 429 as RFC 6585 §4 has it; the others for clients and gateways that treat 429 as an invitation to try again
STATUSES: Final = (429, 402, 422, 503)
#: clients that retry by themselves should not when the wait is longer than this
LONG_WAIT_S: Final = 120
#: refused clients come back spread over this share of the wait, and over no more than `_MOST_SPREAD_S`
_SPREAD: Final = 0.1
_MOST_SPREAD_S: Final = 60
_WINDOWS: Final = {"minute": "minute", "hour": "heure", "day": "jour", "week": "semaine", "month": "mois"}
_UNITS_FR: Final = {"requests": "demandes", "tokens": "jetons", "CPU-s": "s de processeur", "GPU-s": "s de GPU"}
_TIERS: Final = {"measured": "mesurée", "modelled": "modélisée", "sourced": "fournie par un tiers", None: "comptée"}
#: figures of the refusing budget that its client is told; a store that cannot be asked has none
_FIGURES: Final = ("resource", "unit", "limit", "settled", "reserved", "estimate", "tier", "window", "reset")
#: and what stands behind them, where they are joules or grams
_EVIDENCE: Final = ("settled_low", "settled_high", "method_id", "factor_ids")


class Refusals(msgspec.Struct, frozen=True):
    """How a service says no: ``Meter(refusals=Refusals(fallback_url="https://…", contact="accueil@…"))``.

    fallback_url: where the person is served all the same, a human counter; a budget's own wins. contact: an address, URL
    or telephone number. status: 429, or 402, 422, 503. rate_limit: also send ``RateLimit`` and ``RateLimit-Policy``
    (draft-ietf-httpapi-ratelimit-headers), on admitted requests too.
    """

    fallback_url: str | None = None
    contact: str | None = None
    status: int = 429
    rate_limit: bool = False

    @classmethod
    def of(cls, given: Refusals | Mapping[str, Any] | None) -> Refusals:
        """The settings, from a mapping as well; raises ConfigurationError in one line for what cannot mean anything."""
        if given is None:
            return cls()
        if isinstance(given, Mapping):
            for key in given:
                if key not in cls.__struct_fields__:
                    near = difflib.get_close_matches(str(key), cls.__struct_fields__, 1) or cls.__struct_fields__
                    raise ConfigurationError(f"refusals has no setting {key!r}; use {', '.join(near)}")
            given = cls(**given)
        if not isinstance(given, cls):
            raise ConfigurationError(f'refusals is Refusals(…) or a mapping such as {{"contact": "…"}}, not {given!r}')
        if type(given.status) is not int or given.status not in STATUSES:
            raise ConfigurationError(f"refusals: status is one of {', '.join(map(str, STATUSES))}, not {given.status!r}")
        if type(given.rate_limit) is not bool:
            raise ConfigurationError(f"refusals: rate_limit is true or false, not {given.rate_limit!r}")
        if given.contact is not None and not is_line(given.contact):
            raise ConfigurationError(f"refusals: contact is a line of text that people can use, not {given.contact!r}")
        checked_url("refusals: fallback_url", given.fallback_url)
        return given


#: how a service says no that has settled nothing
PLAIN: Final = Refusals()


def sentences(refusal: Mapping[str, Any]) -> tuple[str, str]:
    """One sentence each in English and in French."""
    wait = refusal["retry_after_s"]
    if refusal["reason"] == "store":
        return (
            "The frugality budgets of this service cannot be asked at the moment, and it does not answer without them. "
            f"Try again in {spoken(wait)}.",
            "Les budgets de frugalité de ce service ne peuvent pas être consultés pour l'instant, et il ne répond pas "
            f"sans eux. Réessayez dans {spoken(wait)}.",
        )
    unit = refusal["unit"]
    limit, limite = amount(refusal["limit"], unit, "en"), amount(refusal["limit"], unit, "fr")
    if refusal["reason"] == "in_flight":
        name, most = refusal["budget"], refusal["max_in_flight"]
        return (
            f"The frugality budget {name!r} lets {most} requests run at once, and as many are running. Try again in {wait} s.",
            f"Le budget de frugalité « {name} » admet {most} demandes à la fois, et autant sont en cours. "
            f"Réessayez dans {wait} s.",
        )
    if refusal["reason"] == "throttled":
        return (
            f"Requests under the frugality budget {refusal['budget']!r} wait for their turn, and yours cannot come soon enough. "
            f"Try again in {spoken(wait)}.",
            f"Les demandes soumises au budget de frugalité « {refusal['budget']} » attendent leur tour, et celui de la "
            f"vôtre ne peut pas venir assez tôt. Réessayez dans {spoken(wait)}.",
        )
    tier = refusal["tier"] or "counted"
    dynamic = refusal.get("basis") == "dynamic" and unit == "J"
    of, de = (
        (", computing energy without the share of idle", ", énergie de calcul sans la part de repos") if dynamic else ("", "")
    )
    began = refusal["reason"] == "cut"
    cannot, ne_permet = ("cannot hold the rest of", "d'achever") if began else ("cannot hold", "de traiter")
    return (
        f"The frugality budget {refusal['budget']!r} of {limit} per {refusal['window']} ({tier} figures{of}) "
        f"{cannot} this request. Try again in {spoken(wait)}.",
        f"Le budget de frugalité « {refusal['budget']} » de {limite} par {_WINDOWS[refusal['window']]} "
        f"(grandeur {_TIERS[refusal['tier']]}{de}) ne permet pas {ne_permet} cette demande. Réessayez dans {spoken(wait)}.",
    )


def spoken(seconds: int) -> str:
    """A wait as people say it, the same in both languages: 45 s, 12 min, 5 h 20 min."""
    if seconds < 120:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def amount(value: float, unit: str, lang: str) -> str:
    """A figure with its unit in the words of ``lang``: "1.5 kJ", "1,5 kJ", "40 000 jetons"."""
    shown = _UNITS_FR.get(unit, unit) if lang == "fr" else unit
    text = format_si(value, shown) if unit in ("J", "gCO2e") else f"{value:,.12g} {shown}".replace(",", "\u202f")
    return text.replace(".", ",") if lang == "fr" else text


def refused(refusal: Mapping[str, Any]) -> BudgetRefused:
    """The exception for work that a budget refused outside HTTP."""
    return BudgetRefused(sentences(refusal)[0], refusal)


def spread(refusal: Mapping[str, Any], request_id: str | None) -> dict[str, Any]:
    """The refusal with its wait a little longer, never shorter: else all who were refused come back in the same second."""
    wait = refusal["retry_after_s"]
    most = min(int(wait * _SPREAD), _MOST_SPREAD_S)
    return {**refusal, "retry_after_s": wait + zlib.crc32((request_id or "").encode()) % (most + 1)}


def document(refusal: Mapping[str, Any], settings: Refusals = PLAIN, request_id: str | None = None) -> dict[str, Any]:
    """The members of the problem document: the refusing budget's figures, never those of another tenant's budget."""
    english, french = sentences(refusal)
    store = refusal["reason"] == "store"
    members = {
        "type": TYPE_STORE if store else TYPE,
        "title": "Frugality budgets out of reach" if store else "Frugality budget exceeded",
        "status": status_of(refusal, settings),
        "detail": english,
        "detail_fr": french,
        **({} if store else {"violated-policies": [refusal["budget"]]}),
        **{name: refusal[name] for name in ("reason", "scope", *(() if store else _FIGURES))},
        **({} if store else {name: refusal.get(name) for name in _EVIDENCE}),
        "retry_after_s": refusal["retry_after_s"],
        "fallback_url": refusal.get("fallback_url") or settings.fallback_url,
        "contact": settings.contact,
        "request_id": request_id,
    }
    return {name: value for name, value in members.items() if value is not None or name == "tier"}


def status_of(refusal: Mapping[str, Any], settings: Refusals) -> int:
    """The status of the answer: the service's choice; 503 when it is the store that is out of reach."""
    return 503 if refusal["reason"] == "store" else settings.status


def waiting(refusal: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """The headers that every refusal has, whatever its body: when to come back, and not to keep it."""
    wait = refusal["retry_after_s"]
    headers = [(b"retry-after", str(wait).encode()), (b"cache-control", b"no-store")]
    if wait > LONG_WAIT_S:
        headers.append((b"x-should-retry", b"false"))
    return headers


def problem(
    refusal: Mapping[str, Any], settings: Refusals = PLAIN, request_id: str | None = None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a refusal as ``application/problem+json``."""
    body = msgspec.json.encode(document(refusal, settings, request_id))
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"content-language", b"en, fr"),
        *waiting(refusal),
    ]
    return headers, body
