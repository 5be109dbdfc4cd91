"""Every name that leaves over OpenTelemetry, mapped here and nowhere else.

Metrics keep the sums and the meaning of `prometheus.SPEC`. Where the semantic conventions have a name it is taken:
``hw.energy``, ``hw.host.energy``, ``hw.id`` and ``hw.type`` (status Development),
``http.route`` and ``http.response.status_code`` (Stable), ``gen_ai.*`` (Development; 1.44.0 lists them as moved to a
repository of their own). They know neither carbon nor energy per request: those are ``frugal.*``.
`http.server.request.duration` is left alone: it requires method and scheme, which our sums do not keep.

A ``frugal.*`` metric is named such that a translation back to Prometheus (dots to underscores, the unit's word and
``_total`` appended) gives the name of our own exposition again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ..records import Reading

#: the version of the semantic conventions whose names are used, in the form that receivers resolve
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
#: what a label holds when there is nothing to say, and what one of too many is folded into
_NOTHING, _OVERFLOW = "none", "other"

AttributeValue = str | bool | int | float | Sequence[str]


class Named(NamedTuple):
    """A metric's name and its unit in UCUM; annotations in braces count things."""

    name: str
    unit: str


#: last words of a name in Prometheus and what they are in UCUM, longest first
_SUFFIXES: Final = {
    "_grams_per_joule": "g/J",
    "_seconds": "s",
    "_joules": "J",
    "_grams": "g",
    "_bytes": "By",
    "_ratio": "1",
}
#: what names without a unit count
_COUNTED: Final = {
    "frugal_requests": "{request}",
    "frugal_requests_in_progress": "{request}",
    "frugal_tokens": "{token}",
    "frugal_functional_units": "{unit}",
    "frugal_quality_sum": "1",
    "frugal_quality_count": "{score}",
    "frugal_budget_decisions": "{decision}",
    "frugal_budget_overrides": "{override}",
    "frugal_budget_leases": "{lease}",
    "frugal_budget_queued_requests": "{request}",
    "frugal_budget_top_ups": "{lease}",
    "frugal_budget_expired_leases": "{lease}",
    "frugal_budget_blind_settlements": "{lease}",
    "frugal_budget_store_holders": "{worker}",
    "frugal_budget_store_exchanges": "{exchange}",
    "frugal_budget_workers_alone": "{worker}",
    "frugal_budget_expired_holdings": "{holding}",
    "frugal_meter_errors": "{error}",
    "frugal_meter_dropped_readings": "{reading}",
    "frugal_label_overflow": "{booking}",
    "frugal_workers": "{worker}",
    "frugal_downstream_calls": "{call}",
    "frugal_downstream_unknown_calls": "{call}",
}
_NAMESPACES: Final = ("request", "budget", "meter", "grid")
#: a sensor of the whole machine must not be summed with those of its parts (semantic conventions, hw)
_WHOLE_HOST: Final = "node"
#: one metric has one unit: limits in different ones are metrics of their own
_LIMITS: Final = {"joules": "J", "grams": "g", "seconds": "s", "tokens": "{token}", "requests": "{request}"}
_LIMIT: Final = "frugal_budget_limit_"

_ATTRIBUTES: Final = {
    "model": "gen_ai.response.model",
    "direction": "gen_ai.token.type",
    "status": "http.response.status_code",
    "component": "hw.type",
    "source": "hw.id",
}
#: where a label of that name means something else: a PUE's source is a document
_OWN_ATTRIBUTES: Final = {("frugal_pue_ratio", "source"): "frugal.pue_source"}
_HW_TYPES: Final = {"dram": "memory"}


def metric(name: str, labels: Mapping[str, str]) -> Named:
    """The metric that carries the samples of ``name`` (as in `prometheus.SPEC`, so without ``_total``) with ``labels``."""
    if name == "frugal_host_energy_joules":
        return Named("hw.host.energy" if labels.get("component") == _WHOLE_HOST else "hw.energy", "J")
    if name.startswith(_LIMIT):
        counted = name.removeprefix(_LIMIT)
        return Named(f"frugal.budget.limit.{counted}", _LIMITS[counted])
    suffix = next((each for each in _SUFFIXES if name.endswith(each)), "")
    words = name.removeprefix("frugal_").removesuffix(suffix)
    first, _, rest = words.partition("_")
    dotted = f"{first}.{rest}" if rest and first in _NAMESPACES else words
    return Named(f"frugal.{dotted}", _SUFFIXES[suffix] if suffix else _COUNTED.get(name, ""))


def attributes(name: str, labels: Mapping[str, str]) -> dict[str, AttributeValue]:
    """The attributes of a point of ``name`` from its Prometheus ``labels``.

    "none" becomes no attribute at all; a label set folded into "other" becomes ``otel.metric.overflow``. Different
    label sets give different attributes, so that no two points of a metric are one.
    """
    folded = [labels[key] for key in ("route", "model", "tenant") if key in labels]
    out: dict[str, AttributeValue] = {}
    if len(folded) > 1 and all(value == _OVERFLOW for value in folded):
        out["otel.metric.overflow"] = True
        labels = {key: value for key, value in labels.items() if key not in ("route", "model", "tenant")}
    for key, value in labels.items():
        if value != _NOTHING:
            told, as_told = _attribute(name, key, value)
            out[told] = as_told
    return out


def _attribute(name: str, key: str, value: str) -> tuple[str, AttributeValue]:
    if key == "route":  # a block outside HTTP has a name, not a route
        return ("http.route" if value.startswith("/") else "frugal.route"), value
    told = _OWN_ATTRIBUTES.get((name, key)) or _ATTRIBUTES.get(key, f"frugal.{key}")
    if key == "status" and value.isascii() and value.isdigit():
        return told, int(value)
    return told, _HW_TYPES.get(value, value) if key == "component" else value


#: fields of a reading that a settled span carries, as ``frugal.`` and the field's own name with its unit
FIGURES: Final = (
    *("settled", "outcome", "decision", "cpu_s", "gpu_s", "unit", "units", "quality"),
    *("energy_dynamic_j", "energy_full_j", "energy_low_j", "energy_high_j", "energy_remote_j"),
    *("carbon_g", "carbon_low_g", "carbon_high_g", "tier", "measured_share"),
    *("tenant", "boundary", "factor_ids", "method_id", "flags"),
)
#: what is said in the words of the conventions: on settled spans alone, so that no token is summed twice
GENERATION: Final = {
    "gen_ai.request.model": "model_requested",
    "gen_ai.response.model": "model_served",
    "gen_ai.usage.input_tokens": "tokens_in",
    "gen_ai.usage.output_tokens": "tokens_out",
}


def provisional(
    reading_id: str, *, cpu_s: float | None, energy_dynamic_j: float | None, tier: str | None, decision: str | None
) -> dict[str, AttributeValue]:
    """What a server span carries as it ends: idle, and with it all that rests on full energy, is known after the tick."""
    out: dict[str, AttributeValue] = {"frugal.reading_id": reading_id, "frugal.settled": False}
    told = {"cpu_s": cpu_s, "energy_dynamic_j": energy_dynamic_j, "tier": tier, "decision": decision}
    return out | {f"frugal.{field}": value for field, value in told.items() if value is not None}


def settled(reading: Reading) -> dict[str, AttributeValue]:
    """A settled reading as attributes; unknown figures are left out. ``frugal.reading_id`` finds it again elsewhere."""
    out: dict[str, AttributeValue] = {"frugal.reading_id": reading.id}
    out |= {f"frugal.{field}": value for field in FIGURES if (value := getattr(reading, field)) is not None}
    out |= {name: value for name, field in GENERATION.items() if (value := getattr(reading, field)) is not None}
    if reading.route is not None and reading.route.startswith("/"):
        out["http.route"] = reading.route
    return out
