"""Fit the bundled table of watts to published SPECpower_ssj2008 results, leaving half of the makers out.

    python benchmarks/build_cpu_table.py

reads ``tests/data/specpower_idle_full.csv`` and ``specpower_curves.csv`` and writes ``cpu_watts.json`` with its
checksum. Same data, same bytes. The makers of the servers, in alphabetical order, go in turn to the fit and to the
test (``benchmarks/power_model.py``): the choice is blind, and no tested server stood beside a fitted one in a shop.

Every figure is fitted in logarithms, where errors multiply. A row is one microarchitecture:

* ``idle_w`` and ``full_w``, W of the whole server per socket, geometric means. Within a row, watts per socket grow with a
  power of its threads that is common to all rows: idle hardly, full load with about the square root.
* ``idle_sd`` and ``full_sd``, standard deviation for *one more* server: of the row's own results and the spread of
  all rows, weighted as if the latter were ``PRIOR`` results (a row of two servers knows little of its own spread), and
  never below the spread of all rows: servers of one year often share a board, and a few that agree prove little.

A pool is a straight line through rows, for CPUs that have none: ``idle_exponent`` and ``full_exponent`` by threads.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

Result = dict[str, str]

DATA = Path(__file__).parent.parent / "tests" / "data"
OUT = Path(__file__).parent.parent / "frugal_meter" / "sources" / "data"
FILES = ("specpower_idle_full.csv", "specpower_curves.csv")
#: results that the spread of all rows counts for in a row's own: the round figure nearest to the greatest likelihood of
#: the rows' variances (scaled F; 3 for idle, 4 for full load)
PRIOR = 4
#: a generation that only one fitted server stands for shares the row of the one it shrank, on the same socket
SHARED = {"ivy-bridge": "sandy-bridge"}
#: % of TDP at 0, 10, 50 and 100 % load that Teads Engineering measured by RAPL on bare-metal EC2 (2021): more concave
#: than any server of SPEC, whose load is a share of its throughput at whatever frequency, and not of its CPU time
TEADS = ((0.0, 12), (0.1, 32), (0.5, 75), (1.0, 102))
#: columns of a load curve, idle to full load in steps of 10 %
LEVELS = ("idle_w", *(f"w{tenth}0" for tenth in range(1, 10)), "full_w")
#: microarchitectures by family, each in order of release: neighbours are the nearest relatives of one another
FAMILIES = {
    "intel-xeon": (
        "westmere", "sandy-bridge", "haswell", "broadwell", "skylake", "cascade-lake", "cooper-lake",
        "ice-lake", "sapphire-rapids", "emerald-rapids", "granite-rapids", "sierra-forest",
    ),
    "amd-epyc": (
        "amd-epyc-1st-gen", "amd-epyc-2nd-gen", "amd-epyc-3rd-gen", "amd-epyc-4th-gen", "amd-epyc-4th-gen-dense",
        "amd-epyc-5th-gen", "amd-epyc-5th-gen-dense",
    ),
    "amd-opteron": ("opteron",),
    "desktop": ("sandy-bridge-desktop", "coffee-lake"),
    "arm-neoverse": ("neoverse-n1",),
}  # fmt: skip
LABELS = {
    "westmere": "Intel Nehalem and Westmere (Xeon)",
    "sandy-bridge": "Intel Sandy Bridge and Ivy Bridge (Xeon E5 and E5 v2)",
    "haswell": "Intel Haswell (Xeon E5 v3)",
    "broadwell": "Intel Broadwell (Xeon E5 v4)",
    "skylake": "Intel Skylake (Xeon Scalable)",
    "cascade-lake": "Intel Cascade Lake",
    "cooper-lake": "Intel Cooper Lake",
    "ice-lake": "Intel Ice Lake (Xeon)",
    "sapphire-rapids": "Intel Sapphire Rapids",
    "emerald-rapids": "Intel Emerald Rapids",
    "granite-rapids": "Intel Granite Rapids",
    "sierra-forest": "Intel Sierra Forest",
    "opteron": "AMD Opteron (K10 to Piledriver)",
    "amd-epyc-1st-gen": "AMD EPYC 1st generation (Zen)",
    "amd-epyc-2nd-gen": "AMD EPYC 2nd generation (Zen 2)",
    "amd-epyc-3rd-gen": "AMD EPYC 3rd generation (Zen 3)",
    "amd-epyc-4th-gen": "AMD EPYC 4th generation (Zen 4)",
    "amd-epyc-4th-gen-dense": "AMD EPYC 4th generation (Zen 4c)",
    "amd-epyc-5th-gen": "AMD EPYC 5th generation (Zen 5)",
    "amd-epyc-5th-gen-dense": "AMD EPYC 5th generation (Zen 5c)",
    "sandy-bridge-desktop": "Intel Sandy Bridge to Haswell, desktop and Xeon E3",
    "coffee-lake": "Intel Skylake to Raptor Lake, desktop and Xeon E",
    "neoverse-n1": "Arm Neoverse N1 (Ampere Altra)",
}
ORIGINS = {
    "specpower_idle_full.csv": {
        "dataset": "cloud-carbon-footprint/ccf-coefficients, data/SPECpower-2026-03-09.csv",
        "version": "b0032d928c787cf76cecd7d1d611c5b46f366e29",
        "license": "Apache-2.0",
        "year": 2026,
    },
    "specpower_curves.csv": {
        "dataset": "SPECpower_ssj2008 results at eleven loads, as read in green-coding-solutions/cloud-energy and by result id",
        "version": "1f8befc6c2ac9f75ae87c2a76e34edd0e7c1f087",
        "license": "figures of published SPEC results",
        "year": 2024,
    },
}


def read(name: str) -> list[Result]:
    """The results of one file of ``tests/data``."""
    with (DATA / name).open(newline="") as handle:
        return list(csv.DictReader(handle))


def fitted_makers(results: Iterable[Result]) -> list[str]:
    """Every second maker by name: those whose servers are fitted; the others' are tested."""
    return sorted({result["maker"] for result in results}, key=str.casefold)[::2]


def threads_per_socket(result: Result) -> float:
    """Hardware threads of one socket of ``result``."""
    return int(result["cores"]) * int(result["threads_per_core"]) / int(result["chips"])


def per_socket(result: Result, column: str) -> float:
    """W of the whole server per socket."""
    return float(result[column]) / int(result["chips"])


def build(results: list[Result], curves: list[Result], *, makers: list[str] | None = None) -> dict[str, Any]:
    """The table fitted to the servers of ``makers`` (every second of ``results``), and to their ``curves``."""
    makers = makers or fitted_makers(results)
    rows = _by_row(result for result in results if result["maker"] in makers)
    fitted = {key: _row(key, rows) for key in LABELS if key in rows}
    return {
        "title": "Idle and full-load watts per socket, by CPU microarchitecture",
        "unit": "W at the plug of the whole server, divided by its sockets",
        "measured_by": "SPECpower_ssj2008: idle_w at active idle, full_w at 100 % target load",
        "origins": [
            {**ORIGINS[name], "file": name, "file_sha256": hashlib.sha256((DATA / name).read_bytes()).hexdigest()}
            for name in FILES
        ],
        "fitted_makers": makers,
        "thread_sd": _round(_pooled_sd([[math.log(threads_per_socket(r)) for r in row] for row in rows.values()])),
        "curve": _curve([curve for curve in curves if curve["maker"] in makers]),
        "families": {family: _family(keys, fitted) for family, keys in FAMILIES.items()},
        "pools": {
            "intel": _pool(fitted, ("intel-xeon",)),
            "amd": _pool(fitted, ("amd-opteron", "amd-epyc")),
            "world": _pool(fitted, tuple(FAMILIES)),
        },
        "rows": fitted,
    }


def _by_row(results: Iterable[Result]) -> dict[str, list[Result]]:
    rows: dict[str, list[Result]] = {}
    for result in results:
        if key := row_of(result):
            rows.setdefault(key, []).append(result)
    return rows


def row_of(result: Result) -> str:
    """The row that stands for the CPU of ``result``, empty where none does."""
    return SHARED.get(result["row"], result["row"])


def _row(key: str, rows: dict[str, list[Result]]) -> dict[str, Any]:
    """One microarchitecture, at the geometric mean of its threads per socket."""
    own, threads = rows[key], math.exp(fmean(math.log(threads_per_socket(r)) for r in rows[key]))
    row: dict[str, Any] = {
        "label": LABELS[key],
        "family": next(family for family, keys in FAMILIES.items() if key in keys),
        "results": len(own),
        "threads_per_socket": _round(threads),
    }
    for column in ("idle_w", "full_w"):
        exponent, logs = _exponent(rows, column), {}
        for each, results in rows.items():
            logs[each] = [math.log(per_socket(r, column)) - exponent * math.log(threads_per_socket(r) / threads) for r in results]
        name = column.removesuffix("_w")
        row[column] = _round(math.exp(fmean(logs[key])))
        row[f"{name}_exponent"] = _round(exponent)
        row[f"{name}_sd"] = _round(_predicted_sd(logs[key], _pooled_sd(logs.values())))
    return row


def _exponent(rows: dict[str, list[Result]], column: str) -> float:
    """How watts per socket grow with its threads *within* a microarchitecture; common to all rows."""
    over, under = 0.0, 0.0
    for results in rows.values():
        threads = _centred([math.log(threads_per_socket(r)) for r in results])
        watts = _centred([math.log(per_socket(r, column)) for r in results])
        over += sum(t * w for t, w in zip(threads, watts, strict=True))
        under += sum(t * t for t in threads)
    return over / under


def _predicted_sd(logs: Sequence[float], pooled: float) -> float:
    """For one more result: own and pooled variance weighted by degrees of freedom, and the doubt about the mean."""
    own = sum(each * each for each in _centred(logs))
    variance = max(pooled**2, (own + PRIOR * pooled**2) / (len(logs) - 1 + PRIOR))
    return math.sqrt(variance * (1 + 1 / len(logs)))


def _pooled_sd(groups: Iterable[Sequence[float]]) -> float:
    squares, freedom = 0.0, 0
    for group in groups:
        squares += sum(each * each for each in _centred(group))
        freedom += len(group) - 1
    return math.sqrt(squares / freedom)


def _family(keys: Sequence[str], rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Root mean square step from one microarchitecture of a family to the next, at equal threads per socket."""
    known = [rows[key] for key in keys if key in rows]
    steps = {}
    for name in ("idle", "full"):
        squares = [_step(before, after, name) ** 2 for before, after in pairwise(known)]
        if squares:
            steps[f"{name}_sd"] = _round(math.sqrt(fmean(squares)))
    return steps


def _step(before: dict[str, Any], after: dict[str, Any], name: str) -> float:
    threads = math.log(after["threads_per_socket"] / before["threads_per_socket"])
    return math.log(after[f"{name}_w"] / before[f"{name}_w"]) - after[f"{name}_exponent"] * threads


def _pool(rows: dict[str, dict[str, Any]], families: Sequence[str]) -> dict[str, Any]:
    """A line by threads per socket through the rows of ``families``, each counted once."""
    members = [row for row in rows.values() if row["family"] in families]
    logs = [math.log(row["threads_per_socket"]) for row in members]
    centre, threads = fmean(logs), _centred(logs)
    pool: dict[str, Any] = {"rows": len(members), "threads_per_socket": _round(math.exp(centre))}
    for name in ("idle", "full"):
        watts = [math.log(row[f"{name}_w"]) for row in members]
        slope = sum(t * w for t, w in zip(threads, watts, strict=True)) / sum(t * t for t in threads)
        around = [w - fmean(watts) - slope * t for t, w in zip(threads, watts, strict=True)]
        between = sum(each * each for each in around) / (len(members) - 2)
        within = fmean(row[f"{name}_sd"] ** 2 for row in members)
        pool[f"{name}_w"] = _round(math.exp(fmean(watts)))
        pool[f"{name}_exponent"] = _round(slope)
        pool[f"{name}_sd"] = _round(math.sqrt(between * (1 + 1 / len(members)) + within))
    # a guest does not know the threads per socket of its host: their spread over rows comes on top
    pool["thread_sd"] = _round(math.sqrt(sum(t * t for t in threads) / (len(members) - 1)))
    return pool


def _curve(curves: Sequence[Result]) -> dict[str, list[float]]:
    """Share of ``full - idle`` at 0, 10 … 100 % load: 5th, 50th and 95th percentile, the last not below `TEADS`."""
    shapes = []
    for curve in curves:
        watts = [float(curve[level]) for level in LEVELS]
        shapes.append([(each - watts[0]) / (watts[-1] - watts[0]) for each in watts])
    low, mid, high = [], [], []
    for tenth in range(11):
        cuts = quantiles([shape[tenth] for shape in shapes], n=20, method="inclusive")
        low.append(_round(cuts[0]))
        mid.append(_round(cuts[9]))
        high.append(_round(max(cuts[18], _teads(tenth / 10))))
    return {"low": low, "mid": mid, "high": high}


def _teads(load: float) -> float:
    idle, full = TEADS[0][1], TEADS[-1][1]
    for (at, percent), (to, next_percent) in pairwise(TEADS):
        if load <= to:
            return (percent + (next_percent - percent) * (load - at) / (to - at) - idle) / (full - idle)
    return 1.0


def _centred(values: Sequence[float]) -> list[float]:
    mean = fmean(values)
    return [value - mean for value in values]


def _round(value: float) -> float:
    return float(f"{value:.4g}") + 0.0  # -0.0 is 0


def main() -> None:
    """Write the table and its checksum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    content = (json.dumps(build(*map(read, FILES)), indent=1, ensure_ascii=False) + "\n").encode()
    (args.out / "cpu_watts.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (args.out / "cpu_watts.json.sha256").write_text(f"{digest}  cpu_watts.json\n")
    print(f"{args.out / 'cpu_watts.json'}: {len(content)} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
