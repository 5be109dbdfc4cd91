"""From a study's folder to what people read: a page and a PDF in French and in English, and how to cite it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from ..errors import ConfigurationError
from ..exporters.page_texts import LANGUAGES, Lang
from . import raw
from .report_citation import bibtex, citation_cff
from .report_page import page
from .report_pdf import pdf as as_pdf
from .report_view import Seal, View
from .results import Study, decoded

#: what a report is made from and quotes the hash of, as far as it is there
SEALED: Final = ("study.json", "manifest.json")


def html(study: Study, lang: Lang, *, seals: Iterable[Seal] = (), other: str | None = None) -> str:
    """The report of ``study`` as one self-contained page.

    ``seals`` are the files it was read from; ``other`` is the address of the report in the other language.
    Variants that fewer than `periods.LEAST_PUBLIC` requests made are shown without figures.
    """
    return page(View(study, lang, tuple(seals)), other=other)


def write(folder: str | Path, langs: Iterable[Lang] = LANGUAGES, *, pdf: bool = False) -> list[Path]:
    """Write the reports of the study in ``folder`` beside it, and say which files were written.

    ``report.fr.html``, ``report.en.html``, with ``pdf`` the same as ``.pdf``; ``CITATION.cff`` and ``citation.bib``.
    Raises ConfigurationError where ``folder`` holds no study that can be read, or cannot be written; MissingExtraError where
    ``pdf`` needs a library.
    """
    folder = Path(folder)
    study, seals = _read(folder)
    wanted = tuple(dict.fromkeys(langs))
    texts: dict[str, bytes] = {}
    for lang in wanted:
        other = next((f"report.{each}.html" for each in wanted if each != lang), None)
        texts[f"report.{lang}.html"] = html(study, lang, seals=seals, other=other).encode()
        if pdf:
            texts[f"report.{lang}.pdf"] = as_pdf(
                html(study, lang, seals=seals), quoted_lang=None if study.lang == lang else study.lang
            )
    texts["CITATION.cff"] = citation_cff(study, seals).encode()
    texts["citation.bib"] = (bibtex(study, seals) + "\n").encode()
    for name, content in texts.items():
        raw.write(folder / name, [content])
    return [folder / name for name in texts]


def _read(folder: Path) -> tuple[Study, tuple[Seal, ...]]:
    path = folder / "study.json"
    try:
        content = path.read_bytes()
    except OSError as problem:
        why = problem.strerror or problem
        raise ConfigurationError(f"{folder}: no study to report on ({why}): a run of the study makes study.json") from problem
    try:
        study = decoded(content)
    except msgspec.DecodeError as problem:
        raise ConfigurationError(f"{path}: not a study ({problem}): restore it, or run the study again") from problem
    sealed = ((name, folder / name) for name in SEALED)
    return study, tuple(Seal(name, hashlib.sha256(file.read_bytes()).hexdigest()) for name, file in sealed if file.exists())
