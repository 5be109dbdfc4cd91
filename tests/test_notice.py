"""The notice for citizens and the observatory's page: what they say, what they never say, and how they read in a browser."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from browser import axe_violations, chromium, console_errors, prefer, requested_urls, viewport
from declaration_samples import EVIL, NOW, declared, hostile, kept, town
from hypothesis import given
from hypothesis import strategies as st
from selenium.webdriver.common.by import By

from frugal_meter.declaration.document import Bounds, as_json
from frugal_meter.declaration.notice import notice
from frugal_meter.declaration.notice_texts import _WORDS
from frugal_meter.declaration.plain_figures import GRAMS, JOULES, KILOWATT_HOURS, between
from frugal_meter.exporters.page_texts import LANGUAGES
from frugal_meter.harvest.gathering import Found
from frugal_meter.harvest.harvest import Harvest, harvest
from frugal_meter.harvest.observatory import observatory
from frugal_meter.harvest.observatory_texts import _WORDS as _OBSERVATORY_WORDS

#: what would make of a cost a virtue
NEVER = re.compile(
    r"\b(vert|verte|verts|green|neutre|neutral|avoided|évité|évitée|évités|saved|économis\w+|propre|clean|sobre)\b", re.I
)
WIDTHS = (1280, 768, 320)


def text_of(page: str) -> str:
    """What a reader reads: without markup, ordinary spaces, from the main part on."""
    main = page[page.index("<body") :]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", main))).strip()


def many() -> Harvest:
    """Six towns that can be compared, one measured otherwise, one hardly used, one hostile, one refused."""
    towns = [town(n) for n in range(1, 7)] + [town(7, method="cpu-time/1+rapl/1")]
    others = [declared(kept(requests=3, failed=0), service="essai"), hostile()]
    found = [Found(f"https://ville{n}.example/frugal-ai.json", f"{n}", as_json(each)) for n, each in enumerate([*towns, *others])]
    return harvest([*found, Found("https://ailleurs.example/<script>", "x", b"<html>")], now=NOW)


# -- what is said


@pytest.mark.parametrize(
    ("lang", "says"),
    [
        ("fr", ("entre 200 et 820 joules d’électricité", "entre 4,7 et 29 milligrammes de CO₂", "entre 8,1 et 33 kilowattheure",
                "du 1er octobre 2026 au 31 octobre 2026", "50 kilojoules d’électricité par jour", "environ 40 demandes refusées",
                "Au guichet de la mairie", "la direction du numérique", "Elle n’est pas mesurée par un capteur",
                "3,5 wattheures d’électricité par heure, pour chaque compte (pour l’instant, cette limite est",
                "le réseau entre vous et le service", "article L. 311‑3‑1", "sans pouvoir le garantir")),
        ("en", ("between 200 and 820 joules of electricity", "between 4.7 and 29 milligrams of CO₂", "between 8.1 and 33 kilo",
                "1 October 2026 to 31 October 2026", "50 kilojoules of electricity per day", "about 40 requests refused",
                "Without AI:",
                "At the town hall", "the digital department", "It is not measured by a sensor",
                "cannot promise it")),
    ],
)  # fmt: skip
def test_a_citizen_reads_what_it_does_what_it_costs_and_who_answers(lang: Any, says: tuple[str, ...]) -> None:
    text = text_of(notice(declared(), lang))
    for each in says:
        assert each in text


@pytest.mark.parametrize(
    ("limit", "fr", "en"),
    [
        ("60 requests", "60 demandes par jour", "60 requests per day"),
        ("40 000 tokens", "40 000 jetons (morceaux de mots) par jour", "40 000 tokens (pieces of words) per day"),
        ("2.5kWh", "2,5 kilowattheures d’électricité par jour", "2.5 kilowatt-hours of electricity per day"),
        ("3 GPU-min", "3 GPU-min par jour", "3 GPU-min per day"),
    ],
)
def test_a_limit_is_told_in_the_readers_words(limit: str, fr: str, en: str) -> None:
    of = declared()
    line = msgspec.structs.replace(of.services[0].budgets[0], limit=limit)
    of = msgspec.structs.replace(of, services=(msgspec.structs.replace(of.services[0], budgets=(line,)),))
    assert fr in text_of(notice(of, "fr"))
    assert en in text_of(notice(of, "en"))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_costs_have_two_digits_at_most_and_both_ends(lang: Any) -> None:
    page = notice(declared(kept(joules=5_432_109.0, remote_j=123_456.0)), lang)
    costs = text_of("<body" + page[page.index('id="costs"') : page.index('id="not_counted"')])
    numbers = re.findall(r"\d[\d\s.,]*(?= (?:milli|kilo|micro|méga|mega)?(?:joule|watt|gramme|gram|litre|tonne))", costs)
    numbers += re.findall(r"(?:entre|between) (\d[\d\s.,]*) (?:et|and)", costs)
    assert len(numbers) >= 14
    for number in numbers:
        digits = re.sub(r"\D", "", number).strip("0")
        assert len(digits) <= 2, number
    assert costs.count("entre" if lang == "fr" else "between") >= 6


@given(st.floats(1e-9, 1e9), st.floats(1, 50), st.sampled_from([JOULES, KILOWATT_HOURS, GRAMS]), st.sampled_from(LANGUAGES))
def test_ends_in_words_hold_the_interval(low: float, up: float, scales: Any, lang: Any) -> None:
    said = between(Bounds(low=low, mid=low, high=low * up), scales, lang)
    *numbers, unit = re.split(r"\u00a0| et | and ", said.removeprefix("entre ").removeprefix("between "))
    size = next(scale[0] for scale in scales if unit in scale)
    words = ("moins de ", "less than ", "environ ", "about ")
    shown = [re.sub("|".join(words), "", n).replace("\u202f", "") for n in numbers]
    shown = [n.replace(",", "." if lang == "fr" else "") for n in shown]
    ends = [float(n) * size for n in shown]
    assert ends[-1] >= low * up * (1 - 1e-5)
    if len(ends) == 2:
        assert ends[0] <= low * (1 + 1e-5)
        assert ends[0] >= low * 0.9 * (1 - 1e-5)
    assert ends[-1] <= low * up * 1.11 + size * 1e-3


@pytest.mark.parametrize(
    ("figures", "fr", "en"),
    [
        (kept(requests=4, failed=0), "trop peu de demandes", "too few requests"),
        ("no_journal", "ne garde pas encore les relevés", "does not yet keep the records"),
        ("no_books", "pas encore de relevés pour cette période", "no records of this period yet"),
    ],
)
def test_without_figures_the_page_says_so_in_words(figures: Any, fr: str, en: str) -> None:
    for lang, says in (("fr", fr), ("en", en)):
        page = notice(declared(figures), lang)
        text = text_of(page)
        assert says in text
        assert "joule" not in page[page.index('id="costs"') : page.index('id="budget"')]
        assert not re.search(r"\b0 (joule|gramme|gram|kilowatt)", text)


def test_what_is_not_known_is_never_nought() -> None:
    assert "pas assez de la période pour parler d’une année" in text_of(notice(declared(kept(hours=100)), "fr"))
    assert "Rien n’a été délivré" in text_of(notice(declared(kept(units=0)), "fr"))
    silent = text_of(notice(declared("no_books", human_alternative=None, human_alternative_url=None, purpose=None), "fr"))
    assert "pas encore dit comment être servi par une personne" in silent
    assert "pas encore dit à quoi l’IA sert" in silent


def test_a_comparison_is_made_only_of_a_litre_or_more() -> None:
    assert "chauffer entre 82 et 340 litres d’eau" in text_of(notice(declared(), "fr"))
    assert "chauffer" not in text_of(notice(declared(kept(joules=1000.0)), "fr"))


def test_a_limit_that_is_only_watched_is_not_said_to_have_held() -> None:
    watched = text_of(notice(declared(), "fr")).partition("seulement observée)")[2]
    assert watched.startswith(". S’adresser à une personne")


def test_models_elsewhere_are_among_what_is_not_counted() -> None:
    text = text_of(notice(declared(kept(remote_j=7.2e6)), "fr"))
    assert "il indique environ 2 kilowattheures d’électricité" in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_cost_is_never_made_a_virtue(lang: Any) -> None:
    for page in (notice(declared(), lang), notice(declared("no_books"), lang), observatory(many(), lang, now=NOW)):
        assert NEVER.findall(text_of(page)) == []
    place = LANGUAGES.index(lang)
    words = [texts[place] for texts in (*_WORDS.values(), *_OBSERVATORY_WORDS.values())]
    assert [each for each in words if NEVER.search(each)] == []


def test_french_is_set_as_french_is() -> None:
    for key, (french, _) in {**_WORDS, **_OBSERVATORY_WORDS}.items():
        assert not re.search(r"(?<![\u00a0\u202f])[:;?!»]", french.replace("://", "")), key
        assert not re.search(r"«(?!\u00a0)", french), key
        assert "'" not in french, key


@pytest.mark.parametrize("lang", LANGUAGES)
def test_sentences_are_short(lang: Any) -> None:
    page = notice(declared(), lang)
    main = page[page.index("<main") : page.index("<footer")]
    blocks = re.findall(r"<(?:p|li|dd)[^>]*>(.*?)</(?:p|li|dd)>", main, re.DOTALL)
    sentences = [s for block in blocks for s in re.split(r"(?<=[.!?]) |\u00a0: |: ", text_of("<body>" + block)) if s]
    lengths = [len(sentence.split()) for sentence in sentences]
    assert sum(lengths) / len(lengths) <= 15  # easy-to-read guides ask for 15 to 20 words
    assert max(lengths) <= 35


def test_a_text_in_the_other_language_only_is_marked_as_such() -> None:
    page = notice(declared(purpose="Répondre."), "en")
    assert '<span lang="fr">Répondre.</span>' in page
    assert '<span lang="fr">' not in notice(declared(purpose="Répondre."), "fr")


def test_pages_name_each_other_and_the_data() -> None:
    page = notice(declared(), "fr", links={"fr": "notice.fr.html", "en": "notice.en.html"})
    assert 'href="notice.en.html"' in page
    assert 'href="frugal-ai.json"' in page


# -- the observatory


def test_only_what_is_alike_stands_in_one_table() -> None:
    page = observatory(many(), "en", now=NOW)
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert [table.count('scope="row"') for table in tables] == [6, 1, 1, 9]
    assert page.count("One service only") == 2
    assert "Ville de Brest-sur-Exemple, essai – too few requests" in text_of(page)
    assert "https://ailleurs.example/&lt;script&gt;" in page


def test_intervals_are_shown_and_no_bare_middle() -> None:
    text = text_of(observatory(many(), "fr", now=NOW))
    assert text.count("entre") >= 24
    assert "Quand celles de deux services se recouvrent" in text


# -- in a browser


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as one:
        yield one


PAGES = {
    "notice": lambda lang: notice(declared(), lang),
    "notice without figures": lambda lang: notice(declared(kept(requests=4, failed=0)), lang),
    "hostile notice": lambda lang: notice(hostile(), lang),
    "observatory": lambda lang: observatory(many(), lang, now=NOW),
}


@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_pages_are_accessible_and_whole_at_every_width(driver: Any, tmp_path: Path, name: str, lang: Any) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGES[name](lang), encoding="utf-8")
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            prefer(driver, prefers_color_scheme=scheme)
            viewport(driver, width)
            driver.get(page.as_uri())
            assert axe_violations(driver) == [], (width, scheme)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert console_errors(driver) == []
    assert {url.split(":")[0] for url in requested_urls(driver)} <= {"file", "data", "chrome", "devtools"}


@pytest.mark.xdist_group("browser")
def test_no_text_of_a_stranger_becomes_markup(driver: Any, tmp_path: Path) -> None:
    for name in ("hostile notice", "observatory"):
        page = tmp_path / "page.html"
        page.write_text(PAGES[name]("fr"), encoding="utf-8")
        driver.get(page.as_uri())  # an alert would make the next question fail
        assert driver.find_elements(By.CSS_SELECTOR, "main img, main script, [onerror]") == []
        assert EVIL[:20] in driver.find_element(By.TAG_NAME, "main").text
        for link in driver.find_elements(By.TAG_NAME, "a"):
            assert re.match(r"(https?|file):", link.get_attribute("href"))


@pytest.mark.xdist_group("browser")
def test_a_head_of_a_column_sorts_it_and_says_so(driver: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGES["observatory"]("en"), encoding="utf-8")
    viewport(driver, 1280)
    driver.get(page.as_uri())
    table = driver.find_element(By.TAG_NAME, "table")

    def towns() -> list[int]:
        return [int(each.text.rpartition(" ")[2]) for each in table.find_elements(By.CSS_SELECTOR, "tbody th .note")]

    assert towns() == [1, 2, 3, 4, 5, 6]
    button = table.find_elements(By.CSS_SELECTOR, "thead button")[1]
    button.click()
    assert towns() == [1, 2, 3, 4, 5, 6]
    button.click()
    assert towns() == [6, 5, 4, 3, 2, 1]
    heads = table.find_elements(By.CSS_SELECTOR, "thead th")
    assert [each.get_attribute("aria-sort") for each in heads] == [None, "descending", *[None] * 5]
    assert axe_violations(driver) == []
