"""Turns tables as their publishers give them out into factor packs: a CSV of `packs.COLUMNS` and its manifest with sha256.

Shapes: "plain" (the columns of a pack), "electricity-maps" (the CSV files of its data portal), "ademe" (the CSV export of
Base Carbone / Base Empreinte), "supplier" (one line per offer and year; market-based).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ..errors import FactorError
from .factors import Scope
from .packs import COLUMNS, Pack, load_pack

Row = Mapping[str, str]
#: how Base Carbone calls places with an electricity of their own, folded, and their zone here
_ADEME_ZONES: Final[Mapping[str, str]] = {
    "france continentale": "FR",
    "corse": "FR-COR",
    "guadeloupe": "GP",
    "martinique": "MQ",
    "guyane": "GF",
    "guyane francaise": "GF",
    "la reunion": "RE",
    "reunion": "RE",
    "mayotte": "YT",
    "saint-pierre-et-miquelon": "PM",
    "polynesie francaise": "PF",
    "nouvelle caledonie": "NC",
    "nouvelle-caledonie": "NC",
    "wallis et futuna": "WF",
}
_YEAR: Final = re.compile(r"\b(?:19|20)\d\d\b")


def import_pack(
    table: Path, out: Path, *, shape: str, about: Mapping[str, str], scope: Scope | None = None, force: bool = False
) -> Pack:
    """Write ``out`` (a manifest, ``.toml``) and the CSV beside it from ``table``; returns the pack as it is read back.

    ``about`` holds dataset, licence, source and what else the manifest says. Raises `FactorError` for a table that is not of
    ``shape``, for rows that no pack may hold, and for files that exist already unless ``force``.
    """
    if shape not in SHAPES:
        raise FactorError(f"unknown shape {shape!r} of a table: use {', '.join(SHAPES)}")
    out = out.with_suffix(".toml")
    rows = out.with_suffix(".csv")
    standing = [file for file in (out, rows) if file.exists()]
    if standing and (not force or rows.resolve() == table.resolve()):
        raise FactorError(f"{standing[0]}: exists; choose another --out, or --force to replace it (never the table itself)")
    if scope is not None:
        about = {**about, "scope": scope}
    found = list(SHAPES[shape](str(table), _table(table), about))
    if not found:
        raise FactorError(f"{table}: no row of shape {shape!r} in it")
    text = io.StringIO()
    writer = csv.DictWriter(text, [c for c in COLUMNS if any(c in row for row in found)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    data = text.getvalue().encode()
    basis = {"basis": "market"} if shape == "supplier" else {}
    manifest = {**about, **basis, "file": rows.name, "sha256": hashlib.sha256(data).hexdigest()}
    told = "\n".join(
        ["# written by frugal-meter factors import", "[pack]", *(f"{k} = {json.dumps(v)}" for k, v in manifest.items())]
    )
    return _written(out, rows, (told + "\n").encode(), data)


def _written(out: Path, rows: Path, manifest: bytes, data: bytes) -> Pack:
    """Both files, put in place only when they are read back as a pack."""
    trial = out.parent / f".{out.stem}.{os.getpid()}"
    trial.mkdir()
    try:
        (trial / out.name).write_bytes(manifest)
        (trial / rows.name).write_bytes(data)
        load_pack(trial / out.name)
        (trial / rows.name).replace(rows)
        (trial / out.name).replace(out)
    finally:
        for left in trial.iterdir():
            left.unlink()
        trial.rmdir()
    return load_pack(out)


def _table(file: Path) -> list[Row]:
    """The lines of a CSV by header, whatever its separator (; or ,) and encoding (UTF-8, else Windows-1252)."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise FactorError(f"{file}: cannot be read ({error.strerror})") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if head.count(";") > head.count(",") else ",")
    return [{k.strip(): (v or "").strip() for k, v in row.items() if isinstance(k, str)} for row in reader]


def _plain(place: str, table: list[Row], about: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for row in table:
        yield {k: v for k, v in row.items() if v}


def _supplier(place: str, table: list[Row], about: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Columns ``supplier, offer, zone, year, grams_per_kwh``: what a supplier must print of an offer, by year."""
    for number, row in enumerate(table, 1):
        _needs(f"{place}, row {number}", row, ("supplier", "offer", "zone", "year", "grams_per_kwh"))
        yield {
            "zone": row["zone"],
            "year": row["year"],
            "grams_per_kwh": row["grams_per_kwh"].replace(",", "."),
            "name": f"{row['supplier']}, {row['offer']}",
            "source": f"{row['supplier']}, {row['offer']}",
        }


def _electricity_maps(place: str, table: list[Row], about: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The portal's files: one column for each scope, an hour, a month or a year a line, times in UTC."""
    if not table:
        return
    scope = about.get("scope")
    if scope is None:
        raise FactorError(f"{place}: holds a direct and a lifecycle column; say which with --scope")
    mark = "(direct)" if scope == "direct" else "(life cycle)"
    column = next((name for name in table[0] if "carbon intensity" in name.casefold() and mark in name.casefold()), None)
    if column is None:
        raise FactorError(f"{place}: has no column of {scope} carbon intensity; is it a file of Electricity Maps' data portal?")
    _needs(place, table[0], ("Datetime (UTC)", "Zone id"))
    lines = Counter((row["Zone id"], row["Datetime (UTC)"][:4]) for row in table)
    for row in table:
        if not row[column]:
            continue  # an hour that the publisher left empty: unknown, and the series has a hole there
        moment = row["Datetime (UTC)"]
        alone = lines[row["Zone id"], moment[:4]] == 1
        yield {
            "zone": row["Zone id"],
            **({"year": moment[:4]} if alone else {"start": moment.replace(" ", "T") + "Z"}),
            "grams_per_kwh": row[column],
            "name": row.get("Zone name", ""),
            "estimated": "true" if row.get("Data estimated", "").casefold() == "true" else "",
            "mix": "consumption",
        }


def _ademe(place: str, table: list[Row], about: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Mean mixes of electricity at the consumer, in kgCO2e/kWh with a decimal comma; archived and by-use lines are left out."""
    needed = ("Nom base français", "Nom attribut français", "Unité français", "Total poste non décomposé")
    if table:
        _needs(place, table[0], needed, empty=True)
    for row in table:
        name, kind = _fold(row["Nom base français"]), _fold(row["Nom attribut français"])
        boundary = _fold(row.get("Nom frontière français", ""))
        if not name.startswith("electricite") or "moyen" not in f"{kind} {boundary}" or "usage" in kind:
            continue
        if _fold(row["Unité français"]) not in ("kgco2e/kwh", "kg co2e/kwh") or row.get("Type Ligne", "") == "Poste":
            continue
        if "archive" in _fold(row.get("Statut de l'élément", "")):
            continue
        yield _ademe_row(place, row, kind)


def _ademe_row(place: str, row: Row, kind: str) -> dict[str, str]:
    where = place + ", element " + row.get("Identifiant de l'élément", "?")
    spoken = [row.get("Sous-localisation géographique français", ""), row.get("Localisation géographique", "")]
    zone = next((_ADEME_ZONES[_fold(each)] for each in spoken if _fold(each) in _ADEME_ZONES), None)
    if zone is None:
        raise FactorError(f"{where}: place {' / '.join(filter(None, spoken)) or '(none)'} is no zone known here; take it out")
    year = _YEAR.search(kind)
    if year is None:
        raise FactorError(
            f"{where}: {row['Nom attribut français']!r} names no year: a figure without its vintage cannot be cited"
        )
    try:
        grams = 1000 * float(row["Total poste non décomposé"].replace(",", "."))
    except ValueError:
        raise FactorError(f"{where}: total is {row['Total poste non décomposé']!r}, not a number of kgCO2e/kWh") from None
    return {"zone": zone, "year": year[0], "grams_per_kwh": f"{grams:.6g}", "mix": "consumption", "scope": "lifecycle"}


def _needs(place: str, row: Row, columns: tuple[str, ...], *, empty: bool = False) -> None:
    missing = [c for c in columns if c not in row or not (row[c] or empty)]
    if missing:
        raise FactorError(f"{place}: has no {', '.join(missing)}; its columns are {', '.join(list(row)[:12])}")


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in plain if not unicodedata.combining(c)).strip()


Shape = Callable[[str, list[Row], Mapping[str, str]], Iterator[dict[str, str]]]
SHAPES: Final[Mapping[str, Shape]] = {
    "plain": _plain,
    "electricity-maps": _electricity_maps,
    "ademe": _ademe,
    "supplier": _supplier,
}
