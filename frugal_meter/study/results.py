"""What a finished study holds: the frozen records of ``study.json``.

Joules are IT joules, before PUE; grams are gCO2e after it, embodied carbon included. ``Interval`` is low, mid, high; lows add to
lows and highs to highs, since the errors of a source are common to every request. None is unknown or not supplied, never 0.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..carbon.factors import Factor
from ..periods import Period
from ..records import Interval, Tier

SCHEMA = "frugal-meter-study/1"
Lang = Literal["fr", "en"]
#: what a variant is: the AI proposed, a smaller AI, an answer without AI, or a service as it ran (from a journal)
Kind = Literal["ai", "smaller-ai", "no-ai", "as-run"]
#: "scenario" was run before deployment; "journal" is made of what a service wrote while it served
Origin = Literal["scenario", "journal"]
#: what is changed in a line of the sensitivity run, everything else staying as it is
Lever = Literal["grid", "pue", "lifetime", "use", "standing"]


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """The functional unit: what is delivered to people, and that everything is divided by.

    ``name`` is the unit that the service counts ("answer"), or "request"; ``description`` says in words what one is
    ("one answer to a citizen's question"), ``rationale`` why it is this one; None where not told.
    """

    name: str
    description: str
    rationale: str | None = None


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """The use that is declared for a year; ``units`` as low, mid, high (units a year).

    ``hours`` a year that the service is up, ``starts`` a year that it starts and warms up; ``source`` says who supposes so.
    """

    units: Interval
    hours: float
    starts: float
    source: str


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """How it was measured. ``order`` is the order in which variants ran, ``round:variant``, drawn from ``seed``.

    ``requests`` are those of the load, asked again as a whole until ``at_least_s`` seconds have passed, after ``warm_up`` others;
    ``concurrency`` is how many at once; ``baseline_s`` seconds at rest per repetition. Times are ISO 8601, UTC. From a journal
    only ``began_at`` and ``ended_at`` are told, and the load is None.
    """

    began_at: str
    ended_at: str
    service: str
    load: str | None = None
    load_sha256: str | None = None
    requests: int | None = None
    concurrency: int | None = None
    warm_up: int | None = None
    repetitions: int | None = None
    baseline_s: float | None = None
    at_least_s: float | None = None
    seed: int | None = None
    order: tuple[str, ...] = ()
    judge: str | None = None
    metric: str | None = None  # what the judge's score is called


class Sensor(msgspec.Struct, frozen=True, kw_only=True):
    """A source of joules that was read: its id, what it counts ("cpu", "memory", "board", "gpu"), and how it knows."""

    source: str
    component: str
    tier: Tier


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine in words; never its name or address. ``host_share`` is the part (0…1) of its idle that was declared ours."""

    cpu: str | None
    cpus: int | None
    memory_gib: float | None
    system: str
    python: str
    sensors: tuple[Sensor, ...]
    host_share: float | None = None


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """``n`` repetitions of one figure: mean, sample standard deviation (None of one alone), smallest and largest."""

    n: int
    mean: float
    sd: float | None
    least: float
    most: float


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Mean score, 0…1, with its 95 % interval (Wilson, on ``distinct`` different requests: asking again adds no evidence).

    ``judged`` answers were scored; ``unjudged`` were not, since the request had failed.
    """

    metric: str
    score: Interval
    judged: int
    unjudged: int
    distinct: int


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that the client waited for an answer: median and 95th percentile of those that succeeded."""

    p50_s: float
    p95_s: float


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Joules and grams of one thing. ``energy_j`` and ``carbon_g`` are all of it; the parts are ``own`` (this machine) and
    ``remote`` (models elsewhere, in joules there; None when no call was made), ``operational`` and ``embodied`` of our own.
    """

    energy_j: Interval
    carbon_g: Interval
    own_j: Interval
    operational_g: Interval
    embodied_g: Interval
    remote_j: Interval | None = None
    remote_g: Interval | None = None


class Repetition(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one variant: its load alone, after start and warm-up. ``round`` counts from 1."""

    round: int
    file: str  # its raw data, relative to the folder
    units: float
    requests: int
    failed: int
    seconds: float
    per_unit_j: float | None
    per_unit_g: float | None
    mean_request_j: float | None
    quality: float | None


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """What one variant cost.

    Three figures stand side by side and are not the same thing:

    - ``in_use``: per functional unit over the declared year: everything (idle, starts, warm-up, failed and refused work,
      embodied) ÷ units. This is the figure to cite. None where the year is not known.
    - ``tested``: per functional unit over the load of the study (its idle slice, overhead, failed and refused work and embodied
      included; start and warm-up apart, in ``start``).
    - ``while_it_ran_j``: the mean of requests while they were in flight (J). Never cited alone.

    ``load``, ``start`` (start and warm-up) and ``rest`` (the baseline: up, and nobody asks) are the period figures behind them,
    over all repetitions; ``standing_w`` are the watts of rest (IT, before PUE). ``requests`` and ``failed`` are as the client saw
    them. ``year`` = units × tested + the hours that are left at rest + starts × start; ``idle_share`` is what rest is of it.
    """

    name: str
    title: str
    kind: Kind
    models: tuple[str, ...]
    in_use: Cost | None
    tested: Cost | None
    while_it_ran_j: float | None
    year: Cost | None
    idle_share: float | None
    load: Period
    start: Period | None
    rest: Period | None
    standing_w: Interval | None
    start_cost: Cost | None  # of one start with its warm-up
    requests: int
    failed: int
    refused: int
    why_failed: tuple[str, ...]  # "12 × HTTP 500", most frequent first
    tier: Tier | None
    measured_share: float | None
    quality: Quality | None
    latency: Latency | None
    repetitions: tuple[Repetition, ...]
    spread_j: Spread | None  # of `Repetition.per_unit_j`
    flags: tuple[str, ...] = ()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """``variant`` beside ``reference`` (the first AI): energy and carbon per unit as tested, as ratios variant ÷ reference.

    The low and high are the smallest and the largest ratio of paired repetitions: errors of the source are common to both and
    leave the ratio, so that it is better known than either figure. ``per_year_*`` is the difference of their years (variant −
    reference, J and g); it may be negative. ``quality`` is the difference of mean scores.
    """

    variant: str
    reference: str
    energy: Interval | None
    carbon: Interval | None
    rounds: int
    per_year_j: float | None
    per_year_g: float | None
    quality: float | None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A variant in the plane of quality and energy (J per unit as tested). ``front``: none other is at once as good and as
    frugal and better in one of both, by the middle figures; ``clear`` where neither the intervals of quality nor the spread of
    the repetitions could change that (errors of the source are common to all variants and do not decide between them).
    """

    variant: str
    energy_j: Interval
    quality: Interval
    front: bool
    clear: bool


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the sensitivity run of one variant: the yearly grams and grams per unit in use if only ``lever`` were
    ``value`` (``value_unit``: "gCO2e/kWh", "", "years", "units/year", "hours/year"). ``factor`` where it is a published one.
    ``energy_j`` per unit in use. ``in_force``: this is how the study's own figure was made.
    """

    variant: str
    lever: Lever
    value: float
    value_unit: str
    per_unit_g: Interval
    year_g: Interval
    energy_j: Interval
    in_force: bool
    factor: Factor | None = None
    source: str | None = None


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """What training and making a model cost, as its supplier says: ``carbon_kg`` (kgCO2e) and ``energy_kwh``, for ``model``;
    ``source`` with date. A study lists these beside its own figures and never adds them.
    """

    model: str
    source: str
    carbon_kg: float | None = None
    energy_kwh: float | None = None
    note: str | None = None


class Embodied(msgspec.Struct, frozen=True, kw_only=True):
    """Making the hardware: kgCO2e, seconds of life, what it covers, and who says so. Each None when unknown."""

    te_kg: Interval
    lifespan_s: Interval
    covers: str
    source: str
    flags: tuple[str, ...] = ()


class Pue(msgspec.Struct, frozen=True, kw_only=True):
    """Facility energy ÷ IT energy, with who says so; the flag ``pue:default`` where nobody did."""

    value: Interval
    source: str
    flags: tuple[str, ...] = ()


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """A finished study. Texts of people (title, purpose, limits, rebound …) are in ``lang``, as they were written.

    ``no_alternative`` is the reason why no variant without AI, or with a smaller one, was compared; None when one was.
    ``upstream`` is empty when no supplier told; ``rebound`` is None when it was not studied; ``limits`` are a human's.
    ``boundary`` is what is counted, ``not_counted`` what is not. ``versions`` name → version of what measured and served.
    """

    title: str
    service: str
    lang: Lang
    origin: Origin
    purpose: str | None
    made_at: str  # ISO 8601, UTC: when the last repetition ended
    author: str | None
    organisation: str | None
    contact: str | None
    unit: Unit
    use: Use | None
    protocol: Protocol
    machine: Machine
    zone: str
    factors: tuple[Factor, ...]  # in force
    pue: Pue
    embodied: Embodied | None
    variants: tuple[Variant, ...]
    no_alternative: str | None
    comparisons: tuple[Comparison, ...]
    pareto: tuple[Point, ...]
    sensitivity: tuple[Scenario, ...]
    upstream: tuple[Upstream, ...]
    rebound: str | None
    limits: tuple[str, ...]
    boundary: tuple[str, ...]
    not_counted: tuple[str, ...]
    method_ids: tuple[str, ...]
    factor_ids: tuple[str, ...]
    versions: dict[str, str]
    flags: tuple[str, ...] = ()
    schema: str = SCHEMA


def encoded(study: Study) -> bytes:
    """``study.json``: indented JSON, the same bytes for the same study."""
    return msgspec.json.format(msgspec.json.encode(study), indent=1) + b"\n"


def decoded(text: bytes) -> Study:
    """A study from its JSON. Raises msgspec.DecodeError (ValidationError where the shape is not that of a study)."""
    return msgspec.json.decode(text, type=Study)
