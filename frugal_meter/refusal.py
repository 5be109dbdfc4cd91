"""What a refused request is told: RFC 9457 problem details, in English and French."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .errors import BudgetRefused
from .units import format_si

TYPE: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
#: clients that retry by themselves should not when the wait is longer than this
LONG_WAIT_S: Final = 120
_WINDOWS: Final = {"minute": "minute", "hour": "heure", "day": "jour", "week": "semaine", "month": "mois"}
_UNITS_FR: Final = {"requests": "demandes", "tokens": "jetons", "CPU-s": "s de processeur", "GPU-s": "s de GPU"}
_TIERS: Final = {"measured": "mesurée", "modelled": "modélisée", "sourced": "fournie par un tiers", None: "comptée"}


def sentences(refusal: Mapping[str, Any]) -> tuple[str, str]:
    """One sentence each in English and in French."""
    unit = refusal["unit"]
    limit, limite = _amount(refusal["limit"], unit), _amount(refusal["limit"], _UNITS_FR.get(unit, unit)).replace(".", ",")
    wait = refusal["retry_after_s"]
    if refusal["reason"] == "in_flight":
        name, most = refusal["budget"], refusal["max_in_flight"]
        return (
            f"The frugality budget {name!r} lets {most} requests run at once, and as many are running. Try again in {wait} s.",
            f"Le budget de frugalité « {name} » admet {most} demandes à la fois, et autant sont en cours. "
            f"Réessayez dans {wait} s.",
        )
    tier = refusal["tier"] or "counted"
    dynamic = refusal.get("basis") == "dynamic" and unit == "J"
    of, de = (
        (", computing energy without the share of idle", ", énergie de calcul sans la part de repos") if dynamic else ("", "")
    )
    return (
        f"The frugality budget {refusal['budget']!r} of {limit} per {refusal['window']} ({tier} figures{of}) "
        f"cannot hold this request. Try again in {_wait(wait)}.",
        f"Le budget de frugalité « {refusal['budget']} » de {limite} par {_WINDOWS[refusal['window']]} "
        f"(grandeur {_TIERS[refusal['tier']]}{de}) ne permet pas de traiter cette demande. Réessayez dans {_wait(wait)}.",
    )


def _wait(seconds: int) -> str:
    """A wait as people say it, the same in both languages: 45 s, 12 min, 5 h 20 min."""
    if seconds < 120:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _amount(value: float, unit: str) -> str:
    return format_si(value, unit) if unit in ("J", "gCO2e") else f"{value:,.12g} {unit}".replace(",", "\u202f")


def refused(refusal: Mapping[str, Any]) -> BudgetRefused:
    """The exception for work that a budget refused outside HTTP."""
    return BudgetRefused(sentences(refusal)[0], refusal)


def problem(refusal: Mapping[str, Any]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of the 429: never another tenant's figures, only the refusing budget's."""
    english, french = sentences(refusal)
    body = msgspec.json.encode(
        {
            "type": TYPE,
            "title": "Frugality budget exceeded",
            "status": 429,
            "detail": english,
            "detail_fr": french,
            "violated-policies": [refusal["budget"]],
            **{
                k: refusal[k]
                for k in ("reason", "resource", "unit", "limit", "settled", "reserved", "estimate", "tier", "window", "reset")
            },
        }
    )
    wait = refusal["retry_after_s"]
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(wait).encode()),
        (b"cache-control", b"no-store"),
        (b"content-language", b"en, fr"),
    ]
    if wait > LONG_WAIT_S:
        headers.append((b"x-should-retry", b"false"))
    return headers, body
