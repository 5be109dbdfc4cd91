"""The words of ``declaration`` and ``harvest``, in French and in English."""

from __future__ import annotations

from typing import Final

from ..declaration.document import Code
from ..exporters.page_texts import Lang

#: key: (French, English)
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "complete": ("Il ne manque rien à [declaration].", "Nothing is missing in [declaration]."),
    "missing": ("[declaration] {key} : à remplir par une personne", "[declaration] {key}: for a person to fill in"),
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


def said(lang: Lang, key: str | Code, /, **values: object) -> str:
    """One text in one language; KeyError for a key nobody wrote."""
    french, english = _WORDS[key]
    return (french if lang == "fr" else english).format(**values)
