"""Grid factors: the bundled, dated world tables and how a zone is looked up in them.

Two tables, kept in two files because their licences differ: ``ember`` (countries, production mix, CC BY 4.0; the default)
and ``electricity-maps`` (countries and zones below them, consumption mix, ODbL 1.0: share-alike on the database, so its rows are
never merged into another table). Both are lifecycle and location-based. Files are read on first use.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ..errors import ConfigurationError, FactorError, UnknownZoneError
from .factors import EXPERT_RANGE, RANGE_FLAG, Basis, Factor, Mix, Scope
from .zones import DATA, canonical, unknown

#: in order of preference: the first that knows the zone gives its default factor
DATASETS: Final = ("ember", "electricity-maps")


class Origin(msgspec.Struct, frozen=True):
    """The file, inside a published package, that rows were taken from; both with their sha256."""

    release: str
    package: str
    package_sha256: str
    file: str
    sha256: str


class Dataset(msgspec.Struct, frozen=True):
    """What is common to the rows of one table."""

    title: str
    scope: Scope
    basis: Basis
    mix: Mix
    licence: str
    licence_url: str
    attribution: str
    file: str
    file_sha256: str
    origins: dict[str, Origin]


class Row(NamedTuple):
    """One line of a table, as text, in the order of the file's header."""

    zone: str
    name: str
    year: str
    grams_per_kwh: str
    licence: str
    origin: str


@cache
def datasets() -> Mapping[str, Dataset]:
    """Every bundled dataset by name, with its licence, attribution and origin files."""
    return msgspec.json.decode((DATA / "datasets.json").read_bytes(), type=dict[str, Dataset])


@cache
def _table(dataset: str) -> Mapping[str, Sequence[str]]:
    """Zone → its lines. A service uses one zone of 366: lines are taken apart only when theirs is asked for."""
    table: dict[str, list[str]] = {}
    for line in _bundled(DATA / datasets()[dataset].file, datasets()[dataset].file_sha256).splitlines()[1:]:
        table.setdefault(line.partition(",")[0], []).append(line)
    return table


def _bundled(file: Path, sha256: str) -> str:
    """The text of a bundled file, refused unless it is the one that was released: a changed row would be cited as theirs."""
    data = file.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise FactorError(f"{file.name}: sha256 is {found}, not the released {sha256}: install frugal-meter again")
    return data.decode("utf-8")


def _rows(dataset: str, zone: str) -> list[Row]:
    """The zone's rows, newest first (the builder sorts them so); empty when the table has none."""
    return [Row(*cells) for cells in csv.reader(_table(dataset).get(zone, ()))]


def zones(dataset: str | None = None) -> dict[str, str]:
    """Every zone with a bundled factor (of ``dataset`` when given), with the name its table gives it."""
    wanted = DATASETS if dataset is None else (_known_dataset(dataset),)
    return {zone: _rows(name, zone)[0].name for name in reversed(wanted) for zone in sorted(_table(name))}


def factor(zone: str, *, dataset: str | None = None, year: int | None = None) -> Factor:
    """The factor of ``zone``: an ISO 3166-1 code ("FR", "fra") or a zone below a country ("FR-COR", "US-CAL-CISO").

    Without ``dataset``, the first of `DATASETS` that knows the zone; without ``year``, its newest. A zone below a country never
    takes the country's figure. Raises `UnknownZoneError` (with the nearest zones), or `ConfigurationError` for an unknown
    dataset or year.
    """
    code = canonical(zone)
    wanted = DATASETS if dataset is None else (_known_dataset(dataset),)
    holders = [name for name in wanted if code in _table(name)]
    if not holders:
        raise _unknown(zone, code, dataset)
    for name in holders:
        for row in _rows(name, code):
            if year is None or row.year == str(year):
                return _factor(name, row)
    years = "; ".join(f"{n}: {', '.join(r.year for r in _rows(n, code))}" for n in holders)
    raise ConfigurationError(f"no bundled factor for {code} in {year}; there is {years}")


def alternatives(zone: str) -> tuple[Factor, ...]:
    """Every other bundled factor of ``zone`` (other years, other datasets), for sensitivity runs.

    The default dataset comes first, and in each the newest year. Raises `UnknownZoneError`.
    """
    chosen = factor(zone)
    found = (_factor(name, row) for name in DATASETS for row in _rows(name, chosen.zone))
    return tuple(f for f in found if f.id != chosen.id)


def _known_dataset(name: str) -> str:
    if name not in DATASETS:
        raise ConfigurationError(f"unknown dataset {name!r} of grid factors: use {' or '.join(DATASETS)}")
    return name


def _unknown(zone: str, code: str, dataset: str | None) -> UnknownZoneError:
    elsewhere = [name for name in DATASETS if name != dataset and code in _table(name)]
    if elsewhere:
        return UnknownZoneError(zone, hint=f"Dataset {dataset} has no row for {code}; {elsewhere[0]} has one.")
    return unknown(zone, zones())


def _factor(dataset: str, row: Row) -> Factor:
    about = datasets()[dataset]
    grams = float(row.grams_per_kwh)
    low, high, flags = _spread(row.zone, grams)
    origin = about.origins[row.origin]
    return Factor(
        id=f"{dataset}:{row.zone}:{row.year}",
        zone=row.zone,
        zone_name=row.name,
        grams_per_kwh=grams,
        low_g_per_kwh=low,
        high_g_per_kwh=high,
        dataset=dataset,
        version=origin.release,
        year=int(row.year),
        scope=about.scope,
        basis=about.basis,
        mix=about.mix,
        licence=row.licence,
        source=f"{about.title}; {about.attribution}",
        sha256=origin.sha256,
        flags=flags,
    )


def _spread(zone: str, grams: float) -> tuple[float, float, tuple[str, ...]]:
    """Lowest and highest bundled figure of the zone (all are lifecycle and location-based), or the flagged default range."""
    published = {float(row.grams_per_kwh) for name in DATASETS for row in _rows(name, zone)}
    # One figure repeated each year is a placeholder for a grid without data, not five that agree.
    if len(published) < 2:
        return grams * EXPERT_RANGE[0], grams * EXPERT_RANGE[1], (RANGE_FLAG,)
    return min(published), max(published), ()
