"""`Declaration`: the public file that an observatory harvests, and its JSON Schema. Every field is always there: unknown is null,
and each null has its reason in ``unknown``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

#: name and version of the shape: a reader refuses another one
SCHEMA: Final = "frugal-ai/1"
SCHEMA_ID: Final = "urn:frugal-ai:declaration:1"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: what is public is counted in fives: a count that is exact would tell by one who came and who did not
COUNTED_IN: Final = 5

# Control characters, and those that turn the direction of the text after them. Written so that no newline slips past a "$".
_FOREIGN: Final = r"\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069"
#: texts, addresses and codes, and how their patterns are told
LINE: Final = rf"^(?![\s\S]*[{_FOREIGN}])[\s\S]*\S"
URL: Final = r"^(?![\s\S]*[\s<>\"'`\\{}|^])https?://[^/?#]"
SIRET: Final = r"^(?![\s\S]*\n)[0-9]{14}$"
COUNTRY: Final = r"^(?![\s\S]*\n)[A-Z]{2}$"
PATTERNS: Final = {
    LINE: "one line, without control characters",
    URL: "an address such as https://ville.example/ia",
    SIRET: "14 digits",
    COUNTRY: "a country code such as FR",
}
Line = Annotated[str, Meta(min_length=1, max_length=600, pattern=LINE)]
Url = Annotated[str, Meta(max_length=500, pattern=URL)]
Siret = Annotated[str, Meta(pattern=SIRET)]
Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0, le=10**15, description="Rounded to the nearest 5.")]
Moment = Annotated[datetime, Meta(tz=True)]
Language = Literal["fr", "en"]
Code = Literal[
    "not_declared",
    "no_journal",
    "no_books",
    "too_few",
    "none_delivered",
    "partly_covered",
    "not_measured",
    "several_metrics",
    "not_told",
    "not_resolved",
]
#: why a figure or a fact is null, in words
REASONS: Final[dict[Code, str]] = {
    "not_declared": "The operator has not declared it.",
    "no_journal": "The service keeps no journal that period figures could be made of.",
    "no_books": "The journal holds nothing of this period.",
    "too_few": "Fewer than 5 are in this period: one person's use could be read off the figure.",
    "none_delivered": "Nothing was delivered in this period: there is nothing to divide by.",
    "partly_covered": "Books cover less than half of the period: a year cannot be told from them.",
    "not_measured": "It was not measured.",
    "several_metrics": "Scores are of several metrics, which have no common mean.",
    "not_told": "No model elsewhere told what it used.",
    "not_resolved": "The factor is in no table that is at hand.",
}


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a declaration."""


class Said(Record, frozen=True):
    """A text for people, in French, in English, or in both."""

    fr: Line | UnsetType = UNSET
    en: Line | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.fr is UNSET and self.en is UNSET:
            raise ValueError('a text is in "fr", in "en", or in both')

    def best(self, lang: Language) -> tuple[Language, str]:
        """The text in ``lang``, else in the language there is; and which one that is."""
        wanted, other = (self.fr, self.en) if lang == "fr" else (self.en, self.fr)
        if isinstance(wanted, str):
            return lang, wanted
        return ("en" if lang == "fr" else "fr"), str(other)


class Bounds(Record, frozen=True):
    """A figure with its bounds (90 % unless the method says otherwise), ``low <= mid <= high``; three digits, ends outward."""

    low: Amount
    mid: Amount
    high: Amount

    def __post_init__(self) -> None:
        if not self.low <= self.mid <= self.high:
            raise ValueError(f"{self.low:g}, {self.mid:g}, {self.high:g} are not in the order low, mid, high")


class Stretch(Record, frozen=True):
    """The time that the figures are of, and the share of it that there are books of."""

    begin: Moment
    end: Moment
    covered_share: Share | None

    def __post_init__(self) -> None:
        if self.begin >= self.end:
            raise ValueError("the period ends before it begins")


class Organisation(Record, frozen=True):
    """Who answers for the services: an office rather than a person's name."""

    name: Line | None
    siret: Siret | None
    contact: Line | None
    answerable: Said | None


class Legal(Record, frozen=True):
    """French and European duties: CRPA L311-3-1 (individual decisions) and L312-1-3 (published rules), AI Act class."""

    individual_decisions: bool | None
    rules_url: Url | None
    ai_act_class: Literal["minimal", "limited", "high", "general_purpose"] | None


class Model(Record, frozen=True):
    """A model that answers. ``training`` is what is known of what its training cost, and from whom."""

    name: Line
    provider: Line | None
    parameters: Annotated[float, Meta(gt=0, le=1e16)] | None
    open_weights: bool | None
    licence: Line | None
    hosting_country: Annotated[str, Meta(pattern=COUNTRY, description="ISO 3166-1 alpha-2")] | None
    training: Said | None


class Supplier(Record, frozen=True):
    """Somebody whose service this one needs. ``figure`` is what they told of its footprint."""

    name: Line
    service: Line | None
    figure: Said | None


class Unit(Record, frozen=True):
    """The functional unit: what is delivered, and how many of it were."""

    name: Line
    delivered: Count | None


class Volume(Record, frozen=True):
    """Requests of the period."""

    requests: Count | None
    failed: Count | None
    refused: Count | None


class Carbon(Record, frozen=True):
    """kgCO2e of the period: electricity of the building, manufacture of the machines' slice, and both."""

    operational_kg: Bounds
    embodied_kg: Bounds
    total_kg: Bounds


class Each(Record, frozen=True):
    """Energy (J, of the machines) and gCO2e per functional unit delivered: the whole period divided, not a mean of requests."""

    it_energy_j: Bounds
    co2e_g: Bounds


class Year(Record, frozen=True):
    """A year of 365 days at the pace of this period."""

    it_energy_kwh: Bounds
    co2e_kg: Bounds


class BudgetLine(Record, frozen=True):
    """A limit that the service keeps, and how often it acted in the period, as its decision log tells."""

    name: Line
    limit: Line
    per: Literal["minute", "hour", "day", "week", "month"]
    key: tuple[Literal["route", "model", "tenant"], ...]
    enforced: bool
    warned: Count | None
    degraded: Count | None
    throttled: Count | None
    refused: Count | None


class FactorLine(Record, frozen=True):
    """An emission factor that weighed the joules."""

    id: Line
    grams_per_kwh: Annotated[float, Meta(ge=0, le=3000)] | None
    zone: Line | None
    dataset: Line | None
    version: Annotated[str, Meta(max_length=600)] | None
    year: Annotated[int, Meta(ge=1990, le=2100)] | None
    scope: Literal["direct", "lifecycle"] | None
    basis: Literal["location", "market"] | None
    licence: Line | None
    sha256: Annotated[str, Meta(pattern=r"^(?![\s\S]*\n)[0-9a-f]{64}$")] | None


class Method(Record, frozen=True):
    """How the figures came about: figures of other methods, boundaries or factors are not comparable with these."""

    ids: Annotated[tuple[Line, ...], Meta(max_length=20)]
    reference: Line
    tier: Literal["measured", "modelled", "sourced"] | None
    measured_share: Share | None
    pue: Annotated[tuple[Bounds, ...], Meta(max_length=20)]
    factors: Annotated[tuple[FactorLine, ...], Meta(max_length=20)]
    factors_left_out: Annotated[int, Meta(ge=0, description="More factors than are listed: an hourly series.")]
    flags: Annotated[tuple[Line, ...], Meta(max_length=100)]


class Boundary(Record, frozen=True):
    """What is counted and what is not."""

    included: Annotated[tuple[Line, ...], Meta(max_length=50)]
    excluded: Annotated[tuple[Line, ...], Meta(max_length=50)]


class Objective(Record, frozen=True):
    """What the service aims at: a limit per functional unit, by when."""

    quantity: Literal["it_energy_j", "co2e_g"]
    target: Amount
    baseline: Amount | None
    year: Annotated[int, Meta(ge=2000, le=2100)]


class Quality(Record, frozen=True):
    """Mean score of the answers, 0…1, and how many were scored."""

    mean: Share
    scores: Count


class Service(Record, frozen=True):
    """One service that uses AI: what for, under whose eyes, and what it costs."""

    id: Line
    name: Said | None
    purpose: Said | None
    status: Literal["pilot", "in_service", "stopped"] | None
    users: Literal["agents", "public", "both"] | None
    necessity: Said | None
    contribution: Literal["none", "partial", "full"] | None
    human_oversight: Said | None
    human_alternative: Said | None
    human_alternative_url: Url | None
    legal: Legal
    models: Annotated[tuple[Model, ...], Meta(max_length=50)] | None
    suppliers: Annotated[tuple[Supplier, ...], Meta(max_length=50)] | None
    unit: Unit
    volume: Volume
    it_energy_kwh: Bounds | None
    co2e: Carbon | None
    per_unit: Each | None
    per_year: Year | None
    elsewhere_kwh: (
        Annotated[float, Meta(ge=0, description="Models elsewhere: a middle figure, in no total. IT energy, no bounds.")] | None
    )
    boundary: Boundary
    method: Method
    budgets: Annotated[tuple[BudgetLine, ...], Meta(max_length=100)]
    objective: Objective | None
    quality: Quality | None
    impact_study_url: Url | None
    rgesn_url: Url | None


class Unknown(Record, frozen=True):
    """Why the value at ``path`` (a JSON pointer, RFC 6901) is null."""

    path: Annotated[str, Meta(max_length=300, pattern=r"^/")]
    code: Code
    reason: Line


class Provenance(Record, frozen=True):
    """What wrote the declaration. ``figures_sha256`` is that of the exact figures behind the rounded ones: declaring the
    same period of the same journal again gives the same.
    """

    tool: Line
    version: Line
    figures_sha256: Annotated[str, Meta(pattern=r"^(?![\s\S]*\n)[0-9a-f]{64}$")] | None


class Declaration(Record, frozen=True):
    """What an organisation declares of its AI services over a period. Joules are IT joules, before PUE; carbon is after it."""

    schema: Literal["frugal-ai/1"]
    declared_at: Moment
    valid_until: Moment
    period: Stretch
    organisation: Organisation
    services: Annotated[tuple[Service, ...], Meta(min_length=1, max_length=1000)]
    unknown: Annotated[tuple[Unknown, ...], Meta(max_length=20_000)]
    provenance: Provenance
    licence: Literal["etalab-2.0", "CC-BY-4.0", "CC0-1.0", "ODbL-1.0"]


def as_json(declaration: Declaration) -> bytes:
    """The file's bytes."""
    return msgspec.json.format(msgspec.json.encode(declaration), indent=2) + b"\n"


def json_schema() -> bytes:
    """The JSON Schema (2020-12) of a declaration, made of these records; the file beside this module is the same."""
    (found,), parts = msgspec.json.schema_components([Declaration], ref_template="#/$defs/{name}")
    whole = {
        "$schema": DIALECT,
        "$id": SCHEMA_ID,
        "title": "Declaration of AI services and what they cost",
        **found,
        "$defs": {name: _tidied(part) for name, part in parts.items()},
    }
    return json.dumps(whole, indent=2, ensure_ascii=True).encode() + b"\n"


def _tidied(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("title") == "Said":
        part["minProperties"] = 1
    part["description"] = " ".join(part.get("description", "").split())
    return part


def nulls(of: Any, path: str = "") -> Iterator[str]:
    """JSON pointers of every null in a document of plain dicts and lists."""
    if of is None:
        yield path
    elif isinstance(of, dict):
        for name, value in of.items():
            yield from nulls(value, f"{path}/{name}")
    elif isinstance(of, list | tuple):
        for place, value in enumerate(of):
            yield from nulls(value, f"{path}/{place}")
