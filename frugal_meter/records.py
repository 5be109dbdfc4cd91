"""The frozen records that leave the meter: one `Reading` per request, one `Tick` per source and pass.

Floats are in SI units, joules are IT joules (before PUE), unknown is ``None`` and never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from .errors import ConfigurationError

Tier = Literal["measured", "modelled", "sourced"]
Outcome = Literal["ok", "error", "client_disconnect", "cancelled", "refused"]
Decision = Literal["admit", "warn", "degrade", "throttle", "refuse", "cut"]

#: weakest last: a figure made of several parts carries the weakest tier that holds 5 % of it
TIERS: tuple[Tier, ...] = ("measured", "modelled", "sourced")


#: names beyond this are cut: what becomes a label must stay small
MAX_LABEL = 128


def label(text: str | None) -> str | None:
    """A name fit to be a label: a string that UTF-8 can hold, of at most ``MAX_LABEL`` characters; None stays None."""
    if text is None:
        return None
    return str(text)[:MAX_LABEL].encode("utf-8", "replace").decode("utf-8")


#: so many calls to models elsewhere are kept one by one in a reading; sums hold them all
MAX_CALLS = 16
#: of a bound: as much as sums of millions of floats may be off
_ROUNDED = 1e-9


class Interval(msgspec.Struct, frozen=True):
    """A figure and its bounds, ``low <= mid <= high``, in the unit of the place it stands in.

    Raises ConfigurationError for bounds that do not hold the figure; what floats lose in sums is no such thing.
    """

    low: float
    mid: float
    high: float

    def __post_init__(self) -> None:
        try:
            ordered = not (self.low > self.mid or self.mid > self.high)
        except TypeError:  # no numbers: for who knows what they were to be to say
            return
        if not ordered:
            least, most = self.low - _ROUNDED * abs(self.low), self.high + _ROUNDED * abs(self.high)
            if not least <= self.mid <= most:
                raise ConfigurationError(f"{self.mid:g} lies outside its own range, {self.low:g} to {self.high:g}")

    def times(self, factor: float) -> Interval:
        """The interval scaled by an exactly known, non-negative ``factor``."""
        return Interval(self.low * factor, self.mid * factor, self.high * factor)


def around(name: str, mid: float, low: float | None, high: float | None) -> Interval:
    """What somebody declares of ``name``, exact where no bound is given. Raises ConfigurationError, which names it."""
    try:
        return Interval(mid if low is None else low, mid, mid if high is None else high)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one source billed to a span, J: ``dynamic_j`` above idle, ``idle_j`` its part of idle; and how the source knows."""

    source: str
    component: str
    tier: Tier
    method: str
    dynamic_j: float
    idle_j: float


class RemoteCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call to a model elsewhere and what it cost there.

    ``energy_j`` are IT joules, before the PUE of the place where they were spent; ``carbon_g`` = energy × ``pue`` ÷ 3.6e6 ×
    ``grams_per_kwh`` + ``embodied_g``, low with low and high with high. None where nothing is known of the model.
    """

    provider: str
    model: str
    tokens_in: int | None = None
    tokens_out: int | None = None
    wall_s: float | None = None
    energy_j: Interval | None = None
    pue: Interval | None = None
    grams_per_kwh: float | None = None
    embodied_g: Interval | None = None
    carbon_g: Interval | None = None
    tier: Tier | None = None
    method_id: str | None = None
    factor_ids: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one request (or one `measure` block) cost.

    ``energy_low_j … energy_high_j`` bound ``energy_full_j``; ``carbon_low_g … carbon_high_g`` carry the
    energy, PUE and embodied intervals at the factor in force, remote calls included. While ``settled`` is false the figures are
    the span's own CPU at the last known joules per CPU-second; the next tick replaces them.
    """

    id: str
    service: str
    started_at: float  # Unix time, s
    route: str | None
    method: str | None
    status: int | None
    outcome: Outcome
    tenant: str | None
    model_requested: str | None
    model_served: str | None
    wall_s: float
    cpu_s: float
    gpu_s: float | None
    tokens_in: int | None
    tokens_out: int | None
    unit: str | None
    units: float | None
    quality: float | None
    quality_metric: str | None
    energy_dynamic_j: float | None
    energy_full_j: float | None
    energy_low_j: float | None
    energy_high_j: float | None
    energy_remote_j: float | None
    tier: Tier | None
    measured_share: float | None
    boundary: tuple[str, ...]
    carbon_g: float | None
    carbon_low_g: float | None
    carbon_high_g: float | None
    factor_ids: tuple[str, ...]
    method_id: str
    idle_source: str | None
    decision: Decision | None
    settled: bool
    #: "http", "websocket" or "block"; a nested span names the span it ran in
    kind: str = "http"
    parent: str | None = None
    #: this span and everything nested in it; never sum these over spans
    inclusive_cpu_s: float | None = None
    inclusive_energy_full_j: float | None = None
    inclusive_carbon_g: float | None = None
    #: the share of the host's energy over the ticks this span lived in; None without energy or before settlement
    host_share: float | None = None
    #: what a reader of the figure should know ("pue:default", "interval:expert-assumption", …)
    flags: tuple[str, ...] = ()
    #: bounds and tier of ``energy_remote_j``, and the part of ``carbon_g`` that it is
    energy_remote_low_j: float | None = None
    energy_remote_high_j: float | None = None
    remote_tier: Tier | None = None
    carbon_remote_g: float | None = None
    #: weakest tier behind ``carbon_g``, which follows the joules of both places
    carbon_tier: Tier | None = None
    #: this span's and everything nested in it; a call's own joules are here, since its request pays for them
    inclusive_energy_remote_j: float | None = None
    #: the calls behind those figures, the last ``MAX_CALLS`` of them
    remote: tuple[RemoteCall, ...] = ()
    #: the workings, so that the figures can be done again by hand: see ``frugal-meter explain``
    parts: tuple[Part, ...] = ()
    pue: Interval | None = None
    grams_per_kwh: float | None = None
    embodied_g: Interval | None = None


class Shares(Mapping[int, int]):
    """Read-only span id → nanojoules, kept as two flat lists until somebody looks one up."""

    __slots__ = ("_dict", "_keys", "_values")

    def __init__(self, keys: Sequence[int] = (), values: Sequence[int] = ()) -> None:
        self._keys, self._values = keys, values
        self._dict: dict[int, int] | None = None

    def _as_dict(self) -> dict[int, int]:
        if self._dict is None:
            self._dict = {k: v for k, v in zip(self._keys, self._values, strict=True) if v}
        return self._dict

    def __getitem__(self, key: int) -> int:
        return self._as_dict()[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self._as_dict())

    def __len__(self) -> int:
        return len(self._as_dict())

    @property
    def total(self) -> int:
        """Sum of all shares, without building the mapping."""
        return sum(self._values)

    def __repr__(self) -> str:
        return f"Shares({self._as_dict()!r})"


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """The books of one source over one pass; integers, in nanojoules, times on the monotonic clock.

    On every tick ``energy_nj == idle_nj + sum(requests_nj.values()) + late_nj + overhead_nj + other_nj +
    gap_nj``; ``overhead_parts`` sums to ``overhead_nj``; ``sum(idle_requests_nj.values()) <= idle_nj``
    (idle allocated to spans in flight is a second view of ``idle_nj``, not a bucket beside it).
    """

    source: str
    t0_ns: int
    t1_ns: int
    energy_nj: int
    idle_nj: int
    requests_nj: Mapping[int, int]
    late_nj: int
    overhead_nj: int
    other_nj: int
    gap_nj: int
    idle_requests_nj: Mapping[int, int]
    overhead_parts: Mapping[str, int]
    component: str = "cpu"
    tier: Tier = "measured"
    low_nj: int | None = None
    high_nj: int | None = None
    #: why energy is in ``gap_nj`` or is missing ("suspend", "reset", "vanished", …)
    gap_reason: str | None = None
    #: this service's part of the host over the tick (0…1), in flight or not, and what it is of ``idle_nj``
    slice_share: float | None = None
    slice_nj: int | None = None
    #: bounds of what the service drew: requests, late work, overhead and ``slice_nj``
    service_low_nj: int | None = None
    service_high_nj: int | None = None

    @property
    def closes(self) -> bool:
        """Whether the buckets sum to the source's energy, to the nanojoule."""
        booked = self.idle_nj + sum(self.requests_nj.values()) + self.late_nj + self.overhead_nj + self.other_nj + self.gap_nj
        return booked == self.energy_nj


class Exporter(Protocol):
    """A receiver of settled figures, called in order on a thread of the meter's own."""

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Take what settled since the last call; an exception is counted, not raised."""


def as_dict(record: Reading | Tick) -> dict[str, Any]:
    """The record as plain builtins, ready for JSON."""
    out = msgspec.structs.asdict(record)
    for key, value in out.items():
        if isinstance(value, Mapping):
            out[key] = {str(k): v for k, v in value.items()}
        elif isinstance(value, msgspec.Struct) or (isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct)):
            out[key] = msgspec.to_builtins(value)
    return out
