"""What the study's figures would be if one thing were otherwise: the factor, the PUE, the lifetime, the use, the hours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..carbon.embodied import LIFESPAN_S, SECONDS_PER_YEAR
from ..carbon.factors import Factor
from ..carbon.published import published
from ..carbon.pue import DEFAULT, DEFAULT_SOURCE
from ..errors import UnknownZoneError
from .costs import ONE, Blocks, times
from .results import Embodied, Lever, Pue, Scenario, Use

#: hours a year that a service may be up: always, half of the time, office hours (1,607 is a year's work in French public service)
HOURS: Final = (1607.0, 4380.0, 8760.0)


class Run:
    """The sensitivity run of one variant: one line per lever and value, everything else as it is."""

    def __init__(self, variant: str, blocks: Blocks, use: Use) -> None:
        self.variant, self.blocks, self.use = variant, blocks, use

    def line(
        self,
        lever: Lever,
        value: float,
        value_unit: str,
        blocks: Blocks,
        *,
        in_force: bool,
        units: float | None = None,
        hours: float | None = None,
        factor: Factor | None = None,
        source: str | None = None,
    ) -> Scenario:
        """One line: the year of ``blocks``."""
        units = self.use.units.mid if units is None else units
        year = blocks.year(units, self.use.hours if hours is None else hours, self.use.starts)
        each = times(year, 1 / units)
        return Scenario(
            variant=self.variant,
            lever=lever,
            value=value,
            value_unit=value_unit,
            per_unit_g=each.carbon_g,
            year_g=year.carbon_g,
            energy_j=each.energy_j,
            in_force=in_force,
            factor=factor,
            source=source,
        )


def sensitivity(run: Run, factors: Sequence[Factor], pue: Pue | None, embodied: Embodied | None) -> Iterator[Scenario]:
    """Every line of one variant."""
    if len(factors) == 1:
        yield from _grid(run, factors[0])
    if pue is not None:
        yield from _pue(run, pue)
    if embodied is not None:
        yield from _lifetime(run, embodied)
    yield from _use(run)
    if run.blocks.rest is not None:
        yield from _standing(run)


def _grid(run: Run, now: Factor) -> Iterator[Scenario]:
    try:
        known = published(now.zone)
    except UnknownZoneError:
        known = ()
    mine = [f for f in known if f.id == now.id] or [now]
    others = [f for f in known if f.id != now.id]
    for factor in sorted([*mine, *others], key=lambda f: (f.grams_per_kwh, f.id)):
        by = factor.grams_per_kwh / now.grams_per_kwh
        blocks = run.blocks.under((by, by, by), ONE)
        yield run.line("grid", factor.grams_per_kwh, "gCO2e/kWh", blocks, in_force=factor.id == now.id, factor=factor)


def _pue(run: Run, now: Pue) -> Iterator[Scenario]:
    told = {DEFAULT.low: DEFAULT_SOURCE, DEFAULT.mid: DEFAULT_SOURCE, DEFAULT.high: DEFAULT_SOURCE, now.value.mid: now.source}
    for value in sorted(told):
        blocks = run.blocks.under((value / now.value.low, value / now.value.mid, value / now.value.high), ONE)
        yield run.line("pue", value, "", blocks, in_force=value == now.value.mid, source=told[value])


def _lifetime(run: Run, now: Embodied) -> Iterator[Scenario]:
    life, years = now.lifespan_s, {s / SECONDS_PER_YEAR for s in (LIFESPAN_S.low, LIFESPAN_S.mid, LIFESPAN_S.high)}
    mine = life.mid / SECONDS_PER_YEAR
    for value in sorted(years | {mine}):
        seconds = value * SECONDS_PER_YEAR
        # The low of embodied carbon took the longest life, its high the shortest: here they are one.
        blocks = run.blocks.under(ONE, (life.high / seconds, life.mid / seconds, life.low / seconds))
        yield run.line("lifetime", value, "years", blocks, in_force=value == mine, source=now.source)


def _use(run: Run) -> Iterator[Scenario]:
    units = run.use.units
    for value in sorted({units.mid / 10, units.low, units.mid, units.high, units.mid * 10}):
        yield run.line("use", value, "units/year", run.blocks, in_force=value == units.mid, units=value, source=run.use.source)


def _standing(run: Run) -> Iterator[Scenario]:
    for value in sorted({*HOURS, run.use.hours}):
        mine = value == run.use.hours
        source = run.use.source if mine else None
        yield run.line("standing", value, "hours/year", run.blocks, in_force=mine, hours=value, source=source)
