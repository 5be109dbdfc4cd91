"""A study as something to cite: a BibTeX entry, and a CITATION.cff (Citation File Format 1.2.0, Druskat et al. 2021)."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from .report_view import Seal
from .results import Study

#: what TeX reads as a command, and how it is written to be read as itself
_TEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "#$%&_{}"},
}

_KEYWORDS: Final = ("impact study", "energy", "carbon", "frugal AI")


def bibtex(study: Study, seals: Sequence[Seal] = ()) -> str:
    """The entry, with the study's identity (SHA-256 of its manifest) in its note: studies of one title are told apart by it."""
    made = datetime.fromisoformat(study.made_at)
    fields = {
        "title": f"{{{_tex(study.title)}}}",
        "author": " and ".join(f"{{{_tex(name)}}}" for name in _authors(study)),
        "institution": _tex(study.organisation) if study.organisation else None,
        "year": str(made.year),
        "month": made.strftime("%b").lower(),
        "type": "Impact study" if study.lang == "en" else "Étude d’impact",
        "note": _note(study, seals),
    }
    lines = [f"  {name} = {value if name == 'month' else f'{{{value}}}'}," for name, value in fields.items() if value]
    return "\n".join((f"@techreport{{{key(study)},", *lines, "}"))


def key(study: Study) -> str:
    """``accueil-usagers-2026``: plain ASCII, without what BibTeX takes for its own."""
    plain = unicodedata.normalize("NFKD", study.service).encode("ascii", "ignore").decode()
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', plain).strip('-').lower() or 'study'}-{study.made_at[:4]}"


def citation_cff(study: Study, seals: Sequence[Seal] = ()) -> str:
    """The file. Values are JSON strings, which are YAML 1.2 ones too: nothing a title holds can be read as markup."""
    french = study.lang == "fr"
    message = "Pour citer cette étude, utilisez ces références." if french else "To cite this study, use these references."
    lines = [
        "cff-version: 1.2.0",
        f"message: {_yaml(message)}",
        "type: dataset",
        f"title: {_yaml(study.title)}",
        "authors:",
        *(f"  - name: {_yaml(name)}" for name in _authors(study)),
        f"date-released: {study.made_at[:10]}",
        f"abstract: {_yaml(study.purpose)}" if study.purpose else None,
        "keywords:",
        *(f"  - {_yaml(word)}" for word in dict.fromkeys((*_KEYWORDS, study.service))),
        *_identifiers(seals),
    ]
    return "\n".join(line for line in lines if line is not None) + "\n"


def _identifiers(seals: Sequence[Seal]) -> list[str]:
    lines = ["identifiers:"] if seals else []
    for seal in seals:
        lines += ["  - type: other", f"    value: {_yaml('sha256:' + seal.sha256)}", f"    description: {_yaml(seal.name)}"]
    return lines


def _authors(study: Study) -> list[str]:
    # A name is given in one piece: parting it into first and last would be a guess
    return [study.author or study.organisation or study.service]


def _note(study: Study, seals: Sequence[Seal]) -> str:
    held = {seal.name: seal.sha256 for seal in seals}
    # the manifest holds the hashes of all the rest: its own is the study's identity
    name = next((each for each in ("manifest.json", "study.json") if each in held), None)
    version = study.versions.get("frugal-meter")
    parts = [f"frugal-meter {_tex(version)}" if version else None, f"{name}, SHA-256 {held[name]}" if name else None]
    return "; ".join(part for part in parts if part)


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in _line(text))


def _yaml(text: str) -> str:
    return json.dumps(_line(text), ensure_ascii=False)


def _line(text: str) -> str:
    """``text`` on one line, without what neither format can hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
