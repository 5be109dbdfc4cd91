"""Sums over workers never fall: to Prometheus a counter that is a last bit lower is one that began anew."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from frugal_meter.exporters.aggregates import BUCKETS, Distribution, Row
from frugal_meter.exporters.sums import Books, Sums, Total, grain

KEY, KIND = ("/ask", "small", "none"), ("/ask", "small")


def total_of(values: tuple[float, ...]) -> Total:
    """What is told of workers that each have one row with this figure, met in this order."""
    total = Total()
    for value in values:
        row, kind = Row(0, [0]), Distribution.new()
        row.operational_g = row.embodied_g = row.remote_g = row.quality_sum = value
        row.units, row.remote_j = {"answer": value}, {"sourced": value}
        for histogram in (kind.duration_s, kind.cpu_s, kind.energy_j):
            histogram.total = value
        total.add(grain(an_end(row, kind)))
    return total


def an_end(row: Row, kind: Distribution) -> Sums:
    nothing = Books({"told": 0, **dict.fromkeys(BUCKETS, 0)}, 0, 0, True)
    return Sums(1, 0, {KEY: row}, {KIND: kind}, {}, {}, [nothing], [0], 0, 0, 0, {}, {}, in_progress=0, coverage=None)


def told(total: Total) -> dict[str, Any]:
    row, kind = total.rows[KEY], total.kinds[KIND]
    histograms = (kind.duration_s.total, kind.cpu_s.total, kind.energy_j.total)
    return {
        "g": (row.operational_g, row.embodied_g, row.remote_g),
        "quality": row.quality_sum,
        "units": row.units,
        "remote": row.remote_j,
        "histograms": histograms,
    }


@pytest.mark.parametrize("values", [(0.1, 0.2, 0.3), (0.7, 0.1, 0.3), (1e6 / 3, 1e-6 / 7, 0.1)])
def test_the_order_in_which_workers_are_met_changes_no_bit(values: tuple[float, ...]) -> None:
    assert len({sum(each) for each in permutations(values)}) > 1  # plain floats do change
    orders = [told(total_of(each)) for each in permutations(values)]
    assert all(each == orders[0] for each in orders)
    assert orders[0]["quality"] == pytest.approx(sum(values), abs=3e-6)


def test_a_sum_that_is_folded_once_more_keeps_every_bit() -> None:
    """The workers that have ended are one file: their sum is added to those that live, scrape after scrape."""
    ended = total_of((0.1, 0.2))
    again = Total()
    again.add(an_end(ended.rows[KEY], ended.kinds[KIND]))
    again.add(an_end(total_of((0.3,)).rows[KEY], total_of((0.3,)).kinds[KIND]))
    assert told(again) == told(total_of((0.1, 0.2, 0.3)))
