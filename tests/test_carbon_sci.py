"""The SCI score with its boundary, and what electricity weighs beyond carbon: unknown where nobody published a factor."""

from __future__ import annotations

from typing import Any

import pytest

from frugal_meter.carbon import Embodied, Factor, Pue
from frugal_meter.carbon import factor as bundled
from frugal_meter.carbon.criteria import ImpactFactor, Wue, impact, impact_factor, water
from frugal_meter.carbon.sci import NOT_COUNTED, UNITS, Score, sci
from frugal_meter.errors import ConfigurationError, FactorError
from frugal_meter.records import Interval

KWH = 3.6e6
SITE = Pue.declared(1.2, source="EED report of the site, 2024")


def exactly(value: float) -> Interval:
    return Interval(value, value, value)


def score(**changes: Any) -> Score:
    settings: dict[str, Any] = {
        "pue": SITE,
        "factor": bundled("FR"),
        "embodied_g": exactly(10.0),
        "unit": "request",
        "units": 1000,
        "boundary": ("cpu", "memory", "board"),
        "tier": "modelled",
        "method_ids": ("cpu-time/1+power-model/3",),
    }
    energy = changes.pop("energy_j", exactly(KWH))
    return sci(energy, **{**settings, **changes})


def test_the_score_is_operational_plus_embodied_per_unit() -> None:
    found = score()
    assert found.per_unit_g == exactly(pytest.approx((44.1791 * 1.2 + 10) / 1000))
    assert found.operational_g == exactly(pytest.approx(44.1791 * 1.2))


def test_the_standards_own_example_of_embodied_carbon_enters_whole() -> None:
    """ISO/IEC 21031: 1,000 kg over 4 years, one hour of the whole machine: about 28 g."""
    made = Embodied.declared(1_000, 4, source="the standard's example").grams(3600)
    found = score(embodied_g=made, units=1, energy_j=exactly(0.0))
    assert found.per_unit_g is not None
    assert found.per_unit_g.mid == pytest.approx(28.5, abs=0.1)


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_of_sci_for_ai_is_scored_per_its_own_count(unit: str) -> None:
    found = score(unit=unit, units=5e6)
    assert found.per_unit_g is not None
    assert found.per_unit_g.mid == pytest.approx((44.1791 * 1.2 + 10) * UNITS[unit].each / 5e6)


def test_the_specifications_printed_score_of_a_token_is_a_thousand_times_too_small() -> None:
    """sci-ai SPEC.md 4b7c0f7 prints 0.13 g per million tokens for 6,500 kg over 50 billion tokens; it is 130 g."""
    found = score(energy_j=exactly(0.0), embodied_g=exactly(6_500_000.0), unit="token", units=50e9)
    assert found.per_unit_g == exactly(pytest.approx(130.0))
    assert found.per_unit_g.mid / 0.13 == pytest.approx(1000)


def test_a_score_prints_what_it_counts_and_what_it_does_not() -> None:
    english, french = score().text(), score().text("fr")
    assert "E modelled (cpu-time/1+power-model/3)" in english
    assert "E modélisée (cpu-time/1+power-model/3)" in french
    for needed in ("cpu, memory, board", "network, end-user devices, training", "PUE 1.2 (EED report", "Ember", "lifecycle"):
        assert needed in english
    for needed in ("processeur, mémoire, carte mère", "réseau, terminaux, entraînement", "compté", "ISO/IEC 21031:2024"):
        assert needed in french
    assert "0,06301 gCO2e / requête" in french
    assert "/ 1,000,000 tokens" in score(unit="token").text()
    assert set(NOT_COUNTED) == set(score().not_counted)


def test_digits_of_a_score_are_those_its_interval_deserves() -> None:
    assert "SCI 6 gCO2e (1 to 90)" in score(energy_j=exactly(0.0), embodied_g=Interval(1, 6.31, 90), units=1).text()


def test_nothing_delivered_or_unknown_energy_is_an_unknown_score() -> None:
    assert score(units=0).per_unit_g is None
    assert score(energy_j=None).per_unit_g is None
    assert "unknown" in score(energy_j=None).text()
    assert (score(energy_j=None, tier=None, method_ids=()).tier, score(energy_j=None).method_ids) == (None, ())
    assert "inconnu" in score(units=0).text("fr")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"unit": "smile"}, "unknown functional unit 'smile'"),
        ({"boundary": ()}, "without a boundary says nothing"),
        ({"units": -1}, "cannot be negative"),
        ({"tier": None}, "energy without its tier"),
        ({"tier": "guessed"}, "energy without its tier"),
        ({"method_ids": ()}, "and method ids cannot be cited"),
    ],
)
def test_a_score_that_cannot_be_is_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        score(**changes)


def test_a_contract_never_lowers_a_score() -> None:
    green = Factor.declared("FR", 0, scope="lifecycle", basis="market", dataset="guarantees of origin", year=2025)
    with pytest.raises(FactorError, match="location-based"):
        score(factor=green)


# -- other criteria


def test_antimony_and_primary_energy_of_french_electricity_are_dated_and_cited() -> None:
    adpe, pe = impact_factor("fra", "adpe"), impact_factor("FR", "pe")
    assert adpe is not None
    assert pe is not None
    assert impact(exactly(KWH), SITE, adpe) == exactly(pytest.approx(1.2 * 4.85798e-8))
    assert impact(exactly(KWH), SITE, pe) == exactly(pytest.approx(1.2 * 11.289))
    assert (
        adpe.cite() == "4.85798e-08 kgSbe/kWh · FR 2011 · ADEME Base IMPACTS, as published with boaviztapi 2.5.0 · "
        "not stated; one figure cited"
    )


def test_a_criterion_nobody_published_is_unknown_never_zero() -> None:
    assert impact_factor("FR", "water") is None
    assert impact_factor("DE", "adpe") is None
    assert impact(exactly(KWH), SITE, None) is None
    assert impact(None, SITE, impact_factor("FR", "pe")) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"per_kwh": -1}, "per_kwh is -1"),
        ({"per_kwh": float("nan")}, "per_kwh is nan"),
        ({"year": None}, "year is None"),
        ({"source": " "}, "cannot be cited"),
        ({"criterion": "noise"}, "criterion is one of"),
    ],
)
def test_an_impact_factor_that_cannot_be_cited_is_one_line(changes: dict[str, Any], says: str) -> None:
    told = {"criterion": "water", "zone": "FR", "per_kwh": 3.0, "year": 2023, "source": "s", "licence": "l", **changes}
    with pytest.raises(FactorError, match=says):
        ImpactFactor(**told)


GRID_WATER = ImpactFactor(criterion="water", zone="FR", per_kwh=3.0, year=2023, source="declared", licence="declared")


def test_water_is_the_sites_and_the_grids_and_the_pue_enters_once() -> None:
    """EcoLogits before 0.11.3 weighed energy that already held the PUE by WUE + PUE · water of the grid: the PUE twice."""
    site = Wue.declared(0.5, source="EED report of the site, 2024")
    found = water(exactly(KWH), SITE, site, GRID_WATER)
    assert found == exactly(pytest.approx(0.5 + 1.2 * 3.0))
    twice = 1.2 * (0.5 + 1.2 * 3.0)
    assert abs(found.mid / twice - 1) > 0.15


def test_half_of_the_water_is_not_the_water() -> None:
    site = Wue.declared(0.5, source="s")
    assert water(exactly(KWH), SITE, None, GRID_WATER) is None
    assert water(exactly(KWH), SITE, site, None) is None
    assert water(None, SITE, site, GRID_WATER) is None
    with pytest.raises(FactorError, match="is no water factor"):
        water(exactly(KWH), SITE, site, impact_factor("FR", "pe"))


@pytest.mark.parametrize(
    ("value", "more", "says"),
    [
        (-1, {}, "from 0 to below 50"),
        (True, {}, "from 0"),
        (1, {"low": 2}, "outside its own range"),
        (1, {"source": ""}, "no source"),
    ],
)
def test_a_wue_that_cannot_be_is_one_line(value: Any, more: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Wue.declared(value, **{"source": "s", **more})
