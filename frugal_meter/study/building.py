"""A `Study` out of its raw data and what was declared of it: the same input gives the same study, to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from . import raw
from .declaring import Plan, interval
from .figuring import About, Given, comparisons, pareto, scenarios, variant
from .raw import Run
from .results import Lang, Origin, Protocol, Study, Unit, Upstream, Use, Variant
from .running import Step, order

_SEVERAL_MACHINES = "study:several-machines"


def study_of(plan: Plan, out: Path) -> Study:
    """The study that a finished run left in ``out/raw``. Raises ConfigurationError."""
    declared = plan.declared
    steps = order(plan)
    runs = {step.name: raw.read(out / "raw" / step.file) for step in steps}
    units = interval(declared.use.units_per_year, "[use] units_per_year")
    use = Use(
        units=units,
        hours=float(declared.use.hours_per_year),
        starts=float(declared.use.starts_per_year),
        source=declared.use.source,
    )
    abouts = [About(each.name, each.title, each.kind, tuple(each.models)) for each in declared.variant]
    told = Told(
        title=declared.title,
        lang=declared.lang,
        origin="scenario",
        purpose=declared.purpose,
        author=declared.author,
        organisation=declared.organisation,
        contact=declared.contact,
        unit=Unit(name=declared.unit.name, description=declared.unit.description, rationale=declared.unit.rationale),
        use=use,
        protocol=_protocol(plan, list(runs.values()), steps),
        no_alternative=declared.alternative.none if declared.alternative is not None else None,
        upstream=tuple(declared.upstream),
        rebound=declared.rebound,
        limits=tuple(declared.limits),
    )
    return assembled(abouts, list(runs.values()), told, declared.judge.metric if declared.judge else "")


def _protocol(plan: Plan, runs: Sequence[Run], steps: Sequence[Step]) -> Protocol:
    declared, first = plan.declared, runs[0].head
    loads = {run.head.load_sha256 for run in runs}
    return Protocol(
        began_at=min(run.head.began_at for run in runs),
        ended_at=ended_at(runs),
        service=declared.service.app,
        load=first.load,
        load_sha256=first.load_sha256 if len(loads) == 1 else None,
        requests=first.requests,
        concurrency=declared.load.concurrency,
        warm_up=declared.run.warm_up,
        repetitions=declared.run.repetitions,
        baseline_s=float(declared.run.baseline_s),
        at_least_s=float(declared.load.at_least_s),
        seed=declared.run.seed,
        order=tuple(step.name for step in steps),
        judge=declared.judge.call if declared.judge is not None else None,
        metric=declared.judge.metric if declared.judge is not None else None,
    )


def ended_at(runs: Sequence[Run]) -> str:
    """When the last repetition ended, ISO 8601, UTC."""
    last = max(run.marks[-1].at_s for run in runs)
    return datetime.fromtimestamp(last, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What people told of a study, by the names that `Study` has for it."""

    title: str
    lang: Lang
    origin: Origin
    unit: Unit
    use: Use | None
    protocol: Protocol
    purpose: str | None = None
    author: str | None = None
    organisation: str | None = None
    contact: str | None = None
    no_alternative: str | None = None
    upstream: tuple[Upstream, ...] = ()
    rebound: str | None = None
    limits: tuple[str, ...] = ()


def assembled(abouts: Sequence[About], runs: Sequence[Run], told: Told, metric: str = "") -> Study:
    """Every figure, and what was told beside them."""
    given, head = Given(told.unit.name, told.use, metric), runs[0].head
    variants: list[Variant] = []
    blocks = {}
    for about in abouts:
        own = sorted((run for run in runs if run.head.variant == about.name), key=lambda run: run.head.round)
        made, blocks[about.name] = variant(about, own, given)
        variants.append(made)
    loads = [each.load for each in variants]
    flags = [flag for each in variants for flag in each.flags if not flag.startswith("study:")]
    if len({(run.head.machine.cpu, run.head.machine.cpus, run.head.machine.system) for run in runs}) > 1:
        flags.append(_SEVERAL_MACHINES)
    return Study(
        **msgspec.structs.asdict(told),
        service=head.service,
        made_at=ended_at(runs),
        machine=head.machine,
        zone=head.zone,
        factors=head.factors,
        pue=head.pue,
        embodied=head.embodied,
        variants=tuple(variants),
        comparisons=comparisons(variants) if len(variants) > 1 else (),
        pareto=pareto(variants),
        sensitivity=tuple(scenarios(blocks, told.use, runs[0])),
        boundary=_all([load.boundary for load in loads]),
        not_counted=head.not_counted,
        method_ids=_all([load.method_ids for load in loads]),
        factor_ids=_all([load.factor_ids for load in loads]),
        versions={**head.versions, "python": head.machine.python},
        flags=tuple(dict.fromkeys(flags)),
    )


def _all(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in names for name in each))
