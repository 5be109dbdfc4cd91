"""Joules to grams: exact, monotone, linear, and never better known than they are."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from frugal_meter import Meter
from frugal_meter.carbon import Embodied, Factor, Pue, add, alternatives, factor, operational, per_unit, scenarios, total
from frugal_meter.carbon.embodied import SECONDS_PER_YEAR
from frugal_meter.errors import ConfigurationError
from frugal_meter.records import Interval
from frugal_meter.testing import SyntheticSource

# The same examples on every run, and no clock: the machines that run this are shared.
steady = settings(derandomize=True, deadline=None)
amounts = st.floats(0, 1e12, allow_nan=False, allow_infinity=False)
intervals = st.lists(amounts, min_size=3, max_size=3).map(lambda v: Interval(*sorted(v)))
pues = st.lists(st.floats(1.0, 3.99), min_size=3, max_size=3).map(lambda v: Pue(Interval(*sorted(v)), "a meter"))
factors = st.floats(1, 2000).map(lambda g: Factor.declared("FR", g, scope="lifecycle", dataset="d", year=2024))
pieces = st.tuples(intervals, pues, factors)
SURVEYED = Pue.declared(1.5, source="site meter, 2024")


def ordered(interval: Interval | None) -> bool:
    return interval is not None and 0 <= interval.low <= interval.mid <= interval.high


def test_a_kilowatt_hour_in_france_at_pue_one_and_a_half() -> None:
    grams = operational(Interval(3.6e6, 3.6e6, 3.6e6), SURVEYED, factor("FR"))
    assert grams is not None
    assert grams.low == grams.mid == grams.high == pytest.approx(1.5 * 44.1791)


def test_the_interval_carries_energy_and_pue_but_not_the_factors_spread() -> None:
    grams = operational(Interval(90.0, 100.0, 120.0), Pue.default(), factor("FR"))
    per_joule = 44.1791 / 3.6e6
    assert grams == Interval(
        pytest.approx(90 * 1.1 * per_joule), pytest.approx(100 * 1.56 * per_joule), pytest.approx(120 * 2.0 * per_joule)
    )


def test_unknown_energy_is_unknown_carbon_not_zero() -> None:
    assert operational(None, SURVEYED, factor("FR")) is None
    assert total(None, Interval(1.0, 2.0, 3.0)) is None
    assert scenarios(None, SURVEYED, [factor("FR")]) == ((factor("FR"), None),)
    assert per_unit(None, 3) is None


@steady
@given(pieces)
def test_bounds_stay_in_order(piece: tuple[Interval, Pue, Factor]) -> None:
    assert ordered(operational(*piece))


@steady
@given(pieces, st.integers(-20, 20))
def test_scaling_energy_by_a_power_of_two_scales_grams_exactly(piece: tuple[Interval, Pue, Factor], power: int) -> None:
    energy, pue, chosen = piece
    assume(energy.low == 0 or energy.low > 1e-250)  # below, the doubles themselves lose digits
    whole = operational(energy, pue, chosen)
    assert whole is not None
    assert operational(energy.times(2.0**power), pue, chosen) == whole.times(2.0**power)


@steady
@given(intervals, intervals, pues, factors)
def test_grams_of_a_sum_are_the_sum_of_grams(a: Interval, b: Interval, pue: Pue, chosen: Factor) -> None:
    apart = [operational(x, pue, chosen) for x in (a, b)]
    together = operational(add((a, b)), pue, chosen)
    summed = add([x for x in apart if x is not None])
    assert together is not None
    for one, other in ((together.low, summed.low), (together.mid, summed.mid), (together.high, summed.high)):
        assert math.isclose(one, other, rel_tol=1e-14, abs_tol=1e-300)


@steady
@given(pieces, st.floats(1.0, 1e3))
def test_more_energy_a_higher_pue_or_a_dirtier_grid_never_weighs_less(piece: tuple[Interval, Pue, Factor], more: float) -> None:
    energy, pue, chosen = piece
    least = operational(energy, pue, chosen)
    dirtier = Factor.declared("FR", min(3000.0, chosen.grams_per_kwh * more), scope="lifecycle", dataset="d", year=2024)
    poorer = Pue(Interval(pue.interval.low, pue.interval.mid, 3.995), "a meter")
    heavier = [(energy.times(more), pue, chosen), (energy, pue, dirtier), (energy, poorer, chosen)]
    for other in (operational(*each) for each in heavier):
        assert least is not None
        assert other is not None
        assert least.low <= other.low
        assert least.mid <= other.mid
        assert least.high <= other.high


def test_a_thousand_requests_are_no_better_known_than_one() -> None:
    one = Interval(0.5, 1.0, 2.0)
    assert add([one] * 1_000) == Interval(500.0, 1_000.0, 2_000.0)
    assert add([]) == Interval(0.0, 0.0, 0.0)


def test_the_total_is_operational_plus_embodied_or_operational_alone() -> None:
    run, made = Interval(1.0, 2.0, 4.0), Interval(0.25, 0.5, 1.0)
    assert total(run, made) == Interval(1.25, 2.5, 5.0)
    assert total(run, None) == run


def test_scenarios_show_the_french_spread_apart() -> None:
    shown = scenarios(Interval(3.6e6, 3.6e6, 3.6e6), Pue.declared(1.0, source="IT only"), (factor("FR"), *alternatives("FR")))
    grams = [round(g.mid) for _, g in shown if g is not None]
    assert grams == [44, 56, 31, 33, 49, 91, 60]


# The examples printed in GSF's SCI for AI specification (SPEC.md, commit 4b7c0f7, 2026-01) do not follow from their own inputs.
@pytest.mark.parametrize(
    ("kg", "units", "each", "right", "printed"),
    [(6_500, 50e9, 1e6, 130.0, (0.13,)), (75_000, 2.5e9, 1e9, 30_000_000.0, (3_000_000.0, 30_000.0))],
    ids=["grams per million tokens", "grams per billion parameters"],
)
def test_the_specifications_own_slips_are_not_repeated(
    kg: float, units: float, each: float, right: float, printed: tuple[float, ...]
) -> None:
    grams = kg * 1_000.0
    rate = per_unit(Interval(grams, grams, grams), units, each=each)
    assert rate is not None
    assert rate.mid == pytest.approx(right, rel=1e-12)
    assert all(abs(rate.mid / wrong - 1) > 0.5 for wrong in printed)


@pytest.mark.parametrize("units", [0, 0.0, None])
def test_a_rate_over_nothing_delivered_is_unknown(units: float | None) -> None:
    assert per_unit(Interval(1.0, 2.0, 3.0), units) is None


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        per_unit(Interval(1.0, 2.0, 3.0), -1)


def test_an_undeclared_pue_is_a_flagged_range_and_never_one() -> None:
    pue = Pue.default()
    assert pue.flags == ("pue:default",)
    assert 1.0 < pue.interval.low < pue.value == 1.56 < pue.interval.high
    assert "Uptime Institute" in pue.source


def test_a_declared_pue_is_taken_as_given() -> None:
    assert Pue.declared(1.3, source="EED report 2024").interval == Interval(1.3, 1.3, 1.3)
    assert Pue.declared(1.3, source="s", low=1.2, high=1.4).interval == Interval(1.2, 1.3, 1.4)
    assert Pue.declared(1.0, source="a laptop on the desk").flags == ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0.9, "from 1.0"),
        (4.0, "below 4"),
        (130, "below 4"),
        (-1, "from 1.0"),
        (math.nan, "write a number"),
        (math.inf, "write a number"),
        ("1.3", "write a number"),
        (None, "write a number"),
        (True, "write a number"),
    ],
)
def test_a_pue_that_cannot_be_is_one_clear_line(value: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        Pue.declared(value, source="s")  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_a_pue_needs_a_source_and_a_range_around_it() -> None:
    with pytest.raises(ConfigurationError, match="no source"):
        Pue.declared(1.3, source=" ")
    with pytest.raises(ConfigurationError, match="outside its own range"):
        Pue.declared(1.3, source="s", low=1.4)


def test_the_standards_example_of_embodied_carbon() -> None:
    # ISO/IEC 21031: 1,000 kg over 4 years, one hour of the whole machine: about 28 g.
    server = Embodied.declared(1_000.0, 4.0, source="ISO/IEC 21031 worked example")
    assert server.grams(3_600) == Interval(*[pytest.approx(1e6 * 3_600 / (4 * SECONDS_PER_YEAR))] * 3)
    assert round(server.grams(3_600).mid, 1) == 28.5
    assert server.flags == ()


def test_the_default_server_follows_the_published_rule() -> None:
    # m5.metal in @cloud-carbon-footprint/aws 0.15.0: 2 CPUs, 384 GB, 1.6103792 t; c5.metal: 192 GB, 1.3440944 t.
    assert Embodied.host(sockets=2, memory_gb=384).te_kg.mid == pytest.approx(1_610.3792, abs=1e-4)
    assert Embodied.host(sockets=2, memory_gb=192).te_kg.mid == pytest.approx(1_344.0944, abs=1e-4)
    # A small board has no less than the baseline, and boaviztapi's 759–2,207 kg for the first lies inside.
    assert Embodied.host(sockets=1, memory_gb=2).te_kg.mid == 1_000
    wide = Embodied.host(sockets=2, memory_gb=384).te_kg
    assert wide.low <= 759 < 2_207 <= wide.high


def test_a_gpu_adds_the_published_range_of_a_gpu() -> None:
    bare, with_gpus = (Embodied.host(sockets=2, memory_gb=384, gpus=n).te_kg for n in (0, 8))
    assert with_gpus.low - bare.low == pytest.approx(8 * 150)
    assert with_gpus.high - bare.high == pytest.approx(8 * 575)
    assert Embodied.vm(vcpus=8, gpus=1).te_kg.mid - Embodied.vm(vcpus=8).te_kg.mid == pytest.approx(164)


def test_default_embodied_carbon_is_flagged_sourced_and_wide() -> None:
    for made in (Embodied.vm(vcpus=4), Embodied.host(sockets=1, memory_gb=64)):
        assert made.flags == ("embodied:default",)
        assert "Cloud Carbon Footprint" in made.source
        hour = made.grams(3_600)
        assert hour.high > 4 * hour.low > 0
    assert (Embodied.vm(vcpus=4).covers, Embodied.host(sockets=1, memory_gb=64).covers) == ("vm", "host")


def test_a_vm_costs_about_what_its_part_of_a_known_host_costs() -> None:
    part = Embodied.host(sockets=2, memory_gb=384).grams(3_600, 4 / 96)
    vm = Embodied.vm(vcpus=4).grams(3_600)
    assert vm.low < part.mid < vm.high


def test_a_longer_life_is_the_low_bound() -> None:
    made = Embodied.declared(1_000.0, Interval(3.0, 4.0, 6.0), source="s").grams(3_600)
    assert made.low * 6 == pytest.approx(made.mid * 4) == pytest.approx(made.high * 3)


@steady
@given(st.floats(0, 1e9), st.floats(0, 1), st.integers(1, 256))
def test_embodied_bounds_stay_in_order_and_grow_with_the_share(dt_s: float, share: float, vcpus: int) -> None:
    made = Embodied.vm(vcpus=vcpus)
    part, whole = made.grams(dt_s, share), made.grams(dt_s)
    assert ordered(part)
    assert part.low <= whole.low
    assert part.high <= whole.high


@steady
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_ticks_add_up_to_the_period(ticks: list[float]) -> None:
    made = Embodied.vm(vcpus=2)
    summed, whole = add([made.grams(t, 0.5) for t in ticks]), made.grams(math.fsum(ticks), 0.5)
    assert math.isclose(summed.mid, whole.mid, rel_tol=1e-12, abs_tol=1e-300)


@pytest.mark.parametrize(("dt_s", "share"), [(-1, 1), (1, 1.1), (1, -0.1), (math.nan, 1), (math.inf, 1), (1, math.nan)])
def test_a_share_or_time_that_cannot_be_is_refused(dt_s: float, share: float) -> None:
    with pytest.raises(ValueError, match="share within 0…1"):
        Embodied.vm(vcpus=1).grams(dt_s, share)


@pytest.mark.parametrize(
    ("te_kg", "years", "source", "says"),
    [
        (-1.0, 4.0, "s", "between 0"),
        (math.nan, 4.0, "s", "between 0"),
        (1e9, 4.0, "s", "between 0"),
        ("1000", 4.0, "s", "between 0"),
        (1_000.0, 0.0, "s", "less than a year"),
        (1_000.0, 400.0, "s", "lifespan_s"),
        (1_000.0, math.nan, "s", "lifespan_s"),
        (1_000.0, 4.0, "", "no source"),
    ],
)
def test_embodied_figures_that_cannot_be_are_one_clear_line(te_kg: object, years: float, source: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        Embodied.declared(te_kg, years, source=source)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_an_interval_holds_its_figure() -> None:
    for ends in ((2.0, 1.0, 3.0), (0.0, 4.0, 3.0), (5.0, 4.0, 3.0)):
        with pytest.raises(ConfigurationError, match="lies outside its own range"):
            Interval(*ends)
        with pytest.raises(msgspec.ValidationError, match="lies outside its own range"):
            msgspec.json.decode(msgspec.json.encode(dict(zip(("low", "mid", "high"), ends, strict=True))), type=Interval)
    assert Interval(1.0, 0.9999999999999999, 2.0).mid < 1.0, "what floats lose is no disorder"


def test_hardware_that_was_declared_free_of_carbon_adds_none_and_has_no_spread() -> None:
    reused = Embodied.declared(0.0, 4.0, source="a server out of another's waste")
    with Meter(service="guichet", zone="FR", sources=[SyntheticSource(idle_watts=1.0)], embodied=reused) as meter:
        with meter.measure("index") as span:
            pass
        meter.settle()
    assert meter.setup.embodied_spread == (1.0, 1.0)
    assert span.reading.carbon_g is not None


def test_a_machine_without_cpu_or_memory_is_refused() -> None:
    for build in (
        lambda: Embodied.host(sockets=0, memory_gb=64),
        lambda: Embodied.host(sockets=1, memory_gb=0),
        lambda: Embodied.host(sockets=1, memory_gb=64, gpus=-1),
        lambda: Embodied.vm(vcpus=0),
        lambda: Embodied.vm(vcpus=math.nan),
        lambda: Embodied.vm(vcpus=2, gpus=-1),
    ):
        with pytest.raises(ConfigurationError, match="give"):
            build()
