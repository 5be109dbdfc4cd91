"""What can be measured on a machine, as one record: what ``doctor`` prints, and gives as JSON."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ..carbon import Embodied, Factor, Pue
from ..records import Interval, Tier
from ..sources.findings import Finding
from ..sources.host_root import Roots as Roots  # where the machine is read
from .budget_states import BudgetState

SCHEMA: Final = "frugal-meter/doctor/1"
MEASURED: Final = 0
MODELLED_ONLY: Final = 1
NOT_USABLE: Final = 2
IdleOrigin = Literal["configured", "modelled", "observed-later"]
SliceOrigin = Literal["declared", "quota", "use"]


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """The processor: ``known`` when the table of watts holds it or a relative, or when its watts are declared."""

    name: str | None
    microarchitecture: str
    threads: int
    virtual: bool
    known: bool
    relation: str


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """Whose CPU time is seen, and this service's slice of it.

    ``slice_origin``: "declared" (``host_share``), "quota" (cgroup CPUs ÷ host CPUs), or "use" (this process's CPU time
    over the host's, tick by tick; ``slice`` is then None).
    """

    cpu_scope: Literal["host", "container", "unknown"]
    threads: int
    quota_cpus: float | None
    slice: float | None
    slice_origin: SliceOrigin


class SourceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One source; watts in W, None where unknown: a sensor does not tell what it would show at full load."""

    name: str
    component: str
    tier: Tier
    sensor: str
    scope: str
    method: str
    covers: tuple[str, ...]
    provenance: str
    idle_w: Interval | None
    full_w: Interval | None
    now_w: Interval | None
    now_unknown: str | None
    flags: tuple[str, ...]


class Idle(msgspec.Struct, frozen=True):
    """The idle baseline of one source at start-up, in W.

    "configured" (``idle_watts``), "modelled" (the table; for a sensor, until the meter has seen the machine idle), or
    "observed-later" (None until then: such a sensor's joules are all booked as dynamic meanwhile).
    """

    source: str
    component: str
    watts: Interval | None
    origin: IdleOrigin


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ``doctor`` says; its keys are stable within `SCHEMA`.

    ``tier`` is what a reading would carry at the power of now: the weakest that holds 5 % of it. ``factor``,
    ``alternatives`` and ``carbon_now_g_per_h`` are None or empty without a zone, for a zone is never guessed.
    """

    schema: str
    version: str
    exit_code: int
    tier: Tier | None
    measured_share: float | None
    method_id: str
    required_missing: str | None
    boundary: tuple[str, ...]
    cpu: Cpu
    host: Host
    sources: list[SourceLine]
    total_now_w: Interval | None
    idle: list[Idle]
    zone: str | None
    factor: Factor | None
    factor_stale: bool | None
    alternatives: list[Factor]
    pue: Pue
    embodied: Embodied | None
    carbon_now_g_per_h: Interval | None
    budgets: list[BudgetState]
    findings: list[Finding]


def as_json(diagnosis: Diagnosis) -> str:
    """The diagnosis as one indented JSON document."""
    return msgspec.json.format(msgspec.json.encode(diagnosis), indent=2).decode()
