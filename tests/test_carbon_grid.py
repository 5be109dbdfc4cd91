"""The bundled grid tables and how a zone is looked up."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import frugal_meter.carbon
from frugal_meter.carbon import DATASETS, Factor, alternatives, datasets, factor, zones
from frugal_meter.carbon.factors import EXPERT_RANGE, RANGE_FLAG
from frugal_meter.carbon.zones import ALIASES, canonical
from frugal_meter.errors import ConfigurationError, UnknownZoneError

# The same examples on every run, and no clock: the machines that run this are shared.
steady = settings(derandomize=True, deadline=None)
DATA = Path(frugal_meter.carbon.__file__).parent / "data"


def lines(file: str) -> list[dict[str, str]]:
    with (DATA / file).open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def looked_up(zone: str) -> Factor | UnknownZoneError:
    try:
        return factor(zone)
    except UnknownZoneError as unknown:
        return unknown


def test_importing_the_package_reads_no_table() -> None:
    code = "import frugal_meter.carbon.grid as g; print(g._table.cache_info().currsize, g.datasets.cache_info().currsize)"
    root = DATA.parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0", "0"]


def test_france_is_embers_lifecycle_figure_of_2024() -> None:
    france = factor("FR")
    assert (france.id, france.grams_per_kwh, france.year) == ("ember:FR:2024", 44.1791, 2024)
    assert (france.scope, france.basis, france.mix, france.unit) == ("lifecycle", "location", "production", "gCO2e/kWh")
    assert (france.licence, france.version) == ("CC-BY-4.0", "carbontracker 2.4.7")
    assert "Ember" in france.source
    assert france.sha256 == datasets()["ember"].origins["carbontracker"].sha256


def test_corsica_never_gets_the_mainlands_figure() -> None:
    for code in ("FR-COR", "fr-cor", "FR_COR", "FR-20R", "FR-2A", "FR-2B"):
        corsica = factor(code)
        assert (corsica.id, corsica.grams_per_kwh) == ("electricity-maps:FR-COR:2025", 546)
        assert (corsica.licence, corsica.mix) == ("ODbL-1.0", "consumption")
    assert all(a.zone == "FR-COR" for a in alternatives("FR-COR"))


@pytest.mark.parametrize("code", ["GP", "MQ", "GF", "RE", "YT", "NC", "PF", "PM"])
def test_french_overseas_have_their_own_figure(code: str) -> None:
    assert factor(code).zone == code
    assert factor(code).grams_per_kwh > 4 * factor("FR").grams_per_kwh


@pytest.mark.parametrize("code", ["WF", "BL", "MF", "TF", "FR-WF", "FR-BL"])
def test_french_overseas_without_data_are_unknown_not_french(code: str) -> None:
    with pytest.raises(UnknownZoneError, match="not on the mainland grid"):
        factor(code)


def test_a_region_of_the_mainland_is_sent_to_its_grid_not_guessed() -> None:
    with pytest.raises(UnknownZoneError, match="islands and overseas have their own: FR-COR") as unknown:
        factor("FR-IDF")
    assert "FR (France)" in unknown.value.nearest


def test_a_region_elsewhere_is_shown_the_zones_inside_it() -> None:
    with pytest.raises(UnknownZoneError, match="otherwise give your own Factor") as unknown:
        factor("US-CAL")
    assert [n.split(" ")[0] for n in unknown.value.nearest] == ["US-CAL-BANC", "US-CAL-CISO", "US"]


@pytest.mark.parametrize("code", ["FR", "fr", " FR ", "FRA", "fra", "Fra\n"])
def test_codes_are_read_in_either_form_and_any_case(code: str) -> None:
    assert factor(code) == factor("FR")


@pytest.mark.parametrize(("alias", "code"), sorted(ALIASES.items()))
def test_an_alias_is_another_code_for_the_same_grid(alias: str, code: str) -> None:
    assert canonical(alias.lower()) == code


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("France", "FR (France)"),
        ("Allemagne", "DE (Germany / Allemagne)"),
        ("germany", "DE (Germany / Allemagne)"),
        ("Germny", "DE (Germany / Allemagne)"),
        ("reunion", "RE (Réunion / La Réunion)"),
        ("La Réunion", "RE (Réunion / La Réunion)"),
        ("corse", "FR-COR (Corsica (France) / Corse)"),
        ("États-Unis", "US (United States / États-Unis)"),
        ("royaume", "GB (United Kingdom / Royaume-Uni)"),
        ("FX", "FR (France)"),
    ],
)
def test_a_name_in_french_or_english_is_answered_with_its_code_first(typed: str, suggested: str) -> None:
    with pytest.raises(UnknownZoneError) as unknown:
        factor(typed)
    assert unknown.value.nearest[0] == suggested
    assert len(unknown.value.nearest) <= 3
    assert "\n" not in str(unknown.value)


@pytest.mark.parametrize("average", ["EU", "world", "Europe", "UE"])
def test_an_average_over_countries_is_no_grid(average: str) -> None:
    with pytest.raises(UnknownZoneError, match="name the country"):
        factor(average)


@pytest.mark.parametrize("nothing", ["", "  ", None, 33, b"FR"])
def test_a_missing_zone_is_never_guessed(nothing: object) -> None:
    with pytest.raises(UnknownZoneError, match="never guessed"):
        factor(nothing)  # type: ignore[arg-type]


def test_an_endless_zone_is_cut_in_the_error() -> None:
    with pytest.raises(UnknownZoneError) as unknown:
        factor("F" * 10_000_000)
    assert len(str(unknown.value)) < 300


@steady
@given(st.text(max_size=80))
def test_any_text_gives_a_factor_or_one_clear_error(text: str) -> None:
    outcome = looked_up(text)
    if isinstance(outcome, Factor):
        assert outcome.grams_per_kwh > 0
    else:
        assert len(outcome.nearest) <= 3
        assert len(str(outcome).splitlines()) == 1


def test_a_dataset_and_a_year_can_be_named() -> None:
    assert factor("FR", year=2023).id == "ember:FR:2023"
    assert factor("FR", year=2022).id == "electricity-maps:FR:2022"
    assert factor("FR", dataset="electricity-maps").id == "electricity-maps:FR:2025"
    assert factor("FR", dataset="electricity-maps", year=2024).grams_per_kwh == 33


def test_a_dataset_that_lacks_the_zone_says_which_has_it() -> None:
    with pytest.raises(UnknownZoneError, match="ember has no row for FR-COR; electricity-maps has one"):
        factor("FR-COR", dataset="ember")


def test_an_unknown_dataset_is_one_line_with_the_known_ones() -> None:
    for ask in (lambda: factor("FR", dataset="rte"), lambda: zones("rte")):
        with pytest.raises(ConfigurationError, match="use ember or electricity-maps"):
            ask()


def test_an_unknown_year_lists_the_years_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"ember: 2024, 2023; electricity-maps: 2025, 2024"):
        factor("FR", year=1999)


def test_alternatives_are_every_other_figure_of_the_zone() -> None:
    others = alternatives("FRA")
    assert [a.id for a in others[:2]] == ["ember:FR:2023", "electricity-maps:FR:2025"]
    assert len(others) == 6
    assert {a.zone for a in others} == {"FR"}
    assert factor("FR") not in others


def test_the_range_of_a_factor_is_the_spread_of_its_published_figures() -> None:
    france = factor("FR")
    figures = [a.grams_per_kwh for a in (france, *alternatives("FR"))]
    assert (france.low_g_per_kwh, france.high_g_per_kwh) == (min(figures), max(figures)) == (31, 91)
    assert france.flags == ()


@pytest.mark.parametrize("zone", ["UA", "CF"])  # one row; one figure repeated for five years
def test_a_figure_nobody_else_publishes_has_a_flagged_default_range(zone: str) -> None:
    alone = factor(zone)
    assert alone.flags == (RANGE_FLAG,)
    assert alone.low_g_per_kwh == pytest.approx(alone.grams_per_kwh * EXPERT_RANGE[0])
    assert alone.high_g_per_kwh == pytest.approx(alone.grams_per_kwh * EXPERT_RANGE[1])


def test_the_default_range_holds_nine_published_spreads_in_ten() -> None:
    known = [f for f in map(factor, zones("ember")) if not f.flags]
    lows = [f.low_g_per_kwh / f.grams_per_kwh for f in known if f.low_g_per_kwh]
    highs = [f.high_g_per_kwh / f.grams_per_kwh for f in known if f.high_g_per_kwh]
    assert len(lows) == len(highs) == 201
    assert 0.9 <= sum(low >= EXPERT_RANGE[0] for low in lows) / 201 <= 0.95
    assert 0.9 <= sum(high <= EXPERT_RANGE[1] for high in highs) / 201 <= 0.95


def test_every_bundled_row_is_a_valid_dated_licensed_factor() -> None:
    rows = 0
    for zone in zones():
        for each in (factor(zone), *alternatives(zone)):
            rows += 1
            assert each.zone == zone
            assert each.licence in {"CC-BY-4.0", "ODbL-1.0"}
            assert 2015 <= each.year <= 2025
            assert re.fullmatch(r"[0-9a-f]{64}", each.sha256 or "")
            assert each.low_g_per_kwh is not None
            assert each.low_g_per_kwh <= each.grams_per_kwh
    assert rows == sum(len(lines(datasets()[name].file)) for name in DATASETS) == 2145


def test_the_two_licences_are_never_in_one_file() -> None:
    for name, licence in (("ember", "CC-BY-4.0"), ("electricity-maps", "ODbL-1.0")):
        about = datasets()[name]
        assert about.licence == licence
        rows = lines(about.file)
        assert {r["licence"] for r in rows} == {licence}
        assert {r["origin"] for r in rows} == set(about.origins)


def test_each_data_file_is_named_in_the_licences() -> None:
    text = (DATA / "LICENCES.md").read_text(encoding="utf-8")
    for file in DATA.iterdir():
        assert file.name == "LICENCES.md" or f"`{file.name}`" in text
    # The Unicode licence asks that its own text travel with the data.
    assert "SPDX-License-Identifier: Unicode-3.0" in (DATA / "LICENSE.unicode").read_text(encoding="utf-8")


def test_rows_are_sorted_newest_first_without_repeats() -> None:
    for name in DATASETS:
        keys = [(r["zone"], -int(r["year"])) for r in lines(datasets()[name].file)]
        assert keys == sorted(set(keys))


def test_every_country_in_a_table_can_be_named_in_both_languages() -> None:
    named = {r["zone"]: r for r in lines("names.csv")}
    for zone in zones():
        if "-" not in zone:
            assert named[zone]["english"]
            assert named[zone]["french"]
            assert factor(named[zone]["alpha_3"]).zone == zone


def test_the_bundled_tables_stay_small() -> None:
    assert sum(f.stat().st_size for f in DATA.iterdir()) < 150_000
