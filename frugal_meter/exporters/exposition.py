"""The text of an exposition: Prometheus text 0.0.4, or OpenMetrics 1.0 with exemplars and units.

Both formats as their specifications have them (prometheus.io/docs/instrumenting/exposition_formats, OpenMetrics 1.0.0 §4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .families import Exemplar, Family, Observed, of_histogram
from .spec import SPEC

#: units that a name may end with, which OpenMetrics tells apart
_UNITS: Final = ("seconds", "joules", "grams", "ratio")
#: OpenMetrics §4.6.1: names and values of an exemplar's labels together, in characters
MAX_EXEMPLAR: Final = 128


def write(families: Iterable[Family], *, openmetrics: bool) -> bytes:
    """The families as text, in UTF-8, labels by name; exemplars in OpenMetrics only."""
    lines: list[str] = []
    for family in families:
        kind, text, labels = SPEC[family.name]
        name = f"{family.name}_total" if kind == "counter" else family.name
        head = family.name if openmetrics else name
        lines.append(f"# HELP {head} {_escaped(text) if openmetrics else _help(text)}\n# TYPE {head} {kind}\n")
        unit = family.name.rpartition("_")[2]
        if openmetrics and unit in _UNITS:
            lines.append(f"# UNIT {head} {unit}\n")
        order = sorted(range(len(labels)), key=labels.__getitem__)
        names = [labels[i] for i in order]
        for values, value in family.samples:
            pairs = _pairs(names, [values[i] for i in order])
            if kind == "histogram":
                _write_histogram(lines, name, pairs, value, openmetrics)
            else:
                lines.append(f"{name}{{{pairs}}} {float(value)!r}\n" if pairs else f"{name} {float(value)!r}\n")
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode("utf-8", "replace")


def _write_histogram(lines: list[str], name: str, pairs: str, observed: Observed, openmetrics: bool) -> None:
    count = 0.0
    for le, count, exemplar in of_histogram(observed):
        note = _note(exemplar) if openmetrics and exemplar is not None else ""
        lines.append(f'{name}_bucket{{le="{le}",{pairs}}} {count!r}{note}\n')
    lines.append(f"{name}_count{{{pairs}}} {count!r}\n{name}_sum{{{pairs}}} {observed.total!r}\n")


def _note(exemplar: Exemplar) -> str:
    labels, value, unix_s = exemplar
    if sum(len(key) + len(text) for key, text in labels.items()) > MAX_EXEMPLAR:
        return ""
    return f" # {{{_pairs(list(labels), list(labels.values()))}}} {value!r} {unix_s:.3f}"


def _pairs(labels: Sequence[str], values: Sequence[str]) -> str:
    return ",".join([f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True)])


def _escaped(text: str) -> str:
    return _help(text).replace('"', '\\"')


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
