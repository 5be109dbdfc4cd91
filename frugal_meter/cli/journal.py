"""``frugal-meter journal info | period | verify | export | purge``: what a service kept."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigurationError
from ..journal.export import FORMATS, TEXTS, parquet
from ..journal.sqlite import SqliteJournal
from ..periods import LEAST_PUBLIC, Period, period, public
from ..records import Interval
from .texts import Words


def moment(given: str) -> int:
    """Unix nanoseconds of ``2026-01-31`` or an ISO 8601 time; UTC where it names no zone. Raises ConfigurationError."""
    try:
        when = datetime.fromisoformat(given)
    except ValueError:
        raise ConfigurationError(f"{given!r} is no moment: write 2026-01-31 or 2026-01-31T14:00+01:00") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1e9)


def info(path: Path) -> str:
    """What is in it, as JSON."""
    told = SqliteJournal(path, create=False).info()
    for name in ("begin", "end"):
        ns = told.pop(f"{name}_ns")
        told[name] = None if ns is None else _iso(ns / 1e9)
    return json.dumps(told, indent=2)


def verified(path: Path, words: Words) -> tuple[str, bool]:
    """What is wrong with it, a line each, and whether nothing is."""
    faults = SqliteJournal(path, create=False).verify()
    return "\n".join(faults) or words("journal_sound"), not faults


def purged(path: Path, before: str) -> str:
    """Delete what ended before a moment; how many rows went, as JSON."""
    if not path.is_file():
        raise ConfigurationError(f"journal {path}: there is no such file")
    journal = SqliteJournal(path)
    try:
        return json.dumps(journal.purge(moment(before)))
    finally:
        journal.close()


def exported(path: Path, format: str, out: Path | None) -> tuple[int, str | None]:
    """Write it in another shape: how many records, and what could not be read of it. Raises ConfigurationError."""
    if format not in FORMATS:
        raise ConfigurationError(f"--format {format!r} is none of {', '.join(FORMATS)}")
    journal = SqliteJournal(path, create=False)
    if format == "parquet":
        if out is None:
            raise ConfigurationError("--format parquet writes a folder: name it with --out")
        return parquet(journal, out), journal.damage
    if out is None:
        return TEXTS[format](journal, sys.stdout), journal.damage
    try:
        # Tenants and routes are in it; and a file that is there is somebody's.
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="") as file:
            return TEXTS[format](journal, file), journal.damage
    except FileExistsError:
        raise ConfigurationError(f"{out}: is there already; name another file") from None
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written ({error.strerror})") from None


def figures(path: Path, begin: str | None, end: str | None, unit: str, for_public: bool) -> Period:
    """The figures of a period. Raises ConfigurationError for an empty one, or one too small to be public."""
    journal = SqliteJournal(path, create=False)
    told = journal.info()
    if told["begin_ns"] is None:
        raise ConfigurationError(f"journal {path}: is empty")
    within = (moment(begin) if begin else told["begin_ns"], moment(end) if end else told["end_ns"] + 1)
    if within[0] >= within[1]:
        raise ConfigurationError("the period ends before it begins")
    books = (row.books for row in journal.passes(within))
    found = period(books, journal.tallies(within), begin_s=within[0] / 1e9, end_s=within[1] / 1e9, unit=unit)
    shown = public(found) if for_public else found
    if shown is None:
        raise ConfigurationError(f"fewer than {LEAST_PUBLIC} requests are in that period: nothing of it can be made public")
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
        ("p_quality", words("p_none") if of.quality is None else f"{of.quality:.2f} ({of.quality_count})"),
        ("p_tier", f"{words.tier(of.tier)} · {words.percent(of.measured_share)}" if of.tier else words("unknown")),
        ("p_factors", ", ".join(of.factor_ids) or words("unknown")),
        ("method", ", ".join(of.method_ids) or words("unknown")),
    ]
    return "\n".join(f"{words(key)}{words.colon} {value}" for key, value in rows)


def _joules(nj: int | None, words: Words) -> str:
    return words.figure(None if nj is None else nj / 1e9, "J")


def _known(figure: Interval | None, unit: str, words: Words) -> str:
    return words.known(figure, unit)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
