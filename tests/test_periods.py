"""Period figures: the whole over the period, to the nanojoule, per functional unit delivered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.periods import Books, Pass, Tally, Weight, books_of, merged, period, public, tallied, tally_of
from frugal_meter.records import Interval, Reading
from tests.support import burn, metered

WEIGHT = Weight(
    grams_per_joule=1e-5,
    pue=Interval(1.1, 1.5, 2.0),
    embodied_low=0.5,
    embodied_high=2.0,
    factor_ids=("ember:FR:2024",),
    method_id="cpu-time/1",
    boundary=("cpu",),
    flags=(),
)


def some_books(requests: int = 0, late: int = 0, overhead: int = 0, slice_nj: int | None = 0, **more: Any) -> Books:
    service = requests + late + overhead + (slice_nj or 0)
    idle, other = more.pop("idle", slice_nj or 0), more.pop("other", 0)
    settings = {"source": "rapl:package-0", "component": "cpu", "tier": "measured", "gap_nj": 0, "overhead_parts": {}}
    settings |= {"low_nj": service // 2, "high_nj": 2 * service} | more
    return Books(
        energy_nj=requests + late + overhead + other + idle + settings["gap_nj"],
        idle_nj=idle,
        slice_nj=slice_nj,
        requests_nj=requests,
        late_nj=late,
        overhead_nj=overhead,
        other_nj=other,
        **settings,
    )


def a_pass(begin: int, end: int, *books: Books, process: str = "a", weight: Weight = WEIGHT, embodied_g: float = 0.0) -> Pass:
    return Pass(process=process, t0_ns=begin, t1_ns=end, weight=weight, embodied_g=embodied_g, books=books)


def readings_of(meter: Any, out: Any) -> list[Reading]:
    meter.settle()
    return list(out.readings)


def test_a_period_pays_for_idle_overhead_late_and_failed_work_and_not_for_its_requests_alone() -> None:
    with metered(idle_watts=3.0, host_share=0.5) as (meter, out):
        for _ in range(2):
            with meter.measure("answer", unit="answer") as span:
                burn(0.02)
                span.add_units(1)
        with pytest.raises(ZeroDivisionError), meter.measure("answer"):
            burn(0.01)
            raise ZeroDivisionError
        burn(0.01)
        readings = readings_of(meter, out)
        ticks = list(out.ticks)
    books = [a_pass(tick.t0_ns, tick.t1_ns, books_of(tick)) for tick in ticks]
    figures = period(books, map(tally_of, readings), begin_s=0, end_s=1, unit="answer")
    assert (figures.requests, figures.failed, figures.units) == (3, 1, 2)
    assert figures.failed_nj == round(readings[2].energy_dynamic_j * 1e9) > 0
    parts = (figures.delivered_nj, figures.failed_nj, figures.refused_nj, figures.late_nj, figures.overhead_nj, figures.slice_nj)
    assert sum(parts) == figures.total_nj
    assert figures.overhead_nj > 0
    idle = sum(tick.idle_nj for tick in ticks)
    assert figures.slice_nj == pytest.approx(idle / 2, abs=len(ticks))
    assert figures.slice_nj > sum(sum(tick.idle_requests_nj.values()) for tick in ticks)
    assert figures.per_unit_j.mid == figures.total_nj / 1e9 / 2
    assert figures.per_unit_j.mid > figures.mean_request_j  # "while it ran" is less than what a request costs
    assert figures.energy_j.low <= figures.energy_j.mid <= figures.energy_j.high
    assert figures.quality is None


nj = st.integers(0, 10**15)
drawn = st.builds(some_books, requests=nj, late=nj, overhead=nj, slice_nj=nj, idle=nj, other=nj, gap_nj=nj)


@given(st.lists(drawn, min_size=1, max_size=6))
def test_merging_keeps_every_nanojoule_of_every_bucket(books: list[Books]) -> None:
    passes = [a_pass(n, n + 1, each) for n, each in enumerate(books)]
    whole = passes[0]
    for each in passes[1:]:
        whole = merged(whole, each)
        assert whole is not None
    assert whole.books[0].off_nj == sum(each.off_nj for each in books) == 0
    apart, together = (period(p, (), begin_s=0, end_s=1) for p in (passes, [whole]))
    assert msgspec.structs.asdict(together).items() >= {
        (name, value) for name, value in msgspec.structs.asdict(apart).items() if isinstance(value, int)
    }


@pytest.mark.parametrize(
    "then",
    [
        a_pass(2, 3, some_books(1)),
        a_pass(1, 2, some_books(1), process="b"),
        a_pass(1, 2, some_books(1), weight=msgspec.structs.replace(WEIGHT, grams_per_joule=2e-5)),
        a_pass(1, 2, some_books(1, source="other")),
        a_pass(1, 2, some_books(1, slice_nj=None)),
    ],
    ids=["a hole", "another process", "another factor", "another source", "idle not known"],
)
def test_what_does_not_belong_together_is_not_merged(then: Pass) -> None:
    assert merged(a_pass(0, 1, some_books(1)), then) is None


def test_bounds_add_low_to_low_and_carbon_carries_those_of_pue_and_embodied() -> None:
    one = a_pass(0, 10**9, some_books(10**9, low_nj=5 * 10**8, high_nj=2 * 10**9), embodied_g=1e-5)
    two = a_pass(10**9, 2 * 10**9, some_books(3 * 10**9, low_nj=10**9, high_nj=4 * 10**9), embodied_g=1e-5)
    figures = period([one, two], (), begin_s=0, end_s=2)
    assert figures.energy_j == Interval(1.5, 4.0, 6.0)
    assert figures.carbon_g.mid == pytest.approx(4.0 * 1.5 * 1e-5 + 2e-5)
    assert figures.carbon_g.low == pytest.approx(1.5 * 1.1 * 1e-5 + 1e-5)
    assert figures.carbon_g.high == pytest.approx(6.0 * 2.0 * 1e-5 + 4e-5)


def test_time_without_books_is_not_covered_and_workers_side_by_side_cover_it_once() -> None:
    second = 10**9
    books = [a_pass(0, second, some_books(1)), a_pass(0, second, some_books(1), process="b"), a_pass(5 * second, 6 * second)]
    assert period(books, (), begin_s=0, end_s=10).covered_s == 2


def test_nothing_delivered_and_nothing_known_give_no_rate() -> None:
    assert period([a_pass(0, 1, some_books(5))], (), begin_s=0, end_s=1).per_unit_j is None
    empty = period([], (), begin_s=0, end_s=1)
    assert (empty.per_unit_j, empty.tier, empty.mean_request_j) == (None, None, None)


def test_idle_that_is_not_known_is_none_and_not_zero() -> None:
    figures = period([a_pass(0, 1, some_books(5, slice_nj=None))], (), begin_s=0, end_s=1)
    assert (figures.slice_nj, figures.total_nj) == (None, 5)


def test_scores_of_several_metrics_have_no_common_mean() -> None:
    def scored(metric: str | None, score: float) -> Tally:
        return Tally(
            kind="http", nested=False, outcome="ok", route=None, model=None, unit=None, count=5, quality_sum=score * 5,
            quality_count=5, metric=metric,
        )  # fmt: skip

    several = period((), [scored("thumb", 1.0), scored(None, 0.0)], begin_s=0, end_s=1)
    assert (several.quality, several.quality_count, several.quality_metrics) == (None, 10, ("?", "thumb"))
    one = period((), [scored("thumb", 1.0), scored("thumb", 0.5)], begin_s=0, end_s=1)
    assert (one.quality, one.quality_metrics) == (0.75, ("thumb",))


@pytest.mark.parametrize(("scores", "units"), [(4, 10), (10, 4)])
def test_a_few_scores_or_units_among_many_requests_are_not_made_public(scores: int, units: int) -> None:
    told = Tally(
        kind="http", nested=False, outcome="ok", route=None, model=None, unit="answer", count=50, units=units,
        quality_sum=scores, quality_count=scores,
    )  # fmt: skip
    shown = public(period((), [told], begin_s=0, end_s=1, unit="answer"))
    assert (shown is None) == (units == 4)
    assert shown is None or shown.quality is None


def test_few_requests_are_not_made_public() -> None:
    with metered() as (meter, out):
        for _ in range(5):
            with meter.measure("answer"):
                pass
        tallies = [tally_of(r) for r in readings_of(meter, out)]
    assert public(period([], tallies[:4], begin_s=0, end_s=1)) is None
    five = period([], tallies, begin_s=0, end_s=1)
    assert public(five) == five
    assert [t.count for t in tallied(tallies)] == [5]
