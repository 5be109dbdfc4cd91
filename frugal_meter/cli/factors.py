"""``frugal-meter factors list | show | import | compare``: which factors there are, where they come from, what they change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ..carbon import Factor, alternatives, factor, grid
from ..carbon.importing import import_pack
from ..carbon.packs import Pack, load_pack
from ..carbon.published import published
from ..errors import ConfigurationError, FactorError
from ..records import Interval
from ..units import UJ_PER_J, parse_quantity
from .texts import Words

_LONGEST_LIST = 40


def listed(zone: str | None, dataset: str | None, pack: Path | None) -> list[Factor]:
    """The newest factor of each zone, or every factor of ``zone``; of a pack, or of the bundled tables."""
    if pack is not None:
        loaded = load_pack(pack)
        rows = [f for f in loaded.yearly if zone is None or f.zone == loaded.factor(zone).zone]
        return rows or [loaded.factor(each) for each in ((zone,) if zone else loaded.zones)]
    if zone is not None:
        found = [factor(zone), *alternatives(zone)]
        return [f for f in found if dataset in (None, f.dataset)] or [factor(zone, dataset=dataset)]
    return [factor(each, dataset=dataset) for each in sorted(grid.zones(dataset))]


def found(name: str, pack: Path | None) -> Factor:
    """The factor of an id ("ember:FR:2024", "pack:base-empreinte:FR:2024") or of a zone. Raises `FactorError` and kin."""
    if pack is not None:
        loaded = load_pack(pack)
        by_id = {f.id: f for f in (*loaded.yearly, *loaded.hourly)}
        return by_id[name] if name in by_id else loaded.factor(name)
    if ":" not in name:
        return factor(name)
    zone = name.split(":")[-2]
    for other in published(zone):
        if other.id == name:
            return other
    raise FactorError(f"no factor {name!r} is bundled; list those of its zone with frugal-meter factors list --zone {zone}")


def show(one: Factor, words: Words) -> str:
    """Everything that citing ``one`` needs, a line each."""
    rows = {
        "id": one.id,
        words("factor"): f"{one.grams_per_kwh:g} {one.unit}",
        words("factor_zone"): f"{one.zone} ({one.zone_name})",
        words("factor_when"): one.at or str(one.year),
        words("factor_nature"): _nature(one, words),
        words("spread"): _spread(one, words),
        words("factor_dataset"): f"{one.dataset} {one.version}".strip(),
        words("factor_source"): one.source,
        words("factor_licence"): one.licence,
        "sha256": one.sha256 or "–",
        words("factor_flags"): ", ".join(one.flags) or "–",
    }
    if one.is_stale(datetime.now(UTC).year):
        rows[""] = words("stale", year=one.year)
    return table([list(pair) for pair in rows.items()])


def listing(factors: Sequence[Factor], words: Words, *, every: bool) -> str:
    """One line a factor; a long list is cut and says so, unless ``every``."""
    this_year = datetime.now(UTC).year
    shown = factors if every else factors[:_LONGEST_LIST]
    rows = [
        [f.id, f"{f.grams_per_kwh:g}", str(f.year), _nature(f, words), words("stale_short") if f.is_stale(this_year) else ""]
        for f in shown
    ]
    lines = [table([["id", "gCO2e/kWh", words("factor_year"), words("factor_nature"), ""], *rows])]
    if len(shown) < len(factors):
        lines.append(words("factors_more", n=len(factors) - len(shown)))
    return "\n".join(lines)


def compare(zone: str, energy: str, words: Words) -> tuple[str, list[dict[str, Any]]]:
    """The same energy under every published factor of ``zone``: a table, and the same as records.

    Direct and lifecycle figures stand in tables of their own: they answer different questions and are never ranked together.
    """
    joules = _joules(energy)
    records, parts = [], [words("compare_head", energy=energy.strip(), zone=zone)]
    for scope in ("lifecycle", "direct"):
        group = [f for f in published(zone) if f.scope == scope]
        if not group:
            continue
        rows = []
        for each in group:
            grams = joules * each.grams_per_joule
            rows.append([f"{each.grams_per_kwh:g}", words.figure(grams, "gCO2e"), str(each.year), each.mix or "–", each.id])
            records.append({**_record(each), "energy_j": joules, "grams": grams})
        head = ["gCO2e/kWh", energy.strip(), words("factor_year"), "mix", "id"]
        parts.append(words(f"scope_{scope}") + words.colon + "\n" + table([head, *rows]) + "\n" + _ratio(group, words))
        parts += [f"  {each.cite()}" for each in group]
    return "\n".join(parts), records


def imported(table_file: Path, out: Path, shape: str, about: Mapping[str, str], force: bool, words: Words) -> str:
    """Import, and say what the pack now holds."""
    told = {key: value for key, value in about.items() if value}
    pack = import_pack(table_file, out, shape=shape, about=told, force=force)
    return words("imported", path=pack.path, yearly=len(pack.yearly), hourly=len(pack.hourly), zones=_some(pack))


def _some(pack: Pack) -> str:
    return ", ".join(pack.zones[:8]) + (" …" if len(pack.zones) > 8 else "")


def _ratio(group: Sequence[Factor], words: Words) -> str:
    low, high = group[0].grams_per_kwh, group[-1].grams_per_kwh
    return words("compare_ratio", n=len(group), ratio=words.number(high / low) if low else "∞")


def _joules(energy: str) -> float:
    try:
        quantity = parse_quantity(energy if " " in energy.strip() else _spaced(energy))
    except ConfigurationError:
        quantity = None  # its own words would offer tokens and requests, which nobody asked for here
    if quantity is None or quantity.resource != "energy":
        raise ConfigurationError(f"--energy {energy!r} is no energy: write 1 kWh, or 50 kJ")
    return quantity.amount / UJ_PER_J


def _spaced(energy: str) -> str:
    """ "1kWh" as "1 kWh"."""
    digits = len(energy) - len(energy.lstrip("0123456789.,_ "))
    return f"{energy[:digits]} {energy[digits:]}"


def _nature(f: Factor, words: Words) -> str:
    mix = [words(f"mix_{f.mix}")] if f.mix else []
    return ", ".join([words(f"scope_{f.scope}"), words(f"basis_{f.basis}"), *mix])


def _spread(f: Factor, words: Words) -> str:
    spread: Interval | None = f.interval
    return words("unknown") if spread is None else words("interval", low=f"{spread.low:g}", high=f"{spread.high:g}")


def _record(f: Factor) -> dict[str, Any]:
    return {**msgspec.structs.asdict(f), "flags": list(f.flags)}


def as_json(factors: Iterable[Factor]) -> str:
    """The factors as a JSON array, every field of each."""
    return json.dumps([_record(f) for f in factors], ensure_ascii=False, indent=2)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns set apart by two spaces."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
