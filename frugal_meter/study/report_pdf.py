"""The report as a tagged PDF (PDF/UA-1, ISO 14289-1), made by WeasyPrint of the page as it is printed."""

from __future__ import annotations

import logging
from typing import Any, Final

from ..errors import MissingExtraError

VARIANT: Final = "pdf/ua-1"
_PANGO: Final = "the system's Pango; on Debian: apt-get install libpango-1.0-0 libpangoft2-1.0-0"
#: bit 3 of an annotation's flags: it is there on paper too (ISO 32000-1, table 165)
_PRINT: Final = 4


def pdf(page: str) -> bytes:
    """``page`` (HTML, whole) as a PDF with tags, language, title and outline; the same bytes for the same page and fonts.

    Nothing is fetched. Raises `MissingExtraError` where WeasyPrint, or Pango which it draws letters with, is absent.
    """
    try:
        import weasyprint
    except ImportError as absent:
        raise MissingExtraError("study", "a report as PDF") from absent
    except OSError as absent:  # the package is there, the system's library is not
        raise MissingExtraError("study", f"a report as PDF (and {_PANGO})") from absent

    quiet = logging.getLogger("weasyprint")
    level, quiet.level = quiet.level, logging.CRITICAL  # it speaks of every CSS rule that is for screens
    try:
        document = weasyprint.HTML(string=page, url_fetcher=weasyprint.URLFetcher(allowed_protocols=("data",)))
        return bytes(document.write_pdf(pdf_variant=VARIANT, finisher=_finish))
    finally:
        quiet.level = level


def _finish(document: Any, made: Any) -> None:
    """What PDF/UA asks and WeasyPrint leaves out: header cells say which way they head, links are there on paper too."""
    by_number = {each.number: each for each in made.objects}
    for each in list(made.objects):
        if not hasattr(each, "get"):
            continue
        if each.get("S") == "/TH":
            each["A"]["Scope"] = "/Column" if _inside(each, by_number) == "/THead" else "/Row"
        elif each.get("Type") == "/Annot" and each.get("Subtype") == "/Link":
            each["F"] = _PRINT


def _inside(cell: Any, by_number: dict[int, Any]) -> str:
    """The tag of the group of rows that ``cell`` is in."""
    row = by_number[_number(cell["P"])]
    return str(by_number[_number(row["P"])]["S"])


def _number(reference: Any) -> int:
    """7 of a reference "7 0 R"."""
    text = reference.decode() if isinstance(reference, bytes) else str(reference)
    return int(text.split()[0])
