"""The short account that ``run`` leaves when it stops: requests, joules, grams, and whether the books close."""

from __future__ import annotations

from collections.abc import Sequence

from ..exporters.prometheus import books_difference_nj
from ..figures import TIER_SHARE
from ..meter import Meter
from ..records import TIERS, Interval, Reading, Tick, Tier
from .texts import Words


class Tally:
    """An exporter that keeps sums only: outcomes, energy and carbon of outermost and nested spans, with their bounds."""

    #: some additions per reading: cheaper on the tick thread than a queue
    inline = True

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.energy_j = self.carbon_g = Interval(0.0, 0.0, 0.0)
        self.dynamic_j = 0.0
        self.unknown = 0
        self._by_tier: dict[Tier, float] = {}

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Add ``readings``; a nested span adds its own energy, and is no request."""
        for reading in readings:
            if reading.parent is None:
                self.outcomes[reading.outcome] = self.outcomes.get(reading.outcome, 0) + 1
            self._weigh(reading)

    def _weigh(self, r: Reading) -> None:
        if r.energy_low_j is None or r.energy_full_j is None or r.energy_high_j is None or r.tier is None:
            self.unknown += 1
            return
        self.energy_j = _plus(self.energy_j, r.energy_low_j, r.energy_full_j, r.energy_high_j)
        self.dynamic_j += r.energy_dynamic_j or 0.0
        self._by_tier[r.tier] = self._by_tier.get(r.tier, 0.0) + r.energy_full_j
        if r.carbon_low_g is not None and r.carbon_g is not None and r.carbon_high_g is not None:
            self.carbon_g = _plus(self.carbon_g, r.carbon_low_g, r.carbon_g, r.carbon_high_g)

    @property
    def tier(self) -> Tier | None:
        """The weakest tier that holds 5 % of the energy; None before any."""
        whole = sum(self._by_tier.values())
        return max((t for t, j in self._by_tier.items() if j >= TIER_SHARE * whole), key=TIERS.index, default=None)


def _plus(sum_of: Interval, low: float, mid: float, high: float) -> Interval:
    # the errors of a source are common to all requests: lows add to lows, highs to highs (see carbon.impacts)
    return Interval(sum_of.low + low, sum_of.mid + mid, sum_of.high + high)


def account(meter: Meter, tally: Tally, seconds: float, words: Words) -> list[str]:
    """The account's lines, once the meter has stopped."""
    counts = sum(tally.outcomes.values())
    shown = [words(f"outcome_{outcome}", n=words.number(n)) for outcome, n in sorted(tally.outcomes.items(), key=lambda o: -o[1])]
    pairs = [(words("requests"), words.number(counts) + (f" ({', '.join(shown)})" if shown else ""))]
    if tally.tier is not None:
        tier, factor, pue = words.tier(tally.tier), meter.figures.factor, meter.figures.pue
        computing = words("of_computing", figure=words.figure(tally.dynamic_j, "J"))
        missing = f", {words('without_figure', n=words.number(tally.unknown))}" if tally.unknown else ""
        pairs.append((words("their_energy"), f"{words.known(tally.energy_j, 'J')}, {tier}, {computing}{missing}"))
        basis = f"{factor.id}, {words.number(factor.grams_per_kwh)} gCO₂e/kWh, PUE {words.number(pue.value)}"
        default = f", {words('pue_default')}" if pue.flags else ""
        pairs.append((words("their_carbon"), f"{words.known(tally.carbon_g, 'gCO2e')}, {tier} ({basis}{default})"))
    pairs += _machine(meter, words)
    width = max(len(label) for label, _ in pairs)
    head = words("account", service=meter.service, seconds=words.number(round(seconds, 1)))
    return [head, *(f"  {label:<{width}}  {text}" for label, text in pairs)]


def _machine(meter: Meter, words: Words) -> list[tuple[str, str]]:
    """Where the machine's joules went since the start, and whether the parts sum to the whole."""
    totals = meter.aggregates.totals_nj()
    whole = sum(totals.values())
    if not whole:
        return []
    tier = words.tier(meter.figures.weakest_tier)
    parts = ", ".join(f"{words(f'bucket_{bucket}')} {words.percent(nj / whole)}" for bucket, nj in totals.items() if nj)
    off = books_difference_nj(meter)
    verdict = words("books_open" if off else "books_close", nj=off)
    return [(words("the_machine"), f"{words.figure(whole / 1e9, 'J')}, {tier}{words.colon} {parts}"), (words("books"), verdict)]
