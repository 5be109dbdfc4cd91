"""Which row of the bundled table of watts stands for a CPU, and how sure that is.

The table (``data/cpu_watts.json``, with its NOTICE, checksums and builder) gives idle and full-load watts per
hardware thread for eleven microarchitectures: means of published SPECpower_ssj2008 results, as bundled in two
packages of Cloud Carbon Footprint (Apache-2.0, 2021). They are watts **of the whole server at the plug**, divided by
its threads: `power_model` takes the CPU's part out of them.

A CPU is recognised by vendor, family, model and stepping as CPUID numbers them (Intel: Linux
``arch/x86/include/asm/intel-family.h``; AMD: Linux ``arch/x86/kernel/cpu/amd.c``; Arm parts: Linux
``arch/arm64/include/asm/cputype.h``), and by its name only where the numbers leave a choice. Hypervisors often hide
the name ("AMD EPYC"), seldom the numbers.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Final, Literal

import msgspec

from ..records import Interval
from .procfs import CpuModel

Relation = Literal["exact", "relative", "unknown"]

#: How far a CPU newer or older than the table may lie from its nearest relative in it, per thread. From the table's own
#: origin: its coefficients of March 2026 (ccf-coefficients b0032d92) put EPYC 4th gen at 1.64/1.13 times the idle/full
#: watts of the 3rd, Sapphire Rapids at 1.62/1.05, Emerald Rapids at 1.27/1.13 and Granite Rapids at 0.91/0.64 times
#: Cascade Lake; the EPYC 9965 in its SPECpower list (May 2025: 150 W idle, 800 W full, 768 threads) is at 0.43/0.52.
RELATIVE_LOW: Final = 0.4
RELATIVE_HIGH: Final = 1.7


class TableRow(msgspec.Struct, frozen=True, rename={"sources": "from"}):
    """Watts per hardware thread of one microarchitecture: whole server, at the plug."""

    label: str
    idle_w: float
    full_w: float
    gb_per_chip: float
    sources: tuple[str, ...]
    copy_of: str | None


class Origin(msgspec.Struct, frozen=True):
    """One package the table was taken from."""

    package: str
    version: str
    license: str
    copyright: str
    year: int
    file: str
    file_sha256: str
    archive_sha256: str
    memory_w_per_gb: float


class CpuTable(msgspec.Struct, frozen=True):
    """The bundled table; ``rows`` by microarchitecture."""

    title: str
    unit: str
    measured_by: str
    origins: tuple[Origin, ...]
    changes: str
    rows: dict[str, TableRow]

    @property
    def provenance(self) -> str:
        """Dataset, year and licence in one line."""
        names = " + ".join(f"{origin.package} {origin.version}" for origin in self.origins)
        return f"{names}, {self.origins[0].year}, {self.origins[0].license}, sha256 {table_sha256()[:12]} (SPECpower_ssj2008)"


class CpuMatch(msgspec.Struct, frozen=True):
    """What a CPU was recognised as: ``row`` of the table is the CPU's own, its nearest relative's, or None."""

    microarchitecture: str
    row: str | None
    relation: Relation


UNKNOWN: Final = CpuMatch("unknown", None, "unknown")
_SKYLAKE: Final = CpuMatch("Skylake server", "skylake", "exact")
_CASCADE_LAKE: Final = CpuMatch("Cascade Lake", "cascade-lake", "exact")

# Intel family 6: model -> (microarchitecture, row). Desktop and laptop parts newer than the table go to Coffee Lake,
# its one row of single-socket desktop-class machines, not to a server of their own generation.
_INTEL: Final[dict[int, tuple[str, str]]] = {
    **dict.fromkeys((0x1A, 0x1E, 0x1F, 0x2E), ("Nehalem", "sandy-bridge")),
    **dict.fromkeys((0x25, 0x2C, 0x2F), ("Westmere", "sandy-bridge")),
    **dict.fromkeys((0x2A, 0x2D), ("Sandy Bridge", "sandy-bridge")),
    **dict.fromkeys((0x3A, 0x3E), ("Ivy Bridge", "ivy-bridge")),
    **dict.fromkeys((0x3C, 0x3F, 0x45, 0x46), ("Haswell", "haswell")),
    **dict.fromkeys((0x3D, 0x47, 0x4F, 0x56), ("Broadwell", "broadwell")),
    **dict.fromkeys((0x4E, 0x5E), ("Skylake client", "coffee-lake")),
    **dict.fromkeys((0x8E, 0x9E), ("Coffee Lake", "coffee-lake")),
    **dict.fromkeys((0xA5, 0xA6), ("Comet Lake", "coffee-lake")),
    **dict.fromkeys((0x7D, 0x7E), ("Ice Lake client", "coffee-lake")),
    **dict.fromkeys((0x8C, 0x8D), ("Tiger Lake", "coffee-lake")),
    0xA7: ("Rocket Lake", "coffee-lake"),
    **dict.fromkeys((0x97, 0x9A), ("Alder Lake", "coffee-lake")),
    **dict.fromkeys((0xB7, 0xBA, 0xBF), ("Raptor Lake", "coffee-lake")),
    **dict.fromkeys((0xAA, 0xAC), ("Meteor Lake", "coffee-lake")),
    **dict.fromkeys((0xB5, 0xC5, 0xC6), ("Arrow Lake", "coffee-lake")),
    0xBD: ("Lunar Lake", "coffee-lake"),
    **dict.fromkeys((0x6A, 0x6C), ("Ice Lake server", "cascade-lake")),
    0x8F: ("Sapphire Rapids", "cascade-lake"),
    0xCF: ("Emerald Rapids", "cascade-lake"),
    **dict.fromkeys((0xAD, 0xAE), ("Granite Rapids", "cascade-lake")),
}
_INTEL_EXACT: Final = frozenset({"Sandy Bridge", "Ivy Bridge", "Haswell", "Broadwell", "Coffee Lake"})

# AMD: (family, first model, last model, microarchitecture, row). Ranges that hold both server and desktop chips are
# told apart by the name; APUs and Ryzen are desktop-class and go to Coffee Lake's row too.
_AMD: Final[tuple[tuple[int, int, int, str, str], ...]] = (
    (0x17, 0x00, 0x0F, "Zen", "amd-epyc-1st-gen"),
    (0x17, 0x10, 0x2F, "Zen APU", "coffee-lake"),
    (0x17, 0x30, 0x3F, "Zen 2", "amd-epyc-2nd-gen"),
    (0x17, 0x40, 0xAF, "Zen 2 client", "coffee-lake"),
    (0x18, 0x00, 0x0F, "Hygon Dhyana (Zen)", "amd-epyc-1st-gen"),
    (0x19, 0x00, 0x0F, "Zen 3", "amd-epyc-3rd-gen"),
    (0x19, 0x10, 0x1F, "Zen 4", "amd-epyc-3rd-gen"),
    (0x19, 0xA0, 0xAF, "Zen 4c", "amd-epyc-3rd-gen"),
    (0x19, 0x20, 0x5F, "Zen 3 client", "coffee-lake"),
    (0x19, 0x60, 0x7F, "Zen 4 client", "coffee-lake"),
    (0x1A, 0x00, 0x0F, "Zen 5", "amd-epyc-3rd-gen"),
    (0x1A, 0x10, 0x1F, "Zen 5c", "amd-epyc-3rd-gen"),
    (0x1A, 0x20, 0x4F, "Zen 5 client", "coffee-lake"),
    (0x1A, 0x60, 0x7F, "Zen 5 client", "coffee-lake"),
    (0x1A, 0x50, 0xCF, "Zen 6", "amd-epyc-3rd-gen"),
)
_AMD_EXACT: Final = frozenset({"Zen", "Zen 2", "Zen 3"})
_AMD_DESKTOP: Final = re.compile(r"ryzen|threadripper|athlon", re.I)

# Arm's own designs, by part number, on servers; the one row for them was itself filled in by the origin
_ARM: Final[dict[int, str]] = {
    0xD0C: "Neoverse N1 (Graviton2, Altra)",
    0xD40: "Neoverse V1 (Graviton3)",
    0xD49: "Neoverse N2",
    0xD4F: "Neoverse V2 (Graviton4, Grace)",
    0xD84: "Neoverse V3",
    0xD8E: "Neoverse N3",
}
_CASCADE_NAME: Final = re.compile(r"cascade|\b[3-9]2\d\d[a-z]*\b", re.I)
_SKYLAKE_NAME: Final = re.compile(r"skylake|\b[3-8]1\d\d[a-z]*\b", re.I)


def identify(cpu: CpuModel | None, *, stepping: int | None = None) -> CpuMatch:
    """The row of the table that stands for ``cpu``; ``UNKNOWN`` for a CPU that no row is near to.

    ``stepping`` (see `read_stepping`) tells Skylake, Cascade Lake and Cooper Lake apart, which share one model number.
    """
    if cpu is None or cpu.model is None:
        return UNKNOWN
    name = cpu.name or ""
    if cpu.vendor == "GenuineIntel" and cpu.family == 6:
        return _skylake_server(name, stepping) if cpu.model == 0x55 else _intel(cpu.model)
    if cpu.vendor in ("AuthenticAMD", "HygonGenuine"):
        return _amd(cpu.family, cpu.model, name)
    if cpu.vendor == "ARM" and cpu.model in _ARM:
        return CpuMatch(_ARM[cpu.model], "aws-graviton-2", "relative")
    return UNKNOWN


def read_stepping(root: Path = Path("/proc")) -> int | None:
    """The stepping that ``cpuinfo`` below ``root`` says; None when it does not (Arm, no such file)."""
    try:
        found = re.search(r"^stepping\s*:\s*(\d+)\s*$", (root / "cpuinfo").read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def _intel(model: int) -> CpuMatch:
    found = _INTEL.get(model)
    return CpuMatch(*found, "exact" if found[0] in _INTEL_EXACT else "relative") if found else UNKNOWN


def _skylake_server(name: str, stepping: int | None) -> CpuMatch:
    """Model 0x55 is three generations: steppings 0-4 Skylake, 5-7 Cascade Lake, 10-11 Cooper Lake."""
    if stepping is not None and stepping > 7:
        return CpuMatch("Cooper Lake", "cascade-lake", "relative")
    if stepping is not None:
        return _CASCADE_LAKE if stepping > 4 else _SKYLAKE
    if _CASCADE_NAME.search(name):
        return _CASCADE_LAKE
    # nameless and without stepping the two rows are within 7 % of each other; the wider interval holds both
    return _SKYLAKE if _SKYLAKE_NAME.search(name) else CpuMatch("Skylake or Cascade Lake", "skylake", "relative")


def _amd(family: int | None, model: int, name: str) -> CpuMatch:
    for of_family, first, last, micro, row in _AMD:
        if family == of_family and first <= model <= last:
            if row != "coffee-lake" and _AMD_DESKTOP.search(name):
                return CpuMatch(f"{micro} client", "coffee-lake", "relative")
            return CpuMatch(micro, row, "exact" if micro in _AMD_EXACT else "relative")
    return UNKNOWN


def server_watts(match: CpuMatch) -> tuple[Interval, Interval]:
    """Idle and full-load watts per hardware thread of the whole server, W.

    An exact row has no spread of its own; a relative one is widened by ``RELATIVE_LOW … RELATIVE_HIGH``; an unknown
    CPU takes the envelope of the table: lowest, median and highest row.
    """
    table = load_table()
    if match.row is None:
        idles = [row.idle_w for row in table.rows.values()]
        fulls = [row.full_w for row in table.rows.values()]
        return Interval(min(idles), median(idles), max(idles)), Interval(min(fulls), median(fulls), max(fulls))
    row = table.rows[match.row]
    low, high = (1.0, 1.0) if match.relation == "exact" else (RELATIVE_LOW, RELATIVE_HIGH)
    idle, full = (Interval(watts * low, watts, watts * high) for watts in (row.idle_w, row.full_w))
    return idle, full


@lru_cache(maxsize=1)
def load_table() -> CpuTable:
    """The bundled table, read once."""
    return msgspec.json.decode(_table_bytes(), type=CpuTable)


@lru_cache(maxsize=1)
def table_sha256() -> str:
    """SHA-256 of the bundled table as installed; ``cpu_watts.json.sha256`` holds what it was built as."""
    return hashlib.sha256(_table_bytes()).hexdigest()


def _table_bytes() -> bytes:
    return (resources.files(__package__) / "data" / "cpu_watts.json").read_bytes()
