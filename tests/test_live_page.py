"""The live page's figures, words and markup, as pure functions; test_live_page_in_browser.py opens it for real."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_page_samples import AT, blind, busy, reading

from frugal_meter.exporters.live_page import LiveState, negotiate, render_data, render_page
from frugal_meter.exporters.page_figures import bounds, clock, count, figure, percent
from frugal_meter.exporters.page_markup import Html, el, join
from frugal_meter.exporters.page_state import MOST_REQUESTS
from frugal_meter.exporters.page_texts import TEXTS
from frugal_meter.records import Interval


class _Text(HTMLParser):
    """The words of a page outside its style and script, with no-break spaces made plain."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.mute = [], 0
        self.feed(page)
        self.text = " ".join(re.sub(r"[\s\u00a0\u202f]+", " ", " ".join(self.words)).split())

    def handle_starttag(self, tag, attrs):
        self.mute += tag in ("style", "script")

    def handle_endtag(self, tag):
        self.mute -= tag in ("style", "script")

    def handle_data(self, data):
        if not self.mute:
            self.words.append(data)


def words(state: LiveState, lang: str = "en") -> str:
    return _Text(render_page(state, lang=lang)).text


# ---- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "french", "english"),
    [
        (0.0042, "J", "4,2 mJ", "4.2 mJ"),
        (142.0, "W", "140 W", "140 W"),
        (999.6, "J", "1,0 kJ", "1.0 kJ"),
        (3.2e-5, "gCO2e", "32 µgCO₂e", "32 µgCO₂e"),
        (12_345.0, "s", "12 000 s", "12,000 s"),
        (41_234.0, "tokens", "41 234 jetons", "41,234 tokens"),
        (0.0, "J", "0 J", "0 J"),
        (None, "J", "inconnu", "unknown"),
        (float("nan"), "J", "inconnu", "unknown"),
    ],
)
def test_a_figure_has_two_digits_a_unit_and_the_readers_decimal_mark(value, unit, french, english):
    assert figure(value, unit, "fr").replace("\u202f", " ") == french
    assert figure(value, unit, "en").replace("\u202f", " ") == english


_PREFIX = {"G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9}


def _read_back(shown: str) -> float:
    number, unit = shown.replace(",", "").split("\u202f")
    return float(number) * _PREFIX[unit.removesuffix("J")]


@given(st.floats(1e-9, 1e11))
def test_a_figure_shown_is_within_five_percent_of_the_figure_meant(value):
    assert _read_back(figure(value, "J", "en")) == pytest.approx(value, rel=0.05001)


@given(st.lists(st.floats(1e-9, 1e11), min_size=2, max_size=2).map(sorted))
def test_bounds_shown_never_shrink_the_interval_meant(ends):
    low, high = bounds(Interval(ends[0], ends[0], ends[1]), "J", "en").split(" to ")
    if "\u202f" not in low:
        low += "\u202f" + high.split("\u202f")[1]
    assert _read_back(low) <= ends[0] * (1 + 1e-12)
    assert _read_back(high) >= ends[1] * (1 - 1e-12)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "0%"),
        (1e-6, "<\u202f0.01%"),
        (0.00042, "0.042%"),
        (0.0951, "9.5%"),
        (0.62, "62%"),
        (0.9999, ">\u202f99%"),
        (1.12, "112%"),
    ],
)
def test_a_trace_is_not_nothing_and_nearly_all_is_not_all(share, shown):
    assert percent(share, "en") == shown


def test_a_count_keeps_its_digits_and_an_unknown_one_is_said():
    assert count(1234.5, "en") == "1,234.5"
    assert count(1e6, "fr") == "1\u202f000\u202f000"
    assert (count(None, "fr"), count(float("inf"), "en")) == ("inconnu", "unknown")


def test_the_first_of_a_month_is_said_as_french_says_it():
    first = AT - 17 * 86_400
    assert ">1er\u00a0novembre\u00a02026, " in clock(first, "Europe/Paris", "fr", with_date=True)
    assert ">1\u00a0November\u00a02026, " in clock(first, "Europe/Paris", "en", with_date=True)


def test_a_clock_names_its_zone_and_falls_back_to_utc():
    assert ">18\u00a0novembre\u00a02026, 12:06:40 CET<" in clock(AT, "Europe/Paris", "fr", with_date=True)
    assert clock(AT, "Nowhere/Land", "en") == '<time datetime="2026-11-18T11:06:40Z">11:06:40 UTC</time>'


# ---- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "param", "lang"),
    [
        (None, None, "fr"),
        ("", None, "fr"),
        ("en-GB,en;q=0.9", None, "en"),
        ("de, fr-CA;q=0.8, en;q=0.5", None, "fr"),
        ("de-DE, es;q=0.5", None, "en"),
        ("fr;q=0, en;q=0.1", None, "en"),
        ("en;q=abc, fr;q=0.2", None, "fr"),
        ("*", None, "fr"),
        ("fr", "en", "en"),
        ("en", "FR-fr", "fr"),
        ("en", "klingon", "en"),
        ("en", 7, "en"),
        ("fr;x=1, en;q=0.5", None, "en"),
        (",;q=;,fr;q", None, "en"),
        ("en;q=nan, fr;q=0.1", None, "fr"),
    ],
)
def test_the_language_follows_the_link_then_the_browser(header, param, lang):
    assert negotiate(header, param) == lang


def test_both_languages_say_the_same_things_with_the_same_blanks():
    assert TEXTS["fr"].keys() == TEXTS["en"].keys()
    for key, french in TEXTS["fr"].items():
        assert french.strip(), key
        assert french.count("{}") == TEXTS["en"][key].count("{}"), key


def test_every_number_of_a_request_has_unit_interval_and_tier():
    page = words(busy(requests=(reading(3),)))
    assert "25 J 11 to 45 J, modelled of which 17 J for computing" in page
    assert "1.2 mgCO₂e 480 µgCO₂e to 2.9 mgCO₂e, modelled" in page
    assert "2.5 s CPU, measured 412 tokens in, 96 out" in page


def test_a_request_shows_the_identifier_that_its_account_can_be_redone_with():
    made = reading(3)
    assert f'<code class="id">{made.id}</code>' in render_page(busy(requests=(made,)), lang="en")
    assert json.loads(render_data(busy(requests=(made,))))["state"]["requests"][0]["id"] == made.id
    assert "step by step: frugal-meter explain ID" in words(busy())


@pytest.mark.parametrize(
    ("lang", "sums", "own"),
    [
        (
            "en",
            "with the service’s 4 processes, all together",
            "; of one of the service’s 4 processes only, the one that answers",
        ),
        ("fr", "avec les 4 processus du service, ensemble", "; celles d’un seul des 4 processus du service, celui qui répond"),
    ],
)
def test_figures_of_several_workers_say_so_and_what_is_of_one_alone_does_too(lang, sums, own):
    assert sums in words(busy(workers=4), lang)
    assert own in words(busy(workers=4), lang).replace("\u00a0", " ").replace(" ;", ";")
    assert "process" not in words(busy(), lang).split("3,6" if lang == "fr" else "3.6")[0].replace("processeur", "")


def test_a_request_that_the_next_tick_will_correct_says_provisional():
    assert "provisional" in words(busy(requests=(reading(0),))).split("How to read")[0]
    assert "provisional" not in words(busy(requests=(reading(1),))).split("How to read")[0]


def test_unknown_is_said_and_no_zero_takes_its_place():
    page = words(blind())
    for told in (
        "Power of the machine unknown",
        "Since start unknown",
        "unknown of 50 kJ unknown watched only",
        "unknown: carbon is not computed",
    ):
        assert told in page
    shown = page.split("How to read these figures")[0]
    assert not re.search(r"(?<![\d.,])0(?:[.,]0+)? ?(?:[nµmk]?J|W|[mµ]?gCO₂e|%)", shown)


def test_the_account_says_that_it_closes_only_when_it_does():
    assert "the parts sum to the host’s energy, 0 nJ off" in words(busy())
    assert "does not close: 12 nJ" in words(busy(off_nj=12))
    assert "Difference between host and parts: unknown" in words(busy(off_nj=None))


def test_the_parts_of_the_account_sum_to_the_total_shown():
    page = words(busy())
    assert "Requests 4.2 kJ 2.1 to 7.9 kJ, modelled 27%" in page
    assert "Total of the machine 16 kJ 9.8 to 25 kJ, modelled 100%" in page


def test_only_the_dynamic_figure_is_called_so_when_the_full_one_is_unknown():
    page = words(busy(requests=(reading(1, energy_full_j=None, energy_remote_j=3.0),)))
    assert "15 J interval unknown, modelled for computing alone, without idle and 3.0 J elsewhere" in page


def test_joules_drawn_elsewhere_stand_with_bounds_and_tier_of_their_own() -> None:
    away = {"energy_remote_j": 140.0, "energy_remote_low_j": 100.0, "energy_remote_high_j": 240.0, "remote_tier": "sourced"}
    page = words(busy(requests=(reading(1, **away, carbon_tier="sourced"),)))
    assert "and 140 J elsewhere (100 to 240 J, sourced)" in page


def test_a_smaller_model_is_told_only_where_one_answered() -> None:
    alone = {"decision": "degrade", "model_requested": None, "model_served": None}
    assert "given to a smaller model" not in words(busy(requests=(reading(1, **alone),)))
    assert "given to a smaller model" in words(busy(requests=(reading(1, decision="degrade", model_served="tfidf"),)))


def test_a_budget_says_in_words_what_its_bar_shows():
    page = words(busy())
    assert (
        "42 kJ of 50 kJ, that is 84% 20 to 80 kJ, modelled "
        "computing energy, without the share of idle of which 900 J reserved by running requests smaller model" in page
    )
    assert "1,120 requests of 1,000 requests, that is 112% counted one by one spent watched only: nothing is refused" in page


def test_a_budget_says_whose_it_is():
    chat = busy().budgets[0]
    of_some = msgspec.structs.replace(busy().budgets[0], match={"route": "/demander", "model": "gemma-*"})
    assert "requests /demander, model gemma-*" in words(busy(budgets=(of_some,)))
    assert "requêtes /demander, modèle gemma-*" in words(busy(budgets=(of_some,)), "fr")
    for key, told in ((None, "the whole service"), ("route", "per route"), ("/chat", "for /chat")):
        assert f"chat {told} each day" in words(busy(budgets=(msgspec.structs.replace(chat, key=key),)))


def test_the_factor_is_cited_with_dataset_year_and_licence():
    page = words(busy(), "fr")
    assert "33 gCO₂e/kWh 31 à 98 gCO₂e/kWh, publié FR, Ember yearly electricity data , 2024, licence CC BY 4.0" in page


def test_the_building_is_told_as_declared_or_with_its_range():
    assert "Bâtiment (PUE) 1,5 (1,1 à 2)" in words(busy(), "fr")
    assert "Building (PUE) 1.25 Method" in words(busy(pue=Interval(1.25, 1.25, 1.25)))
    assert "Building (PUE) declared by the host Method" in words(busy(pue="declared by the host"))


def test_parts_without_a_source_are_listed_as_not_counted():
    assert "not in the joules: graphics card, board and disks." in words(busy())
    node = msgspec.structs.replace(busy().sources[0], component="node")
    assert "not in the joules" not in words(busy(sources=(node,)))


def test_the_page_is_whole_without_javascript():
    page = render_page(busy(), lang="fr")
    served = _Text(page).text
    for told in ("14 W", "4,2 kJ", "/demarches/{theme}", "42 kJ sur 50 kJ", "Ember", "Actualiser la page"):
        assert told in served
    assert 'id="pause" hidden' in page


@given(st.text(max_size=40))
def test_no_text_becomes_markup(text):
    inside = el("td", text, title=text)
    assert inside.count("<") == 2
    assert inside.count(">") == 2
    assert join(inside + text).count("<") == 0  # joining by hand loses the mark, and is escaped
    assert join(Html("<b>")) == "<b>"


def test_the_data_holds_the_figures_for_programs_and_nobody_s_identity():
    answer = json.loads(render_data(busy()))
    assert answer["state"]["watts_now"] == {"low": 10.2, "mid": 14.1, "high": 21.4}
    assert answer["state"]["requests"][3]["energy_full_j"] is None
    assert set(answer["parts"]) == {"fr", "en"}
    assert set(json.loads(render_data(busy(), lang="fr"))["parts"]) == {"fr"}
    for served in (render_data(busy()).decode(), render_page(busy(), lang="fr")):
        assert "mairie-secrete" not in served


def test_no_more_requests_are_drawn_than_the_page_promises():
    many = busy(requests=tuple(reading(n, route=f"/r{n}.") for n in range(MOST_REQUESTS + 15)))
    assert f"/r{MOST_REQUESTS - 1}." in words(many)
    assert f"/r{MOST_REQUESTS}." not in words(many)
    assert len(json.loads(render_data(many, lang="en"))["state"]["requests"]) == MOST_REQUESTS


def test_a_meter_that_is_switched_off_says_so_before_any_figure():
    assert "Compteur désactivé (FRUGAL_DISABLED=1) : rien n’est mesuré, aucun budget n’agit." in words(busy(disabled=True), "fr")
    assert "FRUGAL_DISABLED" not in words(busy())


def test_before_the_first_tick_joules_are_unknown_and_not_0():
    page = words(busy(buckets_j={}, bounds_j={}, off_nj=None, watts_now=None, meter_cpu_share=None))
    assert "the sources have not been read yet" in page
    assert "Since start unknown" in page
    assert "0 J" not in page.split("Budgets")[0]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("embodied:default", "embodied carbon is that of typical hardware"),
        ("vm:vcpu-is-one-thread", "one vCPU is taken as one hardware thread"),
        ("never:heard-of", ""),
    ],
)
def test_a_flag_is_said_in_words_with_its_code_beside(flag, said):
    page = render_page(busy(flags=(flag,)), lang="en")
    assert f"<code>{flag}</code></li>" in page
    assert said in page
