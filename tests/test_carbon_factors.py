"""`Factor`, its provenance, and what must never be added up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal_meter.carbon import Factor, check_compatible, combine, factor
from frugal_meter.errors import FactorError
from frugal_meter.records import Interval

# The same examples on every run, and no clock: the machines that run this are shared.
steady = settings(derandomize=True, deadline=None)


def ademe(**changes: object) -> Factor:
    figures = {"zone": "FR", "grams_per_kwh": 52, "scope": "lifecycle", "dataset": "Base Empreinte", "year": 2024}
    return Factor.declared(**(figures | changes))


def test_a_declared_factor_keeps_its_provenance() -> None:
    mine = ademe(licence="Licence Ouverte 2.0", source="ADEME", mix="consumption", sha256="ab" * 32)
    assert (mine.id, mine.zone, mine.grams_per_kwh, mine.year) == ("declared:base-empreinte:FR:2024", "FR", 52, 2024)
    assert (mine.dataset, mine.licence) == ("Base Empreinte", "Licence Ouverte 2.0")
    assert (mine.source, mine.mix) == ("ADEME", "consumption")
    assert mine.interval is None
    assert mine.flags == ("factor:declared",)


def test_a_kilowatt_hour_is_three_point_six_megajoules() -> None:
    assert ademe().grams_per_joule * 3.6e6 == pytest.approx(52, rel=1e-15)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grams_per_kwh": -1}, "cannot be negative"),
        ({"grams_per_kwh": math.nan}, "write a number"),
        ({"grams_per_kwh": math.inf}, "write a number"),
        ({"grams_per_kwh": True}, "write a number"),
        ({"grams_per_kwh": "52"}, "write a number"),
        ({"grams_per_kwh": 52_000}, "g per MWh"),
        ({"grams_per_kwh": 0.052}, "in kg instead of g"),
        ({"grams_per_kwh": 0}, "below any lifecycle figure"),
        ({"scope": "LCA"}, "'direct' or 'lifecycle'"),
        ({"basis": "contract"}, "'location' or 'market'"),
        ({"mix": "residual"}, "'production', 'consumption' or None"),
        ({"year": 24}, "such as 2024"),
        ({"year": "2024"}, "such as 2024"),
        ({"dataset": " "}, "cannot be cited"),
        ({"zone": ""}, "cannot be cited"),
        ({"source": ""}, "cannot be cited"),
        ({"low": 60, "high": 70}, "outside its own range"),
        ({"low": 40}, "both ends"),
        ({"low": math.nan, "high": 70}, "write a number"),
    ],
)
def test_a_figure_that_cannot_be_a_factor_is_refused_in_one_line(changes: dict[str, object], says: str) -> None:
    with pytest.raises(FactorError, match=says) as refused:
        ademe(**changes)
    assert "\n" not in str(refused.value)


def test_a_factor_in_another_unit_is_refused() -> None:
    with pytest.raises(FactorError, match="give the figure in gCO2e/kWh"):
        Factor(
            id="x",
            zone="FR",
            zone_name="France",
            grams_per_kwh=52,
            dataset="d",
            version="",
            year=2024,
            scope="lifecycle",
            licence="l",
            source="s",
            unit="kgCO2e/MWh",
        )


@pytest.mark.parametrize("nature", [{"scope": "direct"}, {"basis": "market"}])
def test_only_a_lifecycle_location_based_factor_cannot_be_zero(nature: dict[str, str]) -> None:
    assert ademe(grams_per_kwh=0, **nature).grams_per_joule == 0


def test_direct_and_lifecycle_are_never_mixed() -> None:
    direct = ademe(scope="direct", dataset="eCO2mix", grams_per_kwh=22)
    with pytest.raises(FactorError, match="declared:base-empreinte:FR:2024 is lifecycle and declared:eco2mix:FR:2024 is direct"):
        check_compatible(ademe(), direct)
    with pytest.raises(FactorError, match="different scope"):
        combine([(factor("FR"), 1.0), (direct, 1.0)])


def test_location_based_and_market_based_are_never_mixed() -> None:
    with pytest.raises(FactorError, match="different basis"):
        check_compatible(ademe(), ademe(), ademe(basis="market"))


def test_compatible_factors_pass() -> None:
    check_compatible()
    check_compatible(factor("FR"))
    check_compatible(factor("FR"), factor("FR-COR"), factor("RE"))


def test_two_sites_weigh_by_their_energy_and_keep_both_licences() -> None:
    both = combine([(factor("FR"), 3.0), (factor("FR-COR"), 1.0)])
    assert both.grams_per_kwh == pytest.approx((3 * 44.1791 + 546) / 4)
    assert both.interval == Interval(pytest.approx((3 * 31 + 351) / 4), both.grams_per_kwh, pytest.approx((3 * 91 + 556) / 4))
    assert both.licence == "CC-BY-4.0 AND ODbL-1.0"
    assert both.year == 2024
    assert both.mix is None
    assert both.sha256 is None
    assert "factor:combined" in both.flags


def test_one_site_stays_itself() -> None:
    assert combine([(factor("FR"), 2.0), (factor("FR"), 5.0)]) == factor("FR")


def test_a_range_that_one_site_lacks_is_unknown_for_both() -> None:
    assert combine([(factor("DE"), 1.0), (ademe(), 1.0)]).interval is None


@pytest.mark.parametrize("energy", [0.0, -1.0, math.nan, math.inf])
def test_combining_needs_positive_energies(energy: float) -> None:
    with pytest.raises(FactorError, match="positive"):
        combine([(factor("FR"), energy), (factor("DE"), 1.0)])


def test_combining_nothing_is_refused() -> None:
    with pytest.raises(FactorError, match="no factors"):
        combine([])


@steady
@given(st.lists(st.tuples(st.floats(1, 2000), st.floats(1e-6, 1e12)), min_size=1, max_size=6))
def test_a_combined_factor_lies_between_its_parts(parts: list[tuple[float, float]]) -> None:
    mean = combine([(ademe(grams_per_kwh=grams, zone=f"Z{i}"), energy) for i, (grams, energy) in enumerate(parts)]).grams_per_kwh
    grams = [g for g, _ in parts]
    assert min(grams) * (1 - 1e-12) <= mean <= max(grams) * (1 + 1e-12)


def test_a_figure_of_2024_is_stale_in_2027_not_in_2026() -> None:
    assert [ademe().is_stale(in_year=y) for y in (2024, 2026, 2027)] == [False, False, True]


def test_a_citation_says_value_year_source_nature_and_licence() -> None:
    line = factor("FR").cite()
    for part in ("44.1791 gCO2e/kWh", "France 2024", "Ember", "lifecycle", "location-based", "production mix", "CC-BY-4.0"):
        assert part in line
