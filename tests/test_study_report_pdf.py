"""The report as a PDF: tagged as ISO 14289-1 (PDF/UA-1) asks, as far as a program can see without a verifier."""

from __future__ import annotations

import re
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pikepdf
import pytest
import study_samples

from frugal_meter.errors import MissingExtraError
from frugal_meter.study.report import html, write
from frugal_meter.study.report_pdf import pdf
from frugal_meter.study.results import encoded

pytestmark = pytest.mark.xdist_group("pdf")  # made once, not by each process of the run
STUDY = study_samples.study()


@pytest.fixture(scope="module", params=["fr", "en"])
def made(request, tmp_path_factory):
    """The report in one language: the language, the file, the document."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.json").write_bytes(encoded(STUDY))
    (path,) = (p for p in write(folder, langs=(request.param,), pdf=True) if p.suffix == ".pdf")
    with pikepdf.open(path) as document:
        yield request.param, path, document


def elements(document: pikepdf.Pdf) -> list[Any]:
    """Every structure element that the tree reaches, in reading order."""
    found: list[Any] = []

    def walk(kids: Any) -> None:
        for kid in kids if isinstance(kids, pikepdf.Array) else [kids]:
            if isinstance(kid, pikepdf.Dictionary) and "/S" in kid:
                found.append(kid)
                walk(kid.get("/K", pikepdf.Array()))

    walk(document.Root.StructTreeRoot.K)
    return found


def tagged(document: pikepdf.Pdf, tag: str) -> list[Any]:
    return [each for each in elements(document) if tag == each.S]


def test_the_document_says_it_is_tagged_in_which_language_and_what_it_is_called(made) -> None:
    lang, _, document = made
    assert document.Root.MarkInfo.Marked
    assert str(document.Root.Lang) == lang
    assert document.Root.ViewerPreferences.DisplayDocTitle
    with document.open_metadata() as metadata:
        assert metadata["dc:title"] == STUDY.title
        assert metadata["pdfuaid:part"] == "1"


def test_headings_are_an_outline_that_begins_with_the_title(made) -> None:
    _, _, document = made
    levels = [int(str(each.S)[2]) for each in elements(document) if re.fullmatch(r"/H\d", str(each.S))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert levels.count(2) == 15
    with document.open_outline() as outline:
        assert outline.root[0].title.replace("\u00a0", " ") == STUDY.title
        assert len(outline.root[0].children) == 15


def test_every_header_cell_says_which_way_it_heads_and_every_cell_names_its_headers(made) -> None:
    _, _, document = made
    scopes = [str(each.A.Scope) for each in tagged(document, "/TH")]
    assert set(scopes) == {"/Column", "/Row"}
    ids = {str(each.ID) for each in tagged(document, "/TH")}
    cells = tagged(document, "/TD")
    assert len(cells) > 150
    for each in cells:
        assert len(each.A.Headers) >= 2
        assert {str(name) for name in each.A.Headers} <= ids
    for each in tagged(document, "/THead"):
        assert {str(th.A.Scope) for row in each.K for th in row.K} == {"/Column"}


def test_tables_have_captions_and_drawings_words(made) -> None:
    _, _, document = made
    assert len(tagged(document, "/Caption")) >= 15
    figures = tagged(document, "/Figure")
    assert len(figures) == 2  # the plots for telephones are not on paper
    assert all(len(str(each.Alt)) > 20 for each in figures)


def test_lists_hold_items_and_nothing_else(made) -> None:
    _, _, document = made
    for each in tagged(document, "/L"):
        assert {str(kid.S) for kid in each.K} <= {"/LI", "/Caption"}
    assert all(str(each.P.S) == "/L" for each in tagged(document, "/LI"))


def test_all_that_is_drawn_is_content_of_the_tree_or_an_artifact(made) -> None:
    _, _, document = made
    reached = {each.objgen for each in elements(document)}
    numbers = document.Root.StructTreeRoot.ParentTree.Nums
    owners = {int(numbers[at]): numbers[at + 1] for at in range(0, len(numbers), 2)}
    for page in document.pages:
        depth, feet = [], 0
        for instruction in pikepdf.parse_content_stream(page):
            name = str(instruction.operator)
            if name in ("BDC", "BMC"):
                tag = str(instruction.operands[0])
                depth.append(tag)
                if tag == "/Artifact" and name == "BDC":
                    assert str(instruction.operands[1].Type) == "/Pagination"
                    feet += 1
                elif name == "BDC":
                    owner = owners[int(page.obj.StructParents)][int(instruction.operands[1].MCID)]
                    assert owner.objgen in reached
            elif name == "EMC":
                depth.pop()
            elif name in ("TJ", "Tj"):
                assert depth, "text that is neither content nor artifact"
        assert feet >= 1


def test_links_are_there_on_paper_and_say_where_they_lead(made) -> None:
    _, _, document = made
    links = [note for page in document.pages for note in page.get("/Annots", []) if note.Subtype == "/Link"]
    assert len(links) >= 14
    assert all(int(each.F) & 4 for each in links)


def test_quotations_and_title_have_the_language_they_were_written_in(made) -> None:
    lang, _, document = made
    quoted = [*tagged(document, "/BlockQuote"), *tagged(document, "/H1")]
    assert len(quoted) == 3
    assert {str(each.get("/Lang", "")) for each in quoted} == ({""} if lang == "fr" else {"fr"})


def test_fonts_are_inside_and_paper_is_a4(made) -> None:
    _, _, document = made
    for page in document.pages:
        assert [round(float(x)) for x in page.mediabox] == [0, 0, 595, 842]
    fonts = {font.objgen: font for page in document.pages for font in page.Resources.Font.values()}
    for font in fonts.values():
        (held,) = font.DescendantFonts
        assert {"/FontFile2", "/FontFile3"} & set(held.FontDescriptor.keys())
        assert "/ToUnicode" in font


def test_the_same_study_gives_the_same_bytes_from_one_day_to_the_next(made) -> None:
    lang, path, _ = made
    again = path.parent / "again"
    again.mkdir()
    (again / "study.json").write_bytes((path.parent / "study.json").read_bytes())
    write(again, langs=(lang,), pdf=True)
    assert (again / path.name).read_bytes() == path.read_bytes()


def test_nothing_is_fetched_whatever_the_page_asks_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret.css"
    secret.write_text("h1 { font-size: 90pt; }", encoding="utf-8")
    page = '<!doctype html><html lang="en"><title>t</title>{}<body><h1>title</h1>'
    asking = page.format(f'<link rel="stylesheet" href="{secret.as_uri()}">')
    assert pdf(asking) == pdf(page.format(""))


def test_without_the_library_the_command_to_get_it_is_said_and_nothing_is_written(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "study.json").write_bytes(encoded(STUDY))
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'frugal-meter\[study\]'") as absent:
        write(tmp_path, pdf=True)
    assert "\n" not in str(absent.value)
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]
    assert write(tmp_path)  # a page needs no library


def test_long_names_and_many_variants_still_fit_on_paper(tmp_path: Path) -> None:
    titles = [f"Variante numéro {number} au nom {'interminable ' * 6}" for number in range(7)]
    many = tuple(msgspec.structs.replace(STUDY.variants[0], name=title, title=title) for title in titles)
    study = msgspec.structs.replace(STUDY, variants=many, comparisons=(), pareto=(), sensitivity=())
    with pikepdf.open(BytesIO(pdf(html(study, "fr")))) as document:
        assert 8 <= len(document.pages) <= 30
