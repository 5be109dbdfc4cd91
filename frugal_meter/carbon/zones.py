"""Zone codes: what a user may write, and what to suggest when no factor is known for it."""

from __future__ import annotations

import csv
import difflib
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import UnknownZoneError

DATA: Final = Path(__file__).parent / "data"
#: other codes of the same grid: EU country codes (Eurostat), ISO 3166-2 of Corsica, its departments and the French overseas
ALIASES: Final[Mapping[str, str]] = {
    "UK": "GB",
    "EL": "GR",
    "FR-20R": "FR-COR",
    "FR-2A": "FR-COR",
    "FR-2B": "FR-COR",
    "FR-971": "GP",
    "FR-972": "MQ",
    "FR-973": "GF",
    "FR-974": "RE",
    "FR-976": "YT",
    "FR-GP": "GP",
    "FR-MQ": "MQ",
    "FR-GF": "GF",
    "FR-RE": "RE",
    "FR-YT": "YT",
    "FR-PM": "PM",
    "FR-PF": "PF",
    "FR-NC": "NC",
    "FR-WF": "WF",
    "FR-BL": "BL",
    "FR-MF": "MF",
}
_AVERAGES: Final = frozenset({"EU", "EU27", "EU-27", "EUROPE", "WORLD", "GLOBAL", "MONDE", "OECD", "OCDE", "UE"})
_FRENCH_WITHOUT_DATA: Final = frozenset({"WF", "BL", "MF", "TF"})
_OVERSEAS: Final = "FR-COR, GP, MQ, GF, RE, YT, NC, PF, PM"
_LONGEST: Final = 64


class Name(NamedTuple):
    """How people call a zone; ``alpha_3`` is empty below the country."""

    zone: str
    alpha_3: str
    english: str
    french: str


@cache
def names() -> Mapping[str, Name]:
    """Zone → its ISO 3166-1 alpha-3 code and its names (Unicode CLDR 46, by way of Babel 2.17.0)."""
    with (DATA / "names.csv").open(newline="", encoding="utf-8") as lines:
        rows = csv.reader(lines)
        next(rows)
        return {row[0]: Name(*row) for row in rows}


def canonical(zone: object) -> str:
    """``zone`` in the form the tables use: "fra" and " FR" are "FR", "uk" is "GB", "FR-974" is "RE".

    Raises `UnknownZoneError` for what cannot be a code at all.
    """
    if not isinstance(zone, str) or not zone.strip():
        raise UnknownZoneError(zone, hint="A zone is required: it is never guessed. Give an ISO country code such as FR.")
    code = zone.strip().upper().replace("_", "-")
    if len(code) > _LONGEST:
        raise UnknownZoneError(code[:_LONGEST] + "…", hint="A zone is a short code such as FR or FR-COR.")
    if len(code) == 3:
        code = next((n.zone for n in names().values() if n.alpha_3 == code), code)
    return ALIASES.get(code, code)


def unknown(zone: str, known: Mapping[str, str]) -> UnknownZoneError:
    """The error for a ``zone`` (canonical) that is not among ``known`` (code → name), with at most three suggestions."""
    code = canonical(zone)
    if code in _AVERAGES:
        return UnknownZoneError(zone, hint="An average over countries is no grid: name the country whose electricity is used.")
    if code in _FRENCH_WITHOUT_DATA:
        return UnknownZoneError(zone, hint="It is not on the mainland grid and no dataset covers it: give your own Factor.")
    country = code.split("-")[0]
    if country != code and country in known:
        # A region's own grid, if it has one, must be named: falling back on the country would be a silent guess.
        within = [z for z in known if z.startswith(f"{country}-")]
        below = [z for z in within if z.startswith(f"{code}-")][:2] or difflib.get_close_matches(code, within, n=2, cutoff=0.6)
        return UnknownZoneError(zone, [_shown(z, known) for z in (*below, country)], _region_hint(country))
    found = list(dict.fromkeys(_nearest(zone, known)))[:3]
    return UnknownZoneError(zone, [_shown(z, known) for z in found])


def _region_hint(country: str) -> str:
    if country == "FR":
        return f"A region on the mainland grid is FR; islands and overseas have their own: {_OVERSEAS}."
    return f"A region that shares the national grid is {country}; otherwise give your own Factor."


def _nearest(text: str, known: Mapping[str, str]) -> Iterator[str]:
    """Zones whose name is, then starts with, then resembles ``text``; then codes that resemble it."""
    wanted = _fold(text)
    spoken = {spelling: zone for zone in known for spelling in _spellings(zone, known[zone])}
    if wanted in spoken:
        yield spoken[wanted]
        return
    if len(wanted) > 3:
        yield from (zone for spelling, zone in spoken.items() if spelling.startswith(wanted))
    yield from (spoken[s] for s in difflib.get_close_matches(wanted, spoken, n=3, cutoff=0.72))
    # Codes are short: any two share a letter, so only those that begin alike are near.
    code = text.strip().upper()
    yield from difflib.get_close_matches(code, [z for z in known if z.startswith(code[:1])], n=3, cutoff=0.5)


def _spellings(zone: str, name: str) -> set[str]:
    entry = names().get(zone)
    spoken = {name, *((entry.english, entry.french) if entry else ())}
    return {_fold(s.split(" (")[0]) for s in spoken if s}


def _shown(zone: str, known: Mapping[str, str]) -> str:
    entry = names().get(zone)
    spoken = (entry.english or known[zone], entry.french) if entry else (known[zone],)
    return f"{zone} ({' / '.join(dict.fromkeys(spoken))})"


def _fold(text: str) -> str:
    """Without accents, case, articles or punctuation: "La Réunion" and "reunion" are the same."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c))
    return " ".join(w for w in letters.split() if w not in {"la", "le", "les", "the", "l"}) or letters.strip()
