"""The short account that ``run`` leaves when it stops: requests, joules, grams, and whether the books close."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..attribution.workings import TIER_SHARE
from ..meter import Meter
from ..records import TIERS, Interval, Reading, Tick, Tier
from .texts import Words


class Sum:
    """Figures of one kind added up with their bounds, and the tier of the whole.

    The errors of a source are common to all of its figures: lows add to lows and highs to highs (see ``carbon.impacts``).
    """

    def __init__(self) -> None:
        self._low = self._mid = self._high = 0.0
        self._by_tier: dict[Tier, float] = {}

    def add(self, low: float, mid: float, high: float, tier: Tier) -> None:
        """Add one figure."""
        self._low, self._mid, self._high = self._low + low, self._mid + mid, self._high + high
        self._by_tier[tier] = self._by_tier.get(tier, 0.0) + mid

    @property
    def interval(self) -> Interval | None:
        """Low, mid and high; None when nothing was added: unknown, not 0."""
        return Interval(self._low, self._mid, self._high) if self._by_tier else None

    @property
    def tier(self) -> Tier | None:
        """The weakest tier that holds 5 % of the whole."""
        least = TIER_SHARE * self._mid
        return max((tier for tier, mid in self._by_tier.items() if mid >= least), key=TIERS.index, default=None)


class Tally:
    """An exporter that keeps sums only: outcomes of requests, their joules and grams, and the machine's joules."""

    #: some additions per reading: cheaper on the tick thread than a queue
    inline = True

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.energy_j, self.carbon_g, self.machine_j = Sum(), Sum(), Sum()
        self.dynamic_j = 0.0
        self.unknown = 0

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Add ``readings`` and ``ticks``; a nested span adds its own energy, and is no request."""
        for reading in readings:
            if reading.parent is None:
                self.outcomes[reading.outcome] = self.outcomes.get(reading.outcome, 0) + 1
            self._weigh(reading)
        for tick in ticks:
            low, high = (tick.energy_nj if end is None else end for end in (tick.low_nj, tick.high_nj))
            self.machine_j.add(low / 1e9, tick.energy_nj / 1e9, high / 1e9, tick.tier)

    def _weigh(self, r: Reading) -> None:
        if r.energy_low_j is None or r.energy_full_j is None or r.energy_high_j is None or r.tier is None:
            self.unknown += 1
            return
        self.energy_j.add(r.energy_low_j, r.energy_full_j, r.energy_high_j, r.tier)
        self.dynamic_j += r.energy_dynamic_j or 0.0
        if r.carbon_low_g is not None and r.carbon_g is not None and r.carbon_high_g is not None:
            self.carbon_g.add(r.carbon_low_g, r.carbon_g, r.carbon_high_g, r.tier)


def account(meter: Meter, tally: Tally, seconds: float, words: Words) -> list[str]:
    """The account's lines, once the meter has stopped."""
    pairs = [*_requests(tally, words), *_machine(meter, tally, words)]
    if tally.carbon_g.interval is not None:
        factor, pue = meter.figures.factor, meter.figures.pue
        default = f" ({words('pue_default')})" if pue.flags else ""
        basis = f"{words.number(factor.grams_per_kwh)} gCO₂e/kWh ({factor.id}), PUE {words.number(pue.value)}{default}"
        pairs.append((words("factor").lower(), basis))
    if tally.energy_j.interval is not None:
        pairs.append((words("method").lower(), meter.figures.method_id))
    width = max(len(label) for label, _ in pairs)
    head = words("account", service=meter.service, seconds=words.number(round(seconds, 1)))
    return [head, *(f"  {label:<{width}}  {text}" for label, text in pairs)]


def _requests(tally: Tally, words: Words) -> Iterator[tuple[str, str]]:
    most_first = sorted(tally.outcomes.items(), key=lambda outcome: -outcome[1])
    shown = ", ".join(words(f"outcome_{outcome}", n=words.number(n)) for outcome, n in most_first)
    yield words("requests"), words.number(sum(tally.outcomes.values())) + (f" ({shown})" if shown else "")
    if tally.energy_j.interval is not None:
        weighed = f"{words.known(tally.energy_j.interval, 'J')}, {words.tier(tally.energy_j.tier)}"
        yield words("their_energy"), f"{weighed}, {words('of_computing', figure=words.figure(tally.dynamic_j, 'J'))}"
        yield words("their_carbon"), f"{words.known(tally.carbon_g.interval, 'gCO2e')}, {words.tier(tally.carbon_g.tier)}"
    if tally.unknown:
        yield "", words("without_figure", n=words.number(tally.unknown))


def _machine(meter: Meter, tally: Tally, words: Words) -> Iterator[tuple[str, str]]:
    """Where the machine's joules went since the start, and whether the parts sum to the whole."""
    totals = meter.aggregates.totals_nj()
    whole = sum(totals.values())
    if not whole:
        return
    yield words("the_machine"), f"{words.known(tally.machine_j.interval, 'J')}, {words.tier(tally.machine_j.tier)}"
    shares = (f"{words(f'bucket_{bucket}')} {words.percent(nj / whole)}" for bucket, nj in totals.items() if nj)
    yield words("of_which"), ", ".join(shares)
    off = meter.aggregates.difference_nj()
    yield words("books"), words("books_open" if off else "books_close", nj=off)
