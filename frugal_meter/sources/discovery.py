"""Every source of this machine, sensors first: what none of them covers is modelled and added.

So the boundary (CPU, memory, board, and GPUs where there are any) is the same on a laptop with RAPL, on a server
with a memory zone and in a virtual machine with nothing: a change of tier is no change of what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

import msgspec

from ..errors import ConfigurationError, SourceError
from ..records import Interval
from . import Scope, Source, agent_findings, model_findings, nvml, rapl
from .agent import agent_sources
from .agent_link import AgentLink
from .cpu_table import CpuMatch, identify, read_stepping
from .findings import Finding
from .power_model import BoardModelSource, CpuModelSource, MemoryModelSource, ModelSource, ServerRestSource, SourceDescription
from .procfs import CpuModel, HostCpu, cpu_model, memory_bytes
from .watts import CpuWatts, board_part, board_watts, declared_cpu, table_cpu

#: words of a boundary, in its order, and the components that stand for each
_BOUNDARY: Final = {"cpu": ("cpu",), "memory": ("dram",), "board": ("board",), "node": ("node",), "gpu": ("gpu",)}
#: what a cover of this kind contains besides itself: a node meter sees the whole server, psys the packages
_CONTAINS: Final = {"node": {"node", "psys", "package", "dram", "board", "gpu"}, "psys": {"psys", "package", "dram"}}
_CHOICES: Final = ("auto", "model", "rapl", "agent", "codecarbon")


class DeclaredWatts(msgspec.Struct, frozen=True, kw_only=True):
    """Watts that the operator knows, each None when not known; CPU watts come in pairs.

    ``memory`` and ``board`` are drawn busy or idle. What is declared replaces the model's figure, never a sensor's.
    """

    cpu_idle: float | None = None
    cpu_full: float | None = None
    memory: float | None = None
    board: float | None = None

    def cpu(self) -> CpuWatts | None:
        """The CPU's watts, None when undeclared; raises ``ConfigurationError`` for half a pair or a bad figure."""
        if self.cpu_idle is None and self.cpu_full is None:
            return None
        if self.cpu_idle is None or self.cpu_full is None:
            raise ConfigurationError("declared CPU watts need both cpu_idle and cpu_full")
        return declared_cpu(idle_watts=self.cpu_idle, full_watts=self.cpu_full)


class Discovery(msgspec.Struct, frozen=True):
    """What this machine's joules will be counted from.

    ``baseline`` is the idle power of the CPU by the table or as declared, in W, for a measured CPU: a counter does not
    say which part of its joules an idle machine draws. None when the CPU is modelled (its samples carry their idle part)
    or unknown.
    """

    sources: tuple[Source, ...]
    findings: tuple[Finding, ...]
    cpu: CpuModel | None
    match: CpuMatch
    known_cpu: bool
    boundary: tuple[str, ...]
    baseline: Interval | None

    def describe(self) -> tuple[SourceDescription, ...]:
        """One line per source, in their order."""
        return tuple(describe(source) for source in self.sources)


def discover(
    sources: str | Source | list[Source] | tuple[Source, ...] = "auto",
    *,
    powercap_root: Path = Path("/sys/class/powercap"),
    proc_root: Path = Path("/proc"),
    sys_root: Path = Path("/sys"),
    declared: DeclaredWatts | None = None,
    scope: Scope = "host",
    agent: AgentLink | None = None,
) -> Discovery:
    """The sources to count with.

    "auto": sensors, and models for what they do not cover; where no CPU sensor can be read, the host agent at the end of
    ``agent``, if it answers or was asked for by name. "model": models only. "rapl": as auto, but a RAPL package is
    required. "agent": the host agent, whether it answers now or later. "codecarbon": as model, with codecarbon's CPU model.
    A source or a list of them is taken as it is: nothing is added. ``scope`` says whose energy a powercap tree
    holds ("vm-share": the hypervisor hands down this guest's).
    Raises ``ConfigurationError`` for an unknown word or sources whose covers overlap, ``SourceError`` for a required
    source that is missing.
    """
    machine = _Machine(proc_root, declared or DeclaredWatts())
    if not isinstance(sources, str):
        given = (*sources,) if isinstance(sources, list | tuple) else (sources,)
        refuse_overlaps(given)
        return machine.discovery(given, [])
    if sources not in _CHOICES:
        raise ConfigurationError(f"unknown sources {sources!r}: use {', '.join(_CHOICES)}, or a list of sources")
    sensors: list[Source] = []
    findings: list[Finding] = []
    if sources in ("auto", "rapl"):
        sensors, findings = _sensors(powercap_root, HostCpu(proc_root, sys_root), scope, machine.cpu)
    if sources == "rapl" and not any(source.component == "cpu" for source in sensors):
        for source in sensors:
            source.close()
        of_rapl = (finding for finding in findings if finding.code.startswith("rapl"))
        why = next(of_rapl, model_findings.no_package(powercap_root))
        raise SourceError(f"RAPL is required and cannot be read: {why.what}", why.where, why.remedy)
    if sources == "agent" or (sources == "auto" and not any(source.component == "cpu" for source in sensors)):
        found = _of_agent(machine, agent, required=sources == "agent")
        if found is not None:
            told, notes = found
            gpus, others = _gpus_beside(told, sensors if sources == "auto" else nvml.discover(proc_root).sources, findings)
            return machine.discovery((*told, *gpus), notes + others)
    models, notes = machine.models({source.component for source in sensors}, codecarbon=sources == "codecarbon")
    return machine.discovery((*sensors, *models), findings + notes)


def _of_agent(machine: _Machine, link: AgentLink | None, *, required: bool) -> tuple[list[Source], list[Finding]] | None:
    """What the host agent tells of, and what is to be known of it; None where there is no agent to use."""
    if link is None:
        if required:
            raise SourceError(
                "no host agent is here", "FRUGAL_AGENT", "start frugal-meter agent on the host, or say where it listens"
            )
        return None
    link.open()
    if not link.up and not required and not link.address.asked:
        return None  # a socket that an agent has left behind
    if link.up and "cpu" not in link.offered and not any(key.startswith("gpu:") for key in link.offered):
        link.close()
        if required:
            raise SourceError(agent_findings.agent_blind("").what, str(link.address), agent_findings.agent_blind("").remedy)
        return None
    notes: list[Finding] = [agent_findings.agent_used(str(link.address))] if link.up else []
    models, of_models = machine.models(set(), codecarbon=False)
    sources = agent_sources(link, models, notes)
    return sources, notes + of_models


def _gpus_beside(
    told: Sequence[Source], sensors: Sequence[Source], findings: Sequence[Finding]
) -> tuple[list[Source], list[Finding]]:
    """The GPUs that this process reads itself, those that the agent does not tell of (who sees whose processes used them), and
    what is to be known of what the agent does not read for it.
    """
    cpu = any(source.component == "cpu" and source.tier == "measured" for source in told)
    covered = {cover for source in told if source.component == "gpu" for cover in source.covers}
    gpus = [source for source in sensors if source.component == "gpu" and not covered.intersection(source.covers)]
    said = [
        finding
        for finding in findings
        if not (cpu and finding.code.startswith("rapl"))
        and f"gpu:{finding.where}" not in covered
        and not (covered and finding.code in ("nvml-extra-missing", "nvml-no-driver"))
    ]
    return gpus, said


def _sensors(powercap: Path, host: HostCpu, scope: Scope, cpu: CpuModel | None) -> tuple[list[Source], list[Finding]]:
    """What can be measured; a host's RAPL beside a container's CPU time is refused."""
    found, gpus = rapl.discover(powercap, scope=scope, cpu=cpu), nvml.discover(host.proc)
    findings = [*found.findings, *gpus.findings]
    sensors: list[Source] = [*found.sources]
    if sensors and scope == "host" and host.scope() == "container":
        # its joules are everybody's, the busy time in view is only ours: the share would be far too large
        for source in sensors:
            source.close()
        sensors, findings = [], [model_findings.scopes_differ(powercap), *findings]
    host.close()
    for check in found.cross_checks:
        check.zone.close()
    return [*sensors, *gpus.sources], findings


class _Machine:
    """What models need to know of this machine, read once."""

    def __init__(self, proc_root: Path, declared: DeclaredWatts) -> None:
        self.cpu = cpu_model(proc_root)
        self.match = identify(self.cpu, stepping=read_stepping(proc_root))
        self._declared, self._declared_cpu = declared, declared.cpu()
        self._threads = self.cpu.threads if self.cpu else HostCpu(proc_root).cpus()
        # no bit tells on Arm: taken for a guest, as most of its servers are; the low end is that of bare metal
        self._virtual = self.cpu is not None and (self.cpu.flags_hypervisor or self.cpu.vendor == "ARM")
        self._sockets = self.cpu.sockets if self.cpu else None
        self._memory_bytes, self._proc_root = memory_bytes(proc_root), proc_root

    def models(self, covered: set[str], *, codecarbon: bool) -> tuple[list[ModelSource], list[Finding]]:
        """Models of every component but those ``covered``, and what is to be known of them."""
        models: list[ModelSource] = []
        notes: list[Finding] = []
        whole = "cpu" not in covered and not codecarbon and self._declared_cpu is None and self._declared.board is None
        if "cpu" not in covered:
            models.append(self._codecarbon_cpu() if codecarbon else CpuModelSource(self._cpu_watts(apart=not whole)))
            notes += self._cpu_notes()
        if "dram" not in covered and self._declared.memory is None and self._memory_bytes is None:
            notes.append(model_findings.memory_unknown(self._proc_root / "meminfo"))
        elif "dram" not in covered:
            models.append(MemoryModelSource(self._memory_bytes, watts=self._declared.memory))
        models.append(self._board(whole=whole))
        return models, notes

    def _cpu_watts(self, *, apart: bool) -> CpuWatts:
        return self._declared_cpu or table_cpu(
            self.match, self._threads, virtual=self._virtual, sockets=self._sockets, apart=apart
        )

    def _codecarbon_cpu(self) -> ModelSource:
        from .codecarbon_model import CodecarbonCpuModelSource

        cpu = self.cpu
        return CodecarbonCpuModelSource(cpu_name=cpu.name if cpu else None, sockets=(cpu.sockets if cpu else None) or 1)

    def _board(self, *, whole: bool) -> ModelSource:
        if whole:
            rest = board_part(self.match, self._threads, virtual=self._virtual, sockets=self._sockets)
            return ServerRestSource(rest)
        if self._declared.board is not None:
            return BoardModelSource(self._declared.board)
        watts = board_watts(self.match, self._threads, virtual=self._virtual, sockets=self._sockets)
        return BoardModelSource(watts, f"share of the server around {self._threads} threads of {self.match.microarchitecture}")

    def _cpu_notes(self) -> list[Finding]:
        if self._declared_cpu is not None or self.match.relation == "exact":
            return []
        name = (self.cpu.name if self.cpu else None) or "unnamed"
        where = str(self._proc_root / "cpuinfo")
        if self.match.relation == "relative":
            return [model_findings.cpu_relative(name, self.match, where)]
        if self.match.relation == "vendor":
            return [model_findings.cpu_vendor(name, self.match, where)]
        return [model_findings.cpu_unknown(name, where)]

    def discovery(self, sources: tuple[Source, ...], findings: list[Finding]) -> Discovery:
        """The sources with what this machine adds to their figures."""
        components = {source.component for source in sources}
        known = self._declared_cpu is not None or self.match.relation != "unknown"
        measured = any(source.component == "cpu" and source.tier == "measured" for source in sources)
        return Discovery(
            sources=sources,
            findings=tuple(findings),
            cpu=self.cpu,
            match=self.match,
            known_cpu=known,
            boundary=tuple(word for word, stands_for in _BOUNDARY.items() if components & set(stands_for)),
            baseline=self._cpu_watts(apart=True).idle if measured and known else None,
        )


def overlap(first: str, second: str) -> bool:
    """Whether two covers ("package:0", "dram:*", "gpu:UUID", "board", "node") hold some of the same energy."""
    (kind, _, part), (other, _, other_part) = first.partition(":"), second.partition(":")
    if kind != other:
        return other in _CONTAINS.get(kind, ()) or kind in _CONTAINS.get(other, ())
    return part == other_part or "*" in (part, other_part)


def refuse_overlaps(sources: Sequence[Source]) -> None:
    """Raise ``ConfigurationError`` when two sources would count the same energy twice."""
    for first, second in combinations(sources, 2):
        twice = [(a, b) for a in first.covers for b in second.covers if overlap(a, b)]
        if twice:
            a, b = twice[0]
            raise ConfigurationError(
                f"sources {first.name!r} ({a}) and {second.name!r} ({b}) cover the same energy and would be summed: keep one"
            )


def describe(source: Source) -> SourceDescription:
    """What a source counts; watts are None for a sensor, which only tells when read."""
    if isinstance(source, ModelSource):
        return source.describe()
    return SourceDescription(source.name, source.component, source.tier, None, None, source.provenance, ())
