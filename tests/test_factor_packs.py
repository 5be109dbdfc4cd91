"""Factor packs: read back as written, refused in one line for what cannot be cited, and right along time."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import burn

from frugal_meter import Budget, Meter
from frugal_meter.carbon import factor as bundled
from frugal_meter.carbon import grid
from frugal_meter.carbon.factors import Factor
from frugal_meter.carbon.importing import import_pack
from frugal_meter.carbon.in_force import InForce
from frugal_meter.carbon.packs import load_pack
from frugal_meter.errors import ConfigurationError, FactorError, FrugalMeterError, UnknownZoneError
from frugal_meter.testing import FrozenClock, RecordingExporter, SyntheticSource

ABOUT = {"dataset": "Base Empreinte", "scope": "lifecycle", "licence": "Licence Ouverte 2.0", "source": "ADEME"}
HOUR_NS = 3_600_000_000_000
NINE = datetime(2026, 1, 5, 9, tzinfo=UTC)


def at(hour: float) -> int:
    """Unix ns of an hour of 5 January 2026."""
    return int(NINE.timestamp() * 1e9) + round((hour - 9) * HOUR_NS)


def pack_of(folder: Path, rows: str, *, sha256: str | None = None, **about: str) -> Path:
    """A manifest and its CSV of ``rows``, header first."""
    (folder / "pack.csv").write_text(rows, encoding="utf-8")
    told = {**ABOUT, "file": "pack.csv", "sha256": sha256 or hashlib.sha256(rows.encode()).hexdigest(), **about}
    manifest = folder / "pack.toml"
    manifest.write_text("[pack]\n" + "".join(f'{key} = "{value}"\n' for key, value in told.items() if value), encoding="utf-8")
    return manifest


SERIES = """zone,start,grams_per_kwh
FR,2026-01-05T09:00Z,20
FR,2026-01-05T10:00Z,40
FR,2026-01-05T13:00Z,60
"""


def test_a_pack_gives_its_newest_year_with_its_whole_provenance(tmp_path: Path) -> None:
    pack = load_pack(pack_of(tmp_path, "zone,year,grams_per_kwh\nFR,2022,52\nFR,2024,32\nfr-974,2024,700\n"))
    found = pack.factor("fra")
    assert (found.grams_per_kwh, found.year, found.licence, found.source) == (32, 2024, "Licence Ouverte 2.0", "ADEME")
    assert found.id == "pack:base-empreinte:FR:2024"
    assert found.sha256 == hashlib.sha256((tmp_path / "pack.csv").read_bytes()).hexdigest()
    assert pack.factor("FR", 2022).grams_per_kwh == 52
    assert pack.zones == ("FR", "RE")


def test_a_year_that_a_pack_does_not_hold_is_one_line_with_those_it_holds(tmp_path: Path) -> None:
    with pytest.raises(FactorError, match="zone FR has no factor of 2020; it has 2022, 2024"):
        load_pack(pack_of(tmp_path, "zone,year,grams_per_kwh\nFR,2022,52\nFR,2024,32\n")).factor("FR", 2020)


def test_a_pack_and_a_live_grid_do_not_both_say_what_is_in_force(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="leave one out"):
        Meter("tests", zone="FR", factor_pack=pack_of(tmp_path, SERIES), grid="rte", sources="model")


def test_a_manifest_may_hold_its_rows_and_zones_of_the_operators_own(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        '[pack]\ndataset = "site"\nscope = "lifecycle"\nlicence = "own"\nsource = "site meter"\n'
        '[[factor]]\nzone = "FR-BRE-DC1"\nyear = 2025\ngrams_per_kwh = 41.5\nlow = 38\nhigh = 47\nname = "Rennes, hall 1"\n',
        encoding="utf-8",
    )
    found = load_pack(file).factor("FR-BRE-DC1")
    assert (found.low_g_per_kwh, found.grams_per_kwh, found.high_g_per_kwh, found.zone_name) == (38, 41.5, 47, "Rennes, hall 1")


@pytest.mark.parametrize(
    ("rows", "about", "says"),
    [
        ("zone,grams_per_kwh\nFR,52\n", {}, "row 1: has no year: a figure without its vintage cannot be cited"),
        ("zone,year,grams_per_kwh,scope\nFR,2024,52,lifecycle\nRE,2024,30,direct\n", {}, "figures of different scope"),
        ("zone,year,grams_per_kwh,basis\nFR,2024,52,location\nRE,2024,30,market\n", {}, "figures of different basis"),
        ("zone,year,grams_per_kwh\nFR,2024,52\nFRA,2024,53\n", {}, "row 2: FR 2024 stands in row 1 already"),
        ("zone,year,grams_per_kwh\nFR,2024,52\n", {"sha256": "0" * 64}, "the manifest says 0000"),
        ("zone,year,grams_per_kwh\nFR,2024,52\n", {"scope": ""}, "scope is missing"),
        ("zone,year,grams_per_kwh\nFR,2024,0.052\n", {}, "is it in kg instead of g"),
        ('zone,year,grams_per_kwh\nFR,2024,"52,0"\n', {}, "decimals are written with a point"),
        ("zone,year,grams_per_kwh\nFR,soon,52\n", {}, "year is 'soon'"),
        ("zone,year,g_per_kwh\nFR,2024,52\n", {}, "'g_per_kwh', which means nothing here"),
        ("zone,year,grams_per_kwh\nFR,2024,52,7\n", {}, "a cell beyond the header"),
        ("zone,year,grams_per_kwh\n,2024,52\n", {}, "a row needs zone and grams_per_kwh"),
        ("zone,start,grams_per_kwh\nFR,2026-01-05T09:00,52\n", {}, "has no time zone"),
        ("zone,start,grams_per_kwh\nFR,yesterday,52\n", {}, "start is 'yesterday'"),
        ("zone,year,grams_per_kwh\n", {}, "has no rows"),
        ("zone,year,grams_per_kwh\nFR,2024,52\n", {"licence": " "}, "licence is empty"),
        ("zone,year,grams_per_kwh\nFR,2024,52\n", {"file": "../pack.csv"}, "name a file in the same folder"),
        ("zone,year,grams_per_kwh\nFR,2024,52\n", {"file": "gone.csv"}, "cannot be read"),
        ("zone,year,grams_per_kwh\n \t,2024,52\n", {}, "row 1: zone is ' \\t'; write the code of a country"),
        ("zone,year,grams_per_kwh\nFR,2024,52\n", {"vintage": "2024"}, "'vintage', which means nothing here"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_pack_that_cannot_be_cited_is_refused_in_one_line(tmp_path: Path, rows: str, about: dict[str, str], says: str) -> None:
    with pytest.raises(FactorError) as caught:
        load_pack(pack_of(tmp_path, rows, **about))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('zone = "FR"\nyear = 2024\ngrams_per_kwh = true', "row 1: grams_per_kwh is True, not a number"),
        ("zone = 33\nyear = 2024\ngrams_per_kwh = 52", "row 1: zone is 33; write the code of a country"),
        ('zone = "FR"\nyear = 2024\ngrams_per_kwh = 44\nlow = 50\nhigh = 60', "row 1: factor"),
    ],
)
def test_a_row_of_the_wrong_kind_is_named_with_its_place_once(tmp_path: Path, row: str, says: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'[pack]\ndataset = "d"\nscope = "lifecycle"\nlicence = "l"\nsource = "s"\n[[factor]]\n{row}\n')
    with pytest.raises(FactorError) as caught:
        load_pack(file)
    assert says in str(caught.value)
    assert str(caught.value).count(str(file)) == 1


def test_a_checksum_is_read_in_either_case_and_one_that_is_missing_is_told(tmp_path: Path) -> None:
    manifest = pack_of(tmp_path, "zone,year,grams_per_kwh\nFR,2024,52\n")
    text = manifest.read_text(encoding="utf-8")
    sha256 = load_pack(manifest).factor("FR").sha256
    assert sha256 is not None
    manifest.write_text(text.replace(sha256, sha256.upper()), encoding="utf-8")
    assert load_pack(manifest).factor("FR").grams_per_kwh == 52
    manifest.write_text("\n".join(line for line in text.splitlines() if "sha256" not in line), encoding="utf-8")
    with pytest.raises(FactorError, match=f"has no sha256 of .*; write sha256 = '{sha256}' once"):
        load_pack(manifest)


def test_a_zone_that_vanished_from_a_pack_is_never_another_zones_figure(tmp_path: Path) -> None:
    manifest = pack_of(tmp_path, "zone,year,grams_per_kwh\nFR,2024,32\n")
    for ask in (load_pack(manifest).factor, lambda zone: Meter("tests", zone=zone, factor_pack=manifest, sources="model")):
        with pytest.raises(UnknownZoneError, match=r"has no row for FR-COR; it has FR\."):
            ask("FR-COR")


def test_a_table_without_manifest_and_a_manifest_that_is_none_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("zone,year,grams_per_kwh\nFR,2024,52\n", encoding="utf-8")
    with pytest.raises(FactorError, match=r"has no manifest; write rows\.toml"):
        load_pack(tmp_path / "rows.csv")
    for text, says in (("zone = ", "not valid TOML"), ("[other]\n", r"has no \[pack\] table"), ("[pack]\n", "has no rows")):
        (tmp_path / "rows.toml").write_text(text, encoding="utf-8")
        with pytest.raises(FactorError, match=says):
            load_pack(tmp_path / "rows.toml")
    with pytest.raises(FactorError, match="cannot be read"):
        load_pack(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes("[pack]\nsource = 'é'".encode("latin-1"))
    with pytest.raises(FactorError, match="not UTF-8"):
        load_pack(tmp_path / "latin.toml")


def test_a_bundled_table_that_was_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ember.csv"
    file.write_text("zone,name,year,grams_per_kwh,licence,origin\nFR,France,2024,4,CC-BY-4.0,carbontracker\n", encoding="utf-8")
    with pytest.raises(FactorError, match="not the released"):
        grid._bundled(file, grid.datasets()["ember"].file_sha256)


# -- series


def test_a_series_holds_hour_by_hour_and_its_mean_fills_holes_and_what_follows(tmp_path: Path) -> None:
    pack = load_pack(pack_of(tmp_path, SERIES))
    mean = pack.factor("FR")
    assert (mean.grams_per_kwh, mean.low_g_per_kwh, mean.high_g_per_kwh) == (40, 20, 60)
    assert "factor:mean-of-series" in mean.flags
    force = InForce(mean, pack.steps("FR"), now_ns=lambda: at(9.5))
    told = {
        hour: (force.at(at(hour)).grams_per_kwh, "factor:fallback" in force.at(at(hour)).flags)
        for hour in (9.5, 10.9, 11.5, 13.5, 14.5)
    }
    assert told == {9.5: (20, False), 10.9: (40, False), 11.5: (40, True), 13.5: (60, False), 14.5: (40, True)}
    assert force.at(at(8)).id == mean.id  # before the series began
    assert force.now.id == "pack:base-empreinte:FR:2026-01-05T09:00:00Z"


def test_a_yearly_row_fills_the_holes_of_a_series_when_there_is_one(tmp_path: Path) -> None:
    rows = "zone,year,start,grams_per_kwh\nFR,2024,,33\nFR,,2026-01-05T09:00Z,20\n"
    pack = load_pack(pack_of(tmp_path, rows))
    assert [f.grams_per_kwh for _, f in pack.steps("FR")] == [20, 33]


def test_months_of_unequal_length_leave_no_hole(tmp_path: Path) -> None:
    rows = "zone,start,grams_per_kwh\n" + "".join(f"FR,2025-{month:02}-01T00:00Z,{month}\n" for month in range(1, 13))
    steps = load_pack(pack_of(tmp_path, rows)).steps("FR")
    assert [f.grams_per_kwh for _, f in steps[:12]] == list(range(1, 13))


def test_a_span_over_a_change_of_factor_weighs_each_part_at_its_own() -> None:
    clean, dirty = (Factor.declared("FR", g, scope="lifecycle", dataset=f"d{g}", year=2026) for g in (30, 90))
    force = InForce(clean, [(at(10), dirty)], now_ns=lambda: at(9))
    over = force.over(at(9.75), at(11.75))  # a quarter of an hour at 30, an hour and three quarters at 90
    assert over.grams_per_joule * 3.6e6 == pytest.approx((0.25 * 30 + 1.75 * 90) / 2)
    assert over.ids == (clean.id, dirty.id)
    assert "factor:several" in over.flags
    assert force.over(at(9), at(9.5)).ids == (clean.id,)
    assert force.over(at(11), at(11)).ids == (dirty.id,)
    assert force.over(at(10.5), at(10.2)).ids == (dirty.id,)  # a clock set back


def test_a_factor_of_another_nature_never_takes_over() -> None:
    force = InForce(bundled("FR"), now_ns=lambda: at(9))
    for nature in ({"scope": "direct"}, {"scope": "lifecycle", "basis": "market"}):
        with pytest.raises(FactorError, match="cannot be added"):
            force.change(Factor.declared("FR", 20, dataset="d", year=2026, **nature))
    assert force.constant


def test_readings_budgets_and_metrics_follow_the_factor_in_force(tmp_path: Path) -> None:
    """Two hours of a series, at 20 and 200 g/kWh, in one budget window: each span at its own hour's factor, once."""
    rows = "zone,start,grams_per_kwh\nFR,2026-01-05T09:00Z,20\nFR,2026-01-05T10:00Z,200\n"
    manifest, out, clock = pack_of(tmp_path, rows), RecordingExporter(), FrozenClock(at(9.5) / 1e9)

    budget = Budget("day", "1 gCO2e", per="day")
    settings = {"sources": SyntheticSource(0, 10), "tick": 60, "exporters": [out], "clock": clock, "pue": 1.0, "embodied": None}
    with Meter("tests", zone="FR", factor_pack=manifest, budgets=[budget], **settings) as meter:
        for seconds in (3600, 0):
            with meter.measure("work"):
                burn(0.02)
                clock.advance(0.5)
            meter.settle()
            clock.advance(seconds)
        (book,) = meter.admission.store.books(clock.time_ns())
        spent_ng = book.settled
    early, late = out.readings
    assert [r.factor_ids for r in (early, late)] == [
        ("pack:base-empreinte:FR:2026-01-05T09:00:00Z",),
        ("pack:base-empreinte:FR:2026-01-05T10:00:00Z",),
    ]
    for reading, grams_per_kwh in ((early, 20), (late, 200)):
        assert reading.energy_full_j
        assert reading.carbon_g == pytest.approx(reading.energy_full_j * grams_per_kwh / 3.6e6)
    assert spent_ng == pytest.approx((early.carbon_g + late.carbon_g) * 1e9, rel=0.01)
    total_g = sum(row.operational_g for row in meter.aggregates.rows.values())
    assert total_g == pytest.approx(early.carbon_g + late.carbon_g)


# -- import

MAPS_COLUMNS = (
    "Datetime (UTC)", "Country", "Zone name", "Zone id", "Carbon intensity gCO₂eq/kWh (direct)",
    "Carbon intensity gCO₂eq/kWh (Life cycle)", "Carbon-free energy percentage (CFE%)", "Renewable energy percentage (RE%)",
    "Data source", "Data estimated", "Data estimation method",
)  # fmt: skip
MAPS = f"""{",".join(MAPS_COLUMNS)}
2024-01-01 00:00:00,France,France,FR,11.5,28.4,95.1,30.2,rte.fr,false,
2024-01-01 01:00:00,France,France,FR,12.5,29.4,95.0,30.0,rte.fr,true,TIME_SLICER_AVERAGE
2024-01-01 02:00:00,France,France,FR,,,,,,,
"""
ADEME_COLUMNS = (
    "Type Ligne", "Identifiant de l'élément", "Nom base français", "Nom attribut français", "Nom frontière français",
    "Statut de l'élément", "Unité français", "Localisation géographique", "Sous-localisation géographique français",
    "Total poste non décomposé",
)  # fmt: skip
ADEME = f"""{";".join(ADEME_COLUMNS)}
Elément;1;Électricité;2022 - mix moyen;consommation;Valide générique;kgCO2e/kWh;France continentale;;0,0520
Elément;2;Électricité;2022 - mix moyen;consommation;Valide générique;kgCO2e/kWh;Outre-mer;Guadeloupe;0,702
Elément;3;Électricité;2019 - mix moyen;consommation;Archivé;kgCO2e/kWh;France continentale;;0,0599
Elément;4;Électricité;2022 - usage : chauffage moyen;consommation;Valide générique;kgCO2e/kWh;France continentale;;0,079
Poste;1;Électricité;2022 - mix moyen;consommation;Valide générique;kgCO2e/kWh;France continentale;;0,0057
Elément;5;Gaz naturel;2022 - moyen;combustion;Valide générique;kgCO2e/kWh;France continentale;;0,215
"""
SUPPLIER = 'supplier,offer,zone,year,grams_per_kwh\nEnercoop,Standard,FR,2024,"6,5"\n'


def test_electricity_maps_files_are_imported_one_scope_at_a_time(tmp_path: Path) -> None:
    table = tmp_path / "FR_2024_hourly.csv"
    table.write_text(MAPS, encoding="utf-8")
    about = {"dataset": "Electricity Maps", "licence": "ODbL-1.0", "source": "Electricity Maps"}
    with pytest.raises(FactorError, match="say which with --scope"):
        import_pack(table, tmp_path / "em.toml", shape="electricity-maps", about=about)
    for scope, mean in (("lifecycle", 28.9), ("direct", 12.0)):
        pack = import_pack(table, tmp_path / f"{scope}.toml", shape="electricity-maps", about=about, scope=scope)
        assert pack.factor("FR").grams_per_kwh == pytest.approx(mean)
        assert [f.scope for f in pack.hourly] == [scope] * 2  # the empty hour is a hole
        assert ["factor:estimated" in f.flags for f in pack.hourly] == [False, True]


def test_a_yearly_file_of_electricity_maps_gives_years(tmp_path: Path) -> None:
    table = tmp_path / "FR_yearly.csv"
    table.write_text("\n".join(MAPS.splitlines()[:2]), encoding="utf-8")
    about = {"dataset": "Electricity Maps", "licence": "ODbL-1.0", "source": "Electricity Maps", "scope": "lifecycle"}
    pack = import_pack(table, tmp_path / "em.toml", shape="electricity-maps", about=about)
    assert (pack.factor("FR").year, pack.hourly) == (2024, ())


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_base_carbone_gives_the_mean_mixes_in_force_and_the_islands_their_own(tmp_path: Path, encoding: str) -> None:
    table = tmp_path / "base.csv"
    table.write_text(ADEME, encoding=encoding)
    about = {"dataset": "Base Empreinte", "version": "V23.6", "licence": "Licence Ouverte 2.0", "source": "ADEME"}
    pack = import_pack(table, tmp_path / "ademe.toml", shape="ademe", about=about)
    assert [(f.zone, f.year, f.grams_per_kwh) for f in pack.yearly] == [("FR", 2022, 52), ("GP", 2022, 702)]
    assert pack.factor("FR-971").grams_per_kwh == 702


def test_a_suppliers_offer_is_market_based_and_cannot_be_added_to_a_location(tmp_path: Path) -> None:
    table = tmp_path / "offer.csv"
    table.write_text(SUPPLIER, encoding="utf-8")
    about = {"dataset": "offers", "scope": "lifecycle", "licence": "own contract", "source": "offers"}
    found = import_pack(table, tmp_path / "offers.toml", shape="supplier", about=about).factor("FR")
    assert (found.basis, found.grams_per_kwh, found.source) == ("market", 6.5, "Enercoop, Standard")
    with pytest.raises(FactorError, match="different basis"):
        InForce(bundled("FR"), [(at(9), found)], now_ns=lambda: at(9))


@pytest.mark.parametrize(
    ("shape", "text", "says"),
    [
        ("ademe", ADEME.replace("2022 - mix", "mix"), "names no year"),
        ("ademe", ADEME.replace("Guadeloupe", "Atlantide"), "is no zone known here"),
        ("ademe", ADEME.replace("0,0520", "n.c."), "not a number of kgCO2e"),
        ("ademe", "a;b\n1;2\n", "has no Nom base français"),
        ("electricity-maps", "Datetime (UTC),Zone id\n2024-01-01,FR\n", "has no column of lifecycle carbon intensity"),
        ("supplier", "supplier,offer\nA,B\n", "row 1: has no zone, year, grams_per_kwh"),
        ("electricity-maps", "", "no row of shape"),
        ("plain", "zone,year,grams_per_kwh\n", "no row of shape"),
        ("plain", "zone,grams_per_kwh\nFR,52\n", "has no year"),
        ("csv", "zone\nFR\n", "unknown shape"),
    ],
)  # fmt: skip
def test_a_table_of_another_shape_is_one_line_and_leaves_nothing_behind(tmp_path: Path, shape: str, text: str, says: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(FrugalMeterError) as caught:
        import_pack(table, tmp_path / "out.toml", shape=shape, about=ABOUT)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table.csv"]


def test_a_table_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FactorError, match="cannot be read"):
        import_pack(tmp_path / "none.csv", tmp_path / "out.toml", shape="plain", about=ABOUT)


def test_an_import_replaces_nothing_unless_told(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("zone,year,grams_per_kwh\nFR,2024,52\n", encoding="utf-8")
    with pytest.raises(FactorError, match="never the table itself"):
        import_pack(table, tmp_path / "rows.toml", shape="plain", about=ABOUT, force=True)
    import_pack(table, tmp_path / "out.toml", shape="plain", about=ABOUT)
    with pytest.raises(FactorError, match="exists"):
        import_pack(table, tmp_path / "out.toml", shape="plain", about=ABOUT)
    table.write_text("zone,year,grams_per_kwh\nFR,2024,53\n", encoding="utf-8")
    assert import_pack(table, tmp_path / "out.toml", shape="plain", about=ABOUT, force=True).factor("FR").grams_per_kwh == 53


# -- the meter


def test_a_pack_is_a_setting_of_the_meter_and_of_its_file(tmp_path: Path) -> None:
    pack_of(tmp_path, "zone,year,grams_per_kwh\nFR,2024,32\n")
    (tmp_path / "frugal.toml").write_text('[meter]\nservice = "s"\nzone = "FR"\nfactor_pack = "pack.toml"\n', encoding="utf-8")
    meter = Meter.from_config(tmp_path / "frugal.toml", sources="model")
    assert meter.figures.factor.id == "pack:base-empreinte:FR:2024"
    assert "factor:pack" in meter.figures.flags
    with pytest.raises(ConfigurationError, match="both given"):
        Meter("s", zone="FR", factor=bundled("FR"), factor_pack=tmp_path / "pack.toml", sources="model")
    with pytest.raises(ConfigurationError, match="path of a pack"):
        Meter("s", zone="FR", factor_pack=7, sources="model")


def test_a_factor_of_years_ago_is_flagged_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = Factor.declared("FR", 60, scope="lifecycle", dataset="old", year=datetime.now(UTC).year - 3)
    assert "factor:stale" in Meter("s", factor=old, sources="model").figures.flags
    assert [r.message for r in caplog.records if "a newer one is worth having" in r.message] != []
    fresh = Factor.declared("FR", 60, scope="lifecycle", dataset="new", year=datetime.now(UTC).year - 1)
    assert "factor:stale" not in Meter("s", factor=fresh, sources="model").figures.flags
