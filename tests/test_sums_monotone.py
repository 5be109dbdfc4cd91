"""Sums over workers never fall: to Prometheus a counter that is a last bit lower is one that began anew."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from frugal_meter.exporters.aggregates import Distribution, Row
from frugal_meter.exporters.sums import Sums, Total

KEY, KIND = ("/ask", "small", "none"), ("/ask", "small")


def total_of(values: tuple[float, ...]) -> Total:
    """What is told of workers that each have one row with this figure, met in this order."""
    total = Total()
    for value in values:
        row, kind = Row(0, []), Distribution.new()
        row.operational_g = row.embodied_g = row.quality_sum = value
        row.units = {"answer": value}
        for histogram in (kind.duration_s, kind.cpu_s, kind.energy_j):
            histogram.total = value
        total.add(an_end(row, kind))
    return total


def an_end(row: Row, kind: Distribution) -> Sums:
    return Sums(rows={KEY: row}, kinds={KIND: kind})


def told(total: Total) -> dict[str, Any]:
    row, kind = total.rows[KEY], total.kinds[KIND]
    histograms = (kind.duration_s.total, kind.cpu_s.total, kind.energy_j.total)
    return {"g": (row.operational_g, row.embodied_g), "quality": row.quality_sum, "units": row.units, "histograms": histograms}


@pytest.mark.parametrize("values", [(0.1, 0.2, 0.3), (1e-3 / 3, 7.7, 1234.5678), (1e6 / 3, 1e-6 / 7, 0.1)])
def test_the_order_in_which_workers_are_met_changes_no_bit(values: tuple[float, ...]) -> None:
    assert len({sum(each) for each in permutations(values)}) > 1  # plain floats do change
    orders = [told(total_of(each)) for each in permutations(values)]
    assert all(each == orders[0] for each in orders)
    assert orders[0]["quality"] == pytest.approx(sum(values), abs=3e-6)


def test_a_worker_that_is_folded_away_takes_no_bit_with_it() -> None:
    alive = told(total_of((0.1, 0.2, 0.3)))
    folded = total_of((0.1, 0.3))
    folded.add(an_end(folded_row := total_of((0.2,)).rows[KEY], total_of((0.2,)).kinds[KIND]))
    assert told(folded) == alive
    assert folded_row.quality_sum != 0.2
