"""What the interval of a meter's figures is made of: one `Part` per source of error, kept apart."""

from __future__ import annotations

from .carbon.uncertainty import Kind, Part, part_of
from .meter import Meter
from .records import Interval


def components(meter: Meter) -> tuple[Part, ...]:
    """The errors common to all figures of ``meter`` since its start: source, key, PUE, embodied, and the choice of factor.

    "source" is what the energy sources say of themselves (a measurement where all are sensors, else a model), "key" what
    sharing them by CPU time may miss, "factor" the spread of published factors, which is a scenario: readings stand at the
    factor in force. What is exact, or not known yet (no tick so far), has no part.
    """
    figures, setup = meter.figures, meter.setup
    parts = [_source(meter)]
    low, high = setup.key
    if low < high:
        told = setup.calibration
        parts.append(Part("key", "model", low, high, "expert assumption" if told is None else f"calibration of {told.date}"))
    parts.append(part_of("pue", "model" if setup.pue.flags else "measurement", setup.pue.interval, setup.pue.source))
    if setup.embodied is not None:
        low, high = setup.embodied_spread
        parts.append(part_of("embodied", "model", Interval(low, 1.0, high), setup.embodied.source))
    factor = figures.factor
    if factor.interval is not None:
        parts.append(part_of("factor", "scenario", factor.interval, f"published figures of {factor.zone}"))
    return tuple(part for part in parts if part is not None)


def _source(meter: Meter) -> Part | None:
    low, mid, high = meter.aggregates.bounds_nj()
    if not mid or not low:
        return None
    kind: Kind = "measurement" if meter.figures.weakest_tier == "measured" else "model"
    # A tick's own bounds may leave out a source that has none: never narrower than the middle itself.
    return part_of("source", kind, Interval(min(low, mid), mid, max(high, mid)), meter.figures.method_id)
