"""A journal's content in other tools' shapes: JSON lines, CSV, Parquet by day, and a manifest of GSF's Impact Framework."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from ..errors import ConfigurationError, MissingExtraError
from ..periods import Pass
from ..records import Reading
from ..units import J_PER_KWH, NJ_PER_J
from .store import JournalStore

#: rows that are turned into one group of a Parquet file at a time
_CHUNK: Final = 10_000
#: version of the Impact Framework whose manifests these are (if.greensoftware.foundation, 1.0: inputs with timestamp, duration)
IF_VERSION: Final = "1.0.0"


def jsonl(journal: JournalStore, out: IO[str]) -> int:
    """Everything, one object a line with its ``type``: reading, pass (with what each span drew), decision, feedback.

    Readings are in the shape of `Reading`: what reads those skips the other types. Returns how many lines.
    """
    count = 0
    for kind, record in _everything(journal):
        out.write(json.dumps({"type": kind, **record}, ensure_ascii=False, separators=(",", ":")) + "\n")
        count += 1
    return count


def _everything(journal: JournalStore) -> Iterator[tuple[str, dict[str, Any]]]:
    for reading in journal.saved_readings():
        yield "reading", msgspec.to_builtins(reading)
    for row in journal.saved_passes():
        yield "pass", {**msgspec.to_builtins(row.books), "spans": msgspec.to_builtins(row.spans, str_keys=True)}
    if journal.damage is None:
        yield from (("tally", msgspec.to_builtins(tally)) for tally in journal.rolled())
        yield from (("decision", entry._asdict()) for entry in journal.decisions())
        yield from (("feedback", said._asdict()) for said in journal.feedback())


def csv_table(journal: JournalStore, out: IO[str]) -> int:
    """Readings as CSV (RFC 4180), a column per field; unknown is empty, several values are joined by spaces."""
    table = csv.writer(out, lineterminator="\r\n")
    table.writerow(Reading.__struct_fields__)
    count = 0
    for reading in journal.saved_readings():
        table.writerow([_cell(value) for value in msgspec.to_builtins(reading).values()])
        count += 1
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        plain = all(isinstance(each, str) for each in value)
        return " ".join(value) if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    # A spreadsheet runs what begins like a formula; names come from the service, and from whom it serves.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def parquet(journal: JournalStore, folder: Path) -> int:
    """Readings as Parquet, a folder ``day=2026-01-31`` (UTC, of their start) per day, as DuckDB and Spark read them.

    ``folder`` must not exist or be empty. Raises ConfigurationError and MissingExtraError.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("parquet", "journal export --format parquet") from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder}: is there already; name a folder that is not")
    schema = pa.schema([(name, _arrow(kind, pa)) for name, kind in _columns().items()])
    count, day, rows, writer = 0, "", [], None

    def write() -> None:
        if writer is not None and rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

    try:
        for reading in journal.saved_readings():
            its_day = datetime.fromtimestamp(reading.started_at, UTC).date().isoformat()
            if its_day != day:
                write()
                if writer is not None:
                    writer.close()
                place, day = folder / f"day={its_day}", its_day
                place.mkdir(parents=True, exist_ok=True)
                # A clock set back comes to a day again.
                writer = pq.ParquetWriter(place / f"readings-{len(list(place.iterdir()))}.parquet", schema)
            rows.append(_flat(reading))
            count += 1
            if len(rows) >= _CHUNK:
                write()
        write()
    finally:
        if writer is not None:
            writer.close()
    return count


def _columns() -> dict[str, str]:
    """The columns of a reading and what they hold: "text", "texts", "number", "count", "truth", or "json" for what is nested."""
    kinds = {}
    for field in msgspec.structs.fields(Reading):
        said = str(field.type)
        kinds[field.name] = (
            ("texts" if "tuple[str" in said else "json")
            if "tuple" in said or "frugal_meter" in said
            else "number"
            if "float" in said
            else "truth"
            if "bool" in said
            else "count"
            if "int" in said
            else "text"
        )
    return kinds


def _arrow(kind: str, pa: Any) -> Any:
    types: Mapping[str, Callable[[], Any]] = {
        **{"text": pa.string, "json": pa.string, "number": pa.float64, "count": pa.int64, "truth": pa.bool_},
        "texts": lambda: pa.list_(pa.string()),
    }
    return types[kind]()


def _flat(reading: Reading) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(reading)
    for name, kind in _columns().items():
        if kind == "json" and row[name] is not None:
            row[name] = json.dumps(row[name], ensure_ascii=False)
    return row


def gsf(journal: JournalStore, out: IO[str]) -> int:
    """The service's hours as a manifest of GSF's Impact Framework (YAML): kWh after PUE, gCO2e, embodied apart.

    JSON is YAML 1.2, so that no library is needed to write it. Returns how many observations.
    """
    inputs = [_observation(each) for each in sorted((row.books for row in journal.saved_passes()), key=lambda p: p.t0_ns)]
    manifest = {
        "name": "frugal_meter journal",
        "description": "Energy and carbon of a service; its slice of idle, overhead and failed work included.",
        "tags": {"kind": "web", "complexity": "moderate", "category": "on-premise"},
        "initialize": {"plugins": {}},
        "if-version": IF_VERSION,
        "tree": {"children": {"service": {"inputs": inputs}}},
    }
    json.dump(manifest, out, ensure_ascii=False, indent=1)
    out.write("\n")
    return len(inputs)


def _observation(of: Pass) -> dict[str, Any]:
    weight, joules = of.weight, sum(books.service_nj for books in of.books) / NJ_PER_J
    grams = joules * weight.pue.mid * weight.grams_per_joule
    return {
        "timestamp": datetime.fromtimestamp(of.t0_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "duration": (of.t1_ns - of.t0_ns) / 1e9,
        "energy": joules * weight.pue.mid / J_PER_KWH,
        "grid/carbon-intensity": weight.grams_per_joule * J_PER_KWH,
        "carbon-operational": grams,
        "carbon-embodied": of.embodied_g,
        "carbon": grams + of.embodied_g,
    }


#: what ``--format`` may say, of those that are one text
TEXTS: Final[Mapping[str, Callable[[JournalStore, IO[str]], int]]] = {"jsonl": jsonl, "csv": csv_table, "gsf": gsf}
FORMATS: Final[Iterable[str]] = (*TEXTS, "parquet")
