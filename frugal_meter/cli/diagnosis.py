"""What can be measured on this machine, gathered as one record: what ``doctor`` prints and gives as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from .. import setup
from ..budgets.budget import Budget
from ..carbon import Embodied, Factor, Pue, grid, operational
from ..errors import ConfigurationError, SourceError
from ..figures import TIER_SHARE
from ..records import TIERS, Interval, Tier
from ..sources import Source, model_findings
from ..sources.cpu_table import CpuMatch
from ..sources.discovery import Discovery, describe, discover
from ..sources.findings import Finding
from ..sources.procfs import CpuModel, HostCpu, cgroup_cpu_quota
from . import advice
from .budget_states import BudgetState, budget_states
from .probing import Now, Probe, watts_now

SCHEMA: Final = "frugal-meter/doctor/1"
MEASURED: Final = 0
MODELLED_ONLY: Final = 1
NOT_USABLE: Final = 2
IdleOrigin = Literal["configured", "modelled", "observed-later"]


class Roots(msgspec.Struct, frozen=True):
    """Where the machine is read: its own folders, or trees on disk that stand in for it."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    powercap: Path = Path("/sys/class/powercap")


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
    slice_origin: Literal["declared", "quota", "use"]


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


def diagnose(choice: str, settings: Mapping[str, Any], roots: Roots, *, probe: Probe = watts_now) -> Diagnosis:
    """The diagnosis of the machine at ``roots`` for a meter with ``settings`` (keyword arguments of `Meter`).

    ``choice`` of sources as `discover` takes it; a required source that is missing is part of the answer. Raises
    ConfigurationError (UnknownZoneError, …) and MissingExtraError for settings that no meter would start with.
    """
    found, missing = _discovery(choice, settings, roots)
    zone, pue = settings.get("zone"), setup._pue(settings.get("pue"))
    factor = None if zone is None else grid.factor(zone)
    stale = None if factor is None else factor.is_stale(datetime.now(UTC).year)
    host_cpu = HostCpu(roots.proc, roots.sys)
    now = probe(found.sources, host_cpu)
    host = _host(host_cpu, settings.get("host_share"), roots)
    for handle in (host_cpu, *found.sources):
        handle.close()
    total, idle = _total(now), _idle(found, settings.get("idle_watts") or {})
    budgets: Sequence[Budget] = settings.get("budgets", ())
    setup._budgets(budgets)
    return Diagnosis(
        schema=SCHEMA,
        version=metadata.version("frugal-meter"),
        exit_code=_exit_code(found, missing),
        tier=_tier(found.sources, now),
        measured_share=_measured(found.sources, now),
        required_missing=missing,
        boundary=found.boundary,
        cpu=_cpu(found.cpu, found.match, found.known_cpu, host_cpu.cpus()),
        host=host,
        sources=[_line(source, each) for source, each in zip(found.sources, now, strict=True)],
        total_now_w=total,
        idle=idle,
        zone=None if factor is None else factor.zone,
        factor=factor,
        factor_stale=stale,
        alternatives=[] if factor is None else list(grid.alternatives(factor.zone)),
        pue=pue,
        embodied=setup._embodied(settings.get("embodied", "default"), found, synthetic=False),
        carbon_now_g_per_h=None if factor is None or total is None else operational(total.times(3600), pue, factor),
        budgets=budget_states(budgets, found.sources, setup._unavailable(found.sources)),
        findings=[*found.findings, *advice.advise(found, now, idle_known=all(i.watts for i in idle), factor=factor, stale=stale, pue=pue)],
    )


def as_json(diagnosis: Diagnosis) -> str:
    """The diagnosis as one indented JSON document."""
    return msgspec.json.format(msgspec.json.encode(diagnosis), indent=2).decode()


def _discovery(choice: str, settings: Mapping[str, Any], roots: Roots) -> tuple[Discovery, str | None]:
    """What is found, and the name of the required source that was not; the rest of the machine is told all the same."""
    if not isinstance(choice, str):
        raise ConfigurationError(f"sources={choice!r} cannot be: write one of auto, model, rapl, codecarbon")
    declared = setup._declared(settings.get("declared"))
    places = {"powercap_root": roots.powercap, "proc_root": roots.proc, "sys_root": roots.sys}
    try:
        return discover(choice, declared=declared, **places), None
    except SourceError:
        found = discover("auto", declared=declared, **places)
    if not any(finding.code.startswith("rapl") for finding in found.findings):
        why = model_findings.no_package(roots.powercap)
        found = msgspec.structs.replace(found, findings=(why, *found.findings))
    return found, choice


def _exit_code(found: Discovery, missing: str | None) -> int:
    cpu_measured = any(source.component == "cpu" and source.tier == "measured" for source in found.sources)
    if missing is not None or not (cpu_measured or found.known_cpu):
        return NOT_USABLE
    return MEASURED if any(source.tier == "measured" for source in found.sources) else MODELLED_ONLY


def _tier(sources: Sequence[Source], now: Sequence[Now]) -> Tier | None:
    watts = {s: n.watts.mid for s, n in zip(sources, now, strict=True) if n.watts is not None}
    whole = sum(watts.values())
    if len(watts) < len(sources) or not whole:
        return max((s.tier for s in sources), key=TIERS.index, default=None)
    held = {tier: sum(w for s, w in watts.items() if s.tier == tier) for tier in TIERS}
    return max((tier for tier in TIERS if held[tier] >= TIER_SHARE * whole), key=TIERS.index)


def _measured(sources: Sequence[Source], now: Sequence[Now]) -> float | None:
    total = _total(now)
    if total is None or not total.mid:
        return None
    return sum(n.watts.mid for s, n in zip(sources, now, strict=True) if n.watts and s.tier == "measured") / total.mid


def _total(now: Sequence[Now]) -> Interval | None:
    """The sum, None as soon as one part is unknown."""
    watts = [each.watts for each in now]
    if not watts or any(w is None for w in watts):
        return None
    known = [w for w in watts if w is not None]
    return Interval(sum(w.low for w in known), sum(w.mid for w in known), sum(w.high for w in known))


def _line(source: Source, now: Now) -> SourceLine:
    about = describe(source)
    return SourceLine(
        name=source.name, component=source.component, tier=source.tier, sensor=source.sensor, scope=source.scope,
        method=source.method, covers=source.covers, provenance=source.provenance, idle_w=about.idle_w, full_w=about.full_w,
        now_w=now.watts, now_unknown=now.why, flags=about.flags,
    )  # fmt: skip


def _idle(found: Discovery, configured: Mapping[str, float]) -> list[Idle]:
    packages = sum(s.component == "cpu" and s.tier == "measured" for s in found.sources)
    lines = []
    for source in found.sources:
        watts, origin = describe(source).idle_w, "modelled"
        set_w = configured.get(source.name, configured.get(source.component))
        if set_w is not None:
            watts, origin = Interval(set_w, set_w, set_w), "configured"
        elif watts is None and source.component == "cpu" and found.baseline is not None:
            watts = found.baseline.times(1 / packages)
        elif watts is None:
            origin = "observed-later"
        lines.append(Idle(source.name, source.component, watts, origin))  # type: ignore[arg-type]
    return lines


def _cpu(cpu: CpuModel | None, match: CpuMatch, known: bool, threads: int) -> Cpu:
    return Cpu(
        name=cpu.name if cpu else None, microarchitecture=match.microarchitecture, threads=cpu.threads if cpu else threads,
        virtual=cpu is not None and cpu.flags_hypervisor, known=known, relation=match.relation,
    )  # fmt: skip


def _host(host: HostCpu, share: float | None, roots: Roots) -> Host:
    quota, threads = cgroup_cpu_quota(roots.sys / "fs/cgroup", roots.proc), host.cpus()
    if share is not None:
        setup._number("host_share", share, 0, 1, "this service's part of the host")
        return Host(cpu_scope=host.scope(), threads=threads, quota_cpus=quota, slice=share, slice_origin="declared")
    part = None if quota is None else min(1.0, quota / threads)
    origin: Literal["quota", "use"] = "use" if part is None else "quota"
    return Host(cpu_scope=host.scope(), threads=threads, quota_cpus=quota, slice=part, slice_origin=origin)
