"""Reads the machine for ``doctor``: sources, host, idle, carbon and budgets, into one `Diagnosis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from typing import Any

import msgspec

from .. import setup
from ..attribution.workings import TIER_SHARE, method_of
from ..budgets.budget import Budget
from ..budgets.stores.opening import address_of, check_policy
from ..carbon import Factor, grid, operational
from ..declaration.statement import statement_of
from ..errors import ConfigurationError, SourceError, UnknownZoneError
from ..records import TIERS, Interval, Tier
from ..refusal import Refusals
from ..sources import Source, model_findings
from ..sources.agent import agent_link
from ..sources.cpu_table import CpuMatch
from ..sources.discovery import Discovery, describe, discover
from ..sources.findings import Finding
from ..sources.host_root import Roots
from ..sources.procfs import CpuModel, HostCpu
from .advice import advise, declaration_incomplete, switched_off
from .budget_states import budget_states
from .diagnosis import (
    MEASURED,
    MODELLED_ONLY,
    NOT_USABLE,
    SCHEMA,
    Cpu,
    Diagnosis,
    Host,
    Idle,
    IdleOrigin,
    SliceOrigin,
    SourceLine,
)
from .probing import Now, Probe, watts_now


def diagnose(choice: str, settings: Mapping[str, Any], roots: Roots, *, probe: Probe = watts_now) -> Diagnosis:
    """The diagnosis of the machine at ``roots`` for a meter with ``settings`` (keyword arguments of `Meter`).

    ``choice`` of sources as `discover` takes it; a required source that is missing is part of the answer. Raises
    ConfigurationError (UnknownZoneError, …) and MissingExtraError for settings that no meter would start with.
    """
    found, missing = _discovery(choice, settings, roots)
    zone, pue = settings.get("zone"), setup.site_pue(settings.get("pue"))
    factor = None
    if zone is not None:
        factor, steps = setup.emission_factor(zone, settings.get("factor"), settings.get("factor_pack"))
        setup.live_grid(settings.get("grid"), factor, steps)  # asked nothing here, but refused as a meter would refuse it
    stale = None if factor is None else factor.is_stale(datetime.now(UTC).year)
    host_cpu = HostCpu(roots.proc, roots.sys)
    now = probe(found.sources, host_cpu)
    host = _host(host_cpu, settings.get("host_share"), roots)
    host_cpu.close()
    for source in found.sources:
        source.close()
    total, idle = _total(now), _idle(found, settings.get("idle_watts") or {})
    budgets: Sequence[Budget] = settings.get("budgets", ())
    setup.check_budgets(budgets)
    _check_sharing(settings, budgets)
    disabled = [switched_off()] if setup.switched_off() else []
    return Diagnosis(
        schema=SCHEMA,
        version=metadata.version("frugal-meter"),
        exit_code=_exit_code(found, missing),
        tier=_tier(found.sources, now),
        measured_share=_measured(found.sources, now),
        method_id=method_of(found.sources),
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
        alternatives=[] if factor is None else _alternatives(factor),
        pue=pue,
        embodied=setup.hardware_embodied(settings.get("embodied", "default"), found, synthetic=False),
        carbon_now_g_per_h=None if factor is None or total is None else operational(total.times(3600), pue, factor),
        budgets=budget_states(budgets, found.sources),
        findings=[
            *disabled,
            *found.findings,
            *advise(found, now, idle, factor=factor, stale=stale, pue=pue),
            *_declared(settings.get("declaration")),
        ],
    )


def _declared(told: Any) -> list[Finding]:
    """What the declaration still lacks, where there is to be one. Raises ConfigurationError."""
    missing = () if told is None else statement_of(told).missing()
    return [declaration_incomplete(missing)] if missing else []


def _check_sharing(settings: Mapping[str, Any], budgets: Sequence[Budget]) -> None:
    """Raise ConfigurationError where a meter would refuse its store or its refusals; the store itself is not asked."""
    Refusals.of(settings.get("refusals"))
    check_policy(settings.get("on_store_error", "local"))
    address_of(settings.get("store", "auto"), settings.get("service") or "", budgets, alone=False)


def _alternatives(factor: Factor) -> list[Factor]:
    """Other published figures of the zone; none for a zone that only the operator's own pack knows."""
    try:
        known = [grid.factor(factor.zone), *grid.alternatives(factor.zone)]
    except UnknownZoneError:
        return []
    return [other for other in known if other.id != factor.id]


def _discovery(choice: str, settings: Mapping[str, Any], roots: Roots) -> tuple[Discovery, str | None]:
    """What is found, and the name of the required source that was not; the rest of the machine is told all the same."""
    if not isinstance(choice, str):
        raise ConfigurationError(f"sources={choice!r} cannot be: write one of auto, model, rapl, agent, codecarbon")
    declared = setup.declared_watts(settings.get("declared"))
    agent = agent_link(choice, settings.get("service") or "frugal-meter doctor", settings.get("host_share"), roots)
    look = partial(
        discover, powercap_root=roots.powercap, proc_root=roots.proc, sys_root=roots.sys, declared=declared, agent=agent
    )
    try:
        return look(choice), None
    except SourceError:
        found = look("auto")
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
        watts = describe(source).idle_w
        origin: IdleOrigin = "modelled"
        set_w = configured.get(source.name, configured.get(source.component))
        if set_w is not None:
            watts, origin = Interval(set_w, set_w, set_w), "configured"
        elif watts is None and source.component == "cpu" and found.baseline is not None:
            watts = found.baseline.times(1 / packages)
        elif watts is None:
            origin = "observed-later"
        lines.append(Idle(source.name, source.component, watts, origin))
    return lines


def _cpu(cpu: CpuModel | None, match: CpuMatch, known: bool, threads: int) -> Cpu:
    return Cpu(
        name=cpu.name if cpu else None, microarchitecture=match.microarchitecture, threads=cpu.threads if cpu else threads,
        virtual=cpu is not None and cpu.flags_hypervisor, known=known, relation=match.relation,
    )  # fmt: skip


def _host(host: HostCpu, share: float | None, roots: Roots) -> Host:
    quota, threads = roots.quota_cpus(), host.cpus()
    if share is not None:
        setup.check_number("host_share", share, 0, 1, "this service's part of the host")
        return Host(cpu_scope=host.scope(), threads=threads, quota_cpus=quota, slice=share, slice_origin="declared")
    part = None if quota is None else min(1.0, quota / threads)
    origin: SliceOrigin = "use" if part is None else "quota"
    return Host(cpu_scope=host.scope(), threads=threads, quota_cpus=quota, slice=part, slice_origin=origin)
