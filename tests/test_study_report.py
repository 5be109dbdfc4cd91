"""A study's report says what the study found, no more: in both languages, alone, and to everyone."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import study_samples
import yaml
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.carbon.published import published
from frugal_meter.carbon.uncertainty import digits
from frugal_meter.errors import ConfigurationError
from frugal_meter.exporters.page_texts import LANGUAGES
from frugal_meter.periods import LEAST_PUBLIC
from frugal_meter.records import Interval
from frugal_meter.study import report_practices, report_texts
from frugal_meter.study.report import html, write
from frugal_meter.study.report_axes import axis, span
from frugal_meter.study.report_citation import bibtex, citation_cff
from frugal_meter.study.report_plots import levers, pareto_plot, tornado_plot
from frugal_meter.study.report_view import Seal, View
from frugal_meter.study.report_words import about, apart, between, times
from frugal_meter.study.results import Study, encoded

INLINE = {"span", "strong", "code", "a", "time", "wbr"}
VOID = {"meta", "link", "br", "wbr", "img", "input", "hr"}
EVIL = 'x"><script>alert(1)</script></style>\n${title}\\'


class Node:
    """An element of a page: its tag, attributes, children and text."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Node | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Node | str] = []

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    def all(self, *tags: str) -> list[Node]:
        found = [self] if self.tag in tags else []
        return found + [node for c in self.children if isinstance(c, Node) for node in c.all(*tags)]


class Reader(HTMLParser):
    """A page as a tree; an element that is not closed in its turn is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = self._here = Node("", {}, None)
        self.feed(page)
        assert self._here is self.root, f"<{self._here.tag}> is left open"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        node = Node(tag, dict(attrs), self._here)
        self._here.children.append(node)
        if tag not in VOID:
            self._here = node

    def handle_endtag(self, tag):
        assert self._here.tag == tag, f"</{tag}> closes <{self._here.tag}>"
        assert self._here.parent is not None
        self._here = self._here.parent

    def handle_data(self, data):
        self._here.children.append(data)


def read(study: Study, lang: str = "fr", **options) -> Node:
    return Reader(html(study, lang, **options)).root


def said(node: Node) -> str:
    """What a reader sees of it, every space a plain one; the style sheet and the hidden names of drawings left out."""
    if node.tag in ("style", "title", "desc"):
        return ""
    kids = [(c, c) if isinstance(c, str) else (c, said(c)) for c in node.children]
    seen = "".join(text if isinstance(c, str) or _inline(c) else f"{text} " for c, text in kids)
    return re.sub(r"\s+", " ", seen)


def _inline(node: Node) -> bool:
    return node.tag in INLINE and "class" not in node.attributes


def section(page: Node, name: str) -> str:
    (found,) = (s for s in page.all("section") if s.attributes["aria-labelledby"] == name)
    return said(found)


def changed(study: Study, name: str, **changes) -> Study:
    """``study`` with one of its variants changed."""
    variants = tuple(msgspec.structs.replace(v, **changes) if v.name == name else v for v in study.variants)
    return msgspec.structs.replace(study, variants=variants)


def as_it_ran() -> Study:
    """A study from a journal: one variant, no load, no year, no alternative."""
    study = study_samples.study(judged=False, supplied=False)
    only = msgspec.structs.replace(
        study.variants[0], kind="as-run", in_use=None, year=None, repetitions=(), spread_j=None, latency=None
    )
    told = msgspec.structs.replace(
        study.protocol,
        load=None,
        requests=None,
        concurrency=None,
        warm_up=None,
        repetitions=None,
        baseline_s=None,
        seed=None,
        order=(),
    )
    return msgspec.structs.replace(
        study, origin="journal", use=None, variants=(only,), comparisons=(), pareto=(), sensitivity=(), protocol=told,
        no_alternative="le service tourne déjà", embodied=None,
    )  # fmt: skip


STUDIES = {
    "whole": study_samples.study(),
    "no-scores": study_samples.study(judged=False, supplied=False),
    "failing": study_samples.study(failing=30),
    "as-it-ran": as_it_ran(),
    "unknown": changed(as_it_ran(), "grand", tested=None, measured_share=None, tier=None),
}


# -- what it says


def test_the_answer_is_three_sentences_with_unit_interval_year_and_alternative() -> None:
    lead = [said(p).strip() for p in read(STUDIES["whole"]).all("p") if p.attributes.get("class") == "lead"]
    assert lead == [
        "Pour « une réponse donnée à une question d’un habitant », « IA de grande taille » demande entre 220 et 640 "
        "joules d’énergie "
        "(370 joules au centre) et émet entre 3,5 et 20 milligrammes de CO₂e (9 milligrammes de CO₂e au centre), fabrication du "
        "matériel comprise ; la veille, les démarrages et les échecs de l’année y sont.",
        "Sur un an, pour 60 000 à 240 000 unités, cela fait entre 7,4 et 22 kilowattheures et entre 0,42 et 2,4 "
        "kilogrammes de CO₂e ; 83 % de cette énergie s’écoule pendant que personne ne demande rien.",
        "Sur l’année, veille comprise, c’est 370 joules par unité contre 310 joules pour « Recherche sans IA » et 320 "
        "joules pour "
        "« IA de petite taille » ; pendant l’essai seul, « IA de grande taille » a demandé 180 fois (entre 160 et 190) plus "
        "d’énergie par unité que « Recherche sans IA », et 6,7 fois (entre 6,2 et 7,1) plus que « IA de petite taille ».",
    ]


def test_the_answer_in_english_quotes_the_team_in_french() -> None:
    page = read(STUDIES["whole"], "en")
    lead = [said(p).strip() for p in page.all("p") if p.attributes.get("class") == "lead"]
    assert lead[0].startswith(
        "For “une réponse donnée à une question d’un habitant”, “IA de grande taille” takes between 220 and 640 joules"
    )
    assert {span.attributes["lang"] for span in page.all("span") if "lang" in span.attributes} == {"fr"}
    assert page.all("h1")[0].attributes["lang"] == "fr"
    assert [quote.attributes["lang"] for quote in page.all("blockquote")] == ["fr", "fr"]


def test_what_tables_say_in_english_is_marked_as_english_on_a_french_page() -> None:
    page = read(STUDIES["whole"])
    marked = {said(span).strip() for span in page.all("span") if span.attributes.get("lang") == "en"}
    assert {"Uptime Institute 2024 (1.56)", "Cloud Carbon Footprint", "ODbL-1.0"} <= marked
    declared = msgspec.structs.replace(STUDIES["whole"].pue, source="notre hébergeur, 2025", flags=())
    page = read(msgspec.structs.replace(STUDIES["whole"], pue=declared), "en")
    assert "notre hébergeur, 2025" in {said(span).strip() for span in page.all("span") if span.attributes.get("lang") == "fr"}


def test_scores_that_overlap_are_said_to_establish_nothing() -> None:
    study = STUDIES["whole"]
    assert "l’essai n’établit pas d’écart de qualité avec « Recherche sans IA » et « IA de petite taille »" in section(
        read(study), "answer"
    )
    far = msgspec.structs.replace(study.variants[2].quality, score=Interval(0.1, 0.2, 0.3))
    assert "n’établit pas d’écart de qualité avec « IA de petite taille »)" in section(
        read(changed(study, "recherche", quality=far)), "answer"
    )


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (
            Interval(1.8, 2.0, 2.2),
            "« Recherche sans IA » a demandé 2,0 fois (entre 1,8 et 2,2) plus d’énergie par unité que « IA de grande taille »",
        ),
        (
            Interval(0.8, 0.95, 1.1),
            "rien ne sépare l’énergie par unité de « IA de grande taille » et celle de « Recherche sans IA »",
        ),
        (Interval(0.0, 0.5, 0.9), "ne se comparent pas"),
        (None, "ne se comparent pas"),
    ],
)
def test_a_ratio_is_told_the_way_it_points_or_not_at_all(ratio: Interval | None, expected: str) -> None:
    study = STUDIES["whole"]
    only = msgspec.structs.replace(study.comparisons[1], energy=ratio)
    assert expected in section(read(msgspec.structs.replace(study, comparisons=(only,))), "answer")


def test_what_is_not_known_not_supplied_or_not_studied_is_said() -> None:
    page = read(STUDIES["no-scores"])
    assert "Chiffre non fourni" in section(page, "upstream")
    assert "Non étudié" in section(page, "rebound")
    assert "ne dit pas si les réponses se valent" in section(page, "pareto")
    assert "L’équipe n’en a relevé aucune" in section(page, "limits")
    assert "pas de score de qualité" in section(page, "results")
    unknown = read(STUDIES["unknown"])
    assert "n’a pas pu être établie" in section(unknown, "answer")
    assert "inconnu" in section(unknown, "results")


def test_a_service_as_it_ran_has_no_year_and_says_why_nothing_was_compared() -> None:
    page = read(STUDIES["as-it-ran"])
    assert "Aucun usage annuel n’a été déclaré" in section(page, "answer")
    assert "Aucune alternative n’a été comparée : le service tourne déjà." in section(page, "answer")
    assert "c’est le chiffre de la période observée" in section(page, "answer")
    assert "fabrication du matériel non comprise" in section(page, "answer")
    assert "la fabrication du matériel" in section(page, "counted")
    assert "La fabrication du matériel n’est pas comptée" in section(page, "data")
    assert "essai" not in section(page, "results") + section(page, "counted")
    assert "par an" not in section(page, "results").lower()


def test_failures_are_told_with_their_reason() -> None:
    page = read(STUDIES["failing"])
    assert "30 sur 120 30 × HTTP 500" in section(page, "compared")
    assert "30 requêtes sur 120 ont échoué (30 × HTTP 500)" in section(page, "limits")
    assert "30 sans score, car en échec" in section(page, "results")


def test_a_variant_of_too_few_requests_has_no_figure_anywhere() -> None:
    study = STUDIES["whole"]
    small = study.variants[1]
    few = msgspec.structs.replace(small.load, requests=LEAST_PUBLIC - 1)
    page = read(changed(study, "petit", load=few))
    assert "Chiffres retirés : moins de 5 requêtes" in section(page, "answer")
    for name in ("answer", "results", "pareto", "sensitivity", "counted"):
        assert not {"320 J", "9,4 J", "0,84", "÷ 6,7", "11 kWh"} & set(_figures(section(page, name))), name
    assert "IA de petite taille" not in section(page, "sensitivity")
    assert "IA de petite taille" in section(read(study), "sensitivity")
    assert {"320 J", "9,4 J", "0,84", "÷ 6,7", "11 kWh"} <= set(_figures(section(read(study), "results")))
    just = msgspec.structs.replace(small.load, requests=LEAST_PUBLIC)
    assert "Chiffres retirés" not in said(read(changed(study, "petit", load=just)))


def _figures(text: str) -> list[str]:
    return re.findall(r"÷ [\d,]+|[\d,]+ (?:kWh|J|mgCO₂e)(?!\w)|\d,\d\d", text)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", STUDIES)
def test_no_page_calls_anything_green_or_counts_what_was_not_spent_as_a_saving(name: str, lang: str) -> None:
    never = r"\b(verte?s?|green|neutre|neutral|durable|sustainable|économis\w*|sav(?:es?|ed|ings?)|évit(?:ée?s?|er)|avoid\w*)\b"
    told = said(read(STUDIES[name], lang)).replace("The Green Web Foundation", "")
    assert re.findall(never, told.lower()) == []


def test_combustion_alone_is_not_set_beside_a_whole_life_cycle() -> None:
    study = STUDIES["whole"]
    direct = {f.grams_per_kwh for f in published("FR") if f.scope == "direct"}
    assert direct
    (grid,) = (bar for bar in levers(View(study, "fr")) if bar.lever == "grid")
    assert direct.isdisjoint({grid.low.value, grid.high.value})
    assert "combustion seule" in section(read(study), "sensitivity")


def test_levers_stand_in_the_order_of_what_they_move() -> None:
    moves = [bar.high.per_unit_g.mid - bar.low.per_unit_g.mid for bar in levers(View(STUDIES["whole"], "fr"))]
    assert len(moves) == 4
    assert moves == sorted(moves, reverse=True)


def test_every_criterion_of_algorithms_and_every_theme_says_what_a_person_must_do() -> None:
    assert {p.number for p in report_practices.RGESN} >= {f"9.{n}" for n in range(1, 8)}
    page = section(read(STUDIES["whole"], "en"), "practices")
    for each in (*report_practices.RGESN, *report_practices.SPEC_2314):
        assert each.subject[1] in page
        assert each.human[1] in page


@pytest.mark.parametrize(
    ("name", "answered"),
    [("whole", "Energy and computing per unit, beside a quality score"), ("no-scores", "without a quality score")],
)
def test_a_criterion_is_answered_by_what_the_study_holds(name: str, answered: str) -> None:
    assert answered in section(read(STUDIES[name], "en"), "practices")


# -- figures


POSITIVE = st.floats(1e-7, 1e9)


@st.composite
def intervals(draw) -> Interval:
    mid = draw(POSITIVE)
    return Interval(mid * draw(st.floats(0.01, 1.0)), mid, mid * draw(st.floats(1.0, 50.0)))


def number(text: str) -> float:
    (digits_said,) = re.findall(r"[\d,]+(?:\.\d+)?", text)
    return float(digits_said.replace(",", ""))


FACTORS = {"megajoule": 1e6, "kilojoule": 1e3, "joule": 1.0, "millijoule": 1e-3, "microjoule": 1e-6, "nanojoule": 1e-9}


@given(intervals())
def test_ends_in_words_hold_the_interval_meant(of: Interval) -> None:
    text = between(of, "J", "en").replace("\u00a0", " ")
    low, high, unit = re.fullmatch(r"between (\S+) and (\S+) (\w+)", text).groups()
    one = FACTORS[unit.removesuffix("s")]
    assert number(low) * one <= of.low * (1 + 1e-9)
    assert number(high) * one >= of.high * (1 - 1e-9)
    assert number(low) * one >= of.low * 0.89
    assert number(high) * one <= of.high * 1.12


@given(intervals())
def test_the_middle_shows_no_digit_that_its_interval_does_not_bear(of: Interval) -> None:
    text = about(of, "J", "en")
    shown = re.match(r"[\d.,]+", text)[0].replace(",", "")
    significant = shown.lstrip("0.").replace(".", "") if "." in shown else shown.rstrip("0")
    assert len(significant) <= digits(of, 2)


@pytest.mark.parametrize(
    ("of", "lang", "expected"),
    [
        (Interval(0.5, 1.0, 1.5), "fr", "entre 0,50 et 1,5 joule"),
        (Interval(0.5, 1.0, 1.5), "en", "between 0.50 and 1.5 joules"),
        (Interval(1.2e-3, 2.1e-3, 8e-3), "fr", "entre 1,2 et 8,0 millijoules"),
        (Interval(0.0, 0.0, 0.0), "en", "between 0 and 0 joules"),
    ],
)
def test_units_are_said_in_words_in_the_number_of_each_language(of: Interval, lang: str, expected: str) -> None:
    assert between(of, "J", lang).replace("\u00a0", " ") == expected


def test_a_ratio_keeps_its_interval() -> None:
    assert times(Interval(160.4, 178.6, 188.7), "en").replace("\u00a0", " ") == "180 times (between 160 and 190)"


def test_scores_differ_when_the_interval_of_their_difference_says_so() -> None:
    # the first two overlap and still differ
    assert apart(Interval(0.23, 0.44, 0.67), Interval(0.64, 0.88, 0.97))
    assert not apart(Interval(0.66, 0.78, 0.88), Interval(0.72, 0.84, 0.94))
    # what counts is how far the better one may fall and the worse one rise
    assert not apart(Interval(0.55, 0.6, 0.7), Interval(0.5, 0.9, 0.92))
    assert apart(Interval(0.85, 0.9, 1.0), Interval(0.1, 0.7, 0.75))
    # Newcombe 1998, table II, example (a): 56/70 and 48/80, whose difference is 0.0524 at least
    better, worse = Interval(0.6921, 0.8, 0.8776), Interval(0.4904, 0.6, 0.7005)
    assert apart(better, worse)
    moved = 0.0524
    assert not apart(Interval(better.low - moved - 5e-4, better.mid - moved - 5e-4, better.high), worse)
    assert apart(Interval(better.low - moved + 5e-4, better.mid - moved + 5e-4, better.high), worse)


def test_where_idling_makes_all_of_the_year_the_answer_says_so() -> None:
    study = STUDIES["whole"]
    large = study.variants[0]
    same = changed(changed(study, "petit", in_use=large.in_use), "recherche", in_use=large.in_use)
    assert "Sur l’année, la veille efface l’écart : 370 joules par unité pour chacune ; pendant l’essai seul" in section(
        read(same), "answer"
    )
    nearly = changed(study, "grand", idle_share=0.9999)
    assert "plus de 99 % de cette énergie" in section(read(nearly), "answer")


# -- drawings


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_an_axis_holds_its_values_in_their_order(values: list[float]) -> None:
    of = axis(values)
    assert of.low <= min(values) * (1 + 1e-9)
    assert max(values) <= of.high * (1 + 1e-9)
    assert all(of.low <= tick <= of.high for tick in of.ticks)
    assert 2 <= len(of.ticks) <= 14
    places = [of.place(v) for v in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_a_span_holds_its_values(values: list[float]) -> None:
    of = span(values)
    assert of.low <= min(values) + 1e-9
    assert of.high >= max(values) - 1e-9


def coordinates(drawing: Node) -> dict[str, list[tuple[float, float]]]:
    """Where the marks of a plot are: full diamonds by their left corner, open circles by their middle."""
    full = [
        re.match(r"M([\d.]+) ([\d.]+)L", p.attributes["d"]).groups()
        for p in drawing.all("path")
        if p.attributes.get("class") == "full"
    ]
    ring = [(c.attributes["cx"], c.attributes["cy"]) for c in drawing.all("circle")]
    return {"full": [(float(x) + 7.5, float(y)) for x, y in full], "open": [(float(x), float(y)) for x, y in ring]}


@pytest.mark.parametrize("place", [0, 1], ids=["wide", "small"])
def test_marks_tell_the_front_by_their_shape_and_stand_where_the_figures_say(place: int) -> None:
    study = STUDIES["whole"]
    behind = msgspec.structs.replace(study.pareto[1], front=False)
    points = (study.pareto[0], behind, study.pareto[2])
    drawing = Reader(pareto_plot(View(msgspec.structs.replace(study, pareto=points), "fr"))).root.all("svg")[place]
    marks = coordinates(drawing)
    assert (len(marks["full"]), len(marks["open"])) == (2, 1)
    search, large = sorted(marks["full"])
    ((x, y),) = marks["open"]
    assert search[0] < x < large[0]
    assert search[1] > y > large[1]
    # logarithmic across: the small one stands where log says, linear upwards
    energies = [math.log(p.energy_j.mid) for p in (study.pareto[2], behind, study.pareto[0])]
    assert (x - search[0]) / (large[0] - search[0]) == pytest.approx(
        (energies[1] - energies[0]) / (energies[2] - energies[0]), abs=0.01
    )
    assert (y - search[1]) / (large[1] - search[1]) == pytest.approx((0.84 - 0.78) / (0.91 - 0.78), abs=0.01)


def test_both_axes_are_named_with_their_unit_and_the_plot_has_a_name_and_a_description() -> None:
    for drawing in Reader(pareto_plot(View(STUDIES["whole"], "en"))).root.all("svg"):
        texts = {t.text for t in drawing.all("text")}
        assert {"Energy per unit (J), logarithmic scale", "Quality score"} <= texts
        assert drawing.all("title")[0].attributes["id"] == drawing.attributes["aria-labelledby"]
        assert "logarithmic scale" in drawing.all("desc")[0].text


def test_bars_of_the_tornado_meet_at_the_own_value() -> None:
    view = View(STUDIES["whole"], "fr")
    drawing = Reader(tornado_plot(view, view.reference.in_use.carbon_g)).root.all("svg")[0]
    own = {line.attributes["x1"] for line in drawing.all("line") if line.attributes["class"] == "strong"}
    assert len(own) == 1
    under = [r for r in drawing.all("rect") if r.attributes["class"] == "under"]
    over = [r for r in drawing.all("rect") if r.attributes["class"] == "over"]
    assert len(under) == len(over) == 4
    for rect in under:
        assert float(rect.attributes["x"]) + float(rect.attributes["width"]) == pytest.approx(float(*own), abs=0.2)
    for rect in over:
        assert float(rect.attributes["x"]) == pytest.approx(float(*own), abs=0.2)


# -- the page


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", STUDIES)
def test_a_page_is_sound_and_everything_in_it_is_its_own(name: str, lang: str) -> None:
    page = read(STUDIES[name], lang, other="report.xx.html")
    ids = [n.attributes["id"] for n in page.all(*_tags(page)) if "id" in n.attributes]
    assert len(ids) == len(set(ids))
    assert page.all("script", "img", "iframe", "object", "form") == []
    for link in page.all("a", "link"):
        href = link.attributes["href"]
        assert href.startswith(("#", "mailto:", "data:,")) or href == "report.xx.html", href
        assert not href.startswith("#") or href[1:] in ids
    for node in page.all(*_tags(page)):
        named = (node.attributes.get("aria-labelledby") or "").split() + (node.attributes.get("aria-describedby") or "").split()
        assert set(named) <= set(ids)


def _tags(node: Node) -> set[str]:
    return {node.tag}.union(*(_tags(c) for c in node.children if isinstance(c, Node)))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_tables_have_a_caption_and_every_cell_its_headings(lang: str) -> None:
    tables = read(STUDIES["whole"], lang).all("table")
    assert len(tables) >= 15
    for table in tables:
        assert table.all("caption")[0].text
        heads = [th.text for th in table.all("thead")[0].all("th")]
        assert {th.attributes["scope"] for th in table.all("thead")[0].all("th")} == {"col"}
        for row in table.all("tbody")[0].all("tr"):
            assert [th.attributes["scope"] for th in row.all("th")] == ["row"]
            assert [td.attributes["data-label"] for td in row.all("td")] == heads[1:]


def test_headings_step_down_one_at_a_time() -> None:
    levels = [int(h.tag[1]) for h in read(STUDIES["whole"]).all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(then - one <= 1 for one, then in pairwise(levels))


def test_a_style_sheet_is_held_to_its_hash() -> None:
    page = read(STUDIES["whole"])
    (policy,) = (m.attributes["content"] for m in page.all("meta") if m.attributes.get("http-equiv"))
    style = page.all("style")[0].text
    assert hashlib.sha256(style.encode()).digest() == base64.b64decode(re.search(r"sha256-([^']+)'", policy)[1])


def test_what_strangers_write_stays_text() -> None:
    study = msgspec.structs.replace(
        STUDIES["whole"], title=EVIL, service=EVIL, purpose=EVIL, author=EVIL, organisation=EVIL, contact=EVIL, rebound=EVIL,
        limits=(EVIL,), boundary=(EVIL,), not_counted=(EVIL,), versions={EVIL: EVIL}, flags=(EVIL,),
    )  # fmt: skip
    study = changed(study, "grand", title=EVIL, models=(EVIL,), why_failed=(EVIL,), failed=1)
    for lang in LANGUAGES:
        page = read(study, lang, seals=(Seal(EVIL, "0" * 64),))
        assert page.all("script") == []
        assert page.all("title")[0].text == EVIL
        assert len(page.all("style")) == 1


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_text_is_in_both_languages_with_the_same_blanks(lang: str) -> None:
    for key, text in report_texts.TEXTS[lang].items():
        assert text.count("{}") == report_texts.TEXTS["en"][key].count("{}"), key
        # «·» and ; : ? ! are held to their word in French
        assert lang == "en" or not re.search(r" [:;?!»%]|« ", text), key


def test_every_flag_of_a_study_is_said_in_words() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(report_texts.__file__).parent.glob("*.py"))
    flags = set(re.findall(r'"(study:[a-z-]+)"', sources))
    assert len(flags) >= 5
    for lang in LANGUAGES:
        assert {f"flag_{flag}" for flag in flags} <= report_texts.TEXTS[lang].keys()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_french_of_the_page_is_typeset_as_french(lang: str) -> None:
    shown = "".join(n.text for n in read(STUDIES["whole"], lang).all("h1", "h2", "h3", "p", "table", "dl", "desc", "figcaption"))
    assert lang == "en" or re.findall(r".{8} [:;?!»].{8}", shown) == []


# -- files


def put(folder: Path, study: Study = STUDIES["whole"]) -> Path:
    (folder / "study.json").write_bytes(encoded(study))
    (folder / "manifest.json").write_text("{}")
    return folder


def test_reports_are_written_beside_the_study_and_quote_its_hash(tmp_path: Path) -> None:
    written = write(put(tmp_path))
    assert [path.name for path in written] == ["report.fr.html", "report.en.html", "CITATION.cff", "citation.bib"]
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in written} | {"study.json", "manifest.json"}
    sealed = hashlib.sha256((tmp_path / "study.json").read_bytes()).hexdigest()
    identity = hashlib.sha256(b"{}").hexdigest()
    texts = {path.name: path.read_text(encoding="utf-8").replace("<wbr>", "") for path in written}
    assert all(identity in text for text in texts.values())
    assert all(sealed in text for name, text in texts.items() if name != "citation.bib")
    assert 'href="report.en.html"' in written[0].read_text(encoding="utf-8")


def test_one_language_alone_points_to_no_other(tmp_path: Path) -> None:
    (page, *_) = write(put(tmp_path), langs=("en",))
    assert "report.fr.html" not in page.read_text(encoding="utf-8")


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    once = {path.name: path.read_bytes() for path in write(put(tmp_path))}
    assert once == {path.name: path.read_bytes() for path in write(tmp_path)}


def test_a_folder_that_takes_no_file_is_told_in_one_line(tmp_path: Path) -> None:
    folder = put(tmp_path)
    (tmp_path / ".report.fr.html.part").mkdir()  # root may write everywhere, but not over a folder
    with pytest.raises(ConfigurationError, match=r"report\.fr\.html: cannot be written \(Is a directory\)"):
        write(folder)


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b'{"schema": "frugal-meter-study/1", "title": 3}', encoded(STUDIES["whole"])[:5000]]
)
def test_a_folder_without_a_whole_study_is_told_in_one_line_and_left_as_it_was(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "study.json").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigurationError) as refused:
        write(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before


# -- citations


def test_the_citation_file_is_what_its_format_asks_for() -> None:
    held = yaml.safe_load(citation_cff(STUDIES["whole"], (Seal("study.json", "a" * 64),)))
    assert {"cff-version", "message", "title", "authors"} <= held.keys()
    assert (held["cff-version"], held["type"]) == ("1.2.0", "dataset")
    assert held["authors"] == [{"name": "Camille Martin"}]
    assert str(held["date-released"]) == "2026-11-20"
    assert held["identifiers"] == [{"type": "other", "value": "sha256:" + "a" * 64, "description": "study.json"}]
    assert len(held["keywords"]) == len(set(held["keywords"]))


@pytest.mark.parametrize("hostile", [EVIL, "a: b # c", "- x", "{", "é\u0085\u2028", "100 % & _$~^", ""])
def test_a_citation_survives_any_title(hostile: str) -> None:
    study = msgspec.structs.replace(STUDIES["whole"], title=hostile, service=hostile or "s", author=None, organisation=None)
    held = yaml.safe_load(citation_cff(study))
    assert held["title"] == " ".join("".join(c if c.isprintable() else " " for c in hostile).split())
    entry = bibtex(study)
    bare = re.sub(r"\\[#$%&_{}]|\\text\w+\{\}", "", entry)
    assert bare.count("{") == bare.count("}")
    assert re.match(r"@techreport\{[a-z0-9-]+-2026,\n", entry)
    assert not re.search(r"[#$%&~^_]", bare.split("\n", 1)[1])
