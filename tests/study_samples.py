"""A whole study, made up, in the shape of a real one: for what shows studies."""

from __future__ import annotations

from frugal_meter.carbon.published import published
from frugal_meter.periods import Period
from frugal_meter.records import Interval
from frugal_meter.study.results import (
    Comparison,
    Cost,
    Embodied,
    Kind,
    Latency,
    Machine,
    Point,
    Protocol,
    Pue,
    Quality,
    Repetition,
    Scenario,
    Sensor,
    Spread,
    Study,
    Unit,
    Upstream,
    Use,
    Variant,
)

UNITS_A_YEAR = 120_000.0
GRAMS_PER_KWH = 44.0


def around(mid: float, low: float = 0.6, high: float = 1.7) -> Interval:
    return Interval(mid * low, mid, mid * high)


def cost(joules: float, remote_j: float | None = None) -> Cost:
    """``joules`` of our own at PUE 1.56 and 44 g/kWh, and as much again ÷ 4 embodied."""
    own, operational = around(joules), around(joules * 1.56 * GRAMS_PER_KWH / 3.6e6, 0.4, 2.2)
    embodied = operational.times(0.25)
    remote = None if remote_j is None else around(remote_j, 0.3, 3.0)
    remote_g = None if remote is None else remote.times(1e-4)
    parts_j = [own, *filter(None, [remote])]
    parts_g = [operational, embodied, *filter(None, [remote_g])]

    def total(parts: list[Interval]) -> Interval:
        return Interval(sum(p.low for p in parts), sum(p.mid for p in parts), sum(p.high for p in parts))

    return Cost(
        energy_j=total(parts_j),
        carbon_g=total(parts_g),
        own_j=own,
        operational_g=operational,
        embodied_g=embodied,
        remote_j=remote,
        remote_g=remote_g,
    )


def period(joules: float, units: float, requests: int, failed: int = 0, seconds: float = 60.0) -> Period:
    nj, whole = round(joules * 1e9), cost(joules)
    failed_nj = nj * failed // max(1, requests)
    return Period(
        begin_s=1.79e9,
        end_s=1.79e9 + seconds,
        covered_s=seconds,
        unit="answer",
        units=units,
        requests=requests,
        failed=failed,
        refused=0,
        delivered_nj=nj // 2 - failed_nj,
        failed_nj=failed_nj,
        refused_nj=0,
        late_nj=0,
        overhead_nj=nj // 10,
        overhead_parts={"framework": nj // 20, "meter": nj // 10 - nj // 20},
        slice_nj=nj - nj // 2 - nj // 10,
        total_nj=nj,
        host_nj=nj * 2,
        other_nj=nj // 4,
        gap_nj=0,
        energy_j=whole.energy_j,
        operational_g=whole.operational_g,
        embodied_g=whole.embodied_g,
        carbon_g=whole.carbon_g,
        per_unit_j=whole.energy_j.times(1 / units) if units else None,
        per_unit_g=whole.carbon_g.times(1 / units) if units else None,
        mean_request_j=joules * 0.6 / requests if requests else None,
        remote_j=None,
        quality=None,
        quality_count=0,
        quality_metrics=(),
        tier="modelled",
        measured_share=0.0,
        factor_ids=("ember:FR:2024",),
        method_ids=("cpu-time/1+cpu-table/2",),
        boundary=("cpu", "memory", "board"),
        flags=("pue:default", "cpu:host"),
    )


def variant(
    name: str, title: str, kind: Kind, joules: float, *, score: float | None, failed: int = 0, remote_j: float | None = None
) -> Variant:
    """A variant of ``joules`` a unit as tested, in three repetitions of 40 requests."""
    rounds, requests = 3, 40
    units = float(rounds * requests - failed)
    tested, standing = cost(joules, remote_j), 1.2
    year_j = joules * UNITS_A_YEAR + standing * 3.1e7
    year = cost(year_j, None if remote_j is None else remote_j * UNITS_A_YEAR)
    repetitions = tuple(
        Repetition(
            round=number,
            file=f"raw/{number:02d}-{name}.jsonl",
            units=units / rounds,
            requests=requests,
            failed=failed if number == 1 else 0,
            seconds=30.0,
            per_unit_j=joules * factor,
            per_unit_g=joules * factor * 2.4e-5,
            mean_request_j=joules * 0.6 * factor,
            quality=score,
        )
        for number, factor in ((1, 0.97), (2, 1.0), (3, 1.03))
    )
    return Variant(
        name=name,
        title=title,
        kind=kind,
        models=(name,),
        in_use=cost(year_j / UNITS_A_YEAR, remote_j),
        tested=tested,
        while_it_ran_j=joules * 0.6,
        year=year,
        idle_share=standing * 3.1e7 / year_j,
        load=period(joules * units, units, rounds * requests, failed, 90.0),
        start=period(120.0, 0.0, 6, 0, 12.0),
        rest=period(standing * 15, 0.0, 0, 0, 15.0),
        standing_w=around(standing),
        start_cost=cost(40.0),
        requests=rounds * requests,
        failed=failed,
        refused=0,
        why_failed=(f"{failed} × HTTP 500",) if failed else (),
        tier="modelled",
        measured_share=0.0,
        quality=None
        if score is None
        else Quality(
            metric="key-facts/1",
            score=Interval(max(0.0, score - 0.12), score, min(1.0, score + 0.1)),
            judged=rounds * requests - failed,
            unjudged=failed,
            distinct=requests,
        ),
        latency=Latency(p50_s=joules / 20, p95_s=joules / 9),
        repetitions=repetitions,
        spread_j=Spread(n=3, mean=joules, sd=joules * 0.03, least=joules * 0.97, most=joules * 1.03),
        flags=("failed:many",) if failed > 20 else (),
    )


def scenarios(of: Variant) -> list[Scenario]:
    assert of.in_use is not None
    lines = [("grid", f.grams_per_kwh, "gCO2e/kWh", f.grams_per_kwh / GRAMS_PER_KWH, f) for f in published("FR")]
    lines += [("pue", v, "", v / 1.56, None) for v in (1.1, 1.56, 2.0)]
    lines += [("lifetime", v, "years", 1 + 0.1 * (4 / v - 1), None) for v in (3.0, 4.0, 6.0)]
    lines += [("use", v, "units/year", (v + UNITS_A_YEAR) / 2 / v, None) for v in (12e3, 120e3, 1.2e6)]
    return [
        Scenario(
            variant=of.name,
            lever=lever,  # type: ignore[arg-type]
            value=value,
            value_unit=unit,
            per_unit_g=of.in_use.carbon_g.times(scale),
            year_g=of.in_use.carbon_g.times(scale * (value if lever == "use" else UNITS_A_YEAR)),
            energy_j=of.in_use.energy_j.times(scale if lever == "use" else 1.0),
            in_force=value in (GRAMS_PER_KWH, 1.56, 4.0, 120e3),
            factor=factor,
            source=None if factor is not None else "sample",
        )
        for lever, value, unit, scale, factor in lines
    ]


def comparison(of: Variant, reference: Variant, ratio: float) -> Comparison:
    assert of.year is not None
    assert reference.year is not None
    judged = of.quality is not None and reference.quality is not None
    return Comparison(
        variant=of.name,
        reference=reference.name,
        energy=Interval(ratio * 0.95, ratio, ratio * 1.06),
        carbon=Interval(ratio * 0.95, ratio, ratio * 1.06),
        rounds=3,
        per_year_j=of.year.energy_j.mid - reference.year.energy_j.mid,
        per_year_g=of.year.carbon_g.mid - reference.year.carbon_g.mid,
        quality=of.quality.score.mid - reference.quality.score.mid if judged else None,  # type: ignore[union-attr]
    )


def study(*, judged: bool = True, supplied: bool = True, failing: int = 0) -> Study:
    """A study of a town hall's assistant: a large and a small AI, and a search without AI.

    ``judged`` with scores; ``supplied`` with upstream, rebound, limits and people; ``failing`` requests of the large AI failed.
    """
    large = variant("grand", "IA de grande taille", "ai", 62.0, score=0.91 if judged else None, failed=failing)
    small = variant("petit", "IA de petite taille", "smaller-ai", 9.4, score=0.84 if judged else None)
    search = variant("recherche", "Recherche sans IA", "no-ai", 0.35, score=0.78 if judged else None)
    variants = (large, small, search)
    factor = next(f for f in published("FR") if f.dataset.lower().startswith("ember"))
    return Study(
        title="Étude d’impact : l’assistant d’accueil de la mairie",
        service="accueil-usagers",
        lang="fr",
        origin="scenario",
        purpose="Répondre aux questions simples des habitants en dehors des heures d’ouverture." if supplied else None,
        made_at="2026-11-20T10:00:00Z",
        author="Camille Martin" if supplied else None,
        organisation="Ville d’Exemple" if supplied else None,
        contact="numerique@exemple.fr" if supplied else None,
        unit=Unit(name="answer", description="une réponse donnée à une question d’un habitant", rationale=None),
        use=Use(units=Interval(60_000.0, UNITS_A_YEAR, 240_000.0), hours=8760.0, starts=52.0, source="estimation du service"),
        protocol=Protocol(
            began_at="2026-11-20T09:40:00Z",
            ended_at="2026-11-20T10:00:00Z",
            service="examples.assistant.study:app",
            load="questions.jsonl",
            load_sha256="0" * 64,
            requests=40,
            concurrency=2,
            warm_up=2,
            repetitions=3,
            baseline_s=5.0,
            seed=7,
            order=("1:petit", "1:grand", "1:recherche", "2:recherche", "2:grand", "2:petit", "3:grand", "3:recherche", "3:petit"),
            judge="examples.assistant.study:judge" if judged else None,
            metric="key-facts/1" if judged else None,
        ),
        machine=Machine(
            cpu="Intel(R) Xeon(R) Gold 6134",
            cpus=2,
            memory_gib=8.0,
            system="Linux x86_64, container",
            python="3.11.9",
            sensors=(Sensor(source="model:cpu", component="cpu", tier="modelled"),),
            host_share=0.25,
        ),
        zone="FR",
        factors=(factor,),
        pue=Pue(value=Interval(1.1, 1.56, 2.0), source="Uptime Institute 2024 (1.56)", flags=("pue:default",)),
        embodied=Embodied(
            te_kg=Interval(8.7, 41.6, 100.0),
            lifespan_s=Interval(94_608_000.0, 126_144_000.0, 189_216_000.0),
            covers="vm",
            source="Cloud Carbon Footprint",
            flags=("embodied:default",),
        ),
        variants=variants,
        no_alternative=None,
        comparisons=(comparison(small, large, 0.15), comparison(search, large, 0.0056)),
        pareto=tuple(
            Point(variant=v.name, energy_j=v.tested.energy_j, quality=v.quality.score, front=True, clear=v.name != "petit")
            for v in variants
            if v.tested is not None and v.quality is not None
        ),
        sensitivity=tuple(line for v in variants for line in scenarios(v)),
        upstream=(Upstream(model="grand", source="fiche du fournisseur, 2026-02", carbon_kg=1200.0, energy_kwh=8000.0),)
        if supplied
        else (),
        rebound="Des questions que l’on ne posait pas seront posées ; non chiffré." if supplied else None,
        limits=("Une seule machine, sans autre service.",) if supplied else (),
        boundary=("cpu", "memory", "board"),
        not_counted=("network", "terminals"),
        method_ids=("cpu-time/1+cpu-table/2",),
        factor_ids=(factor.id,),
        versions={"frugal-meter": "0.1.0", "python": "3.11.9"},
        flags=("pue:default", "cpu:host"),
    )
