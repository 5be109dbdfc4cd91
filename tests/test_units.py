"""Quantities: what is read, what is refused and in which words, and how figures are shown."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.errors import UnitError
from frugal_meter.units import BOOKED_IN, format_si, parse_quantity


@pytest.mark.parametrize(
    ("text", "resource", "amount", "shown"),
    [
        ("50 kJ", "energy", 50_000 * 10**6, 50_000.0),
        ("3 Wh", "energy", 10_800 * 10**6, 10_800.0),
        ("1.5 kWh", "energy", 5_400_000 * 10**6, 5.4e6),
        ("250 mJ", "energy", 250_000, 0.25),
        ("7 µJ", "energy", 7, 7e-6),
        ("7 uJ", "energy", 7, 7e-6),
        ("2 MJ", "energy", 2 * 10**12, 2e6),
        (".5J", "energy", 500_000, 0.5),
        ("1e3 J", "energy", 10**9, 1000.0),
        ("20 gCO2e", "carbon", 20 * 10**9, 20.0),
        ("1.5 kgCO2e", "carbon", 1500 * 10**9, 1500.0),
        ("120 CPU-s", "cpu", 120 * 10**6, 120.0),
        ("2 CPU-min", "cpu", 120 * 10**6, 120.0),
        ("1 GPU-h", "gpu", 3600 * 10**6, 3600.0),
        ("40000 tokens", "tokens", 40_000, 40_000.0),
        ("40 000 tokens", "tokens", 40_000, 40_000.0),
        ("40_000 tokens", "tokens", 40_000, 40_000.0),
        ("1 token", "tokens", 1, 1.0),
        ("  1000 requests\n", "requests", 1000, 1000.0),
    ],
)
def test_a_quantity_is_read_to_the_last_unit_it_is_booked_in(text: str, resource: str, amount: int, shown: float) -> None:
    quantity = parse_quantity(text)
    assert (quantity.resource, quantity.amount, quantity.shown, quantity.text) == (resource, amount, shown, text.strip())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("50 kW/day", 'is power, not an amount; write energy with its period apart: limit="50 kJ", per="day"'),
        ("50 W", "is power"),
        ("50 kWh/day", "is a rate; write the amount alone"),
        ("50 kJ per day", "is a rate"),
        ("20 g", 'carbon is written "20 gCO2e"'),
        ("20 gCO2eq", 'carbon is written "20 gCO2e"'),
        ("20 kgCO₂e", 'carbon is written "20 gCO2e"'),
        ("1,5 kJ", "decimals are written with a point"),
        ("50 kj", "unit 'kj' is not known"),
        ("50 Joules", "unit 'Joules' is not known"),
        ("-50 kJ", "more than zero"),
        ("0 J", "more than zero"),
        ("0.4 tokens", "at least 1 token"),
        ("nan kJ", "not a quantity"),
        ("inf J", "not a quantity"),
        ("kJ", "not a quantity"),
        ("50", "not a quantity"),
        ("", "not a quantity"),
        ("9007199254740993 µJ", "more than this meter can count exactly"),
        ("1e99 J", "more than this meter can count exactly"),
        ("1e999999 J", "more than this meter can count exactly"),
        ("1e-999999999 J", "more than zero"),
        ("1.5 requests", "1.5 requests"),
        ("2.5 tokens", "2.5 tokens"),
    ],
)
def test_what_is_no_quantity_is_refused_in_one_line_that_says_why(text: str, says: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_quantity(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.text == text


@pytest.mark.parametrize("value", [50, 5.0, None, True, b"50 kJ", ["50 kJ"]])
def test_a_bare_value_is_refused_with_examples_of_quantities(value: object) -> None:
    with pytest.raises(UnitError, match=r"has no unit.*50 kJ"):
        parse_quantity(value)


@given(st.integers(1, 9000), st.sampled_from(["J", "gCO2e", "CPU-s", "GPU-s"]))
def test_a_prefix_is_only_another_way_to_write_the_number(count: int, unit: str) -> None:
    assert parse_quantity(f"{count} k{unit}").amount == parse_quantity(f"{count * 1000} {unit}").amount
    assert parse_quantity(f"{count} m{unit}").amount == parse_quantity(f"{Decimal(count) / 1000} {unit}").amount


@given(st.text(max_size=30))
def test_any_text_is_a_quantity_or_a_unit_error_and_nothing_else(text: str) -> None:
    with contextlib.suppress(UnitError):
        quantity = parse_quantity(text)
        assert 1 <= quantity.amount <= 2**53
        assert quantity.resource in BOOKED_IN


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"), (0, "0 J"), (0.0042, "4.2 mJ"), (999.4, "999 J"), (999.6, "1 kJ"), (12_345, "12.3 kJ"),
        (-0.0042, "-4.2 mJ"), (3e-7, "300 nJ"), (5e12, "5000 GJ"),
    ],
)  # fmt: skip
def test_a_figure_is_shown_with_the_prefix_that_fits_and_unknown_is_not_zero(value: float | None, text: str) -> None:
    assert format_si(value, "J") == text
