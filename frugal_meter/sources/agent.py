"""Energy that the host agent read for us: measured joules in a service that may read no sensor.

While the agent is away its source is silent and a model stands in, as a source of its own: a joule is of one tier or of the
other, and figures say which. When the agent is back its records count from that moment; what was modelled stays so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..records import Tier
from . import Own, Sample, Scope, Sensor, Source, Window, agent_findings
from .agent_link import AgentLink, agent_address, agent_token
from .agent_protocol import Offered
from .findings import Finding, nvml_mig_shared
from .host_root import Roots
from .power_model import ModelSource, SourceDescription
from .procfs import HostCpu

_KINDS: Final[tuple[Sensor, ...]] = ("physical", "on-chip estimate")
#: what each component covers when an agent tells of it: all packages together
_COVERS: Final = {"cpu": "package:*", "dram": "dram:*"}
#: a GPU is told of by what it covers
_GPU: Final = "gpu:"


class AgentSource:
    """A component ("cpu", "dram", one GPU: "gpu:GPU-3f…") by the records of the agent at the end of ``link``. ``leads``: the one
    of a link's sources that has the agent read. ``stood_in``: whether a `StandIn` counts what it does not.

    Its samples know this service's own part, which the agent divided for all the services of the host at once.
    """

    tier: Tier = "measured"  # agents hand out sensors only
    scope: Scope = "host"
    method = "host-agent/1"
    #: a sample is drawn between two of the agent's records, so it is not what another reader's would be
    integrates = True

    def __init__(self, link: AgentLink, component: str) -> None:
        self.link, self.leads, self._key = link, False, component
        self.name = f"agent:{component}"
        self.component = component.partition(":")[0]
        self.covers: tuple[str, ...] = (_COVERS.get(component, component),)
        self.tells_busy = False
        self.stood_in = self.gave = False
        self._since_ns = 0
        self.sensor: Sensor = "unknown"
        self.resolution_nj: int | None = None
        self.provenance = f"host agent at {link.address}, which has not answered yet"
        self._offered: Offered | None = None
        self._learn()

    def _learn(self) -> bool:
        """Take what the agent says of its sensor; False where it has not told of one."""
        told = self.link.offered.get(self._key)
        if told is not None and told is not self._offered:
            self._offered, self.sensor = told, "unknown"
            for kind in _KINDS:
                self.sensor = kind if told.sensor == kind else self.sensor
            self.tells_busy = told.busy
            self.resolution_nj, self.provenance = told.resolution_nj, f"host agent at {self.link.address}: {told.provenance}"
        return told is not None

    def prepare(self, more_ns: int, held: Mapping[str, int]) -> None:
        """Have the agent read now, before clocks are: joules and CPU are then of the same moment. See `AgentLink.refresh`."""
        if self.leads:
            self.link.refresh(self._since_ns, more_ns, held)

    def read(self, window: Window) -> Sample | None:
        """The energy from the last record to the agent's newest; None while it is away, and in the tick in which it is back."""
        told = self.link.tell(self._since_ns)
        before_ns, self._since_ns, self.gave = self._since_ns, 0 if told is None else told.t1_ns, False
        if told is None or not self._learn():
            self._since_ns = 0
            return None
        part = told.parts.get(self._key)
        if before_ns and told.t1_ns == before_ns:  # nothing new
            self.gave = True
            return Sample(0, 0, 0, 0, own=Own(0, 0, 0, "none"))
        if not before_ns or told.t0_ns != before_ns or part is None:
            self.gave = window.t1_ns == window.t0_ns
            return Sample(0, 0, 0, 0, own=Own(0, 0, 0, "none")) if self.gave else None
        if part.silent:
            return None
        self.gave = True
        own = Own(part.mine_nj, part.held_nj, part.gap_nj, part.origin, part.busy_ns, part.untold)
        users = part.users or None
        return Sample(part.energy_nj, part.low_nj, part.high_nj, part.idle_nj, part.gap, part.busy_ns, users=users, own=own)

    @property
    def mark(self) -> int:
        """The record that the last sample ended with, for another worker to `resume` from; 0 for none."""
        return self._since_ns

    def resume(self, mark: int, at_ns: int) -> None:
        """The next sample begins at the record ``mark``."""
        self._since_ns = mark

    def meet(self, group: str | None) -> None:
        """Bill from now on with the workers of ``group``; None: alone."""
        self.link.meet(group)
        told = self.link.tell(0)
        self._since_ns = 0 if told is None else told.t1_ns

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self.link.close()
        self._since_ns = 0


class StandIn:
    """The model of a component while the agent does not tell of it: in a window that ``lead`` gave a sample for, it has none.

    What it counted is flagged on every reading that it was part of: ``energy:agent-away``.
    """

    stands_in = True

    def __init__(self, lead: AgentSource, model: ModelSource) -> None:
        self._lead, self._model = lead, model
        lead.stood_in = True
        self.name, self.component, self.covers = f"{model.name}:stand-in", model.component, model.covers
        self.tier, self.sensor, self.scope, self.method = model.tier, model.sensor, model.scope, model.method
        self.provenance = f"{model.provenance}; only while the host agent is away"
        self.resolution_nj, self.watts = model.resolution_nj, model.watts

    def read(self, window: Window) -> Sample | None:
        """The modelled energy of ``window`` where the agent gave none; 0 where it did."""
        return Sample(0, 0, 0, idle_nj=0) if self._lead.gave else self._model.read(window)

    def describe(self) -> SourceDescription:
        """Component and tier; watts are those of the model, and drawn only while the agent is away."""
        told = self._model.describe()
        return SourceDescription(self.name, self.component, self.tier, told.idle_w, told.full_w, self.provenance, told.flags)

    def close(self) -> None:
        """Nothing is held."""
        self._model.close()


def agent_sources(link: AgentLink, models: list[ModelSource], findings: list[Finding]) -> list[Source]:
    """What the agent at ``link`` tells of, each with what stands in for it out of ``models``, and the rest of ``models``.

    Of an agent that has not answered yet everything is expected that one can tell, but GPUs, whose names it alone knows.
    ``findings`` gets what is to be known.
    """
    link.open()
    if not link.up:
        findings.append(agent_findings.agent_away(str(link.address), link.why))
    offered = link.offered if link.up else _COVERS
    gpus = [key for key in offered if key.startswith(_GPU)]
    leads = [AgentSource(link, component) for component in (*_COVERS, *gpus) if component in offered]
    findings += [nvml_mig_shared(key.removeprefix(_GPU)) for key in gpus if link.offered[key].shared]
    if leads:
        leads[0].leads = True
    by = {lead.component: lead for lead in leads}
    sources: list[Source] = [lead for lead in leads if lead.component != "gpu"]
    boards: list[Source] = [lead for lead in leads if lead.component == "gpu"]
    return [*sources, *(StandIn(by[model.component], model) if model.component in by else model for model in models), *boards]


def agent_link(sources: object, service: str, host_share: float | None, roots: Roots) -> AgentLink | None:
    """A line to the host agent where there is one and these ``sources`` would use it; raises ConfigurationError."""
    address = agent_address() if isinstance(sources, str) and sources in ("auto", "agent") else None
    if address is None:
        return None
    quota, threads = roots.quota_cpus(), HostCpu(roots.proc, roots.sys).cpus()
    share = host_share if host_share is not None else None if quota is None else min(1.0, quota / threads)
    return AgentLink(address, service, share=share, token=None if address.path else agent_token())
