"""Build the bundled CPU table from the two packages it comes from.

    npm pack @cloud-carbon-footprint/aws@0.15.0 @cloud-carbon-footprint/azure@1.8.0
    python benchmarks/build_cpu_table.py cloud-carbon-footprint-*.tgz --out frugal_meter/sources/data

writes ``cpu_watts.json`` and ``cpu_watts.json.sha256``. Same archives, same bytes: the table can be rebuilt and
compared. Only figures are taken (idle and full watts per vCPU, GB per chip, the memory coefficient), no code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tarfile
from pathlib import Path
from typing import Any

MAPS = {
    "idle_w": "MIN_WATTS_BY_COMPUTE_PROCESSOR",
    "full_w": "MAX_WATTS_BY_COMPUTE_PROCESSOR",
    "gb_per_chip": "MEMORY_BY_COMPUTE_PROCESSOR",
}
#: the origin's identifiers of CPUs, in order of release; its GPUs and FPGAs are left out
LABELS = {
    "SANDY_BRIDGE": "Intel Sandy Bridge",
    "IVY_BRIDGE": "Intel Ivy Bridge",
    "HASWELL": "Intel Haswell",
    "BROADWELL": "Intel Broadwell",
    "SKYLAKE": "Intel Skylake",
    "CASCADE_LAKE": "Intel Cascade Lake",
    "COFFEE_LAKE": "Intel Coffee Lake",
    "AMD_EPYC_1ST_GEN": "AMD EPYC 1st generation (Zen)",
    "AMD_EPYC_2ND_GEN": "AMD EPYC 2nd generation (Zen 2)",
    "AMD_EPYC_3RD_GEN": "AMD EPYC 3rd generation (Zen 3)",
    "AWS_GRAVITON_2": "AWS Graviton2 (Neoverse N1)",
}


def read_archive(path: Path) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """The figures of one npm archive, by the origin's identifier, and where they come from."""
    with tarfile.open(path) as tar:
        manifest = json.loads(_member(tar, r"package/package\.json"))
        pattern = r"package/src/domain/\w+FootprintEstimationConstants\.ts"
        source_name = next(name for name in tar.getnames() if re.fullmatch(pattern, name))
        raw = _member(tar, re.escape(source_name))
    text = raw.decode()
    copyright_line = re.search(r"©\s*(\d{4})\s*([^\n]+)", text)
    if copyright_line is None:
        raise SystemExit(f"{path.name}: no copyright line in {source_name}")
    figures: dict[str, dict[str, float]] = {}
    for field, name in MAPS.items():
        block = re.search(rf"\b{name}: \{{(.*?)\n  \}},", text, re.S)
        if block is None:
            raise SystemExit(f"{path.name}: {name} not found; the package has changed shape")
        for key, value in re.findall(r"COMPUTE_PROCESSOR_TYPES\.(\w+)\]: ([\d.]+),", block.group(1)):
            if key in LABELS:
                figures.setdefault(key, {})[field] = float(value)
    memory = re.search(r"MEMORY_COEFFICIENT: ([\d.]+),", text)
    if memory is None:
        raise SystemExit(f"{path.name}: MEMORY_COEFFICIENT not found")
    origin = {
        "package": manifest["name"],
        "version": manifest["version"],
        "license": manifest["license"],
        "copyright": f"© {copyright_line.group(1)} {copyright_line.group(2).strip()}",
        "year": int(copyright_line.group(1)),
        "file": source_name.removeprefix("package/"),
        "file_sha256": hashlib.sha256(raw).hexdigest(),
        "archive_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        # kWh per GB and hour in the origin; 1 kWh/h is 1000 W
        "memory_w_per_gb": round(float(memory.group(1)) * 1000, 6),
    }
    return figures, origin


def _member(tar: tarfile.TarFile, pattern: str) -> bytes:
    name = next(n for n in tar.getnames() if re.fullmatch(pattern, n))
    handle = tar.extractfile(name)
    assert handle is not None
    return handle.read()


def build(archives: list[Path]) -> dict[str, Any]:
    """The table of all ``archives``; a figure on which two of them differ stops the build."""
    rows: dict[str, dict[str, Any]] = {}
    origins = []
    for path in sorted(archives):
        figures, origin = read_archive(path)
        origins.append(origin)
        for key, values in figures.items():
            row = rows.setdefault(key, {"label": LABELS[key], **values, "from": []})
            if any(row[field] != value for field, value in values.items()):
                raise SystemExit(f"{origin['package']} disagrees with an earlier archive on {key}")
            row["from"].append(origin["package"])
    _mark_copies(rows)
    return {
        "title": "Idle and full-load watts per hardware thread, by CPU microarchitecture",
        "unit": "W at the plug of the whole server, divided by its hardware threads",
        "measured_by": "SPECpower_ssj2008: idle_w at active idle, full_w at 100 % target load, means over published servers",
        "origins": origins,
        "changes": "identifiers renamed; GPUs and FPGAs left out; rows that repeat another row are marked copy_of",
        "rows": {key.lower().replace("_", "-"): rows[key] for key in LABELS if key in rows},
    }


def _mark_copies(rows: dict[str, dict[str, Any]]) -> None:
    """A row equal to an earlier one in every figure was not measured: the origin filled it in from a relative."""
    seen: dict[tuple[float, ...], str] = {}
    for key in LABELS:
        if key in rows:
            first = seen.setdefault(tuple(rows[key][f] for f in MAPS), key)
            rows[key]["copy_of"] = None if first == key else first.lower().replace("_", "-")


def main() -> None:
    """Write the table and its checksum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    content = (json.dumps(build(args.archives), indent=1, ensure_ascii=False) + "\n").encode()
    (args.out / "cpu_watts.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (args.out / "cpu_watts.json.sha256").write_text(f"{digest}  cpu_watts.json\n")
    print(f"{args.out / 'cpu_watts.json'}: {len(content)} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
