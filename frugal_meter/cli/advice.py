"""What would improve the figures of this machine, beside what its sensors' findings already say: English and French."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..carbon import Factor, Pue
from ..sources.discovery import Discovery
from ..sources.findings import Finding
from .diagnosis import Idle
from .probing import Now

#: the exact command, by the code of a finding whose remedy is words only
COMMANDS: Final = {"zone-missing": "frugal-meter doctor --zone FR"}
#: the exact setting of ``frugal.toml``, likewise; "…" stands for a figure that only the operator has
SETTINGS: Final = {
    "cpu-unknown": "declared = { cpu_idle = …, cpu_full = … }  # W",
    "cpu-relative": "declared = { cpu_idle = …, cpu_full = … }  # W",
    "cpu-vendor": "declared = { cpu_idle = …, cpu_full = … }  # W",
    "memory-unknown": "declared = { memory = … }  # W",
    "counter-still": 'sources = "model"',
    "pue-default": "pue = …",
    "idle-unknown": "idle_watts = { dram = …, gpu = … }  # W",
}


def advise(
    found: Discovery, now: Sequence[Now], idle: Sequence[Idle], *, factor: Factor | None, stale: bool | None, pue: Pue
) -> list[Finding]:  # fmt: skip
    """What stands between these settings and better figures, the most useful first."""
    advice = [] if factor is not None else [zone_missing()]
    advice += [counter_still(s.name) for s, n in zip(found.sources, now, strict=True) if n.why == "still"]
    advice += [] if all(each.watts for each in idle) else [idle_unknown()]
    advice += [factor_stale(factor)] if factor is not None and stale else []
    return advice + ([pue_default()] if pue.flags else [])


def zone_missing() -> Finding:
    """No zone: energy can be known, carbon cannot."""
    return Finding(
        code="zone-missing",
        what="no electricity zone was given: carbon is not shown, and a meter does not start without one",
        where="frugal.toml",
        remedy="Name the zone of the grid that feeds this machine, here or in frugal.toml ([meter] zone). It is never guessed: "
        "a wrong zone can be wrong fourteenfold.",
        what_fr="aucune zone électrique n'est donnée : le carbone n'est pas montré, et un compteur ne démarre pas sans elle",
        remedy_fr="Nommez la zone du réseau qui alimente cette machine, ici ou dans frugal.toml ([meter] zone). Elle n'est "
        "jamais devinée : une mauvaise zone peut fausser le résultat d'un facteur quatorze.",
    )


def switched_off() -> Finding:
    """FRUGAL_DISABLED stands in the environment."""
    return Finding(
        code="meter-disabled",
        what="FRUGAL_DISABLED is set: a meter started here measures nothing, and no budget acts",
        where="FRUGAL_DISABLED",
        remedy="Unset it (or set it to 0) to meter.",
        what_fr="FRUGAL_DISABLED est posé : un compteur lancé ici ne mesure rien, et aucun budget n'agit",
        remedy_fr="Ôtez-le (ou mettez 0) pour mesurer.",
    )


def declaration_incomplete(keys: Sequence[str]) -> Finding:
    """A [declaration] in which people have not said everything."""
    return Finding(
        code="declaration-incomplete",
        what=f"[declaration] does not say {', '.join(keys)}: each is null in frugal-ai.json, with that as the reason",
        where="frugal.toml",
        remedy="Have the people who answer for the service fill them in; frugal-meter declaration check lists them.",
        what_fr=f"[declaration] ne dit pas {', '.join(keys)} : chacun est null dans frugal-ai.json, avec cette raison",
        remedy_fr="Faites-les remplir par ceux qui répondent du service ; frugal-meter declaration check en donne la liste.",
    )


def counter_still(where: str) -> Finding:
    """A counter that can be read and does not count."""
    return Finding(
        code="counter-still",
        what="this counter did not move between two readings: its watts of now are unknown",
        where=where,
        remedy="Run doctor again. If it still does not move, a virtual machine may be showing a frozen copy: choose the power "
        "model instead.",
        what_fr="ce compteur n'a pas bougé entre deux lectures : sa puissance du moment est inconnue",
        remedy_fr="Relancez doctor. S'il ne bouge toujours pas, une machine virtuelle en montre peut-être une copie figée : "
        "choisissez le modèle de puissance.",
    )


def idle_unknown() -> Finding:
    """A sensor without an idle baseline."""
    return Finding(
        code="idle-unknown",
        what="the idle power of a sensor is not known yet: until it is observed, its joules all count as computing",
        where="frugal.toml",
        remedy="The meter learns it once the machine has been idle (20 ticks under 2 % busy). To have it from the start, declare "
        "what you measured, in watts.",
        what_fr="la puissance au repos d'un capteur n'est pas encore connue : d'ici là, tous ses joules comptent comme du calcul",
        remedy_fr="Le compteur l'apprend dès que la machine a été au repos (20 relevés sous 2 % d'activité). Pour l'avoir dès le "
        "départ, déclarez ce que vous avez mesuré, en watts.",
    )


def factor_stale(factor: Factor) -> Finding:
    """An emission factor that describes a year long past."""
    return Finding(
        code="factor-stale",
        what=f"the emission factor describes {factor.year}: grids change from year to year",
        where=factor.id,
        remedy="Update the package (pip install -U frugal-meter), or give a newer figure of your own: "
        "Meter(factor=Factor.declared(…)).",
        what_fr=f"le facteur d'émission décrit l'année {factor.year} : les réseaux changent d'une année à l'autre",
        remedy_fr="Mettez le paquet à jour (pip install -U frugal-meter), ou donnez un chiffre plus récent : "
        "Meter(factor=Factor.declared(…)).",
    )


def pue_default() -> Finding:
    """A site that has not told its PUE."""
    return Finding(
        code="pue-default",
        what="the PUE of the site (facility energy ÷ IT energy) is not declared: a default with a wide range is used",
        where="frugal.toml",
        remedy="Ask the operator of the data centre for its yearly PUE and declare it.",
        what_fr="le PUE du site (énergie du bâtiment ÷ énergie informatique) n'est pas déclaré : "
        "une valeur par défaut, large, sert",
        remedy_fr="Demandez à l'exploitant du centre de données son PUE annuel et déclarez-le.",
    )
