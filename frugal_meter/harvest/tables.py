"""What was harvested as data: JSON with everything, CSV with a row per service."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from ..declaration.document import Bounds, Said
from .harvest import Entry, Harvest, Likeness, likeness

SCHEMA: Final = "frugal-ai-observatory/1"
#: a spreadsheet runs what begins like a formula, and every text here is a stranger's
_RUN: Final = ("=", "+", "-", "@", "\t", "\r")


def group_id(of: Likeness) -> str:
    """A short name of a group: figures of two groups are not comparable."""
    return sha256(json.dumps(of).encode()).hexdigest()[:8]


def as_json(harvest: Harvest, now: datetime) -> bytes:
    """Every service with its declaration's date, period and organisation; and what was refused."""
    services = [_record(entry) for entry in harvest.entries]
    refused = [{"source": each.source, "why": each.why} for each in harvest.refused]
    told = {"schema": SCHEMA, "made_at": now.astimezone(UTC), "services": services, "refused": refused}
    return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"


def _record(entry: Entry) -> dict[str, Any]:
    of = entry.taken.declaration
    return {
        "source": entry.taken.source,
        "declared_at": of.declared_at,
        "valid_until": of.valid_until,
        "period": of.period,
        "organisation": of.organisation,
        "licence": of.licence,
        "comparable_with": group_id(likeness(entry.service)) if entry.service.per_unit else None,
        "service": entry.service,
    }


def as_csv(harvest: Harvest) -> str:
    """A row per service; unknown is an empty cell."""
    out = io.StringIO()
    rows = [dict(_cells(entry)) for entry in harvest.entries]
    if rows:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def _cells(entry: Entry) -> Iterator[tuple[str, Any]]:
    of, service = entry.taken.declaration, entry.service
    each, year, method = service.per_unit, service.per_year, service.method
    yield "organisation", _text(of.organisation.name)
    yield "siret", of.organisation.siret
    yield "service", _text(service.id)
    yield "name", _said(service.name)
    yield "purpose", _said(service.purpose)
    yield "status", service.status
    yield "contribution", service.contribution
    yield "period_begin", of.period.begin.isoformat()
    yield "period_end", of.period.end.isoformat()
    yield "valid_until", of.valid_until.isoformat()
    yield "unit", _text(service.unit.name)
    yield "delivered", service.unit.delivered
    yield "requests", service.volume.requests
    yield from _three("it_energy_kwh", service.it_energy_kwh)
    yield from _three("co2e_kg", service.co2e.total_kg if service.co2e else None)
    yield from _three("it_energy_j_per_unit", each.it_energy_j if each else None)
    yield from _three("co2e_g_per_unit", each.co2e_g if each else None)
    yield from _three("it_energy_kwh_per_year", year.it_energy_kwh if year else None)
    yield from _three("co2e_kg_per_year", year.co2e_kg if year else None)
    yield "tier", method.tier
    yield "measured_share", method.measured_share
    yield "quality", service.quality.mean if service.quality else None
    yield "method", _text(" ".join(method.ids))
    yield "boundary", _text(" ".join(service.boundary.included))
    yield "factors", _text(" ".join(factor.id for factor in method.factors))
    yield "comparable_with", group_id(likeness(service)) if each else None
    yield "licence", of.licence
    yield "source", _text(entry.taken.source)


def _three(name: str, of: Bounds | None) -> Iterator[tuple[str, float | None]]:
    yield f"{name}_low", of.low if of else None
    yield f"{name}_mid", of.mid if of else None
    yield f"{name}_high", of.high if of else None


def _said(of: Said | None) -> str | None:
    return _text(of.best("fr")[1]) if of else None


def _text(text: str | None) -> str | None:
    return f"'{text}" if text and text.startswith(_RUN) else text
