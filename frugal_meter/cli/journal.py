"""``frugal-meter journal info | period | verify | export | purge``: what a service kept."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigurationError, StoreError
from ..journal.export import FORMATS, TEXTS, parquet
from ..journal.figures import figures_of, span_of
from ..journal.opening import is_server, open_store
from ..periods import LEAST_PUBLIC, Period, public
from ..records import Interval
from .texts import Words
from .writing import new_file


def moment(given: str) -> int:
    """Unix nanoseconds of ``2026-01-31`` or an ISO 8601 time; UTC where it names no zone. Raises ConfigurationError."""
    try:
        when = datetime.fromisoformat(given)
    except ValueError:
        raise ConfigurationError(f"{given!r} is no moment: write 2026-01-31 or 2026-01-31T14:00+01:00") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1e9)


def info(where: str) -> str:
    """What is in it, as JSON."""
    with open_store(where, create=False) as journal:
        told = journal.info()
    for name in ("begin", "end"):
        ns = told.pop(f"{name}_ns")
        told[name] = None if ns is None else _iso(ns / 1e9)
    return json.dumps(told, indent=2)


def verified(where: str, words: Words) -> tuple[str, bool]:
    """What is wrong with it, a line each, and whether nothing is."""
    with open_store(where, create=False) as journal:
        try:
            faults = journal.verify()
        except StoreError as error:
            if is_server(where):  # away, perhaps: that says nothing of what it keeps
                raise
            faults = [str(error)]
    return "\n".join(faults) or words("journal_sound"), not faults


def purged(where: str, before: str, begin: str | None) -> str:
    """Delete what ended before a moment, and not before ``begin``; how many rows went, as JSON."""
    since_ns, before_ns = moment(begin) if begin else 0, moment(before)
    if since_ns >= before_ns:
        raise ConfigurationError("the period ends before it begins")
    if not is_server(where) and not Path(where.removeprefix("sqlite:///")).is_file():
        raise ConfigurationError(f"journal {where}: there is no such file")
    with open_store(where) as journal:
        return json.dumps(journal.purge(before_ns, since_ns=since_ns))


def exported(where: str, format: str, out: Path | None) -> tuple[int, str | None]:
    """Write it in another shape: how many records, and what could not be read of it. Raises ConfigurationError."""
    if format not in FORMATS:
        raise ConfigurationError(f"--format {format!r} is none of {', '.join(FORMATS)}")
    with open_store(where, create=False) as journal:
        if format == "parquet":
            if out is None:
                raise ConfigurationError("--format parquet writes a folder: name it with --out")
            return parquet(journal, out), journal.damage
        if out is None:
            return TEXTS[format](journal, sys.stdout), journal.damage
        with new_file(out, 0o600, newline="") as file:  # its owner's alone: tenants and routes are in it
            return TEXTS[format](journal, file), journal.damage


def figures(where: str, begin: str | None, end: str | None, unit: str, for_public: bool) -> Period:
    """The figures of a period. Raises ConfigurationError for an empty one, or one too small to be public."""
    with open_store(where, create=False) as journal:
        within = span_of(journal, moment(begin) if begin else None, moment(end) if end else None)
        found = figures_of(journal, within, unit)
    shown = public(found) if for_public else found
    if shown is None:
        raise ConfigurationError(
            f"fewer than {LEAST_PUBLIC} requests or units are in that period: nothing of it can be made public"
        )
    return shown


def as_json(of: Period) -> str:
    """Every field."""
    return json.dumps({"schema": "frugal-meter/period/1", **msgspec.to_builtins(of)}, ensure_ascii=False, indent=2)


def shown(of: Period, words: Words) -> str:
    """The figures for reading."""
    names = ("delivered", "failed", "refused", "late", "overhead", "slice")
    parts = [(f"p_{name}", _joules(getattr(of, f"{name}_nj"), words)) for name in names]
    mean = words.figure(of.mean_request_j, "J")
    rows: list[tuple[str, Any]] = [
        ("p_when", f"{_iso(of.begin_s)} – {_iso(of.end_s)}"),
        ("p_covered", words.percent(of.covered_s / (of.end_s - of.begin_s))),
        ("p_requests", f"{of.requests} ({of.failed} / {of.refused})"),
        ("p_units", f"{of.units:g} {of.unit}"),
        ("energy", words.known(of.energy_j, "J")),
        *parts,
        ("p_carbon", words.known(of.carbon_g, "gCO2e")),
        ("p_per_unit", f"{_known(of.per_unit_j, 'J', words)} · {_known(of.per_unit_g, 'gCO2e', words)}"),
        ("p_mean", mean),
        ("p_quality", _quality(of, words)),
        ("p_tier", f"{words.tier(of.tier)} · {words.percent(of.measured_share)}" if of.tier else words("unknown")),
        ("p_factors", ", ".join(of.factor_ids) or words("unknown")),
        ("method", ", ".join(of.method_ids) or words("unknown")),
    ]
    return "\n".join(f"{words(key)}{words.colon} {value}" for key, value in rows)


def _quality(of: Period, words: Words) -> str:
    if of.quality is not None:
        return f"{of.quality:.2f} ({of.quality_count})"
    if len(of.quality_metrics) > 1:
        return words("p_metrics", names=", ".join(of.quality_metrics))
    return words("p_few_scores" if of.quality_count else "p_none")


def _joules(nj: int | None, words: Words) -> str:
    return words.figure(None if nj is None else nj / 1e9, "J")


def _known(figure: Interval | None, unit: str, words: Words) -> str:
    return words.known(figure, unit)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
