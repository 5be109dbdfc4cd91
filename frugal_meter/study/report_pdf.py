"""The report as a tagged PDF (PDF/UA-1, ISO 14289-1), made by WeasyPrint of the page as it is printed."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Final

from ..errors import MissingExtraError

VARIANT: Final = "pdf/ua-1"
_PANGO: Final = "the system's Pango; on Debian: apt-get install libpango-1.0-0 libpangoft2-1.0-0"
#: bit 3 of an annotation's flags: it is there on paper too (ISO 32000-1, table 165)
_PRINT: Final = 4


def pdf(page: str, *, quoted_lang: str | None = None) -> bytes:
    """``page`` (HTML, whole) as a PDF with tags, language, title and outline; the same bytes for the same page and fonts.

    ``quoted_lang`` is the language of its title and of its quotations where that is not the page's: of all that ``lang`` says in
    HTML, this is what the tags carry. Nothing is fetched. Raises `MissingExtraError` where WeasyPrint, or Pango which it draws
    letters with, is absent.
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
        return bytes(document.write_pdf(pdf_variant=VARIANT, finisher=partial(_finish, quoted_lang)))
    finally:
        quiet.level = level


def _finish(quoted_lang: str | None, document: Any, made: Any) -> None:
    """What PDF/UA asks and WeasyPrint (70) leaves out, before ``made`` (a pydyf.PDF) is written."""
    tree = _Tree(made)
    tree.say_which_way_headers_head()
    tree.take_running_feet_out()
    tree.put_links_on_paper()
    if quoted_lang is not None:
        tree.say_language_of_quotations(quoted_lang)


class _Tree:
    """The objects of a PDF by their number, and those of its structure tree."""

    def __init__(self, made: Any) -> None:
        self._by_number = {each.number: each for each in made.objects}
        self._objects = [each for each in made.objects if isinstance(each, dict)]
        self._root = self._at(made.catalog["StructTreeRoot"])

    def _at(self, reference: Any) -> Any:
        """The object of a reference "7 0 R"."""
        text = reference.decode() if isinstance(reference, bytes) else str(reference)
        return self._by_number[int(text.split()[0])]

    def say_which_way_headers_head(self) -> None:
        """/Scope of each header cell (ISO 14289-1, 7.5): a column's in the head of a table, else a row's."""
        for each in self._objects:
            if each.get("S") == "/TH":
                group = self._at(self._at(each["P"])["P"])
                each["A"]["Scope"] = "/Column" if group["S"] == "/THead" else "/Row"

    def put_links_on_paper(self) -> None:
        """Links are there on paper too."""
        for each in self._objects:
            if each.get("Subtype") == "/Link":
                each["F"] = _PRINT

    def take_running_feet_out(self) -> None:
        """Running feet are pagination artifacts, no content (ISO 14289-1, 7.8): a voice would read them between two lines.

        WeasyPrint tags them and leaves them out of the tree, so that they are what the tree does not reach.
        """
        reached = self._reached(self._root)
        numbers = self._at(self._root["ParentTree"])["Nums"]
        holders = dict(zip(numbers[::2], numbers[1::2], strict=True))
        for page in (each for each in self._objects if each.get("Type") == "/Page"):
            owners, stream = holders[page["StructParents"]], self._at(page["Contents"]).stream
            for place in [at for at, token in enumerate(stream) if token == b"BDC"]:
                properties = stream[place - 1]
                if self._at(owners[marked := properties["MCID"]]).number not in reached:
                    stream[place - 2], owners[marked] = "/Artifact", "null"
                    del properties["MCID"]
                    properties["Type"] = "/Pagination"

    def say_language_of_quotations(self, lang: str) -> None:
        """/Lang of the title and of quotations: read by a voice of the page's language they could not be understood."""
        for each in self._objects:
            if each.get("S") in ("/H1", "/BlockQuote"):
                each["Lang"] = f"({lang})"

    def _reached(self, element: Any) -> set[int]:
        found, waiting = set(), [element]
        while waiting:
            here = waiting.pop()
            found.add(here.number)
            waiting += [self._at(kid) for kid in here.get("K", ()) if not isinstance(kid, int)]
        return found
