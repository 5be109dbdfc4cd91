"""The report of ``attribution.py``: Markdown to read, JSON to compare, an SVG plot; no library needed."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: DESIGN targets per request: median and 95th percentile of the CPU error, per mix
TARGETS = {"loop": (0.04, 0.08), "children": (0.05, 0.10), "threads": (0.05, 0.15), "native long": (0.03, 0.12)}
_INKS = {"frugal_meter": "#0b6e4f", "wall time": "#b5541c", "equal split in flight": "#6b4fa0", "process CPU delta": "#888888"}
_WIDTH, _LEFT, _ROW, _TOP = 860, 190, 16, 64


def write(found: dict[str, Any], folder: Path, *, load_before: float) -> str:
    """Write ``attribution.md``, ``.json`` and ``.svg`` into ``folder``; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {"machine": _machine(load_before), **found}
    text = "\n".join(_lines(found))
    (folder / "attribution.md").write_text(text, encoding="utf-8")
    (folder / "attribution.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (folder / "attribution.svg").write_text(_plot(found["first"]), encoding="utf-8")
    return f"{text}\nwritten: {folder}/attribution.md, .json, .svg"


def _machine(load_before: float) -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": model,
        "cpus": os.cpu_count(),
        "load_before": round(load_before, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "command": " ".join(["python", *sys.argv]),
    }


def _lines(found: dict[str, Any]) -> Iterator[str]:
    about = found["machine"]
    yield f"# Attribution against ground truth, {about['date']}\n"
    yield f"`{about['command']}`: {about['cpus']} CPUs ({about['cpu']}), Python {about['python']}, load average"
    yield f"{about['load_before']} before and {about['load_after']} after, {found['seconds']} s; {found['requests']} requests"
    yield f"a run (half for native long), medians of {found['repeats']} runs.\n"
    beside = ", ".join(f"{shape} {ns / 1e6:.2f} ms" for shape, ns in found["framework_ns"].items())
    yield f"The truth is what the burns measured, and the framework's CPU of a light request without a meter: {beside}.\n"
    yield "## Joules that follow CPU time\n"
    yield "| mix | at once | method | error median | p95 | heavy : light (10) | sum ÷ process | books off | coverage |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for mix, by in found["first"].items():
        for concurrency, run in by.items():
            yield from _rows(mix, concurrency, run)
    if (peer := found["codecarbon"]) is not None:
        yield f"| loop, 8 long requests | 8 | codecarbon per request | {_figures(peer)} | | |"
    if not found["second"]:
        return
    default, narrower = ("inside × {}…{}".format(*found[key]) for key in ("default", "narrower"))
    yield "\n## Joules that do not: the energy's error, and what the interval holds\n"
    heads = ["world", "at once", "error median", "p95", default, "true ÷ charged, 5–95 %", narrower, "calibrated", "inside"]
    yield f"| {' | '.join([*heads, 'books off'])} |"
    yield "|---" * (len(heads) + 1) + "|"
    for world, by in found["second"].items():
        for concurrency, run in by.items():
            shares = [_percent(run[key]) for key in ("median", "p95", "inside", "inside_narrower", "inside_calibrated")]
            needed = f"{run['needed_low']:.2f}–{run['needed_high']:.2f}"
            key = f"× {run['calibrated_low']:.2f}…{run['calibrated_high']:.2f}"
            cells = [world, concurrency, *shares[:3], needed, shares[3], key, shares[4]]
            yield f"| {' | '.join(map(str, cells))} | {run['off_nj']:.0f} nJ |"


def _rows(mix: str, concurrency: int, run: dict[str, Any]) -> Iterator[str]:
    for place, (method, figures) in enumerate(run["methods"].items()):
        last = f"{run['off_nj']:.0f} nJ | {run['coverage']:.3f}{_missed(mix, figures)}" if not place else " | "
        yield f"| {mix} | {concurrency} | {method} | {_figures(figures)} | {last} |"


def _missed(mix: str, figures: dict[str, float]) -> str:
    median, p95 = TARGETS.get(mix, (math.inf, math.inf))
    return " (over target)" if figures["median"] > median or figures["p95"] > p95 else ""


def _figures(figures: dict[str, float]) -> str:
    return f"{_percent(figures['median'])} | {_percent(figures['p95'])} | {figures['ratio']:.2f} | {figures['sum']:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _plot(first: dict[str, dict[int, Any]]) -> str:
    """One line per run and method on a logarithmic axis: a dot at the median error, a line to the 95th percentile."""
    rows = [(f"{mix}, {n} at once", run["methods"]) for mix, by in first.items() for n, run in by.items()]
    height = _TOP + len(rows) * (len(_INKS) + 1) * _ROW // 2 + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="11">',
        "<title>Error of each request's CPU: median (dot) to 95th percentile (line), by method</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for place, (method, ink) in enumerate(_INKS.items()):
        parts.append(f'<circle cx="{_LEFT + 160 * place}" cy="16" r="4" fill="{ink}"/>')
        parts.append(f'<text x="{_LEFT + 160 * place + 9}" y="20">{method}</text>')
    for share, label in ((0.001, "0.1 %"), (0.01, "1 %"), (0.1, "10 %"), (1.0, "100 %"), (10.0, "1,000 %"), (100.0, "10,000 %")):
        x = _across(share)
        parts.append(f'<path d="M{x:.0f} {_TOP - 16}V{height - 12}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x:.0f}" y="{_TOP - 22}" text-anchor="middle" fill="#555555">{label}</text>')
    y = float(_TOP)
    for label, methods in rows:
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 14:.0f}" text-anchor="end">{label}</text>')
        for method, ink in _INKS.items():
            start, end = _across(methods[method]["median"]), _across(methods[method]["p95"])
            parts.append(f'<path d="M{start:.1f} {y:.1f}H{end:.1f}" stroke="{ink}" stroke-width="2"/>')
            parts.append(f'<circle cx="{start:.1f}" cy="{y:.1f}" r="3" fill="{ink}"/>')
            y += _ROW / 2
        y += _ROW / 2
    return "\n".join([*parts, "</svg>", ""])


def _across(share: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - 20) * (math.log10(min(max(share, 1e-3), 100.0)) + 3) / 5
