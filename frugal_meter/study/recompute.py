#!/usr/bin/env python3
"""Checks a study: ``python3 -I -S recompute.py [folder]``. Python 3.10 or newer and its standard library, nothing else.

1. Every file has the SHA-256 that ``SHA256SUMS`` and ``manifest.json`` say, and no file of raw data is there that they do not
   name.
2. The books in ``raw/`` close: on each tick of each source, energy = idle + requests + late + overhead + other + gap, in whole
   nanojoules; what a tick bills to its spans sums to its requests; and a reading is what ticks billed to it.
3. Every figure of ``study.json`` follows from ``raw/`` and from what is declared in it (use, factors, PUE, lifetimes), to the
   last digit; none is there besides, and none is left out.
4. The factors, PUE, hardware, boundary, methods and flags that it tells are those of ``raw/``.

Exit code 0: all of it is so. 1: it is not, and each fault is named. The equations are those of docs/study.md, by their numbers:
(1) service energy, (2) operational and (3) embodied carbon, (4) per unit, (5) the year, (6) ratio, (7) quality.
Triples are (low, mid, high); lows add to lows, highs to highs.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

Triple = tuple[float, float, float]
Json = dict[str, Any]
Z95 = 1.959964
SECONDS_PER_YEAR = 365 * 86_400
ONE = (1.0, 1.0, 1.0)
TIERS = ("measured", "modelled", "sourced")


# -- sums, in the order given: floats added in another order may differ in their last digit


def add(triples: Iterable[Triple]) -> Triple:
    """Low with low, mid with mid, high with high."""
    low = mid = high = 0.0
    for each in triples:
        low, mid, high = low + each[0], mid + each[1], high + each[2]
    return low, mid, high


def times(of: Triple, by: float) -> Triple:
    """A triple so many times."""
    return of[0] * by, of[1] * by, of[2] * by


def triple(of: Json) -> Triple:
    """A triple out of JSON."""
    return of["low"], of["mid"], of["high"]


def as_json(of: Triple | None) -> Json | None:
    """A triple as study.json writes it."""
    return None if of is None else {"low": of[0], "mid": of[1], "high": of[2]}


def once(names: Iterable[Iterable[str]]) -> list[str]:
    """Each name once, in the order of its first coming."""
    return list(dict.fromkeys(name for each in names for name in each))


# -- raw data


def parsed(text: bytes) -> Json:
    """A JSON object. Raises ValueError where a key is twice in one: readers would not agree on which one counts."""

    def once_each(pairs: list[tuple[str, Any]]) -> Json:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"a key is twice in one object: {sorted(name for name, _ in pairs)}")
        return found

    found: Json = json.loads(text, object_pairs_hook=once_each)
    return found


class Run:
    """A file of raw data: its head, and by phase its books, readings and moments."""

    def __init__(self, folder: Path, file: str) -> None:
        self.file = file
        self.passes: dict[str, list[Json]] = {}
        self.readings: dict[str, list[Json]] = {}
        self.spans: dict[str, list[Json]] = {}
        self.tallies: list[Json] = []
        self.exchanges: list[Json] = []
        self.marks: list[Json] = []
        phase = ""
        for text in (folder / file).read_bytes().splitlines():
            line = parsed(text)
            kind = line["type"]
            if kind == "head" and not hasattr(self, "head"):
                self.head = line
            elif kind == "phase":
                phase = line["name"]
                self.marks.append(line)
            elif kind == "pass":
                self.passes.setdefault(phase, []).append(line["books"])
                self.spans.setdefault(phase, []).append(line["spans"])
            elif kind == "reading":
                self.readings.setdefault(phase, []).append(line["reading"])
            elif kind == "tally":
                self.tallies.append(line["tally"])
            elif kind == "exchange":
                self.exchanges.append(line)
            else:
                raise ValueError(f"{file}: a line of type {kind!r} that has no place there")

    def edges(self, phase: str) -> tuple[float, float] | None:
        """When a phase began and ended, Unix s; None where it was not."""
        for mark, after in zip(self.marks, self.marks[1:]):  # noqa: B905 - the last has none after it
            if mark["name"] == phase:
                return mark["at_s"], after["at_s"]
        return None


def service_nj(books: Json) -> int:
    """(1) What the service drew: requests + late + overhead + its slice of idle."""
    drew: int = books["requests_nj"] + books["late_nj"] + books["overhead_nj"] + (books["slice_nj"] or 0)
    return drew


def open_books(run: Run) -> Iterator[str]:
    """Ticks whose books do not close."""
    for phase, passes in run.passes.items():
        for each, spans in zip(passes, run.spans[phase], strict=True):
            for books in each["books"]:
                parts = ("idle_nj", "requests_nj", "late_nj", "overhead_nj", "other_nj", "gap_nj")
                off = books["energy_nj"] - sum(books[part] for part in parts)
                if off:
                    yield f"{run.file}: the books of {books['source']} that end at {each['t1_ns']} do not close: {off} nJ off"
                billed = sum(spans[books["source"]][0].values()) if books["source"] in spans else books["requests_nj"]
                if billed != books["requests_nj"]:
                    yield f"{run.file}: what {books['source']} billed to spans until {each['t1_ns']} is not its requests"


def readings_of(run: Run) -> list[Json]:
    """Every reading of a file."""
    return [r for each in run.readings.values() for r in each]


def told_twice(runs: list[Run]) -> Iterator[str]:
    """Readings that are there twice, and would deliver twice what they did."""
    seen: set[str] = set()
    for run in runs:
        for r in readings_of(run):
            if r["id"] in seen:
                yield f"{run.file}: reading {r['id']} is there twice"
            seen.add(r["id"])


def strange_readings(run: Run) -> Iterator[str]:
    """Readings whose joules are not what ticks billed to their spans, or to those nested in them; in whole nanojoules."""
    billed: dict[int, list[int]] = {}
    for spans in (source for each in run.spans.values() for one in each for source in one.values()):
        for kind, shares in enumerate(spans):
            for key, nj in shares.items():
                billed.setdefault(int(key), [0, 0])[kind] += nj
    readings = readings_of(run)
    nested: dict[str, int] = {}
    for r in readings:
        # A span's key is the low 34 bits of its reading's id.
        dynamic, idle = billed.get(int(r["id"].replace("-", ""), 16) & (1 << 34) - 1, (0, 0))
        if r["energy_full_j"] is not None and (nano(r["energy_dynamic_j"]), nano(r["energy_full_j"])) != (
            dynamic,
            dynamic + idle,
        ):
            yield f"{run.file}: reading {r['id']} is not the {dynamic} nJ, and {idle} nJ of idle, that ticks billed to it"
        if r["parent"] is not None:
            nested[r["parent"]] = nested.get(r["parent"], 0) + nano(r["inclusive_energy_full_j"])
    for r in readings:
        if r["energy_full_j"] is not None:
            whole = nano(r["energy_full_j"]) + nested.get(r["id"], 0)
            if nano(r["inclusive_energy_full_j"]) != whole:
                yield f"{run.file}: reading {r['id']} and what is nested in it are {whole} nJ, and it says otherwise"


# -- period figures


def operational(each: Json) -> Triple:
    """(2) O = E · PUE · I of one pass."""
    weight, books = each["weight"], each["books"]
    low, mid, high = (
        sum(b["low_nj"] for b in books) / 1e9,
        sum(map(service_nj, books)) / 1e9,
        sum(b["high_nj"] for b in books) / 1e9,
    )
    pue = triple(weight["pue"])
    return times((low * pue[0], mid * pue[1], high * pue[2]), weight["grams_per_joule"])


def embodied(each: Json) -> Triple:
    """(3) M = TE · Δt/EL · share of one pass, which holds its middle and how wide it is."""
    grams, weight = each["embodied_g"], each["weight"]
    return grams * weight["embodied_low"], grams, grams * weight["embodied_high"]


def nano(joules: float | None) -> int:
    """Whole nanojoules."""
    return 0 if joules is None else round(joules * 1e9)


def tally_of(r: Json) -> Json:
    """A reading as a sum of one."""
    dynamic = r["energy_dynamic_j"] if r["energy_dynamic_j"] is not None else r["energy_full_j"]
    return {
        **{"kind": r["kind"], "nested": r["parent"] is not None, "outcome": r["outcome"], "unit": r["unit"], "count": 1},
        **{"route": r["route"], "model": r["model_served"], "units": r["units"] or 0.0, "dynamic_nj": nano(dynamic)},
        **{"inclusive_nj": nano(r["inclusive_energy_full_j"]), "known": int(r["inclusive_energy_full_j"] is not None)},
        **{"remote_nj": None if r["energy_remote_j"] is None else nano(r["energy_remote_j"])},
        **{"quality_sum": r["quality"] or 0.0, "quality_count": int(r["quality"] is not None)},
        "metric": None if r["quality"] is None else r["quality_metric"],
    }


def tallied(tallies: Iterable[Json]) -> list[Json]:
    """Those of one kind summed."""
    by: dict[tuple[Any, ...], Json] = {}
    for each in tallies:
        names = ("kind", "nested", "outcome", "route", "model", "unit", "metric")
        key = (*(each[name] for name in names), each["remote_nj"] is None)
        had = by.get(key)
        if had is None:
            by[key] = dict(each)
            continue
        for name in ("count", "units", "dynamic_nj", "inclusive_nj", "known", "quality_sum", "quality_count"):
            had[name] += each[name]
        if each["remote_nj"] is not None:
            had["remote_nj"] += each["remote_nj"]
    return list(by.values())


def work(tallies: list[Json], unit: str) -> Json:
    """What the readings of a period say."""
    top = [t for t in tallies if not t["nested"] and t["kind"] != "block"]
    asked = top or [t for t in tallies if not t["nested"]]
    bad = [t for t in tallies if t["outcome"] not in ("ok", "refused")]
    requests = sum(t["count"] for t in asked)
    failed = sum(t["count"] for t in asked if t["outcome"] not in ("ok", "refused"))
    refused = sum(t["count"] for t in asked if t["outcome"] == "refused")
    served = [t for t in asked if t["outcome"] != "refused"]
    known = sum(t["known"] for t in served)
    told = [t["remote_nj"] for t in tallies if t["remote_nj"] is not None]
    scored = sum(t["quality_count"] for t in tallies)
    metrics = sorted({t["metric"] or "?" for t in tallies if t["quality_count"]})
    units = (
        float(requests - failed - refused) if unit == "request" else float(sum(t["units"] for t in tallies if t["unit"] == unit))
    )
    return {
        **{"unit": unit, "units": units, "requests": requests, "failed": failed, "refused": refused},
        "failed_nj": sum(t["dynamic_nj"] for t in bad),
        "refused_nj": sum(t["dynamic_nj"] for t in tallies if t["outcome"] == "refused"),
        "mean_request_j": sum(t["inclusive_nj"] for t in served) / known / 1e9 if known else None,
        "remote_j": sum(told) / 1e9 if told else None,
        "quality": math.fsum(t["quality_sum"] for t in tallies) / scored if len(metrics) == 1 else None,
        **{"quality_count": scored, "quality_metrics": metrics},
    }


def period(passes: list[Json], tallies: Iterable[Json], edges: tuple[float, float], unit: str) -> Json:
    """The figures of a stretch of time."""
    books = [b for each in passes for b in each["books"]]
    names = ("requests_nj", "late_nj", "overhead_nj", "energy_nj", "other_nj", "gap_nj", "low_nj", "high_nj")
    sums = {name: sum(b[name] for b in books) for name in names}
    whole = sum(map(service_nj, books))
    did = work(tallied(tallies), unit)
    parts: dict[str, int] = {}
    for each in books:
        for name, nj in each["overhead_parts"].items():
            parts[name] = parts.get(name, 0) + nj
    slices = [b["slice_nj"] for b in books]
    energy = (sums["low_nj"] / 1e9, whole / 1e9, sums["high_nj"] / 1e9)
    grams = add(map(operational, passes)), add(map(embodied, passes))
    return {
        **{**did, "begin_s": edges[0], "end_s": edges[1], "covered_s": covered_ns(passes) / 1e9},
        **{"delivered_nj": sums["requests_nj"] - did["failed_nj"] - did["refused_nj"], "overhead_parts": parts},
        **{name: sums[name] for name in ("late_nj", "overhead_nj", "other_nj", "gap_nj")},
        **{"slice_nj": None if None in slices else sum(slices), "total_nj": whole, "host_nj": sums["energy_nj"]},
        **{"energy_j": energy, "operational_g": grams[0], "embodied_g": grams[1], "carbon_g": add(grams)},
        **tier_of(books, whole),
        **{"factor_ids": once(p["weight"]["factor_ids"] for p in passes), "flags": once(p["weight"]["flags"] for p in passes)},
        **{"method_ids": once([p["weight"]["method_id"]] for p in passes)},
        **{"boundary": once(p["weight"]["boundary"] for p in passes)},
    }


def covered_ns(passes: list[Json]) -> int:
    """Length of the union of all stretches."""
    covered, until = 0, 0
    for begin, end in sorted((p["t0_ns"], p["t1_ns"]) for p in passes):
        covered += max(0, end - max(begin, until))
        until = max(until, end)
    return covered


def tier_of(books: list[Json], whole: int) -> Json:
    """The weakest tier that holds 5 % of the energy, and the measured share of it."""
    by: dict[str, int] = {}
    for each in books:
        by[each["tier"]] = by.get(each["tier"], 0) + service_nj(each)
    if not whole:
        return {"tier": None, "measured_share": None}
    weakest = max((t for t, nj in by.items() if nj >= 0.05 * whole), key=TIERS.index)
    return {"tier": weakest, "measured_share": by.get("measured", 0) / whole}


# -- costs


def cost(own: Triple, operational_g: Triple, embodied_g: Triple, remote_j: Triple | None, remote_g: Triple | None) -> Json:
    """A cost of its parts, with their sums."""
    return {
        "energy_j": own if remote_j is None else add((own, remote_j)),
        "carbon_g": add((operational_g, embodied_g) if remote_g is None else (operational_g, embodied_g, remote_g)),
        **{"own_j": own, "operational_g": operational_g, "embodied_g": embodied_g, "remote_j": remote_j, "remote_g": remote_g},
    }


PARTS = ("own_j", "operational_g", "embodied_g", "remote_j", "remote_g")


def costs(of: Json, by: float) -> Json:
    """A cost so many times."""
    return cost(*(None if of[part] is None else times(of[part], by) for part in PARTS))  # type: ignore[arg-type]


def total(of: list[Json]) -> Json:
    """Costs together."""
    known = ([each[part] for each in of if each[part] is not None] for part in PARTS)
    return cost(*(add(each) if each else None for each in known))  # type: ignore[arg-type]


def weighed(of: Json | None, o: Triple, m: Triple) -> Json | None:
    """A cost whose operational and embodied carbon are scaled, end by end."""
    if of is None:
        return None
    scaled = [
        (of[part][0] * by[0], of[part][1] * by[1], of[part][2] * by[2]) for part, by in (("operational_g", o), ("embodied_g", m))
    ]
    return cost(of["own_j"], scaled[0], scaled[1], of["remote_j"], of["remote_g"])


def remote(readings: list[Json]) -> tuple[Triple | None, Triple | None]:
    """Joules and grams of models elsewhere."""
    joules, grams = [], []
    for r in readings:
        mid = r["energy_remote_j"]
        if mid is not None:
            low, high = r["energy_remote_low_j"], r["energy_remote_high_j"]
            joules.append((mid if low is None else low, mid, mid if high is None else high))
        if r["carbon_remote_g"] is not None:
            mid, known = r["carbon_remote_g"], add(triple(c["carbon_g"]) for c in r["remote"] if c["carbon_g"] is not None)
            grams.append((mid * known[0] / known[1], mid, mid * known[2] / known[1]) if known[1] else (mid, mid, mid))
    return (add(joules) if joules else None), (add(grams) if grams else None)


class Blocks:
    """What a year is made of: a unit under load and its seconds, a second at rest, a start."""

    def __init__(self, unit: Json, seconds: float, rest: Json | None, start: Json | None) -> None:
        self.unit, self.seconds, self.rest, self.start = unit, seconds, rest, start

    def under(self, o: Triple, m: Triple) -> "Blocks":
        """The same with carbon scaled."""
        unit = weighed(self.unit, o, m)
        assert unit is not None
        return Blocks(unit, self.seconds, weighed(self.rest, o, m), weighed(self.start, o, m))

    def resting_s(self, units: float, hours: float) -> float:
        """Seconds of the hours that the units leave."""
        return max(0.0, hours * 3600.0 - units * self.seconds)

    def year(self, units: float, hours: float, starts: float) -> Json:
        """(5) Y = n · unit + max(0, 3600 h − n t) · rest + s · start."""
        parts = [costs(self.unit, units)]
        if self.rest is not None:
            parts.append(costs(self.rest, self.resting_s(units, hours)))
        if self.start is not None:
            parts.append(costs(self.start, starts))
        return total(parts)


# -- a variant


def over(runs: list[Run], phase: str, unit: str) -> tuple[Json, list[Json]]:
    """Period figures of a phase over several runs, and its readings."""
    having = [run for run in runs if run.edges(phase) is not None]
    passes = [each for run in having for each in run.passes.get(phase, [])]
    readings = [each for run in having for each in run.readings.get(phase, [])]
    sums = [t for run in having if phase == "load" for t in run.tallies]
    edges = having[0].edges(phase)[0], having[-1].edges(phase)[1]  # type: ignore[index]
    found = period(passes, [*sums, *map(tally_of, readings)], edges, unit)
    exchanges = [x for run in having for x in run.exchanges] if phase == "load" else []
    if unit == "request" and exchanges:
        found["units"] = float(sum(x["ok"] for x in exchanges))
    for name, whole in (("per_unit_j", "energy_j"), ("per_unit_g", "carbon_g")):
        found[name] = times(found[whole], 1 / found["units"]) if found["units"] and passes else None
    return found, readings


def cost_of(figures: Json, readings: list[Json]) -> Json:
    """What a period cost, models elsewhere included."""
    return cost(figures["energy_j"], figures["operational_g"], figures["embodied_g"], *remote(readings))


def repetition(run: Run, unit: str) -> Json:
    """One run of one variant."""
    load, readings = over([run], "load", unit)
    whole, exchanges, units = cost_of(load, readings), run.exchanges, load["units"]
    scores = [x["score"] for x in exchanges if x["score"] is not None]
    return {
        **{"round": run.head["round"], "file": run.file, "units": units, "seconds": load["covered_s"]},
        "requests": len(exchanges) if exchanges else load["requests"],
        "failed": sum(not x["ok"] for x in exchanges) if exchanges else load["failed"],
        "per_unit_j": whole["energy_j"][1] * (1 / units) if units else None,
        "per_unit_g": whole["carbon_g"][1] * (1 / units) if units else None,
        "mean_request_j": load["mean_request_j"],
        "quality": (math.fsum(scores) / len(scores) if scores else None) if exchanges else load["quality"],
    }


def spread(values: list[float]) -> Json | None:
    """Mean, sample standard deviation, least and most."""
    if not values:
        return None
    n, mean = len(values), math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else None
    return {"n": n, "mean": mean, "sd": sd, "least": min(values), "most": max(values)}


def quality(exchanges: list[Json], readings: list[Json], metric: str) -> Json | None:
    """(7) Mean score and its Wilson 95 % interval, on as many answers as there are different requests."""
    if exchanges:
        scores = [x["score"] for x in exchanges if x["score"] is not None]
        distinct, whole = len({x["line"] for x in exchanges if x["score"] is not None}), len(exchanges)
    else:
        scores = [r["quality"] for r in readings if r["quality"] is not None]
        distinct, whole = len(scores), max(len(scores), sum(r["parent"] is None for r in readings))
        metrics = sorted({r["quality_metric"] or "?" for r in readings if r["quality"] is not None})
        if len(metrics) > 1:  # scores of two kinds have no common mean
            return None
        metric = ", ".join(metrics)
    if not scores:
        return None
    p, n, z2 = math.fsum(scores) / len(scores), distinct, Z95 * Z95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    score = (min(max(0.0, centre - half), p), p, max(min(1.0, centre + half), p))
    return {"metric": metric, "score": score, "judged": len(scores), "unjudged": whole - len(scores), "distinct": distinct}


def latency(seconds: list[float]) -> Json | None:
    """Median and 95th percentile, nearest rank."""
    if not seconds:
        return None
    ranked = sorted(seconds)
    rank: Callable[[float], float] = lambda share: ranked[max(0, math.ceil(share * len(ranked)) - 1)]  # noqa: E731
    return {"p50_s": rank(0.5), "p95_s": rank(0.95)}


def variant(told: Json, runs: list[Run], study: Json) -> tuple[Json, Blocks | None]:
    """The figures of a variant, and what its year is made of."""
    unit, use = study["unit"]["name"], study["use"]
    load, readings = over(runs, "load", unit)
    whole, exchanges = cost_of(load, readings), [x for run in runs for x in run.exchanges]
    start, rest = (over(runs, name, unit) if all(r.passes.get(name) for r in runs) else None for name in ("start", "rest"))
    blocks, year, units = None, None, load["units"]
    if units:
        resting = costs(cost_of(*rest), 1 / rest[0]["covered_s"]) if rest is not None and rest[0]["covered_s"] else None
        starting = None if start is None else costs(cost_of(*start), 1 / len(runs))
        blocks = Blocks(costs(whole, 1 / units), load["covered_s"] / units, resting, starting)
        if use is not None:
            year = blocks.year(use["units"]["mid"], use["hours"], use["starts"])
    repetitions = [repetition(run, unit) for run in runs]
    return {
        **{"tested": blocks and blocks.unit, "year": year, "in_use": in_use(blocks, year, use)},
        **{"idle_share": idle_share(blocks, year, use), "while_it_ran_j": load["mean_request_j"]},
        **{"load": load, "start": start and start[0], "rest": rest and rest[0]},
        **{"standing_w": blocks.rest["own_j"] if blocks and blocks.rest else None, "start_cost": blocks and blocks.start},
        "requests": len(exchanges) if exchanges else load["requests"],
        "failed": sum(not x["ok"] for x in exchanges) if exchanges else load["failed"],
        **{"refused": load["refused"], "repetitions": repetitions, **mixed_tier(load, readings, whole)},
        "quality": quality(exchanges, readings, (told["quality"] or {}).get("metric", "")),
        "latency": latency([x["seconds"] for x in exchanges if x["ok"]]),
        "spread_j": spread([r["per_unit_j"] for r in repetitions if r["per_unit_j"] is not None]),
    }, blocks


def in_use(blocks: Blocks | None, year: Json | None, use: Json | None) -> Json | None:
    """(4) The year per unit; of a journal, whose period holds its idle time, the period's own."""
    if year is None or use is None:
        return blocks.unit if blocks is not None and blocks.rest is None else None
    return costs(year, 1 / use["units"]["mid"])


def idle_share(blocks: Blocks | None, year: Json | None, use: Json | None) -> float | None:
    """What time at rest is of the year's joules."""
    if blocks is None or blocks.rest is None or year is None or use is None or not year["energy_j"][1]:
        return None
    at_rest: float = blocks.rest["own_j"][1] * blocks.resting_s(use["units"]["mid"], use["hours"]) / year["energy_j"][1]
    return at_rest


def mixed_tier(load: Json, readings: list[Json], whole: Json) -> Json:
    """Tier and measured share, models elsewhere included."""
    tier, measured = load["tier"], load["measured_share"]
    if whole["remote_j"] is None or not whole["energy_j"][1]:
        return {"tier": tier, "measured_share": measured}
    if whole["remote_j"][1] >= 0.05 * whole["energy_j"][1]:
        told = [r["remote_tier"] for r in readings if r["remote_tier"] is not None]
        tier = max([*told, *([tier] if tier else [])], key=TIERS.index, default=None)
    return {"tier": tier, "measured_share": None if measured is None else measured * whole["own_j"][1] / whole["energy_j"][1]}


# -- what is made of several variants


def comparison(told: Json, by: dict[str, Json]) -> Json:
    """(6) A variant ÷ the reference, with the extremes of paired repetitions."""
    one, other = by[told["variant"]], by[told["reference"]]

    def paired(what: str) -> list[float]:
        theirs = {r["round"]: r[what] for r in other["repetitions"]}
        pairs = ((r[what], theirs.get(r["round"])) for r in one["repetitions"])
        return [mine / their for mine, their in pairs if mine is not None and their]

    def ratio(what: str, figure: str) -> Triple | None:
        ratios = paired(what)
        if not ratios or one["tested"] is None or other["tested"] is None or not other["tested"][figure][1]:
            return None
        mid = one["tested"][figure][1] / other["tested"][figure][1]
        return min(mid, *ratios), mid, max(mid, *ratios)

    both = one["year"] is not None and other["year"] is not None
    judged = one["quality"] is not None and other["quality"] is not None
    return {
        **{"energy": ratio("per_unit_j", "energy_j"), "carbon": ratio("per_unit_g", "carbon_g")},
        "rounds": len(paired("per_unit_j")),
        "per_year_j": one["year"]["energy_j"][1] - other["year"]["energy_j"][1] if both else None,
        "per_year_g": one["year"]["carbon_g"][1] - other["year"]["carbon_g"][1] if both else None,
        "quality": one["quality"]["score"][1] - other["quality"]["score"][1] if judged else None,
    }


def point(name: str, by: dict[str, Json]) -> Json:
    """A variant in the plane of quality and energy, and whether it is on the front."""
    known = {key: v for key, v in by.items() if v["tested"] is not None and v["quality"] is not None}
    mine, others = known[name], [v for key, v in known.items() if key != name]
    energy, score, span = mine["tested"]["energy_j"], mine["quality"]["score"], mine["spread_j"]
    at = [(v["tested"]["energy_j"][1], v["quality"]["score"], v["spread_j"]) for v in others]
    front = not any(s[1] >= score[1] and e <= energy[1] and (s[1] > score[1] or e < energy[1]) for e, s, _ in at)
    if front:
        clear = not any(s[2] >= score[0] and w["least"] <= span["most"] for _, s, w in at)
    else:
        clear = any(s[0] >= score[2] and w["most"] <= span["least"] for _, s, w in at)
    return {"energy_j": energy, "quality": score, "front": front, "clear": clear}


def scenario(told: Json, blocks: Blocks, study: Json) -> Json:
    """The year with one lever moved to the value told."""
    use, lever, value = study["use"], told["lever"], told["value"]
    units, hours = use["units"]["mid"], use["hours"]
    if lever == "grid":
        by = value / study["factors"][0]["grams_per_kwh"]
        blocks = blocks.under((by, by, by), ONE)
    elif lever == "pue":
        now = triple(study["pue"]["value"])
        blocks = blocks.under((value / now[0], value / now[1], value / now[2]), ONE)
    elif lever == "lifetime":
        life, seconds = triple(study["embodied"]["lifespan_s"]), value * SECONDS_PER_YEAR
        blocks = blocks.under(ONE, (life[2] / seconds, life[1] / seconds, life[0] / seconds))
    units, hours = (value if lever == "use" else units), (value if lever == "standing" else hours)
    year = blocks.year(units, hours, use["starts"])
    each = costs(year, 1 / units)
    return {"per_unit_g": each["carbon_g"], "year_g": year["carbon_g"], "energy_j": each["energy_j"]}


# -- the checks


def differences(ours: Any, theirs: Any, where: str, count: list[int], beside: Collection[str] = ()) -> Iterator[str]:
    """Where a figure of ours is not theirs; ``count`` counts what was compared. ``beside`` is what they tell and is no figure."""
    if isinstance(ours, dict):
        for key in sorted(theirs.keys() - ours.keys() - set(beside)) if isinstance(theirs, dict) else ():
            yield f"study.json: {where}.{key} does not follow from the raw data"
        for key, value in ours.items():
            if not isinstance(theirs, dict) or key not in theirs:
                yield f"study.json: {where}.{key} is missing"
            else:
                yield from differences(value, theirs[key], f"{where}.{key}", count)
    elif isinstance(ours, tuple) and isinstance(theirs, dict):
        yield from differences(as_json(ours), theirs, where, count)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for place, (mine, their) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(mine, their, f"{where}[{place}]", count)
    else:
        count[0] += 1
        if ours != theirs:
            yield f"study.json: {where} is {theirs!r}, and the raw data give {ours!r}"


def figures(folder: Path, study: Json, runs: list[Run], count: list[int]) -> Iterator[str]:
    """Figures of study.json that the raw data do not give."""
    by, blocks = {}, {}
    names = [told["name"] for told in study["variants"]]
    strange = sorted({run.head["variant"] for run in runs} - set(names))
    yield from (f"study.json: has no variant {name}, and there are raw data of it" for name in strange)
    for told in study["variants"]:
        own = sorted((r for r in runs if r.head["variant"] == told["name"]), key=lambda r: r.head["round"])
        if not own:
            yield f"raw/: holds nothing of variant {told['name']}"
            return
        by[told["name"]], blocks[told["name"]] = variant(told, own, study)
        beside = ("name", "title", "kind", "models", "why_failed", "flags")
        yield from differences(by[told["name"]], told, f"variants.{told['name']}", count, beside)
    for told in study["comparisons"]:
        where = f"comparisons.{told['variant']}"
        yield from differences(comparison(told, by), told, where, count, ("variant", "reference"))
    for told in study["pareto"]:
        yield from differences(point(told["variant"], by), told, f"pareto.{told['variant']}", count, ("variant",))
    for told in study["sensitivity"]:
        made_of, where = blocks[told["variant"]], f"sensitivity.{told['variant']}.{told['lever']}={told['value']:g}"
        if made_of is not None:
            other = ("variant", "lever", "value", "value_unit", "factor", "source", "in_force")
            yield from differences(scenario(told, made_of, study), told, where, count, other)
    yield from left_out(study, by, blocks)
    yield from besides(study, runs, by)


def left_out(study: Json, by: dict[str, Json], blocks: dict[str, Blocks | None]) -> Iterator[str]:
    """Comparisons, points and lines of the sensitivity run that should be there, or should not."""
    kinds = {told["name"]: told["kind"] for told in study["variants"]}
    reference = next((name for name, kind in kinds.items() if kind == "ai"), next(iter(kinds)))
    pairs = [(name, reference) for name in by if name != reference]
    if [(told["variant"], told["reference"]) for told in study["comparisons"]] != pairs:
        yield f"study.json: comparisons are not those of each variant with {reference}"
    known = [name for name, each in by.items() if each["tested"] is not None and each["quality"] is not None]
    if [told["variant"] for told in study["pareto"]] != known:
        yield "study.json: pareto does not hold each variant that has a score and a cost"
    use = study["use"]
    weighed_ones = [name for name, each in blocks.items() if each is not None] if use is not None else []
    for name in weighed_ones:
        yield from unlike_levers(study, name, blocks[name])
    lines = {name: [(s["lever"], s["value"]) for s in study["sensitivity"] if s["variant"] == name] for name in weighed_ones}
    if len({tuple(each) for each in lines.values()}) > 1 or sum(map(len, lines.values())) != len(study["sensitivity"]):
        yield "study.json: the sensitivity run has other lines for one variant than for another"


def unlike_levers(study: Json, name: str, of: Blocks | None) -> Iterator[str]:
    """Levers of a variant's sensitivity run that lack a value, or say wrongly which one is in force."""
    use, units = study["use"], study["use"]["units"]
    now: dict[str, Any] = {"use": units["mid"], "pue": study["pue"]["value"]["mid"]}
    least = {"use": {units["low"], units["high"], units["mid"] / 10, units["mid"] * 10}}
    if of is not None and of.rest is not None:
        now["standing"], least["standing"] = use["hours"], {1607.0, 4380.0, 8760.0}
    if len(study["factors"]) == 1:
        now["grid"] = study["factors"][0]["id"]
    if study["embodied"] is not None:
        now["lifetime"] = study["embodied"]["lifespan_s"]["mid"] / SECONDS_PER_YEAR
    for lever in sorted(now.keys() | {s["lever"] for s in study["sensitivity"] if s["variant"] == name}):
        lines = [s for s in study["sensitivity"] if s["variant"] == name and s["lever"] == lever]
        held = [s["factor"]["id"] if lever == "grid" else s["value"] for s in lines if s["in_force"]]
        off = any(s["factor"]["grams_per_kwh"] != s["value"] for s in lines) if lever == "grid" else False
        if off or lever not in now or held != [now[lever]] or not least.get(lever, set()) <= {s["value"] for s in lines}:
            yield f"study.json: sensitivity.{name}.{lever} is not the run that the study's own values call for"


# -- what is told beside the figures

#: of a repetition, and of the study that it belongs to
HEAD = ("service", "zone", "factors", "pue", "embodied", "machine", "not_counted")
TOLD = (
    *("title", "service", "lang", "origin", "purpose", "made_at", "author", "organisation", "contact", "unit", "use", "protocol"),
    *("machine", "zone", "factors", "pue", "embodied", "variants", "no_alternative", "comparisons", "pareto", "sensitivity"),
    *("upstream", "rebound", "limits", "boundary", "not_counted", "method_ids", "factor_ids", "versions", "flags", "schema"),
)


def besides(study: Json, runs: list[Run], by: dict[str, Json]) -> Iterator[str]:
    """What study.json tells of factors, PUE, hardware, boundary, methods and flags, and the raw data do not."""
    yield from (f"study.json: {name} is none of its fields" for name in sorted(study.keys() - set(TOLD)))
    if (study["origin"] == "journal") != all(run.head.get("load") is None for run in runs):
        yield "study.json: origin is not what the raw data tell"
    for name in HEAD:
        if all(run.head[name] != study[name] for run in runs):
            yield f"study.json: {name} is not what the raw data tell"
    for name in ("boundary", "method_ids", "factor_ids"):
        if study[name] != once(each["load"][name] for each in by.values()):
            yield f"study.json: {name} are not those of the raw data"
    for told in study["variants"]:
        ours = by[told["name"]]
        needed = {*ours["load"]["flags"]}
        needed |= {"study:failed-many"} if ours["requests"] and ours["failed"] >= 0.05 * ours["requests"] else set()
        for flag in sorted(needed - set(told["flags"])):
            yield f"study.json: variants.{told['name']}.flags lack {flag}"
        for flag in sorted({flag for flag in needed if not flag.startswith("study:")} - set(study["flags"])):
            yield f"study.json: flags lack {flag}"
    for run in runs:
        yield from strange_weights(run)


def strange_weights(run: Run) -> Iterator[str]:
    """Joules that were weighed otherwise than the head of their file says: by another factor, or another PUE."""
    factors = {each["id"]: each["grams_per_kwh"] / 3.6e6 for each in run.head["factors"]}
    faults = {}
    for weight in (each["weight"] for phase in run.passes.values() for each in phase):
        ids = weight["factor_ids"]
        if len(ids) == 1 and ids[0] in factors and weight["grams_per_joule"] != factors[ids[0]]:
            faults[ids[0]] = f"{run.file}: carbon is not weighed by the factor {ids[0]} as its head tells it"
        if weight["pue"] != run.head["pue"]["value"]:
            faults["pue"] = f"{run.file}: carbon is not weighed by the PUE that its head tells"
    yield from faults.values()


def hashes(folder: Path) -> Iterator[str]:
    """Files that are not what the manifest says."""
    sums = {}
    text = (folder / "SHA256SUMS").read_bytes()
    for line in text.decode().splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    if text != "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode():
        yield "SHA256SUMS: was changed: it is not one line for each file"
    if "manifest.json" not in sums:
        yield "SHA256SUMS: does not name manifest.json"
    for name, digest in sums.items():
        file = folder / name
        if not file.is_file():
            yield f"{name}: is missing"
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            yield f"{name}: is not what SHA256SUMS says; it, or SHA256SUMS, was changed"
    manifest = parsed((folder / "manifest.json").read_bytes())
    told = {each["path"]: each["sha256"] for each in manifest["files"]}
    for name in sorted(told.keys() ^ (sums.keys() - {"manifest.json"})):
        yield f"{name}: is in one of manifest.json and SHA256SUMS only"
    yield from (f"{name}: manifest.json and SHA256SUMS differ" for name in told if sums.get(name, told[name]) != told[name])
    for file in sorted((folder / "raw").iterdir()):
        if f"raw/{file.name}" not in told:
            yield f"raw/{file.name}: is not in manifest.json"


def check(folder: Path) -> tuple[list[str], int]:
    """Faults, and how many figures were compared."""
    count = [0]
    faults: list[str] = []
    try:
        faults += hashes(folder)
        study = parsed((folder / "study.json").read_bytes())
        runs = [Run(folder, f"raw/{file.name}") for file in sorted((folder / "raw").glob("*.jsonl"))]
        faults += [fault for run in runs for fault in open_books(run)]
        faults += told_twice(runs)
        if study["origin"] == "scenario":  # a journal rolls up, and cuts its period through what runs
            faults += [fault for run in runs for fault in strange_readings(run)]
        faults += figures(folder, study, runs, count)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        faults.append(f"cannot be read to its end: {type(error).__name__}: {error}")
    return faults, count[0]


def main(arguments: list[str]) -> int:
    """Print each fault, or that there is none."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    faults, compared = check(folder)
    for fault in faults:
        print(fault)
    if not faults:
        identity = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        print(f"sound: every hash is right, all books close, {compared} figures recomputed to the last digit")
        print(f"this study is sha256:{identity} (of manifest.json)")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
