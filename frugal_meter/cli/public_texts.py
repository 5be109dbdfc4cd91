"""The words of ``declaration`` and ``harvest``, in French and in English."""

from __future__ import annotations

from typing import Final

from ..declaration.document import Code
from ..exporters.page_texts import Lang

#: key: (French, English)
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "complete": ("Il ne manque rien à [declaration].", "Nothing is missing in [declaration]."),
    "missing": ("[declaration] {key} : {means}", "[declaration] {key}: {means}"),
    "written": ("{names} : écrits dans {folder}", "{names}: written to {folder}"),
    "no_figures": ("aucun chiffre n'y est : {why}", "no figures are in it: {why}"),
    "no_carbon_txt": (
        "pas de carbon.txt : il lui faut l'adresse publique du dossier (--url, ou [declaration] url)",
        "no carbon.txt: it needs the public address of the folder (--url, or [declaration] url)",
    ),
    "some_missing": ("[declaration] : restent à remplir {keys}", "[declaration]: still to fill in {keys}"),
    "too_few": ("moins de 5 demandes ou unités dans la période", "fewer than 5 requests or units in the period"),
    "no_journal": ("aucun journal ; donnez --journal FILE", "no journal; give --journal FILE"),
    "no_books": ("le journal ne contient rien de cette période", "the journal holds nothing of this period"),
    "refused": ("refusé : {source} : {why}", "refused: {source}: {why}"),
    "taken": (
        "déclarations retenues : {taken} ; refusées : {refused} ; services : {services}",
        "declarations taken: {taken}; refused: {refused}; services: {services}",
    ),
    "observatory": ("{names} : écrits dans {folder}", "{names}: written to {folder}"),
}


#: what a key of [declaration] asks of people; one of a table by its own name
_MEANS: Final[dict[str, tuple[str, str]]] = {
    "organisation": ("de qui est le service", "whose service it is"),
    "contact": ("à quelle adresse écrire", "which address to write to"),
    "answerable": ("quel service ou quelle direction en répond", "which office answers for it"),
    "name": ("comment le service s'appelle", "what the service is called"),
    "purpose": ("à quoi sert l'IA, en une phrase", "what the AI is for, in a sentence"),
    "status": ("pilot, in_service ou stopped", "pilot, in_service or stopped"),
    "users": ("qui s'en sert : agents, public ou both", "who uses it: agents, public or both"),
    "necessity": ("pourquoi l'IA, et quelle autre voie a été examinée", "why AI, and which way without it was looked at"),
    "contribution": ("sa part dans les décisions : none, partial ou full", "its part in decisions: none, partial or full"),
    "human_oversight": ("qui surveille ce que fait l'IA", "who watches what the AI does"),
    "human_alternative": ("comment être servi par une personne", "how to be served by a person"),
    "legal": (
        "[declaration.legal] : individual_decisions, rules_url, ai_act_class",
        "[declaration.legal]: individual_decisions, rules_url, ai_act_class",
    ),
    "models": ("un [[declaration.models]] par modèle d'IA", "one [[declaration.models]] for each AI model"),
    "suppliers": (
        "un [[declaration.suppliers]] par fournisseur, ou suppliers = []",
        "one [[declaration.suppliers]] for each supplier, or suppliers = []",
    ),
    "url": ("l'adresse publique de ces pages", "the public address of these pages"),
}


def meaning(lang: Lang, key: str) -> str:
    """What ``key`` asks of people: ``meaning("en", "contact") == "which address to write to"``."""
    french, english = _MEANS.get(key, ("à remplir par une personne", "for a person to fill in"))
    return french if lang == "fr" else english


def said(lang: Lang, key: str | Code, /, **values: object) -> str:
    """One text in one language; KeyError for a key nobody wrote."""
    french, english = _WORDS[key]
    return (french if lang == "fr" else english).format(**values)
