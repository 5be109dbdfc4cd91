"""The words of the observatory's page, French and English; the typographer's spaces are written in."""

from __future__ import annotations

from typing import Final

from ..declaration.document import Language

_WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("Ce que l’IA coûte dans les services", "What AI costs in services"),
    "lead": (
        "{services} services d’IA, déclarés par ceux qui les font tourner. Page établie le {date}.",
        "{services} AI services, as declared by those who run them. Written on {date}.",
    ),
    "lead_one": (
        "Un service d’IA, déclaré par ceux qui le font tourner. Page établie le {date}.",
        "One AI service, as declared by those who run it. Written on {date}.",
    ),
    "languages": ("Langue de la page", "Language of the page"),
    "reading": ("Comment lire ces chiffres", "How to read these figures"),
    "declared": (
        "Chaque service se déclare lui-même. La forme et la cohérence des déclarations ont été vérifiées, pas leur vérité.",
        "Each service declares itself. The form and coherence of declarations were checked, not their truth.",
    ),
    "alike": (
        "Un tableau réunit ce qui se compare\u00a0: même unité, même méthode, même périmètre, même genre de facteur d’émission. "
        "Deux tableaux ne se comparent pas entre eux.",
        "A table holds what can be compared: the same unit, method, boundary and kind of emission factor. Two tables are not "
        "comparable with each other.",
    ),
    "bounds": (
        "Chaque chiffre a deux bornes. Quand celles de deux services se recouvrent, ces chiffres ne les départagent pas.",
        "Each figure has two ends. Where those of two services overlap, these figures do not tell them apart.",
    ),
    "it": (
        "L’énergie est celle des machines\u00a0; le CO₂ compte aussi le bâtiment et une part de leur fabrication.",
        "Energy is that of the machines; CO₂ also counts the building and a part of their manufacture.",
    ),
    "group": ("Pour {one}", "For {one}"),
    "group_of": (
        "Méthode {method}\u00a0; compté\u00a0: {boundary}\u00a0; facteur d’émission {factor}.",
        "Method {method}; counted: {boundary}; emission factor: {factor}.",
    ),
    "cpu": ("processeur", "processor"),
    "memory": ("mémoire", "memory"),
    "board": ("reste du serveur", "rest of the server"),
    "node": ("serveur entier", "whole server"),
    "gpu": ("carte graphique (GPU)", "graphics card (GPU)"),
    "lifecycle/location": ("de cycle de vie, selon le lieu", "lifecycle, location-based"),
    "direct/location": ("de combustion seule, selon le lieu", "direct combustion, location-based"),
    "lifecycle/market": ("de cycle de vie, selon le contrat", "lifecycle, market-based"),
    "direct/market": ("de combustion seule, selon le contrat", "direct combustion, market-based"),
    "alone": ("Un seul service ici\u00a0: rien ne se compare à lui.", "One service only: nothing is comparable with it."),
    "service": ("Service", "Service"),
    "energy": ("Énergie par unité", "Energy per unit"),
    "carbon": ("CO₂ par unité", "CO₂ per unit"),
    "year": ("Énergie par an", "Energy per year"),
    "evidence": ("Nature des chiffres", "Kind of figures"),
    "quality": ("Qualité des réponses", "Quality of answers"),
    "period": ("Période", "Period"),
    "to": ("{} au {}", "{} to {}"),
    "unknown": ("inconnu", "unknown"),
    "not_measured": ("non mesurée", "not measured"),
    "tier_measured": ("mesuré", "measured"),
    "tier_modelled": ("modélisé", "modelled"),
    "tier_sourced": ("repris d’un tiers", "sourced"),
    "share": ("{} lus sur des capteurs", "{} read from sensors"),
    "uses": ("Ce que font ces services", "What these services do"),
    "purpose": ("À quoi sert l’IA", "What AI is for"),
    "decisions": ("Décisions", "Decisions"),
    "contribution_none": ("aucune part", "no part"),
    "contribution_partial": ("aide une personne à décider", "helps a person decide"),
    "contribution_full": ("décide sans une personne", "decides without a person"),
    "models": ("Modèles", "Models"),
    "alternative": ("Sans passer par l’IA", "Without AI"),
    "not_said": ("non dit", "not said"),
    "nothing": ("Services sans chiffres", "Services without figures"),
    "why_too_few": ("trop peu de demandes pour publier un chiffre", "too few requests for a figure to be published"),
    "why_none_delivered": ("rien n’a été délivré", "nothing was delivered"),
    "why_other": ("aucun relevé pour cette période", "no records of this period"),
    "refused": ("Déclarations refusées", "Declarations refused"),
    "refused_none": ("Aucune déclaration n’a été refusée.", "No declaration was refused."),
    "data": ("Les données", "The data"),
    "data_note": (
        "Chaque ligne garde la licence de sa déclaration et l’adresse d’où elle vient.",
        "Each row keeps the licence of its declaration and the address that it is from.",
    ),
}


def said(lang: Language, key: str, *parts: object, **named: object) -> str:
    """One text in one language; KeyError for a key nobody wrote."""
    return _WORDS[key][0 if lang == "fr" else 1].format(*parts, **named)


def term(lang: Language, name: str) -> str:
    """A word of a boundary or of a factor; one that is not ours as it is."""
    return said(lang, name) if name in _WORDS else name
