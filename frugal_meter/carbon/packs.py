"""Factor packs: an operator's own emission factors in files, with their provenance, checked row by row when read.

A pack is a TOML manifest with a ``[pack]`` table, and rows either inside it (``[[factor]]``) or in a CSV file that it names
together with its sha256. A row describes a year (``year``) or the hour that begins at ``start``; hours make a series.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import FactorError, UnknownZoneError
from .factors import Factor, check_compatible
from .in_force import Step
from .zones import canonical

#: what holds for every row, unless a row says otherwise
MANIFEST_KEYS: Final = ("dataset", "version", "scope", "basis", "mix", "licence", "source", "year", "file", "sha256")
COLUMNS: Final = (
    "zone", "year", "start", "grams_per_kwh", "low", "high", "name", "estimated",
    "scope", "basis", "mix", "version", "licence", "source",
)  # fmt: skip
_COMMON: Final = ("version", "scope", "basis", "mix", "licence", "source")
FALLBACK_FLAG: Final = "factor:fallback"
MEAN_FLAG: Final = "factor:mean-of-series"
ESTIMATED_FLAG: Final = "factor:estimated"
#: a year of quarter-hours in 300 zones is below; more is a file of something else
_LARGEST_BYTES: Final = 500_000_000


class Pack(msgspec.Struct, frozen=True, dict=True):
    """The factors of one pack: ``yearly`` and, of series, ``hourly``, each sorted by zone and time."""

    path: str
    dataset: str
    yearly: tuple[Factor, ...]
    hourly: tuple[Factor, ...]

    @cached_property
    def zones(self) -> tuple[str, ...]:
        """Every zone that has a factor, sorted."""
        return tuple(sorted({factor.zone for factor in (*self.yearly, *self.hourly)}))

    def factor(self, zone: str, year: int | None = None) -> Factor:
        """The yearly factor of ``zone``, its newest without ``year``; the mean of its series where there is no yearly row.

        Raises `UnknownZoneError` for a zone that the pack does not hold: another zone's figure is never taken.
        """
        code = canonical(zone)
        self._known(zone, code)
        found = [f for f in self.yearly if f.zone == code and year in (None, f.year)]
        if found:
            return max(found, key=lambda f: f.year)
        hours = [f for f in self.hourly if f.zone == code and year in (None, f.year)]
        if not hours:
            years = ", ".join(str(y) for y in sorted({f.year for f in (*self.yearly, *self.hourly) if f.zone == code}))
            raise FactorError(f"{self.path}: zone {code} has no factor of {year}; it has {years}")
        return _mean(hours)

    def steps(self, zone: str) -> tuple[Step, ...]:
        """The series of ``zone`` as steps of `InForce`; its holes and what follows its end are filled by `factor`, flagged.

        Empty for a zone without a series.
        """
        code = canonical(zone)
        self._known(zone, code)
        hours = [(_unix_ns(f.at), f) for f in self.hourly if f.zone == code and f.at is not None]
        if not hours:
            return ()
        base = self.factor(code)
        spare = msgspec.structs.replace(base, flags=tuple(dict.fromkeys((*base.flags, FALLBACK_FLAG))))
        return tuple(_without_holes(hours, spare))

    def _known(self, zone: str, code: str) -> None:
        if code not in self.zones:
            raise UnknownZoneError(zone, hint=f"{self.path} has no row for {code}; it has {_some(self.zones)}.")


def load_pack(path: str | Path) -> Pack:
    """Read a pack: the TOML manifest, or the CSV file that lies beside its manifest of the same name.

    Raises `FactorError`, in one line with file and row, for a manifest or row that cannot be: an unknown column, a missing
    year, a figure in the wrong unit, two rows for one zone and time, rows of different scope or basis, a wrong sha256.
    """
    given = Path(path)
    manifest = given.with_suffix(".toml") if given.suffix == ".csv" else given
    if not manifest.is_file() and given.suffix == ".csv" and given.is_file():
        raise FactorError(f"{given}: has no manifest; write {manifest.name} beside it with frugal-meter factors import")
    text = _text(manifest)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FactorError(f"{manifest}: not valid TOML: {error}") from None
    about = tables.get("pack")
    if not isinstance(about, dict):
        raise FactorError(f"{manifest}: has no [pack] table; it says dataset, scope, licence and source of the rows")
    _only(str(manifest), "[pack]", about, MANIFEST_KEYS)
    rows, sha256, where = _rows(manifest, about, tables.get("factor", []), text)
    return _pack(str(manifest), about, rows, sha256, where)


def _rows(manifest: Path, about: Mapping[str, Any], inline: Any, text: str) -> tuple[Iterable[dict[str, Any]], str, str]:
    """The rows, the sha256 of the file they stand in, and how that file is called in errors."""
    if "file" not in about:
        if not isinstance(inline, list) or not inline or not all(isinstance(row, dict) for row in inline):
            raise FactorError(f"{manifest}: has no rows; name a CSV (file, sha256) or write [[factor]] tables")
        return inline, hashlib.sha256(text.encode()).hexdigest(), str(manifest)
    name, expected = about["file"], about.get("sha256")
    if not isinstance(name, str) or Path(name).name != name:
        raise FactorError(f"{manifest}: file is {name!r}; name a file in the same folder, without a path")
    data = _bytes(manifest.parent / name)
    found = hashlib.sha256(data).hexdigest()
    if expected is None:
        raise FactorError(f"{manifest}: has no sha256 of {name}; write sha256 = '{found}' once the rows are checked")
    if str(expected).lower() != found:
        raise FactorError(
            f"{manifest.parent / name}: sha256 is {found} and the manifest says {expected}: the rows are not those that were "
            "checked in; restore the file, or import it anew"
        )
    reader = csv.DictReader(io.StringIO(_decoded(manifest.parent / name, data)))
    return [{k: v for k, v in row.items() if v not in ("", None)} for row in reader], found, str(manifest.parent / name)


def _pack(path: str, about: Mapping[str, Any], rows: Iterable[dict[str, Any]], sha256: str, where: str) -> Pack:
    seen: dict[tuple[str, str], int] = {}
    factors: list[Factor] = []
    for number, row in enumerate(rows, 1):
        place = f"{where}, row {number}"
        _only(place, "a row", row, COLUMNS)
        factor = _factor(place, about, row, sha256)
        key = (factor.zone, factor.at or str(factor.year))
        if key in seen:
            raise FactorError(f"{place}: {key[0]} {key[1]} stands in row {seen[key]} already; keep one of them")
        seen[key] = number
        factors.append(factor)
    if not factors:
        raise FactorError(f"{where}: has no rows")
    try:
        check_compatible(*factors)
    except FactorError as error:
        raise FactorError(f"{where}: {error} (one pack holds one scope and one basis)") from None
    factors.sort(key=lambda f: (f.zone, f.year, f.at or ""))
    yearly = tuple(f for f in factors if f.at is None)
    return Pack(path, str(about.get("dataset", "")), yearly, tuple(f for f in factors if f.at is not None))


def _factor(place: str, about: Mapping[str, Any], row: Mapping[str, Any], sha256: str) -> Factor:
    if "zone" not in row or "grams_per_kwh" not in row:
        raise FactorError(f"{place}: a row needs zone and grams_per_kwh")
    at = None if "start" not in row else _start(place, row["start"])
    year = int(at[:4]) if at is not None else _year(place, row.get("year", about.get("year")))
    zone = _zone(place, row["zone"])
    told = {name: value for name in _COMMON if (value := row.get(name, about.get(name))) is not None}
    if "scope" not in told:
        raise FactorError(f"{place}: scope is missing; write scope = 'direct' or 'lifecycle': the two differ severalfold")
    grams = _number(place, "grams_per_kwh", row["grams_per_kwh"])
    low, high = (None if row.get(name) is None else _number(place, name, row[name]) for name in ("low", "high"))
    estimated = str(row.get("estimated", "")).strip().lower() in ("1", "true", "yes")
    try:
        factor = Factor.declared(
            zone,
            grams,
            dataset=str(about.get("dataset", "")),
            year=year,
            name=str(row.get("name", "")),
            low=low,
            high=high,
            sha256=sha256,
            **told,
        )
    except FactorError as error:
        raise FactorError(f"{place}: {error}") from None
    flags = ("factor:pack", *((ESTIMATED_FLAG,) if estimated else ()))
    identity = factor.id.replace("declared:", "pack:", 1)
    return msgspec.structs.replace(
        factor, id=identity if at is None else f"{identity.rpartition(':')[0]}:{at}", at=at, flags=flags
    )


def _zone(place: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise FactorError(f"{place}: zone is {value!r}; write the code of a country or a zone, such as 'FR'")
    return canonical(value)


def _number(place: str, name: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        comma = "; decimals are written with a point" if isinstance(value, str) and "," in value else ""
        raise FactorError(f"{place}: {name} is {value!r}, not a number of gCO2e per kWh{comma}") from None


def _year(place: str, value: Any) -> int:
    if value is None:
        raise FactorError(f"{place}: has no year: a figure without its vintage cannot be cited; give year, or start for an hour")
    try:
        return int(str(value))
    except ValueError:
        raise FactorError(f"{place}: year is {value!r}; write the year the figure describes, such as 2024") from None


def _start(place: str, value: Any) -> str:
    """``value`` as ISO 8601 in UTC, to the second; an hour without an offset would be a guess."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise FactorError(f"{place}: start is {value!r}; write 2025-01-31T13:00Z") from None
    if moment.tzinfo is None:
        raise FactorError(f"{place}: start {value} has no time zone; write 2025-01-31T13:00Z, or an offset such as +01:00")
    return utc_text(moment)


def utc_text(moment: datetime) -> str:
    """``2025-01-31T13:00:00Z``: how the moment of a factor is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unix_ns(at: str | None) -> int:
    return int(datetime.fromisoformat(at or "").timestamp()) * 1_000_000_000


def _without_holes(hours: list[Step], spare: Factor) -> Iterator[Step]:
    """The hours, with ``spare`` wherever the next one does not follow at once, and after the last."""
    starts = [start for start, _ in hours]
    length = min((b - a for a, b in pairwise(starts)), default=3_600_000_000_000)
    for (start, factor), following in zip(hours, [*starts[1:], None], strict=True):
        yield start, factor
        # Months are of 28 to 31 days: only what is half as long again is a hole.
        if following is None or following > start + length * 3 // 2:
            yield start + length, spare


def _mean(hours: list[Factor]) -> Factor:
    """The plain mean of a series, for the moments it does not cover; its range is the lowest and highest hour."""
    grams = [f.grams_per_kwh for f in hours]
    mid, first = sum(grams) / len(grams), hours[0]
    years = sorted({f.year for f in hours})
    return msgspec.structs.replace(
        first,
        id=f"{first.id.rpartition(':' + (first.at or ''))[0]}:{years[-1]}:mean",
        grams_per_kwh=mid,
        low_g_per_kwh=min(*grams, mid),
        high_g_per_kwh=max(*grams, mid),
        year=years[-1],
        at=None,
        flags=tuple(dict.fromkeys((*first.flags, MEAN_FLAG))),
    )


def _only(place: str, what: str, table: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            shown = "a cell beyond the header" if key is None else f"{key!r}"
            raise FactorError(f"{place}: {what} has {shown}, which means nothing here; known: {', '.join(known)}")


def _some(zones: tuple[str, ...]) -> str:
    return ", ".join(zones[:6]) + (f" and {len(zones) - 6} more" if len(zones) > 6 else "")


def _bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            raise FactorError(f"{file}: is {file.stat().st_size} bytes, too large for a table of factors")
        return file.read_bytes()
    except OSError as error:
        raise FactorError(f"{file}: cannot be read ({error.strerror}); name the manifest of a factor pack") from None


def _decoded(file: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FactorError(f"{file}: is not UTF-8 text; save it as UTF-8") from None


def _text(file: Path) -> str:
    return _decoded(file, _bytes(file))
