"""The exact split, by properties: integers in, integers out, nothing lost, nothing invented."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.attribution.split import Divider, idle_and_dynamic, split
from frugal_meter.attribution.walls import BusyUnion, by_falling_end

weights = st.lists(st.integers(0, 2**62) | st.just(0), max_size=60)
totals = st.integers(0, 2**70)


@given(totals, weights)
def test_the_parts_sum_to_the_whole_exactly(total, weights):
    parts = split(total, weights)
    assert sum(parts) == (total if any(weights) else 0)
    assert all(type(part) is int and part >= 0 for part in parts)


@given(totals, weights)
def test_each_part_is_within_one_of_its_ideal_share_and_no_weight_gets_nothing(total, weights):
    whole = sum(weights)
    for part, weight in zip(split(total, weights), weights, strict=True):
        if weight == 0:
            assert part == 0
        else:
            assert abs(part - Fraction(total * weight, whole)) < 1


@given(totals, weights, st.data())
def test_taking_in_chunks_gives_what_taking_at_once_gives(total, weights, data):
    divider = Divider(total, sum(weights))
    parts, rest = [], weights
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        parts += divider.take(rest[:size])
        rest = rest[size:]
    assert parts == split(total, weights)
    assert divider.rest() == total - sum(parts)


@given(totals, weights)
def test_each_part_is_what_rounding_down_the_running_total_gives(total, weights):
    whole, seen, reached = sum(weights), 0, [0]
    for weight in weights:
        seen += weight
        reached.append(total * seen // whole if whole else 0)
    assert split(total, weights) == [b - a for a, b in pairwise(reached)]


@given(totals, weights, st.integers(0, 2**62))
def test_what_is_not_taken_is_left(total, weights, others):
    divider = Divider(total, sum(weights) + others)
    parts = divider.take(weights)
    assert divider.rest() == total - sum(parts) >= 0
    if others:
        assert sum(parts) + divider.take([others])[0] == total


@given(totals, st.lists(st.integers(1, 2**40), min_size=2, max_size=20))
def test_a_larger_weight_never_gets_less_by_more_than_one(total, weights):
    parts = split(total, sorted(weights))
    assert all(b >= a - 1 for a, b in pairwise(parts))


def test_more_weight_than_the_whole_is_refused():
    with pytest.raises(ValueError, match="more than the whole"):
        Divider(10, 3).take([2, 2])


@pytest.mark.parametrize(("total", "whole"), [(-1, 3), (3, -1)])
def test_negative_amounts_are_refused(total, whole):
    with pytest.raises(ValueError, match="cannot divide"):
        Divider(total, whole)


@given(totals, st.none() | totals)
def test_idle_never_exceeds_the_energy_and_the_rest_is_dynamic(energy, idle):
    kept, dynamic = idle_and_dynamic(energy, idle)
    assert kept + dynamic == energy
    assert kept == (0 if idle is None else min(idle, energy))


@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)).map(lambda pair: (min(pair), max(pair))), max_size=20),
    st.integers(1, 20),
)
def test_busy_time_counts_every_moment_once(intervals, size):
    moments = {moment for start, end in intervals for moment in range(start, end)}
    busy, ordered = BusyUnion(), by_falling_end(intervals)
    for place in range(0, len(ordered), size):
        busy.add(ordered[place : place + size])
    assert busy.ns == len(moments)
