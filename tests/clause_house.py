"""A journal whose every figure is written down: what clauses are judged by in the tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from frugal_meter.journal.opening import open_store
from frugal_meter.journal.rows import Batch, Feedback, PassRow, reading_row
from frugal_meter.periods import Books, Pass, Weight
from frugal_meter.records import Interval, Reading

BEGIN_NS: Final = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * 10**9
HOUR_NS: Final = 3600 * 10**9
WEIGHT: Final = Weight(
    grams_per_joule=1e-3, pue=Interval(1.0, 1.0, 1.0), embodied_low=1.0, embodied_high=1.0, factor_ids=("test:FR:2025",),
    method_id="cpu-time/1", boundary=("cpu",), flags=(),
)  # fmt: skip
_REQUIRED: Final = {field.name: None for field in msgspec.structs.fields(Reading) if field.required}


def a_pass(
    joules: float,
    *,
    low: float = 0.5,
    high: float = 2.0,
    hours: float = 23.9,
    at_ns: int = BEGIN_NS,
    spans: bool = False,
    **more: Any,
) -> PassRow:
    """Books of ``hours`` in which the service drew ``joules``, known to within ``low`` and ``high`` times that."""
    nj = round(joules * 1e9)
    named = {"tier": "measured", **more}
    books = Books(
        source="rapl", component="cpu", energy_nj=nj, idle_nj=0, slice_nj=0, requests_nj=0, late_nj=0, overhead_nj=nj, other_nj=0,
        gap_nj=0, low_nj=round(nj * low), high_nj=round(nj * high), overhead_parts={}, **named,
    )  # fmt: skip
    span_ns = round(hours * HOUR_NS)
    named = {"process": "0" * 10, "weight": WEIGHT, "embodied_g": 0.1 if spans else 0.0, "books": (books,)}
    made = Pass(t0_ns=at_ns, t1_ns=at_ns + span_ns, **named)
    return PassRow(made, {"rapl": ({1: 0}, {})} if spans else {})


def a_reading(number: int, joules: float | None = 1.0, *, wide: float = 1.0, **more: Any) -> Reading:
    """A request that delivered one answer for ``joules``, known to within a factor of ``wide``."""
    energy = dict.fromkeys(("energy_dynamic_j", "energy_full_j", "inclusive_energy_full_j"), joules)
    ends = {"energy_low_j": joules and joules / wide, "energy_high_j": joules and joules * wide}
    grams = {"carbon_g": joules and joules * 1e-3, "carbon_low_g": joules and joules / wide * 1e-3}
    told: dict[str, Any] = {
        **_REQUIRED, **energy, **ends, **grams, "carbon_high_g": joules and joules * wide * 1e-3, "service": "accueil",
        "id": f"00000000-0000-7000-8000-{number:012x}", "started_at": BEGIN_NS / 1e9 + number, "outcome": "ok", "wall_s": 1.0,
        "cpu_s": 1.0, "unit": "answer", "units": 1.0, "boundary": (), "factor_ids": (), "method_id": "cpu-time/1",
        "settled": True,
    }  # fmt: skip
    return Reading(**{**told, **more})


def fill(
    address: str,
    readings: Iterable[Reading],
    passes: Iterable[PassRow] = (),
    scores: Iterable[tuple[int, float, str | None]] = (),
    *,
    lost: int = 0,
) -> None:
    """Write them all into the journal at ``address``; readings settle in the order given, a second apart."""
    rows = [reading_row(each, BEGIN_NS + (number + 1) * 10**9) for number, each in enumerate(readings)]
    said = [Feedback(a_reading(number).id, BEGIN_NS / 1e9, score, metric) for number, score, metric in scores]
    with open_store(address) as journal:
        journal.write(Batch(list(passes), rows, (), said, (lost, 0)))
