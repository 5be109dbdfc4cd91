"""`sci`: the Software Carbon Intensity score (ISO/IEC 21031:2024), SCI = ((E · I) + M) per R, with its boundary printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ..errors import ConfigurationError, FactorError
from ..records import TIERS, Interval, Tier
from .factors import Factor
from .impacts import operational, per_unit, total
from .pue import Pue
from .uncertainty import shown

Lang = Literal["fr", "en"]
METHOD: Final = "sci/1"


class FunctionalUnit(msgspec.Struct, frozen=True):
    """What a service delivers one of: its names, and how many a score is given per."""

    french: str
    english: str
    each: float = 1.0


#: the consumer units that SCI for AI proposes (Green Software Foundation, sci-ai, 2026-01, §8.1), and the plain request
UNITS: Final[Mapping[str, FunctionalUnit]] = {
    "request": FunctionalUnit("requête", "request"),
    "token": FunctionalUnit("jetons", "tokens", 1e6),
    "audio_second": FunctionalUnit("seconde d'audio", "second of audio"),
    "inference": FunctionalUnit("inférence", "inference"),
    "page": FunctionalUnit("page", "page"),
    "image": FunctionalUnit("image", "image"),
    "character": FunctionalUnit("caractères", "characters", 1e3),
}
#: what the standard's checklist asks about and no figure of ours holds
NOT_COUNTED: Final = ("network", "end-user devices", "training", "build and deployment", "backup and failover elsewhere")
_FRENCH: Final = {
    "network": "réseau",
    "end-user devices": "terminaux",
    "training": "entraînement",
    "build and deployment": "fabrication et déploiement du logiciel",
    "backup and failover elsewhere": "secours ailleurs",
    "cpu": "processeur",
    "gpu": "GPU",
    "memory": "mémoire",
    "dram": "mémoire",
    "board": "carte mère et reste du serveur",
}


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """An SCI score: ``per_unit_g`` is gCO2e per ``each`` units (None when nothing was delivered or the energy is unknown).

    ``tier`` and ``method_ids`` are those of its energy; ``method`` is the score's own.
    """

    per_unit_g: Interval | None
    operational_g: Interval | None
    embodied_g: Interval
    unit: str
    each: float
    units: float
    boundary: tuple[str, ...]
    not_counted: tuple[str, ...]
    factor: Factor
    pue: Pue
    tier: Tier | None
    method_ids: tuple[str, ...]
    method: str = METHOD

    def text(self, lang: Lang = "en") -> str:
        """The score with what the standard asks to disclose beside it: unit, boundary, factor, PUE, parts and method."""
        french = lang == "fr"
        name = UNITS[self.unit].french if french else UNITS[self.unit].english
        per = name if self.each == 1 else f"{self.each:,.0f} {name}".replace(",", "\u202f" if french else ",")
        words = _WORDS[lang]
        inside, outside = (", ".join(_said(part, lang) for part in parts) for parts in (self.boundary, self.not_counted))
        lines = [
            f"SCI {_figure(self.per_unit_g, lang)} / {per} (R = {self.units:g})",
            f"  O {_figure(self.operational_g, lang)}, M {_figure(self.embodied_g, lang)}",
            f"  {words['in']} {inside}",
            f"  {words['out']} {outside}",
            f"  I {self.factor.cite()}",
            f"  PUE {self.pue.value:g} ({self.pue.source})",
            f"  E {_TIERS[lang][self.tier]} ({', '.join(self.method_ids) or words['unknown']})",
            f"  {words['method']} {self.method}, ISO/IEC 21031:2024",
        ]
        return "\n".join(lines)


_WORDS: Final[Mapping[Lang, Mapping[str, str]]] = {
    "fr": {"in": "compté :", "out": "non compté :", "method": "méthode :", "unknown": "inconnu", "to": "à"},
    "en": {"in": "counted:", "out": "not counted:", "method": "method:", "unknown": "unknown", "to": "to"},
}
_TIERS: Final[Mapping[Lang, Mapping[Tier | None, str]]] = {
    "fr": {"measured": "mesurée", "modelled": "modélisée", "sourced": "reprise d'un tiers", None: "inconnue"},
    "en": {"measured": "measured", "modelled": "modelled", "sourced": "sourced", None: "unknown"},
}


def sci(
    energy_j: Interval | None,
    *,
    tier: Tier | None,
    method_ids: tuple[str, ...],
    pue: Pue,
    factor: Factor,
    embodied_g: Interval,
    unit: str,
    units: float,
    boundary: tuple[str, ...],
    not_counted: tuple[str, ...] = NOT_COUNTED,
) -> Score:
    """The SCI score of a period: ``energy_j`` is all the IT energy reserved for the service over it (idle too), before PUE;
    ``tier`` and ``method_ids`` say how it is known (`Reading` and the figures of a period carry both). ``embodied_g`` M =
    TE · TiR/EL · RR/ToR of the same time; ``units`` what was delivered.

    Raises `FactorError` for a market-based factor, which the standard excludes, and `ConfigurationError` for an unknown
    functional unit, an empty boundary, a negative count, or energy of which nobody says how it is known.
    """
    if unit not in UNITS:
        raise ConfigurationError(f"unknown functional unit {unit!r}: use {', '.join(UNITS)}")
    if factor.basis != "location":
        raise FactorError(
            f"SCI is location-based (ISO/IEC 21031) and {factor.id} is {factor.basis}-based: choose the grid's factor"
        )
    if not boundary:
        raise ConfigurationError("an SCI score without a boundary says nothing: name what is counted, such as ('cpu', 'memory')")
    if energy_j is not None and (tier not in TIERS or not method_ids):
        raise ConfigurationError(
            f"energy without its tier ({', '.join(TIERS)}) and method ids cannot be cited: {tier!r} and {method_ids!r} were given"
        )
    if units < 0:
        raise ConfigurationError(f"{units:g} functional units: a count cannot be negative")
    each, run = UNITS[unit].each, operational(energy_j, pue, factor)
    return Score(
        per_unit_g=per_unit(total(run, embodied_g), units, each=each),
        operational_g=run,
        embodied_g=embodied_g,
        unit=unit,
        each=each,
        units=units,
        boundary=boundary,
        not_counted=not_counted,
        factor=factor,
        pue=pue,
        tier=None if energy_j is None else tier,
        method_ids=() if energy_j is None else method_ids,
    )


def _said(part: str, lang: Lang) -> str:
    return _FRENCH.get(part, part) if lang == "fr" else part


def _figure(grams: Interval | None, lang: Lang) -> str:
    """ "44 gCO2e (31 to 91)", with the digits that its bounds deserve."""
    words = _WORDS[lang]
    if grams is None:
        return words["unknown"]
    mid, low, high = (shown(value, grams) for value in (grams.mid, grams.low, grams.high))
    text = f"{mid} gCO2e" if grams.low == grams.high else f"{mid} gCO2e ({low} {words['to']} {high})"
    return text.replace(".", ",") if lang == "fr" else text
