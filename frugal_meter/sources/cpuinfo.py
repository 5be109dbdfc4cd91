"""Which processor this is, from ``/proc/cpuinfo``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

#: CPU implementers of the MIDR_EL1 register, and part numbers (Linux arch/arm64/include/asm/cputype.h, v6.12, 2024)
_ARM_VENDORS: Final = {
    0x41: "ARM",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x50: "APM",
    0x51: "Qualcomm",
    0x61: "Apple",
    0x6D: "Microsoft",
    0xC0: "Ampere",
}
_ARM_PARTS: Final = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD8E): "Neoverse-N3",
    (0xC0, 0xAC3): "Ampere-1",
}


class CpuModel(msgspec.Struct, frozen=True):
    """The processor of this machine; what its kernel does not say is ``None``.

    x86: ``vendor`` "GenuineIntel" or "AuthenticAMD", ``family`` and ``model`` as CPUID gives them. arm64: ``vendor``
    is the implementer, ``family`` the architecture version, ``model`` the part number, ``name`` its core design.
    ``flags_hypervisor`` is the CPUID bit that a hypervisor sets for its guests (arm64 has none: always false).
    """

    vendor: str | None
    family: int | None
    model: int | None
    name: str | None
    flags_hypervisor: bool
    threads: int
    cores: int | None
    sockets: int | None


def cpu_model(root: Path = Path("/proc")) -> CpuModel | None:
    """The processor that ``cpuinfo`` describes; None when there is no such file or it lists no processor."""
    try:
        text = (root / "cpuinfo").read_text(errors="replace")
    except OSError:
        return None
    blocks = [_pairs(block) for block in text.split("\n\n")]
    cpus = [block for block in blocks if "processor" in block]
    if not cpus:
        return None
    first = cpus[0]
    return _arm_model(first, len(cpus)) if "CPU implementer" in first else _x86_model(first, cpus)


def _pairs(block: str) -> dict[str, str]:
    lines = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, colon, value in lines if colon}


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def _x86_model(first: dict[str, str], cpus: list[dict[str, str]]) -> CpuModel:
    sockets = {cpu["physical id"] for cpu in cpus if "physical id" in cpu}
    cores = {(cpu.get("physical id"), cpu["core id"]) for cpu in cpus if "core id" in cpu}
    return CpuModel(
        vendor=first.get("vendor_id"),
        family=_number(first.get("cpu family")),
        model=_number(first.get("model")),
        name=first.get("model name"),
        flags_hypervisor="hypervisor" in first.get("flags", "").split(),
        threads=len(cpus),
        cores=len(cores) or None,
        sockets=len(sockets) or None,
    )


def _arm_model(first: dict[str, str], threads: int) -> CpuModel:
    implementer, part = _number(first.get("CPU implementer")), _number(first.get("CPU part"))
    return CpuModel(
        vendor=_ARM_VENDORS.get(implementer or 0, first["CPU implementer"]),
        family=_number(first.get("CPU architecture")),
        model=part,
        name=_ARM_PARTS.get((implementer or 0, part or 0), first.get("model name")),
        flags_hypervisor=False,
        threads=threads,
        cores=None,
        sockets=None,
    )
