"""The sums behind the metrics: a chunk at once gives what one by one gives, whatever is in it."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from exchange import a_meter, later

from frugal_meter import Meter
from frugal_meter.attribution.span import Account, Folded, Span
from frugal_meter.exporters import aggregates
from frugal_meter.exporters.aggregates import Aggregates
from frugal_meter.testing import SyntheticSource


def spans_of(meter: Meter) -> list[Span]:
    """Settled spans of every sort: plain requests of two routes, refused and failed ones, blocks, tokens, units, no account."""
    spans = []
    ends: Any = [(200, "ok"), (500, "error"), (429, "refused"), (None, "client_disconnect")]
    for number, (route, (status, outcome)) in enumerate(itertools.product(["/a", "/b", None] * 4, ends)):
        span = meter.open_request("http", {"type": "http", "method": "GET", "path": "/"}, None)
        later(meter, 0.003 * number)
        meter.close_span(span)
        span.route, span.status, span.outcome = route, status, outcome
        span.account = Account((10**7 * number, number), (number, 3), cpu_ns=10**6 * number, embodied_g=0.25 * number)
        spans.append(span)
    for place, (field, value) in enumerate([("tokens_in", 3), ("tokens_out", 5), ("units", 2.5), ("quality_sum", 0.5)]):
        setattr(spans[place * 4], field, value)
    spans[20].account = None
    spans[24].parent = spans[28]
    spans[28].folded = Folded()
    spans[28].folded.add(spans[24])
    spans[32].model = "m"
    spans[36].account.gpu_ns = 7  # type: ignore[union-attr]
    spans[40].tenant = "t"
    return spans


def sums(of: Aggregates) -> dict[str, Any]:
    rows = {labels: msgspec.structs.asdict(row) for labels, row in of.rows.items()}
    for row in rows.values():
        row.update(born_ns=0, operational_g=round(row["operational_g"], 12))  # floats, added in another order
    kinds = {
        kind: [(each.counts, round(each.total, 9)) for each in (kept.duration_s, kept.cpu_s, kept.energy_j)]
        for kind, kept in of.distributions.items()
    }
    return {"rows": rows, "kinds": kinds, "overflow": of.overflow}


@pytest.mark.parametrize("most", [1000, 2])
@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_chunk_at_once_sums_to_what_its_spans_do_one_by_one(monkeypatch: pytest.MonkeyPatch, most: int, size: int) -> None:
    monkeypatch.setattr(aggregates, "MAX_LABEL_SETS", most)
    monkeypatch.setattr(aggregates, "MAX_DISTRIBUTIONS", most)
    with a_meter(sources=[SyntheticSource(2, 10, name="a"), SyntheticSource(1, 5, name="b", component="dram")]) as meter:
        spans = spans_of(meter)
        single, chunked = Aggregates(meter.figures, 2), Aggregates(meter.figures, 2)
        for start in range(0, len(spans), size):
            chunk = spans[start : start + size]
            for span in chunk:
                single.add(span)
            chunked.add_all(chunk, lambda stage, error: pytest.fail(f"{stage}: {error}"))
        assert sums(chunked) == sums(single)


def test_a_span_that_cannot_be_summed_is_told_and_the_others_are_summed() -> None:
    faults = []
    with a_meter() as meter:
        spans = [span for span in spans_of(meter) if span.account is not None][:20]
        for span in spans:
            span.account.sources_nj, span.account.idle_nj = (5,), (1,)  # type: ignore[union-attr]
        spans[3].units = "many"  # type: ignore[assignment]
        kept = Aggregates(meter.figures, 1)
        kept.add_all(spans, lambda stage, error: faults.append((stage, type(error))))
    assert faults == [("settle", TypeError)]
    requests = sum(sum(row.outcomes.values()) for row in kept.rows.values())
    assert requests == len(spans) - 1


def test_names_of_units_beyond_the_cap_are_one() -> None:
    with a_meter() as meter:
        for at in range(2 * aggregates.MAX_UNITS):
            with meter.measure("work") as span:
                span.add_units(1, unit=f"unit-{at}")
        meter.settle()
        (row,) = meter.aggregates.rows.values()
        assert len(row.units) == aggregates.MAX_UNITS + 1
        assert row.units["other"] == aggregates.MAX_UNITS == meter.aggregates.overflow
