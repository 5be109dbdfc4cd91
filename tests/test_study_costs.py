"""The arithmetic of a study, on figures that can be done by hand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.records import Interval
from frugal_meter.study.costs import ONE, Blocks, cost, latency, quality, spread, times, total, weighed, wilson
from frugal_meter.study.figuring import comparisons, pareto
from frugal_meter.study.results import Cost, Variant
from tests.study_samples import study, variant


def flat(joules: float, operational: float = 0.0, embodied: float = 0.0) -> Cost:
    exact = [Interval(v, v, v) for v in (joules, operational, embodied)]
    return cost(*exact, None, None)


def test_a_year_is_its_units_its_rest_and_its_starts() -> None:
    blocks = Blocks(flat(10.0), 2.0, flat(3.0), flat(100.0))
    # 1,000 units take 2,000 s of 3,600; 1,600 s are left at 3 W; two starts
    assert blocks.year(1000, 1.0, 2).energy_j.mid == 1000 * 10 + 1600 * 3 + 2 * 100


def test_a_machine_that_is_asked_too_much_never_rests() -> None:
    blocks = Blocks(flat(10.0), 2.0, flat(3.0), None)
    assert blocks.resting_s(10_000, 1.0) == 0.0
    assert blocks.year(10_000, 1.0, 0).energy_j.mid == 100_000


def test_models_elsewhere_are_in_the_whole_and_apart() -> None:
    one, two, three = (Interval(v, v, v) for v in (1.0, 2.0, 3.0))
    mixed = cost(one, one, one, two, three)
    assert (mixed.energy_j.mid, mixed.carbon_g.mid) == (3.0, 5.0)
    both = total([mixed, flat(1.0)])
    assert (both.energy_j.mid, both.remote_j, both.remote_g) == (4.0, two, three)
    assert total([flat(1.0), flat(2.0)]).remote_j is None
    assert times(mixed, 2.0).carbon_g.mid == 10.0


def test_another_factor_moves_what_runs_and_not_what_was_made() -> None:
    changed = weighed(flat(5.0, 2.0, 7.0), (3.0, 3.0, 3.0), ONE)
    assert (changed.energy_j.mid, changed.operational_g.mid, changed.embodied_g.mid) == (5.0, 6.0, 7.0)


def test_nothing_has_no_spread_no_latency_and_no_quality() -> None:
    assert (spread([]), latency([]), quality("m", [], distinct=0, unjudged=3)) == (None, None, None)
    alone = spread([4.0])
    assert alone is not None
    assert (alone.n, alone.mean, alone.sd) == (1, 4.0, None)


def test_the_spread_is_the_samples_own() -> None:
    found = spread([2.0, 4.0, 9.0])
    assert found is not None
    assert (found.mean, found.least, found.most) == (5.0, 2.0, 9.0)
    assert found.sd == pytest.approx(3.605551275463989)


def test_percentiles_are_of_answers_that_were_given() -> None:
    found = latency([float(n) for n in range(1, 101)])
    assert found is not None
    assert (found.p50_s, found.p95_s) == (50.0, 95.0)


def test_the_interval_of_a_share_is_wilsons() -> None:
    # 55 of 64, as in docs/demo.md: 75 to 92 %
    low, high = wilson(55 / 64, 64)
    assert (round(low, 2), round(high, 2)) == (0.75, 0.92)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 40))
def test_a_score_is_inside_its_interval(scores: list[float], distinct: int) -> None:
    found = quality("m", scores, distinct=distinct, unjudged=0)
    assert found is not None
    assert -1e-12 <= found.score.low <= found.score.mid <= found.score.high <= 1 + 1e-12


def test_asking_again_adds_no_evidence() -> None:
    once, again = (quality("m", [1.0, 0.0, 1.0, 1.0] * n, distinct=4, unjudged=0) for n in (1, 50))
    assert once is not None
    assert again is not None
    assert once.score == again.score


def points(*told: tuple[float, float]) -> dict[str, tuple[bool, bool]]:
    """Front and clear of variants of (joules, score), each spread by 3 %."""
    variants = [variant(f"v{n}", "", "ai", joules, score=score) for n, (joules, score) in enumerate(told)]
    return {p.variant: (p.front, p.clear) for p in pareto(variants)}


def test_what_is_dearer_and_worse_is_not_on_the_front() -> None:
    found = points((10.0, 0.9), (50.0, 0.5))
    assert found == {"v0": (True, True), "v1": (False, True)}


def test_what_is_dearer_and_hardly_better_is_on_the_front_and_not_clear() -> None:
    found = points((10.0, 0.80), (50.0, 0.85))
    assert found["v0"] == (True, True)
    assert found["v1"] == (True, False)


def test_of_two_equals_both_are_on_the_front() -> None:
    assert [front for front, _ in points((10.0, 0.8), (10.0, 0.8)).values()] == [True, True]


def test_a_variant_without_a_score_is_in_no_plane() -> None:
    assert pareto([variant("a", "", "ai", 1.0, score=None)]) == ()


def with_rounds(of: Variant, *joules: float) -> Variant:
    rounds = tuple(msgspec.structs.replace(r, per_unit_j=j, per_unit_g=j) for r, j in zip(of.repetitions, joules, strict=False))
    return msgspec.structs.replace(of, repetitions=rounds)


def test_a_ratio_is_bounded_by_its_paired_rounds() -> None:
    one = with_rounds(variant("ia", "", "ai", 10.0, score=0.5), 8.0, 10.0, 12.0)
    two = with_rounds(variant("petite", "", "smaller-ai", 2.0, score=0.75), 2.0, 2.0, 2.0)
    (found,) = comparisons([one, two])
    assert (found.variant, found.reference, found.rounds) == ("petite", "ia", 3)
    assert found.energy is not None
    assert (found.energy.low, found.energy.high) == (2.0 / 12.0, 2.0 / 8.0)
    assert found.energy.mid == pytest.approx(0.2)
    assert found.quality == pytest.approx(0.25)


def test_what_delivered_nothing_has_no_ratio() -> None:
    one, two = variant("ia", "", "ai", 10.0, score=0.5), variant("petite", "", "smaller-ai", 2.0, score=None)
    none = msgspec.structs.replace(two, tested=None, in_use=None, year=None, repetitions=())
    (found,) = comparisons([one, none])
    assert (found.energy, found.carbon, found.rounds, found.per_year_j, found.quality) == (None, None, 0, None, None)


def test_the_reference_is_the_first_ai() -> None:
    search, ai = variant("recherche", "", "no-ai", 1.0, score=0.5), variant("ia", "", "ai", 9.0, score=0.5)
    (found,) = comparisons([search, ai])
    assert (found.variant, found.reference) == ("recherche", "ia")
    assert len(study().comparisons) == 2
