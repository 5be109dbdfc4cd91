"""`Factor`: what a joule of electricity emits somewhere, with everything needed to cite the figure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from ..errors import FactorError
from ..records import Interval
from ..units import J_PER_KWH

Scope = Literal["direct", "lifecycle"]
Basis = Literal["location", "market"]
Mix = Literal["production", "consumption"]

#: above any published yearly grid factor (the highest bundled one is Turkmenistan 2023, 1,306 g/kWh, Ember)
ABSURD_ABOVE: Final = 3_000.0
#: no mix is below 1 g/kWh over its life cycle: the cleanest source is near 5 (UNECE 2021, *Carbon Neutrality in the UNECE
#: Region*, lifecycle assessment of electricity sources). Smaller figures are kilograms mistaken for grams.
LIFECYCLE_FLOOR: Final = 1.0
#: range of a bundled factor that nobody else publishes, as multiples of it: nine in ten of the 201 Ember zones with several
#: figures have their lowest above the first and their highest below the second (a test counts them again)
EXPERT_RANGE: Final = (0.6, 1.85)
RANGE_FLAG: Final = "factor:range-expert-assumption"
STALE_FLAG: Final = "factor:stale"
#: a factor older than this is worth a warning (EcoLogits, codecarbon and ADEME all refresh yearly)
STALE_AFTER_YEARS: Final = 2


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """An emission factor in gCO2e per kWh, with its provenance.

    ``low_g_per_kwh … high_g_per_kwh`` is the spread of published figures for the zone (None when there is none): it feeds
    scenarios, never a reading's ``carbon_low_g … carbon_high_g``, which stand at the factor in force.
    ``mix`` is None where its author does not say. ``sha256`` is that of the file the figure was taken from.
    Raises `FactorError` when a value cannot be a grid factor.
    """

    id: str
    zone: str
    zone_name: str
    grams_per_kwh: float
    low_g_per_kwh: float | None = None
    high_g_per_kwh: float | None = None
    dataset: str
    version: str
    year: int
    scope: Scope
    basis: Basis = "location"
    mix: Mix | None = None
    licence: str
    source: str
    sha256: str | None = None
    flags: tuple[str, ...] = ()
    unit: str = "gCO2e/kWh"
    #: start of the hour (or half-hour, …) described, ISO 8601 in UTC; None for a figure of the whole year
    at: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("scope", ("direct", "lifecycle")), ("basis", ("location", "market"))):
            if getattr(self, name) not in allowed:
                raise FactorError(f"factor {self.id}: {name} is {getattr(self, name)!r}; write {' or '.join(map(repr, allowed))}")
        if self.mix not in ("production", "consumption", None):
            raise FactorError(f"factor {self.id}: mix is {self.mix!r}; write 'production', 'consumption' or None")
        if self.unit != "gCO2e/kWh":
            raise FactorError(f"factor {self.id}: unit is {self.unit!r}; give the figure in gCO2e/kWh")
        for text in ("zone", "dataset", "source", "licence"):
            if not isinstance(getattr(self, text), str) or not getattr(self, text).strip():
                raise FactorError(f"factor {self.id}: {text} is empty; a figure without it cannot be cited")
        if isinstance(self.year, bool) or not isinstance(self.year, int) or not 1990 <= self.year <= 2100:
            raise FactorError(f"factor {self.id}: year is {self.year!r}; write the year the figure describes, such as 2024")
        self._check_value("grams_per_kwh", self.grams_per_kwh)
        self._check_range()

    def _check_value(self, name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise FactorError(f"factor {self.id}: {name} is {value!r}; write a number of gCO2e per kWh")
        if value < 0:
            raise FactorError(f"factor {self.id}: {name} is {value:g}; a grid factor cannot be negative (count offsets apart)")
        if value > ABSURD_ABOVE:
            raise FactorError(f"factor {self.id}: {name} is {value:g}, above any grid; is it in g per MWh instead of gCO2e/kWh?")
        # A market-based or direct figure may be 0 (guarantees of origin; hydropower burns nothing): only lifecycle has a floor.
        if self.scope == "lifecycle" and self.basis == "location" and value < LIFECYCLE_FLOOR:
            raise FactorError(f"factor {self.id}: {name} is {value:g}, below any lifecycle figure; is it in kg instead of g?")

    def _check_range(self) -> None:
        low, high = self.low_g_per_kwh, self.high_g_per_kwh
        if low is None and high is None:
            return
        if low is None or high is None:
            raise FactorError(f"factor {self.id}: give both ends of its range, or neither")
        self._check_value("low_g_per_kwh", low)
        self._check_value("high_g_per_kwh", high)
        if not low <= self.grams_per_kwh <= high:
            raise FactorError(f"factor {self.id}: {self.grams_per_kwh:g} lies outside its own range {low:g} to {high:g}")

    @classmethod
    def declared(
        cls,
        zone: str,
        grams_per_kwh: float,
        *,
        scope: Scope,
        dataset: str,
        year: int,
        name: str = "",
        version: str = "",
        basis: Basis = "location",
        mix: Mix | None = None,
        low: float | None = None,
        high: float | None = None,
        licence: str = "declared by the operator",
        source: str = "declared by the operator",
        sha256: str | None = None,
    ) -> Factor:
        """The operator's own factor (ADEME, a supplier, a national inventory …), in gCO2e per kWh.

        ``scope`` has no default: RTE's éCO2mix rate is direct, ADEME's and Ember's figures are lifecycle, and the two differ
        severalfold. Raises `FactorError`.
        """
        slug = re.sub(r"\W+", "-", str(dataset).strip().lower())
        return cls(
            id=f"declared:{slug}:{zone}:{year}",
            zone=zone,
            zone_name=name or zone,
            grams_per_kwh=grams_per_kwh,
            low_g_per_kwh=low,
            high_g_per_kwh=high,
            dataset=dataset,
            version=version,
            year=year,
            scope=scope,
            basis=basis,
            mix=mix,
            licence=licence,
            source=source,
            sha256=sha256,
            flags=("factor:declared",),
        )

    @property
    def grams_per_joule(self) -> float:
        """gCO2e per joule of electricity."""
        return self.grams_per_kwh / J_PER_KWH

    @property
    def interval(self) -> Interval | None:
        """The published spread in gCO2e/kWh around this figure, or None when nobody gave one."""
        if self.low_g_per_kwh is None or self.high_g_per_kwh is None:
            return None
        return Interval(self.low_g_per_kwh, self.grams_per_kwh, self.high_g_per_kwh)

    @property
    def family(self) -> str:
        """The id without its hour: what a metric may carry as a label, since a live factor has a new id every few minutes."""
        return self.id if self.at is None else f"{self.dataset}:{self.zone}"

    def is_stale(self, in_year: int) -> bool:
        """Whether the figure describes a year more than two years before ``in_year``."""
        return in_year - self.year > STALE_AFTER_YEARS

    def cite(self) -> str:
        """One line that a report can print."""
        nature = ", ".join(filter(None, (self.scope, f"{self.basis}-based", self.mix and f"{self.mix} mix")))
        version = f" ({self.version})" if self.version else ""
        figure = f"{self.grams_per_kwh:g} {self.unit} · {self.zone_name} {self.at or self.year}"
        return f"{figure} · {self.source}{version} · {nature} · {self.licence}"


def check_compatible(*factors: Factor) -> None:
    """Raise `FactorError` unless the carbon of all ``factors`` may be added up.

    Direct never mixes with lifecycle, nor location-based with market-based. A production mix beside a consumption mix is
    allowed (no dataset covers both a country and its islands otherwise) and stays visible in each factor.
    """
    for other in factors[1:]:
        first = factors[0]
        for what, mine, theirs in (("scope", first.scope, other.scope), ("basis", first.basis, other.basis)):
            if mine != theirs:
                raise FactorError(
                    f"{first.id} is {mine} and {other.id} is {theirs}: figures of different {what} cannot be added; "
                    "choose one dataset for both"
                )


def combine(parts: Sequence[tuple[Factor, float]]) -> Factor:
    """The mean factor of energy drawn in several zones; ``parts`` pairs each factor with its energy, in any one unit.

    Ranges combine low with low and high with high: their errors are common, so they do not average out.
    Raises `FactorError` for incompatible factors, no parts, or energies that are not positive numbers.
    """
    if not parts:
        raise FactorError("no factors to combine")
    factors = [factor for factor, _ in parts]
    check_compatible(*factors)
    if not all(math.isfinite(energy) and energy > 0 for _, energy in parts):
        raise FactorError("the energies that weigh combined factors must be positive numbers")
    if len(set(factors)) == 1:
        return factors[0]
    whole = math.fsum(energy for _, energy in parts)
    ranges = [f.interval for f in factors]
    known = [r for r in ranges if r is not None]
    mid = _mean([f.grams_per_kwh for f in factors], parts, whole)
    return Factor(
        id="+".join(f.id for f in factors),
        zone="+".join(f.zone for f in factors),
        zone_name=" + ".join(f.zone_name for f in factors),
        grams_per_kwh=mid,
        low_g_per_kwh=min(mid, _mean([r.low for r in known], parts, whole)) if len(known) == len(parts) else None,
        high_g_per_kwh=max(mid, _mean([r.high for r in known], parts, whole)) if len(known) == len(parts) else None,
        dataset=_joined([f.dataset for f in factors], " + "),
        version=_joined([f.version for f in factors], " + "),
        year=min(f.year for f in factors),
        scope=factors[0].scope,
        basis=factors[0].basis,
        mix=factors[0].mix if len({f.mix for f in factors}) == 1 else None,
        licence=_joined([f.licence for f in factors], " AND "),
        source=_joined([f.source for f in factors], " + "),
        flags=tuple(dict.fromkeys(flag for f in factors for flag in (*f.flags, "factor:combined"))),
    )


def _mean(values: Sequence[float], parts: Sequence[tuple[Factor, float]], whole: float) -> float:
    return math.fsum(v * energy / whole for v, (_, energy) in zip(values, parts, strict=True))


def _joined(texts: Sequence[str], separator: str) -> str:
    return separator.join(dict.fromkeys(t for t in texts if t))
