"""The zones of a powercap tree: what each one covers, and whether its counter can be read.

A tree is read as ``/sys/class/powercap`` (all zones side by side) or as ``/sys/devices/virtual/powercap`` (nested).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from . import findings
from .findings import Finding

_ZONE: Final = re.compile(r"[a-z][a-z0-9_-]*(?::\d+)+")
_CONTROL: Final = re.compile(r"[a-z0-9_-]*rapl[a-z0-9_-]*")
_PACKAGE: Final = re.compile(r"package-(\d+)(?:-die-\d+)?")

State = Literal["readable", "masked", "unreadable", "failing"]


class Place(NamedTuple):
    """One zone. ``inside`` says why it must not be added to the others (None: it may be).

    ``covers`` is None where the zone's name does not tell.
    """

    folder: Path
    control: str
    covers: str | None
    component: str
    inside: str | None
    state: State


def places(root: Path) -> Iterator[Place]:
    """Every zone under ``root``, in the order of their numbers."""
    folders = _folders(root)
    for zone_id in sorted(folders, key=lambda name: [int(n) for n in name.split(":")[1:]]):
        folder = folders[zone_id]
        name, parent_id = text_of(folder / "name") or "", zone_id.rpartition(":")[0]
        parent = text_of(folders[parent_id] / "name") if parent_id in folders else None
        covers, component, inside = _covered(name, parent or "")
        yield Place(folder, zone_id.partition(":")[0], covers, component, inside, _state(folder))


def _folders(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for child in sorted(_children(root)):
        is_zone = _ZONE.fullmatch(child.name)
        if is_zone:
            found.setdefault(child.name, child)
        # only these names: sysfs folders also hold "subsystem", a link back to the root
        if is_zone or _CONTROL.fullmatch(child.name):
            found = _folders(child) | found
    return found


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _covered(name: str, parent: str) -> tuple[str | None, str, str | None]:
    """What a zone covers, its component, and why it is not to be added (kernel: intel_rapl_common.c, rapl_domain_names)."""
    package = _PACKAGE.fullmatch(name) or _PACKAGE.fullmatch(parent)
    number = package[1] if package else None
    if _PACKAGE.fullmatch(name):
        return f"package:{number}", "cpu", None
    if name == "dram" and number is not None:
        return f"dram:{number}", "dram", None
    if name in ("core", "uncore"):
        return f"package:{number or 0}/{name}", "cpu", f"{name} lies inside package:{number or 0}"
    if name == "psys":
        return "psys", "node", "psys contains the packages"
    return None, "", None


def _state(folder: Path) -> State:
    try:
        return "readable" if (folder / "energy_uj").read_text().strip().isdecimal() else "failing"
    except PermissionError:
        return "unreadable"
    except (FileNotFoundError, NotADirectoryError):
        return "masked"
    except (OSError, ValueError):
        return "failing"


def findings_of(root: Path, zones: list[Place]) -> list[Finding]:
    """What stands in the way, one finding for each cause, at the first zone that has it."""
    if not zones:
        return [_no_zones(root)]
    found = []
    first = {place.state: place.folder for place in reversed(zones)}
    if "unreadable" in first:
        found.append(findings.rapl_unreadable(first["unreadable"] / "energy_uj"))
    if "masked" in first:
        found.append(findings.rapl_masked(first["masked"], empty=False))
    if "failing" in first:
        found.append(findings.rapl_failing(first["failing"] / "energy_uj"))
    unknown = (place for place in zones if place.covers is None and place.state == "readable")
    return found + [findings.rapl_unknown_zone(place.folder, text_of(place.folder / "name") or "") for place in unknown]


def _no_zones(root: Path) -> Finding:
    try:
        empty = not any(root.iterdir())
    except PermissionError:
        return findings.rapl_unreadable(root)
    except OSError:
        return findings.rapl_absent(root)
    return findings.rapl_masked(root, empty=True) if empty else findings.rapl_absent(root)


def text_of(path: Path) -> str | None:
    """The stripped text of a small file; None when it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return None


def integer_of(path: Path) -> int | None:
    """The positive integer in a small file; None when it is absent, 0 or no number (firmware writes 0 for unknown)."""
    text = text_of(path)
    return int(text) or None if text and text.isdecimal() else None
