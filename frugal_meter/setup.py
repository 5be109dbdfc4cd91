"""What a `Meter` is told, checked and resolved: sources found, zone to factor, PUE, embodied, slice of the host.

Everything that can be wrong is refused here, in one line, before the first request.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .attribution.ledger import KEY_HIGH, KEY_LOW
from .budgets.budget import Budget
from .calibration import Calibration
from .calibration import load as load_calibration
from .carbon.embodied import Embodied
from .carbon.factors import STALE_FLAG, Factor
from .carbon.in_force import Step
from .carbon.pue import Pue
from .errors import ConfigurationError, MissingSettingError
from .records import TIERS, Interval, Tier
from .ring.election import is_one_of_several
from .sources import Source
from .sources.agent import AgentSource, agent_link
from .sources.discovery import DeclaredWatts, Discovery, discover
from .sources.host_root import Roots, host_roots
from .sources.procfs import HostCpu, memory_bytes
from .units import Resource

if TYPE_CHECKING:
    from .carbon.providers import Provider

log = logging.getLogger("frugal_meter")


class Setup(msgspec.Struct, frozen=True):
    """A meter's settings, resolved."""

    service: str
    factor: Factor
    pue: Pue
    embodied: Embodied | None
    discovery: Discovery
    probe: HostCpu
    quota_cpus: float | None
    idle_watts: Mapping[str, float]
    flags: tuple[str, ...]
    unavailable: Mapping[Resource, str]
    calibration: Calibration | None = None
    roots: Roots = Roots()
    #: when another factor takes over from ``factor`` (a series), and who tells of the next one (a live grid)
    steps: tuple[Step, ...] = ()
    grid: Any = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources that are booked."""
        return self.discovery.sources

    @property
    def key(self) -> tuple[float, float]:
        """Bounds of the sharing key, as multiples of what is charged."""
        found = self.calibration
        return (KEY_LOW, KEY_HIGH) if found is None else (found.key_low, found.key_high)

    def idle_watts_of(self, source: Source) -> float | None:
        """Configured idle power of a source, by its name or its component."""
        return self.idle_watts.get(source.name, self.idle_watts.get(source.component))

    def modelled_idle_of(self, source: Source) -> Interval | None:
        """Idle power by the table, for a measured CPU; its packages share it evenly."""
        baseline = self.discovery.baseline
        packages = sum(1 for s in self.sources if s.component == "cpu" and s.tier == "measured")
        if (
            baseline is None
            or not packages
            or source.component != "cpu"
            or source.tier != "measured"
            or source.sensor == "synthetic"
        ):
            return None
        return baseline.times(1 / packages)

    def own_idle_of(self, source: Source) -> Interval | None:
        """Idle watts of a source that knows its own: a model's, with their bounds."""
        watts = getattr(source, "watts", None)
        return watts(0.0) if callable(watts) else None

    def prior_of(self, source: Source) -> float | None:
        """Joules per CPU-second to show before the first tick has measured any: the model's, or a source's own."""
        if source.component != "cpu":
            return 0.0
        watts = getattr(source, "watts", None)
        if source.sensor == "synthetic" and watts is not None:
            return float(watts(1.0).mid - watts(0.0).mid)
        if watts is not None:
            return float(watts(1.0).mid - watts(0.0).mid) / max(1, self.probe.cpus())
        return None

    def embodied_grams(self, seconds: float, share: float) -> float:
        """Embodied gCO2e (mid) of ``share`` of the host over ``seconds``; its bounds are `embodied_spread` times that."""
        if self.embodied is None:
            return 0.0
        return self.embodied.grams(max(0.0, seconds), min(1.0, max(0.0, share))).mid

    @property
    def embodied_spread(self) -> tuple[float, float]:
        """Low and high of embodied carbon as multiples of its mid: the same for any time and share."""
        if self.embodied is None or not self.embodied.te_kg.mid:
            return 1.0, 1.0
        second = self.embodied.grams(1.0)
        return second.low / second.mid, second.high / second.mid


def switched_off() -> bool:
    """Whether ``FRUGAL_DISABLED`` says that nothing is to be metered."""
    return os.environ.get("FRUGAL_DISABLED", "") not in ("", "0")


def warn_of_workers(budgets: Sequence[Budget]) -> None:
    """Log one line where this process looks like one worker of several and has budgets to keep."""
    if budgets and is_one_of_several():
        log.warning(
            "frugal_meter: budgets are kept per worker here: N workers hold N budgets (run one worker, or share the limit)"
        )


def prepare(
    *,
    service: str,
    zone: str | None,
    sources: Any,
    budgets: Sequence[Budget],
    tick: float,
    pue: Any,
    host_share: float | None,
    factor: Factor | None,
    embodied: Any,
    idle_watts: Mapping[str, float] | None,
    declared: Any,
    calibration: Any = None,
    factor_pack: Any = None,
    grid: Any = None,
    host_root: Any = None,
) -> Setup:
    """Check and resolve a meter's settings; raises ConfigurationError and its kin."""
    if not isinstance(service, str) or not service.strip():
        raise ConfigurationError(f'service is the name of what is metered, such as "accueil-usagers", not {service!r}')
    check_number("tick", tick, 0.01, 60, "seconds between passes")
    if host_share is not None:
        check_number("host_share", host_share, 0, 1, "this service's part of the host")
    check_budgets(budgets)
    roots = host_roots(host_root)
    given, agent = _sources(sources), agent_link(sources, service, host_share, roots)
    folders: dict[str, Any] = {"powercap_root": roots.powercap, "proc_root": roots.proc, "sys_root": roots.sys}
    found = discover(given, declared=declared_watts(declared), agent=agent, **folders)
    _idle_watts(idle_watts, found.sources)
    synthetic = bool(found.sources) and all(s.sensor == "synthetic" for s in found.sources)
    used_pue, (used_factor, steps) = site_pue(pue), emission_factor(zone, factor, factor_pack)
    live = live_grid(grid, used_factor, steps)
    if STALE_FLAG in used_factor.flags:
        log.warning("frugal_meter: factor %s describes %d: a newer one is worth having", used_factor.id, used_factor.year)
    used_embodied = hardware_embodied(embodied, found, synthetic, roots.proc)
    calibrated = _calibration(calibration, found)
    return Setup(
        service,
        used_factor,
        used_pue,
        used_embodied,
        found,
        HostCpu(roots.proc, roots.sys),
        roots.quota_cpus(),
        dict(idle_watts or {}),
        (*_key_flags(calibrated, found), *_flags(found, used_embodied, () if steps or live else used_factor.flags)),
        unavailable_on(found.sources),
        calibrated,
        roots,
        steps,
        live,
    )


def _sources(sources: Any) -> Any:
    if isinstance(sources, str):
        return sources
    given = list(sources) if isinstance(sources, list | tuple) else [sources]
    for source in given:
        if not all(hasattr(source, needed) for needed in ("read", "name", "covers", "component", "tier")):
            raise ConfigurationError(
                f'sources is "auto", "model", "rapl", "agent", "codecarbon" or Source objects, not {source!r}'
            )
    return given


def _idle_watts(idle_watts: Any, sources: Sequence[Source]) -> None:
    if idle_watts is None:
        return
    if not isinstance(idle_watts, Mapping):
        raise ConfigurationError(f"idle_watts is a mapping such as {{'cpu': 35}}, not {idle_watts!r}")
    known = {s.name for s in sources} | {s.component for s in sources}
    for name, watts in idle_watts.items():
        if name not in known:
            raise ConfigurationError(
                f"idle_watts names {name!r}, which is no source or component here; known: {', '.join(sorted(known))}"
            )
        check_number(f"idle_watts[{name!r}]", watts, 0, 1e5, "watts")
        if any(isinstance(s, AgentSource) and name in (s.name, s.component) for s in sources):
            raise ConfigurationError(
                f"idle_watts of {name!r} is the host agent's to know: give it to frugal-meter agent --idle-watts"
            )


def check_callables(tenant: Any, exporters: Any, capture_usage: Any) -> None:
    """Refuse in one line what cannot be called or exported to."""
    if tenant is not None and not callable(tenant):
        raise ConfigurationError(f"tenant is a function of the ASGI scope that returns a name or None, not {tenant!r}")
    if not isinstance(exporters, list | tuple) or not all(callable(getattr(e, "export", None)) for e in exporters):
        raise ConfigurationError(f"exporters is a list of objects with export(readings, ticks), not {exporters!r}")
    check_flag("capture_usage", capture_usage)


def check_flag(name: str, value: Any) -> bool:
    """A setting that is True or False; anything else is refused in one line."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} is True or False, not {value!r}")
    return value


def check_number(name: str, value: Any, low: float, high: float, what: str) -> None:
    """Refuse in one line a number that cannot be."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
        raise ConfigurationError(f"{name}={value!r} cannot be: it is {what}, from {low:g} to {high:g}")


def check_budgets(budgets: Sequence[Budget]) -> None:
    """Refuse what is no list of budgets with names of their own."""
    if not isinstance(budgets, list | tuple):
        raise ConfigurationError(f'budgets is a list of Budget, such as [Budget("chat", "50 kJ", per="day")], not {budgets!r}')
    seen: set[str] = set()
    for budget in budgets:
        if not isinstance(budget, Budget):
            raise ConfigurationError(f'budgets holds {budget!r}; write Budget("chat", "50 kJ", per="day")')
        if budget.name in seen:
            raise ConfigurationError(f"two budgets are called {budget.name!r}; names must differ")
        seen.add(budget.name)


def declared_watts(declared: Any) -> DeclaredWatts | None:
    """The operator's watts, from a mapping or as they are."""
    if declared is None or isinstance(declared, DeclaredWatts):
        return declared
    if isinstance(declared, Mapping):
        try:
            return (
                msgspec.convert(dict(declared), DeclaredWatts, strict=True)
                if set(declared) <= set(DeclaredWatts.__struct_fields__)
                else _unknown(declared)
            )
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"declared watts: {error}") from None
    raise ConfigurationError(f"declared is a mapping such as {{'cpu_idle': 30, 'cpu_full': 150}} in watts, not {declared!r}")


def _unknown(declared: Mapping[str, Any]) -> DeclaredWatts:
    known = ", ".join(DeclaredWatts.__struct_fields__)
    raise ConfigurationError(
        f"declared watts: {', '.join(sorted(set(declared) - set(DeclaredWatts.__struct_fields__)))} not known; use {known}"
    )


def emission_factor(zone: str | None, factor: Any, pack: Any = None) -> tuple[Factor, tuple[Step, ...]]:
    """The factor of a meter, and when others take over from it: as given, from a pack, or the bundled table's.

    A figure of a year long past is flagged. Raises ConfigurationError, FactorError and their kin.
    """
    found, steps = _chosen(zone, factor, pack)
    if found.is_stale(datetime.now(UTC).year) and STALE_FLAG not in found.flags:
        found = msgspec.structs.replace(found, flags=(*found.flags, STALE_FLAG))
    return found, steps


def _chosen(zone: str | None, factor: Any, pack: Any) -> tuple[Factor, tuple[Step, ...]]:
    from .carbon import grid

    if factor is not None:
        if pack is not None:
            raise ConfigurationError("factor and factor_pack are both given: leave one out")
        if not isinstance(factor, Factor):
            raise ConfigurationError(f"factor is a Factor, made by Factor.declared(...), not {factor!r}")
        return factor, ()
    if zone is None:
        raise MissingSettingError(
            'zone is required: the zone of the electricity grid, such as "FR" or "FR-COR"; it is never guessed'
        )
    if pack is None:
        return grid.factor(zone), ()
    from .carbon.packs import load_pack

    if not isinstance(pack, str | Path):
        raise ConfigurationError(f"factor_pack is the path of a pack's manifest, not {pack!r}")
    loaded = load_pack(pack)
    return loaded.factor(zone), loaded.steps(zone)


def live_grid(grid: Any, fallback: Factor, steps: Sequence[Step]) -> Provider | None:
    """The live grid provider by its name, or as given; its fallback must be addable to it. Raises ConfigurationError."""
    if grid is None:
        return None
    from .carbon.live import check_fallback
    from .carbon.providers import provider

    if steps:
        raise ConfigurationError("grid and a factor pack with a series both say what is in force now: leave one out")
    found: Provider = provider(grid, fallback.zone) if isinstance(grid, str) else grid
    if not all(hasattr(found, needed) for needed in ("ask", "read", "zone", "scope", "basis", "period_s")):
        raise ConfigurationError(f'grid is a name such as "rte", or a provider of frugal_meter.carbon.providers, not {grid!r}')
    check_fallback(found, fallback)
    return found


def site_pue(pue: Any) -> Pue:
    """The declared PUE, or the published default with its range."""
    if pue is None:
        return Pue.default()
    return pue if isinstance(pue, Pue) else Pue.declared(pue, source="declared by the operator")


def hardware_embodied(embodied: Any, found: Discovery, synthetic: bool, proc: Path = Path("/proc")) -> Embodied | None:
    """Embodied carbon as given, or a flagged default for this machine; None for an imagined one."""
    if embodied is None or isinstance(embodied, Embodied):
        return embodied
    if embodied != "default":
        raise ConfigurationError(f'embodied is an Embodied, None or "default", not {embodied!r}')
    if synthetic or found.cpu is None:  # figures of an imagined machine
        return None
    gpus = sum(1 for s in found.sources if s.component == "gpu")
    if found.cpu.flags_hypervisor:
        return Embodied.vm(vcpus=found.cpu.threads, gpus=gpus)
    return Embodied.host(sockets=found.cpu.sockets or 1, memory_gb=(memory_bytes(proc) or 0) / 1e9 or 1.0, gpus=gpus)


def _flags(found: Discovery, embodied: Embodied | None, of_factor: Sequence[str]) -> tuple[str, ...]:
    flags = [*(embodied.flags if embodied is not None else ["embodied:none"]), *of_factor]
    for source in found.sources:
        flags += [f for f in getattr(source, "flags", ()) if f not in flags]
    return tuple(flags)


def _calibration(path: Any, found: Discovery) -> Calibration | None:
    """The operator's calibration; one made on another CPU says nothing here, and is told and left aside."""
    if path is None:
        return None
    calibration, here = load_calibration(path), calibration_cpu(found)
    if calibration.cpu != here:
        log.warning("frugal_meter: %s was made on %r and this is %r: default bounds are used", path, calibration.cpu, here)
        return None
    return calibration


def calibration_cpu(found: Discovery) -> str:
    """The CPU that a calibration holds for."""
    return (found.cpu.name if found.cpu is not None else None) or "unknown"


def _key_flags(calibration: Calibration | None, found: Discovery) -> tuple[str, ...]:
    # A calibration is of the CPU: a GPU's key stays what it was.
    expert = calibration is None or any(source.component == "gpu" for source in found.sources)
    calibrated = ("interval:calibrated",) if calibration is not None else ()
    return (*calibrated, *(("interval:expert-assumption",) if expert else ()))


def budget_tier(budget: Budget, sources: Sequence[Source]) -> Tier | None:
    """The tier of the figure that ``budget`` counts with these sources: the weakest that its joules come from.

    A component that draws the same busy or idle has no dynamic joules, so its tier does not weigh on a dynamic budget.
    None for what is simply counted.
    """
    if budget.resource in ("cpu", "gpu"):
        return "measured"
    if budget.resource not in ("energy", "carbon"):
        return None
    counted = [s for s in sources if budget.basis == "full" or not _is_constant(s)]
    return max((s.tier for s in counted or sources), key=TIERS.index, default=None)


def _is_constant(source: Source) -> bool:
    watts = getattr(source, "watts", None)
    return callable(watts) and watts(0.0) == watts(1.0)


def unavailable_on(sources: Sequence[Source]) -> dict[Resource, str]:
    """Resources that no budget can ever count with these sources, and why."""
    out: dict[Resource, str] = {}
    if not sources:
        out["energy"] = out["carbon"] = "no source of joules was given"
    if not any(s.component == "gpu" for s in sources):
        out["gpu"] = "there is no GPU source on this machine"
    elif not any(getattr(s, "tells_busy", False) for s in sources):
        out["gpu"] = "no GPU here tells its busy time (MIG mode, or a driver without utilisation)"
    return out
