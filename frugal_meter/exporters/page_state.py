"""What the live page knows when it is drawn: plain frozen records that the meter fills and the page renders.

Energies in J, power in W, CPU in s, times in Unix seconds. Unknown is ``None`` and is shown as such, never as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from ..records import Interval, Reading, Tier

Level = Literal["ok", "warn", "degrade", "throttle", "refuse"]

#: where a joule can go, in the order in which the page tells it
BUCKETS: Final = ("requests", "late", "overhead", "other", "idle", "gap")
#: what a budget can be kept per
KEYS: Final = ("route", "model", "tenant")
#: the page shows this many requests and no more, so that its size has a ceiling
MOST_REQUESTS: Final = 12


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """One energy source as it stands now; ``watts`` over the last tick, ``bounds`` around it when known."""

    name: str
    component: str  # cpu | dram | gpu | board | node
    tier: Tier
    up: bool
    watts: float | None
    provenance: str
    bounds: Interval | None = None
    method: str | None = None


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """One budget line, amounts in ``unit`` (J, gCO2e, CPU-s, GPU-s, tokens or requests).

    ``key`` is None for the whole service, one of ``KEYS``, or the value this line is for ("/chat").
    ``tier`` is None for what is simply counted (tokens, requests). With ``enforced`` false the budget watches
    and never refuses. ``settled`` is None when the figure it counts cannot be had on this machine.
    ``match`` is which requests count, by key ({"route": "/letters/*"}), empty for all. ``dynamic`` joules are those of computing
    alone, without the share of the idle machine. ``required``: the tier that it would need to refuse, where this machine has
    a weaker one. ``overrides``: until when (Unix) permissions to pass it hold. ``unmatched``: since when (Unix) no request has
    been one of those that count, though there were many; else None.
    """

    name: str
    key: str | None
    unit: str
    limit: float
    settled: float | None
    reserved: float | None
    window: str
    resets_at: float | None
    level: Level
    enforced: bool
    tier: Tier | None
    bounds: Interval | None = None
    match: Mapping[str, str] = msgspec.field(default_factory=dict)
    dynamic: bool = False
    required: Tier | None = None
    overrides: Sequence[float] = ()
    unmatched: float | None = None

    @property
    def used(self) -> float | None:
        """Settled plus reserved: what admission compares with the limit; None when unknown."""
        return None if self.settled is None else self.settled + (self.reserved or 0.0)


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """The store that the service's workers share their budgets in: its kind, whether this worker reached it last, what it does
    without (local, open or closed), and how many share.
    """

    kind: str
    up: bool
    policy: str
    holders: int


class FactorLine(msgspec.Struct, frozen=True, kw_only=True):
    """The emission factor in force, gCO2e per kWh, with what must be cited beside it."""

    zone: str
    grams_per_kwh: float
    dataset: str
    year: int | None
    licence: str
    bounds: Interval | None = None
    id: str | None = None


class LiveState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the live page at one instant.

    ``buckets_j`` holds what was booked since ``since`` under the names of ``BUCKETS``; empty when no source gives
    joules. ``bounds_j`` bounds those buckets, and "total" their sum, where the meter can say it. ``off_nj`` is
    the sources' energy minus the sum of all buckets, from the integers of the books: None when nobody compared.
    ``meter_cpu_share`` is the meter's own CPU seconds per CPU second of the process, 0…1.
    """

    service: str
    zone: str
    at: float
    since: float
    watts_now: Interval | None
    watts_tier: Tier | None
    window_s: float | None
    buckets_j: Mapping[str, float]
    sources: Sequence[SourceState]
    requests: Sequence[Reading]  # newest first
    budgets: Sequence[BudgetState]
    factor: FactorLine | None
    pue: Interval | str  # no unit; a text is shown as it is, in both languages
    method_id: str
    flags: Sequence[str] = ()
    meter_cpu_share: float | None = None
    bounds_j: Mapping[str, Interval] = msgspec.field(default_factory=dict)
    account_tier: Tier | None = None
    off_nj: int | None = None
    disabled: bool = False
    #: None: budgets are in the memory of this process
    store: StoreState | None = None
    #: processes of the service, whose sums these are; ``requests`` are of one of them. None where there is only one
    workers: int | None = None
    #: IANA name of the clock on the wall; UTC where the machine has no table of time zones
    timezone: str = "Europe/Paris"

    @property
    def total_j(self) -> float | None:
        """Energy of the host since ``since``, J; None when no source gives joules."""
        return sum(self.buckets_j.values()) if self.buckets_j else None
