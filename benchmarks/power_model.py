"""Hold the power model against servers that it was not fitted to, and print how often and how widely it is right.

    python benchmarks/power_model.py            # the tables
    python benchmarks/power_model.py --write    # and put them into docs/method.md, where a test checks them

The servers are those of every second maker of the SPECpower_ssj2008 results in ``tests/data``; the table was fitted to
the others (``build_cpu_table.py``). SPEC measures the whole server at the plug: so what is compared is the CPU and the
rest of the server as the product models them, plus the part of the memory that is left out of both.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
from build_cpu_table import FAMILIES, FILES, LABELS, LEVELS, Result, build, fitted_makers, read, row_of

from frugal_meter.sources.cpu_table import CpuMatch, CpuTable, load_table
from frugal_meter.sources.server_power import server_watts
from frugal_meter.sources.watts import MEMORY_SHARE, board_part, cpu_power, ends, load_curve, table_cpu

METHOD = Path(__file__).parent.parent / "docs" / "method.md"
BEGIN, END = "<!-- power model: begin -->", "<!-- power model: end -->"

#: low, mid and high W of a server at a load of 0…1
Model = Callable[[Result, float], tuple[float, float, float]]


class Point(NamedTuple):
    """One measured power beside what the model says of it, W."""

    group: str
    load: float
    measured: float
    low: float
    mid: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the measured power lies in the interval."""
        return self.low <= self.measured <= self.high

    @property
    def width(self) -> float:
        """High ÷ low."""
        return self.high / self.low

    @property
    def error(self) -> float:
        """Logarithm of model ÷ measured."""
        return math.log(self.mid / self.measured)


def held_out() -> tuple[list[Result], list[Result]]:
    """Results and load curves of the makers that the table was not fitted to."""
    results, curves = map(read, FILES)
    fitted = fitted_makers(results)
    return [r for r in results if r["maker"] not in fitted], [c for c in curves if c["maker"] not in fitted]


def points(model: Model, servers: tuple[list[Result], list[Result]], group: Callable[[Result], str]) -> list[Point]:
    """Every measured power of ``servers``: idle and full load of the results, the nine loads between of the curves."""
    results, curves = servers
    found = []
    for result, levels in (*((r, (0, 10)) for r in results), *((c, range(1, 10)) for c in curves)):
        for tenth in levels:
            measured = float(result[LEVELS[tenth]])
            found.append(Point(group(result), tenth / 10, measured, *model(result, tenth / 10)))
    return found


def shipped(result: Result, load: float) -> tuple[float, float, float]:
    """What the product says of the server of ``result``: its parts, scaled to the memory that they leave out."""
    match = CpuMatch(row_of(result), row_of(result), "exact")
    sizes = {"virtual": False, "sockets": int(result["chips"])}
    parts = table_cpu(match, _threads(result), **sizes), board_part(match, _threads(result), **sizes)
    sums = zip(*(ends(cpu_power(part, load)) for part in parts), strict=True)
    low, mid, high = (sum(watts) / (1 - MEMORY_SHARE) for watts in sums)
    return low, mid, high


def stand_in(match: CpuMatch, table: CpuTable, *, guest: bool = False) -> Model:
    """A model that knows the server's CPU as ``match`` of ``table`` only; a guest does not see sockets either."""

    def model(result: Result, load: float) -> tuple[float, float, float]:
        idle, full = server_watts(match, _threads(result), sockets=None if guest else int(result["chips"]), table=table)
        shares = ends(load_curve(load))
        low, mid, high = (i + (f - i) * share for i, f, share in zip(ends(idle), ends(full), shares, strict=True))
        return low, mid, high

    return model


def _threads(result: Result) -> int:
    return int(result["cores"]) * int(result["threads_per_core"])


def in_table() -> list[Point]:
    """The held-out servers whose CPU is in the table, by microarchitecture."""
    results, curves = held_out()
    known = load_table().rows
    servers = [r for r in results if row_of(r) in known], [c for c in curves if row_of(c) in known]
    return points(shipped, servers, lambda result: result["row"])


def left_out() -> list[Point]:
    """Idle and full load of the fitted half's servers, each by a table fitted to the other makers of that half."""
    results, curves = map(read, FILES)
    makers = fitted_makers(results)
    found = []
    for maker in makers:
        table = msgspec.convert(build(results, curves, makers=[each for each in makers if each != maker]), CpuTable)
        for key in table.rows:
            own = [r for r in results if r["maker"] == maker and row_of(r) == key]
            found += points(stand_in(CpuMatch(key, key, "exact"), table), (own, []), row_of)
    return found


def strangers() -> dict[str, list[Point]]:
    """The same servers as if their row were not in the table, and those whose CPU really is not."""
    results, curves = map(read, FILES)
    makers, test = fitted_makers(results), held_out()
    found: dict[str, list[Point]] = {"relative": [], "vendor": [], "unknown": [], "guest": []}
    for family, keys in FAMILIES.items():
        for index, key in enumerate(keys):
            servers = [r for r in test[0] if row_of(r) == key], [c for c in test[1] if row_of(c) == key]
            without = [r for r in results if row_of(r) != key]
            table = msgspec.convert(build(without, curves, makers=makers), CpuTable)
            vendor = family.partition("-")[0]
            nearest = next((k for k in (*keys[:index][::-1], *keys[index + 1 :]) if k in table.rows), None)
            matches = {"unknown": CpuMatch("?", None, "unknown")}
            if nearest:
                matches["relative"] = CpuMatch("?", nearest, "relative")
            if vendor in table.pools:
                matches["vendor"] = CpuMatch("?", None, "vendor", vendor)
            for relation, match in matches.items():
                found[relation] += points(stand_in(match, table), servers, row_of)
            own = stand_in(CpuMatch(key, key, "exact"), load_table(), guest=True)
            found["guest"] += points(own, servers, row_of)
    found["absent"] = absent()
    return found


def absent() -> list[Point]:
    """Servers of all makers whose CPU is in no row: nothing of them was fitted."""
    results, curves = map(read, FILES)
    found = []
    for start, match in ABSENT.items():
        servers = tuple([r for r in file if not r["row"] and r["cpu"].startswith(start)] for file in (results, curves))
        found += points(stand_in(match, load_table()), (servers[0], servers[1]), lambda _, start=start: start)
    return found


#: CPUs without a row by the start of their name, as `frugal_meter.sources.cpu_table.identify` knows them
ABSENT = {
    "EPYC 4": CpuMatch("Zen client", "coffee-lake", "relative"),
    "Core Ultra": CpuMatch("Arrow Lake", "coffee-lake", "relative"),
    "Grace": CpuMatch("unknown", None, "unknown"),
}


#: generations that share a row, each told apart: the row's own name is of the first
ALONE = {
    "sandy-bridge": (("sandy-bridge", "Intel Sandy Bridge (Xeon E5)"), ("ivy-bridge", "Intel Ivy Bridge (Xeon E5 v2), same row")),
}


def coverage(found: Sequence[Point]) -> float:
    """Share of points inside their interval, 0…1."""
    return sum(point.inside for point in found) / len(found)


def by_group(found: Iterable[Point]) -> dict[str, list[Point]]:
    """Points by group, in order of appearance."""
    groups: dict[str, list[Point]] = {}
    for point in found:
        groups.setdefault(point.group, []).append(point)
    return groups


def rated_share() -> float:
    """Median of the rated power of a server's CPUs (TDP) ÷ its power at full load, of the servers fitted to."""
    tdp = {row["cpu"]: float(row["tdp_w"]) for row in read("cpu_tdp.csv")}
    results, curves = map(read, FILES)
    fitted = fitted_makers(results)
    known = [c for c in curves if c["maker"] in fitted and c["cpu"] in tdp]
    return median(tdp[c["cpu"]] * int(c["chips"]) / float(c["full_w"]) for c in known)


def _line(name: str, found: Sequence[Point]) -> str:
    def width(load: float) -> str:
        at = [point.width for point in found if point.load == load]
        return f"{median(at):.1f}" if at else "–"

    bias = math.exp(median(point.error for point in found))
    return (
        f"| {name} | {len(found)} | {100 * coverage(found):.0f} % | × {bias:.2f} | "
        f"{width(0.0)} | {width(0.5)} | {width(1.0)} | {median(p.width for p in found):.1f} |"
    )


def render() -> str:
    """The tables of docs/method.md."""
    table, known = load_table(), in_table()
    head = (
        "| {} | points | inside | model ÷ measured | high ÷ low idle | half load | full load | all |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    groups = by_group(known)
    lines = [head.format("CPU in the table")]
    labels = {key: label for each, label in LABELS.items() for key, label in ((each, label), *ALONE.get(each, ()))}
    lines += [_line(label, groups[key]) for key, label in labels.items() if key in groups]
    lines.append(_line("**all**", known))
    untested = [label for key, label in LABELS.items() if key in table.rows and key not in groups]
    others = strangers()
    names = {
        "guest": "own row, sockets unseen (a guest of a full host)",
        "relative": "own row left out: nearest relative",
        "vendor": "own row left out: vendor",
        "unknown": "own row left out: unknown CPU",
        "absent": "CPUs that have no row (all makers)",
    }
    lines += ["", f"Fitted, but on no server of the held-out makers: {', '.join(untested) or 'none'}.", ""]
    lines += [head.format("CPU not in the table, or sockets unseen")]
    lines += [_line(name, others[key]) for key, name in names.items()]
    lines += [_line(f"… {name}", found) for name, found in by_group(others["absent"]).items()]
    own = left_out()
    lines += [
        "",
        f"Within the fitted half, each maker's servers by a table fitted to its others: {len(own)} points of idle and full",
    ]
    lines[-1] += f" load, {100 * coverage(own):.0f} % inside."
    share = rated_share()
    row = next(iter(table.rows.values()))
    powers = f"^ {row.idle_exponent:.2f} idle and ^ {row.full_exponent:.2f} at full load"
    lines += ["", f"Watts per socket of one microarchitecture go with threads {powers} (fitted half)."]
    lines += ["", f"Rated power (TDP) of the CPUs ÷ power of the server at full load, median of those fitted to: {share:.2f}."]
    return "\n".join(lines)


def main() -> None:
    """Print the tables, and put them into docs/method.md when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {METHOD.name}")
    text = render()
    print(text)
    if parser.parse_args().write:
        before, _, rest = METHOD.read_text().partition(BEGIN)
        METHOD.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
