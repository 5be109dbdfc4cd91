"""Which row of the bundled table of watts stands for a CPU, and the table itself.

The table (``data/cpu_watts.json``, with its NOTICE and checksum; ``benchmarks/build_cpu_table.py`` builds it) gives idle
and full-load watts per socket and microarchitecture, fitted to published SPECpower_ssj2008 results of 2011 to 2026.
They are watts **of the whole server at the plug**: `server_power` makes intervals of them, `watts` takes the CPU's part.

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
from typing import Final, Literal

import msgspec

from .procfs import CpuModel

Relation = Literal["exact", "relative", "vendor", "unknown"]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Watts per socket of whole servers at ``threads_per_socket``, and how they vary.

    ``…_exponent``: watts per socket grow with this power of the threads per socket. ``…_sd``: standard deviation of the
    natural logarithm for one more server. ``thread_sd``: that of the threads per socket, which a guest cannot see.
    """

    threads_per_socket: float
    idle_w: float
    idle_exponent: float
    idle_sd: float
    full_w: float
    full_exponent: float
    full_sd: float
    thread_sd: float | None = None


class TableRow(Estimate, frozen=True, kw_only=True):
    """One microarchitecture; ``results`` is how many servers it was fitted to."""

    label: str
    family: str
    results: int


class Steps(msgspec.Struct, frozen=True):
    """From one microarchitecture of a family to the next: root mean square of the step in logarithms, None if alone."""

    idle_sd: float | None = None
    full_sd: float | None = None


class Curve(msgspec.Struct, frozen=True):
    """Share of ``full - idle`` at 0, 10 … 100 % load."""

    low: tuple[float, ...]
    mid: tuple[float, ...]
    high: tuple[float, ...]


class Origin(msgspec.Struct, frozen=True):
    """One data set the table was fitted to; ``file`` is the selection of it that the source tree holds."""

    dataset: str
    version: str
    license: str
    year: int
    file: str
    file_sha256: str


class CpuTable(msgspec.Struct, frozen=True):
    """The bundled table; ``rows`` by microarchitecture, ``pools`` by vendor and "world"."""

    title: str
    unit: str
    measured_by: str
    origins: tuple[Origin, ...]
    fitted_makers: tuple[str, ...]
    thread_sd: float
    curve: Curve
    families: dict[str, Steps]
    pools: dict[str, Estimate]
    rows: dict[str, TableRow]

    @property
    def provenance(self) -> str:
        """Dataset, year and licence in one line."""
        origin = self.origins[0]
        return f"SPECpower_ssj2008 by {origin.dataset}, {origin.year}, {origin.license}, sha256 {table_sha256()[:12]}"


class CpuMatch(msgspec.Struct, frozen=True):
    """What a CPU was recognised as.

    ``row`` of the table is the CPU's own ("exact") or its nearest relative's ("relative"); None when only its vendor is
    known (the pool ``vendor``) or nothing.
    """

    microarchitecture: str
    row: str | None
    relation: Relation
    vendor: str | None = None


UNKNOWN: Final = CpuMatch("unknown", None, "unknown")
#: CPUID vendor -> pool of the table
_VENDORS: Final = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "amd"}
_SKYLAKE: Final = CpuMatch("Skylake server", "skylake", "exact")
_CASCADE_LAKE: Final = CpuMatch("Cascade Lake", "cascade-lake", "exact")

# Intel family 6: model -> (microarchitecture, row). Desktop and laptop parts go to the two rows of single-socket
# desktop-class machines, not to a server of their own generation.
_INTEL: Final[dict[int, tuple[str, str]]] = {
    **dict.fromkeys((0x1A, 0x1E, 0x1F, 0x2E), ("Nehalem", "westmere")),
    **dict.fromkeys((0x25, 0x2C, 0x2F), ("Westmere", "westmere")),
    0x2A: ("Sandy Bridge client", "sandy-bridge-desktop"),
    0x2D: ("Sandy Bridge", "sandy-bridge"),
    0x3A: ("Ivy Bridge client", "sandy-bridge-desktop"),
    0x3E: ("Ivy Bridge", "sandy-bridge"),
    **dict.fromkeys((0x3C, 0x45, 0x46), ("Haswell client", "sandy-bridge-desktop")),
    0x3F: ("Haswell", "haswell"),
    **dict.fromkeys((0x3D, 0x47), ("Broadwell client", "sandy-bridge-desktop")),
    **dict.fromkeys((0x4F, 0x56), ("Broadwell", "broadwell")),
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
    **dict.fromkeys((0x6A, 0x6C), ("Ice Lake server", "ice-lake")),
    0x8F: ("Sapphire Rapids", "sapphire-rapids"),
    0xCF: ("Emerald Rapids", "emerald-rapids"),
    **dict.fromkeys((0xAD, 0xAE), ("Granite Rapids", "granite-rapids")),
    0xAF: ("Sierra Forest", "sierra-forest"),
}
#: what a row was fitted to, or what its results of other makers were: the others are relatives of it
_INTEL_EXACT: Final = frozenset(
    {
        *("Nehalem", "Westmere", "Sandy Bridge", "Ivy Bridge", "Haswell", "Broadwell", "Ice Lake server"),
        *(
            "Sapphire Rapids",
            "Emerald Rapids",
            "Granite Rapids",
            "Sierra Forest",
            "Sandy Bridge client",
            "Ivy Bridge client",
            "Haswell client",
        ),
        *("Skylake client", "Coffee Lake", "Rocket Lake", "Raptor Lake"),
    }
)

# AMD: (family, first model, last model, microarchitecture, row). Ranges that hold both server and desktop chips are
# told apart by the name; APUs and Ryzen are desktop-class and go to Coffee Lake's row too.
_AMD: Final[tuple[tuple[int, int, int, str, str], ...]] = (
    (0x10, 0x02, 0x0A, "K10", "opteron"),
    (0x15, 0x00, 0x0F, "Bulldozer or Piledriver", "opteron"),
    (0x17, 0x00, 0x0F, "Zen", "amd-epyc-1st-gen"),
    (0x17, 0x10, 0x2F, "Zen APU", "coffee-lake"),
    (0x17, 0x30, 0x3F, "Zen 2", "amd-epyc-2nd-gen"),
    (0x17, 0x40, 0xAF, "Zen 2 client", "coffee-lake"),
    (0x18, 0x00, 0x0F, "Hygon Dhyana (Zen)", "amd-epyc-1st-gen"),
    (0x19, 0x00, 0x0F, "Zen 3", "amd-epyc-3rd-gen"),
    (0x19, 0x10, 0x1F, "Zen 4", "amd-epyc-4th-gen"),
    (0x19, 0xA0, 0xAF, "Zen 4c", "amd-epyc-4th-gen-dense"),
    (0x19, 0x20, 0x5F, "Zen 3 client", "coffee-lake"),
    (0x19, 0x60, 0x7F, "Zen 4 client", "coffee-lake"),
    (0x1A, 0x00, 0x0F, "Zen 5", "amd-epyc-5th-gen"),
    (0x1A, 0x10, 0x1F, "Zen 5c", "amd-epyc-5th-gen-dense"),
    (0x1A, 0x20, 0x4F, "Zen 5 client", "coffee-lake"),
    (0x1A, 0x60, 0x7F, "Zen 5 client", "coffee-lake"),
    (0x1A, 0x50, 0xCF, "Zen 6", "amd-epyc-5th-gen"),
)
_AMD_EXACT: Final = frozenset({"K10", "Bulldozer or Piledriver", "Zen", "Zen 2", "Zen 3", "Zen 4", "Zen 4c", "Zen 5", "Zen 5c"})
_AMD_DESKTOP: Final = re.compile(r"ryzen|threadripper|athlon|phenom|\bfx\b", re.I)

# Arm's own designs, by part number, on servers. The V series is no relative of the N: the one server of it that was
# published (Grace, 298 W idle, 619 W full) draws four times what the row of the N1 says.
_ARM: Final[dict[int, str]] = {
    0xD0C: "Neoverse N1 (Altra, Graviton2)",
    0xD49: "Neoverse N2",
    0xD8E: "Neoverse N3",
}
_CASCADE_NAME: Final = re.compile(r"cascade|\b[3-9]2\d\d[a-z]*\b", re.I)
_SKYLAKE_NAME: Final = re.compile(r"skylake|\b[3-8]1\d\d[a-z]*\b", re.I)


def identify(cpu: CpuModel | None, *, stepping: int | None = None) -> CpuMatch:
    """The row of the table that stands for ``cpu``, else its vendor's servers; ``UNKNOWN`` when not even that is known.

    ``stepping`` (see `read_stepping`) tells Skylake, Cascade Lake and Cooper Lake apart, which share one model number.
    """
    if cpu is None or cpu.vendor is None:
        return UNKNOWN
    if cpu.model is None:
        return _vendor(cpu.vendor)
    name = cpu.name or ""
    if cpu.vendor == "GenuineIntel" and cpu.family == 6:
        return _skylake_server(name, stepping) if cpu.model == 0x55 else _intel(cpu.model)
    if cpu.vendor in ("AuthenticAMD", "HygonGenuine"):
        return _amd(cpu.family, cpu.model, name)
    if cpu.vendor == "ARM" and cpu.model in _ARM:
        return CpuMatch(_ARM[cpu.model], "neoverse-n1", "exact" if cpu.model == 0xD0C else "relative")
    return _vendor(cpu.vendor)


def read_stepping(root: Path = Path("/proc")) -> int | None:
    """The stepping that ``cpuinfo`` below ``root`` says; None when it does not (Arm, no such file)."""
    try:
        found = re.search(r"^stepping\s*:\s*(\d+)\s*$", (root / "cpuinfo").read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def _intel(model: int) -> CpuMatch:
    found = _INTEL.get(model)
    return CpuMatch(*found, "exact" if found[0] in _INTEL_EXACT else "relative") if found else _vendor("GenuineIntel")


def _vendor(vendor: str) -> CpuMatch:
    pool = _VENDORS.get(vendor)
    return CpuMatch(f"unknown {pool}", None, "vendor", pool) if pool else UNKNOWN


def _skylake_server(name: str, stepping: int | None) -> CpuMatch:
    """Model 0x55 is three generations: steppings 0-4 Skylake, 5-7 Cascade Lake, 10-11 Cooper Lake."""
    if stepping is not None and stepping > 7:
        return CpuMatch("Cooper Lake", "cooper-lake", "exact")
    if stepping is not None:
        return _CASCADE_LAKE if stepping > 4 else _SKYLAKE
    if _CASCADE_NAME.search(name):
        return _CASCADE_LAKE
    # nameless and without stepping: full-load watts of the two are within 1 %, and the wider interval holds both
    return _SKYLAKE if _SKYLAKE_NAME.search(name) else CpuMatch("Skylake or Cascade Lake", "skylake", "relative")


def _amd(family: int | None, model: int, name: str) -> CpuMatch:
    for of_family, first, last, micro, row in _AMD:
        if family == of_family and first <= model <= last:
            if row != "coffee-lake" and _AMD_DESKTOP.search(name):
                return CpuMatch(f"{micro} client", "coffee-lake", "relative")
            return CpuMatch(micro, row, "exact" if micro in _AMD_EXACT else "relative")
    return _vendor("AuthenticAMD")


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
