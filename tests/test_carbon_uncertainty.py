"""Intervals: the product's closed bounds against an independent Monte Carlo, and digits that say no more than is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import burn, metered

from frugal_meter import Meter
from frugal_meter.carbon import Factor, Pue, add
from frugal_meter.carbon.uncertainty import Part, bound, digits, ninety, part_of, shown, spread
from frugal_meter.cli.texts import Words
from frugal_meter.components import components
from frugal_meter.records import Interval
from frugal_meter.testing import SyntheticSource

DRAWS = 200_000
steady = settings(derandomize=True, deadline=None)
#: 20 cases from what the product itself meets: sensors and models, calibrated keys and not, declared and default PUE; the
#: operational grams, their parts' (low, high), the embodied grams, and theirs
SENSORS, KEYS, PUES, HARDWARE = (
    [(0.97, 1.03), (0.72, 1.6)],
    [(0.69, 1.43), (0.33, 2.0)],
    [(0.95, 1.05), (0.705, 1.282)],
    (0.31, 2.45),
)
CASES = [(o, [s, k, p], m) for s in SENSORS for k in KEYS for p in PUES for o, m in ((1.0, 0.0), (1.0, 0.4))] + [
    (1.0, [(0.5, 1.0)], 0.0),
    (1.0, [(1.0, 3.0)], 0.0),
    (0.2, [(0.33, 2.0), (0.33, 2.0)], 1.0),
    (1.0, [(0.9, 1.1)] * 6, 0.1),
]


def parts(bounds: list[tuple[float, float]]) -> list[Part]:
    return [Part(f"p{place}", "model", low, high) for place, (low, high) in enumerate(bounds)]


def drawn(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    """Multiples whose 5 % is ``low``, 50 % is 1 and 95 % is ``high``, lognormal on either side; by numpy alone."""
    z95 = 1.6448536269514722
    # the probit by numpy: a table of the normal distribution function, inverted
    grid = np.linspace(-6, 6, 24_001)
    z = np.interp(uniform, np.cumsum(np.exp(-(grid**2) / 2)) / np.exp(-(grid**2) / 2).sum(), grid)
    return np.where(z < 0, np.exp(z * -math.log(low) / z95), np.exp(z * math.log(high) / z95))


def quantiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.05, 0.95])
    return float(low), float(high)


def test_there_are_twenty_cases() -> None:
    assert len(CASES) == 20


@pytest.mark.parametrize("case", range(20))
def test_fully_common_errors_give_the_bounds_of_a_monte_carlo_within_5_percent(case: int) -> None:
    """One draw moves every part, for the operational and the embodied grams alike: what readings carry."""
    o, bounds, m = CASES[case]
    one = np.random.default_rng(case).random(DRAWS)
    total = o * np.prod([drawn(one, *b) for b in bounds], axis=0) + m * drawn(one, *HARDWARE)
    told = add([bound(o, parts(bounds)), bound(m, parts([HARDWARE]))])
    low, high = quantiles(total)
    assert told.low == pytest.approx(low, rel=0.05)
    assert told.high == pytest.approx(high, rel=0.05)


@pytest.mark.parametrize("case", range(20))
def test_parts_that_err_apart_give_the_bounds_of_a_monte_carlo_within_5_percent(case: int) -> None:
    """A draw for each part, common to all requests."""
    o, bounds, m = CASES[case]
    rng = np.random.default_rng(1000 + case)
    total = o * np.prod([drawn(rng.random(DRAWS), *b) for b in bounds], axis=0) + m * drawn(rng.random(DRAWS), *HARDWARE)
    told = ninety([(o, parts(bounds)), (m, parts([HARDWARE]))])
    low, high = quantiles(total)
    assert told.low == pytest.approx(low, rel=0.05)
    assert told.high == pytest.approx(high, rel=0.05)
    widest = add([bound(o, parts(bounds)), bound(m, parts([HARDWARE]))])
    assert widest.low <= told.low * 1.01
    assert told.high <= widest.high * 1.01


def test_a_thousand_requests_keep_the_relative_width_of_one_and_averaging_would_lose_it() -> None:
    rng, key = np.random.default_rng(5), (0.33, 2.0)
    energies = rng.random(1000)
    common = np.array([energies.sum() * k for k in drawn(rng.random(4000), *key)])
    averaged = np.array([(energies * drawn(rng.random(1000), *key)).sum() for _ in range(400)])
    told = bound(float(energies.sum()), parts([key]))
    assert quantiles(common) == pytest.approx((told.low, told.high), rel=0.05)
    low, high = quantiles(averaged)
    assert high / low < 1.1 < told.high / told.low  # six times the spread, made to vanish


def test_a_choice_of_factor_is_a_scenario_and_no_error_of_the_figure() -> None:
    factor = Part("factor", "scenario", 0.7, 2.0)
    assert bound(10.0, [factor]) == Interval(10.0, 10.0, 10.0)
    assert ninety([(10.0, [factor])]) == Interval(10.0, 10.0, 10.0)
    assert spread(Interval(9.0, 10.0, 11.0), factor) == Interval(7.0, 10.0, 20.0)


def test_what_is_exact_is_no_part() -> None:
    assert part_of("pue", "measurement", Pue.declared(1.3, source="meter").interval) is None
    assert part_of("pue", "model", Pue.default().interval) == Part("pue", "model", 1.1 / 1.56, 2.0 / 1.56)


def test_a_low_end_of_zero_is_a_bound_of_zero() -> None:
    loose = Part("embodied", "model", 0.0, 2.0)
    assert bound(3.0, [loose]) == Interval(0.0, 3.0, 6.0)
    assert ninety([(3.0, [loose])]).low == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("ends", [(-0.1, 1.0), (1.1, 2.0), (0.5, 0.9), (0.5, math.inf), (math.nan, 2.0)])
def test_a_part_lies_around_one(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="no multiples around 1"):
        Part("p", "model", *ends)


# -- the parts of a meter


def test_a_meters_parts_are_kept_apart_with_kind_and_source() -> None:
    with metered(sources=SyntheticSource(2.0, 10.0), pue=Pue.declared(1.3, source="meter", low=1.2, high=1.5)) as (meter, _):
        with meter.measure("work"):
            burn(0.01)
        meter.settle()
        found = {part.name: part for part in components(meter)}
    assert {name: part.kind for name, part in found.items()} == {"key": "model", "pue": "measurement", "factor": "scenario"}
    assert (found["pue"].low, found["pue"].high) == pytest.approx((1.2 / 1.3, 1.5 / 1.3))
    assert (found["key"].low, found["key"].high) == meter.setup.key


def test_a_modelled_source_and_default_hardware_are_parts_of_their_own() -> None:
    with metered(sources="model", tick=60) as (meter, _):
        burn(0.02)
        meter.settle()
        found = {part.name: part for part in components(meter)}
    assert found.keys() == {"source", "key", "pue", "embodied", "factor"}
    assert (found["source"].kind, found["pue"].kind, found["embodied"].kind) == ("model", "model", "model")
    assert all(part.source for part in found.values())


def test_before_the_first_tick_and_without_hardware_there_are_fewer_parts() -> None:
    factor = Factor.declared("FR", 50, scope="lifecycle", dataset="d", year=2026)
    meter = Meter("tests", factor=factor, sources="model", pue=1.3, embodied=None)
    assert [part.name for part in components(meter)] == ["key"]


# -- digits


@pytest.mark.parametrize(
    ("interval", "kept"),
    [
        (Interval(43.0, 44.1791, 45.0), 3),  # ±1.2: 44.2
        (Interval(15.0, 44.1791, 88.0), 2),  # ±44: 44
        (Interval(1.0, 9.0, 900.0), 1),
        (Interval(0.9999, 1.0, 1.0001), 4),
        (Interval(7.0, 7.0, 7.0), 4),
        (Interval(0.0, 0.0, 1.0), 4),
        (Interval(0.0, 5.0, math.inf), 4),
        (Interval(math.nan, 5.0, math.nan), 4),
    ],
)
def test_a_figure_keeps_the_decimals_of_its_half_width(interval: Interval, kept: int) -> None:
    assert digits(interval) == kept


@pytest.mark.parametrize(
    ("within", "said"), [(Interval(1.0, 9.12, 90.0), "9 J"), (Interval(5.0, 9.12, 18.0), "9.1 J"), (None, "9.1 J")]
)
def test_pages_and_commands_show_no_digit_that_the_interval_denies(within: Interval | None, said: str) -> None:
    assert Words("en").figure(9.12, "J", within) == said


@steady
@given(st.floats(1e-6, 1e9), st.floats(0.01, 0.999), st.floats(1.001, 50))
def test_the_ends_that_are_shown_hold_those_that_were_meant(mid: float, down: float, up: float) -> None:
    interval = Interval(mid * down, mid, mid * up)
    low, high = (float(shown(end, interval)) for end in (interval.low, interval.high))
    assert low <= interval.low * (1 + 1e-5)
    assert high >= interval.high * (1 - 1e-5)


@steady
@given(st.floats(1e-9, 1e9), st.floats(1.001, 50), st.integers(-12, 12))
def test_digits_do_not_depend_on_the_unit(mid: float, ratio: float, power: int) -> None:
    interval = Interval(mid / ratio, mid, mid * ratio)
    assert abs(digits(interval) - digits(interval.times(10.0**power))) <= 1  # a last bit may tip a power of ten
    assert 1 <= digits(interval) <= 4
