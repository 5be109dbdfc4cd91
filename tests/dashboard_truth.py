"""What each panel must show, worked out without any metric: from what was asked, from what workers wrote down, from clocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dashboard_run import WORKERS, Run

from frugal_meter.carbon import factor
from frugal_meter.exporters import aggregates
from frugal_meter.exporters.spec import STAGES

Series = dict[frozenset[tuple[str, str]], float]
PUE, LIMIT_J, J_PER_KWH = 1.2, 400.0, 3.6e6
MODELS = {"/ask": "small", "/search": "tfidf", "/few": "large"}
TOKENS = {"/ask": (30, 10), "/search": (12, 4)}
QUALITY = {"/ask": 0.5, "/search": 1.0}
BUDGETS = {"joules": ("energy", LIMIT_J), "few": ("requests", 1.0), "watch": ("requests", 1.0)}
#: what the metered callee of /away tells of each call
CALLEE_J, CALLEE_G = 7.5, 0.25
#: ticks this near to a scrape may be the last one that it shows
LAG_S = 1.0
#: of both sources together
J_PER_CPU_S = 12.0
#: slashes inside a part of a key are doubled
KEYS = {"joules": "//ask", "few": "", "watch": ""}
#: of a CPU-second: 10 J by the CPU, measured, and 2 J by the memory, modelled
PARTS = {("cpu", "measured"): 10 / 12, ("dram", "modelled"): 2 / 12}


def one(value: float, **labels: str) -> Series:
    """A single series; a label without a value is none."""
    return {frozenset((name, text) for name, text in labels.items() if text): value}


def many(series: Iterable[Series]) -> Series:
    """Several series as one answer."""
    return {labels: value for each in series for labels, value in each.items()}


class Truth:
    """The sums of one run between its first scrape and its last; ``panels`` holds each panel's series, by title."""

    def __init__(self, run: Run) -> None:
        self.run, self.w = run, run.seconds
        self.readings = [r for r in run.of("reading") if r["route"] in MODELS and r["started_at"] > run.begun_s]
        self.ok = [r for r in self.readings if r["parent"] is None and r["outcome"] == "ok"]
        self.asked = {path: run.answers[path, 200] for path in QUALITY}
        self.refused = run.answers["/few", 429]
        self.calls = [call for call in run.of("call") if call["started_at"] > run.begun_s]
        self.panels = {**self.power(), **self.requests(), **self.budgets(), **self.impact(), **self.elsewhere()}

    def sum(self, field: str, key: Callable[[dict[str, Any]], Any] = lambda r: None) -> dict[Any, float]:
        """Sum of a field of readings, by what ``key`` says of each."""
        out: dict[Any, float] = defaultdict(float)
        for reading in self.readings:
            out[key(reading)] += reading[field]
        return dict(out)

    def is_told(self, joules: float, part: str = "energy_nj") -> bool:
        """Whether that is what the sources told from one tick before the first scrape to one before the last, to a ten-millionth.

        A scrape shows what the last tick had booked; on a busy machine that may be a while ago.
        """
        told = sorted((r["unix_s"], r[part]) for r in self.run.of("source"))
        sums = list(zip([at for at, _ in told], accumulate(nj for _, nj in told), strict=True))

        def seen(scrape_s: float) -> list[int]:
            return [nj for at, nj in sums if scrape_s - LAG_S < at < scrape_s + LAG_S]

        begun, ended = seen(self.run.begun_s), seen(self.run.ended_s)
        return any((last - first) / 1e9 == pytest.approx(joules, rel=1e-7) for first in begun for last in ended)

    def measured_share(self) -> float:
        """Of all joules that the sources told until the last scrape, those of the measured one."""
        told = [r for r in self.run.of("source") if r["unix_s"] <= self.run.ended_s]
        return float(sum(r["energy_nj"] for r in told if r["component"] == "cpu") / sum(r["energy_nj"] for r in told))

    def power(self) -> dict[str, list[Series]]:
        dynamic = self.sum("energy_dynamic_j", lambda r: (r["route"], r["model_served"] or "none"))
        whole, w = sum(dynamic.values()), self.w
        cpu = self.sum("cpu_s", lambda r: r["route"])
        routes = many(one(j / w, route=route, model=model) for (route, model), j in dynamic.items())
        parts = many(one(whole * share / w, component=name, tier=tier) for (name, tier), share in PARTS.items())
        return {
            "Sources up": [many(one(1, component=name, source=name) for name in ("cpu", "dram"))],
            "Workers": [one(WORKERS)],
            "Books": [one(0)],
            "Power by route and model": [routes],
            "Power by component and tier": [parts],
            "CPU in use": [many(one(s / w, route=route) for route, s in cpu.items())],
            "GPU in use": [{}],  # no GPU here: no series, and not 0
        }

    def requests(self) -> dict[str, list[Series]]:
        def mean(field: str) -> Series:
            rows: dict[str, list[float]] = defaultdict(list)
            for reading in self.ok:
                rows[reading["route"]].append(reading[field])
            return many(one(sum(v) / len(v), route=route, model=MODELS[route]) for route, v in rows.items())

        def p95(field: str, bounds: Sequence[float]) -> Series:
            of = {route: [r[field] for r in self.ok if r["route"] == route] for route in self.asked}
            return many(one(quantile(0.95, values, bounds), route=route) for route, values in of.items())

        w, joules = self.w, [r["inclusive_energy_full_j"] for r in self.ok]
        grams = self.sum("carbon_g", lambda r: r["route"])
        bounds = aggregates.ENERGY_BUCKETS_J
        buckets = many(one(sum(j <= bound for j in joules), le=str(float(bound))) for bound in bounds)
        answered = many(one(n / w, route=route, outcome="ok") for route, n in self.asked.items())
        tokens = (
            one(TOKENS[route][way] * n / w, model=MODELS[route], direction=("input", "output")[way])
            for route, n in self.asked.items()
            for way in (0, 1)
        )
        return {
            "Energy per request": [mean("inclusive_energy_full_j")],
            "Time per request": [mean("wall_s")],
            "Emissions per request": [many(one(grams[route] / n, route=route) for route, n in self.asked.items())],
            "Energy, 95th percentile": [p95("inclusive_energy_full_j", bounds)],
            "Time, 95th percentile": [p95("wall_s", aggregates.DURATION_BUCKETS_S)],
            "Energy of requests": [buckets | one(len(joules), le="+Inf")],
            "Requests by outcome": [answered | one(self.refused / w, route="/few", outcome="refused")],
            "Degraded, throttled and refused": [one(self.refused / w, budget="few", action="refuse")],
            "Tokens": [many(tokens)],
            "Faults of the meter": [many(one(0, stage=stage) for stage in STAGES)],
            "Beyond the cap, dropped": [many(one(0, set=name) for name in ("requests", "histograms")), one(0)],
        }

    def mean_energy(self) -> Series:
        """Mean energy of an answered request, by route and model."""
        (means,) = self.requests()["Energy per request"]
        return means

    def budgets(self) -> dict[str, list[Series]]:
        everything = [r for r in self.run.of("reading") if r["route"] == "/ask"]
        joules = sum(r["energy_dynamic_j"] for r in everything) / LIMIT_J
        fresh = sum(r["energy_dynamic_j"] for r in self.readings if r["route"] == "/ask") / LIMIT_J
        watched = float(self.asked["/ask"] + self.run.warmed)  # and those that were asked before the first scrape
        used = {"joules": joules, "few": 1.0, "watch": watched}
        share, left_s = self.month()

        def each(of: Callable[[str], float]) -> Series:
            return many(one(of(name), budget=name, resource=BUDGETS[name][0], key=KEYS[name]) for name in BUDGETS)

        settled = many(one(used[n], budget=n, resource=BUDGETS[n][0], key=KEYS[n], state="settled") for n in BUDGETS)
        decided = {
            ("joules", "admit"): self.asked["/ask"],
            ("few", "refuse"): self.refused,
        }
        names = tuple(BUDGETS)
        return {
            "Used in this window": [each(used.__getitem__)],
            "Pace": [each(lambda name: used[name] / share)],
            "Time to exhaustion": [one((1 - joules) / fresh * self.w, budget="joules", resource="energy", key=KEYS["joules"])],
            "Window ends in": [many(one(left_s, budget=name, resource=BUDGETS[name][0]) for name in names)],
            "Limits": [many(one(limit, budget=name, resource=what) for name, (what, limit) in BUDGETS.items())],
            "Use over time": [settled],
            "Decisions": [many(one(n / self.w, budget=name, action=action) for (name, action), n in decided.items())],
            "Share degraded or refused": [one(1.0, budget="few", action="refuse")],
            "Enforced": [
                many(
                    one(float(name != "watch"), budget=name, tier="modelled" if name == "joules" else "counted") for name in names
                )
            ],
            "Overrides in force": [many(one(0, budget=name) for name in names)],
            "Waiting": [one(0)],
            "Drawn for no whole answer": [one(0)],
            "Leases": [many(one(0, budget=name) for name in names)],
            "Store": [one(1, store="sqlite")],
            "Workers that share it": [one(WORKERS)],
            "Workers that decide alone": [one(0, policy="local")],
        }

    def elsewhere(self) -> dict[str, list[Series]]:
        asked = {path: self.run.answers[path, 200] for path in ("/away", "/away?third=1")}
        calls = {"mistral-small-latest": sum(asked.values()), "ours": sum(asked.values()), "nobody-knows": asked["/away?third=1"]}
        joules = {"sourced": sum(c["j"] for c in self.calls if c["tier"] == "sourced"), "measured": CALLEE_J * calls["ours"]}
        grams = CALLEE_G * calls["ours"] + sum(c["g"] for c in self.calls if c["tier"] == "sourced")
        unknown = one(calls["nobody-knows"], model="nobody-knows")
        return {
            "Power spent elsewhere": [many(one(j / self.w, tier=tier) for tier, j in joules.items())],
            "Calls elsewhere": [many(one(n / self.w, model=model) for model, n in calls.items())],
            "Calls of unknown cost": [one(1.0, model="nobody-knows")],
            "Energy elsewhere": [many(one(j / J_PER_KWH, tier=tier) for tier, j in joules.items())],
            "Emissions elsewhere": [one(grams / 1000, job="kit")],
            "Energy of one call, by model": [
                one(joules["sourced"] / calls["mistral-small-latest"], model="mistral-small-latest") | one(CALLEE_J, model="ours")
            ],
            "Calls without a known cost": [unknown],
        }

    def month(self) -> tuple[float, float]:
        """Share of the month gone by at the last scrape, and seconds left of it, on a Paris clock."""
        now = datetime.fromtimestamp(self.run.ended_s, ZoneInfo("Europe/Paris"))
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        begun, ended = first.timestamp(), after.timestamp()
        return (self.run.ended_s - begun) / (ended - begun), ended - self.run.ended_s

    def impact(self) -> dict[str, list[Series]]:
        (dynamic,) = self.sum("energy_dynamic_j").values()
        (full,) = self.sum("energy_full_j").values()
        (grams,) = self.sum("carbon_g").values()
        chosen = factor("FR")
        operational = full * PUE * chosen.grams_per_joule
        units = 2.0 * sum(self.asked.values())
        by_model = self.sum("energy_dynamic_j", lambda r: r["model_served"] or "none")
        scopes = {"operational": operational, "embodied": grams - operational}
        per_token = (
            one(by_model[MODELS[route]] / (TOKENS[route][1] * n), model=MODELS[route]) for route, n in self.asked.items()
        )
        factor_in_force = one(chosen.grams_per_kwh, zone="FR", dataset=chosen.dataset, year=str(chosen.year), scope=chosen.scope)
        return {
            "Energy of requests, dynamic": [one(dynamic / J_PER_KWH, job="kit")],
            "Energy of requests, full": [one(full / J_PER_KWH, job="kit")],
            "Emissions of requests": [one(grams / 1000, job="kit")],
            "Energy by period": [one(full / J_PER_KWH, job="kit")],
            "Emissions by period": [many(one(g, job="kit", scope=scope) for scope, g in scopes.items())],
            "Operational and embodied": [many(one(g, scope=scope) for scope, g in scopes.items())],
            "Units delivered": [one(units, unit="answer")],
            "Energy per unit": [one(full / units, unit="answer")],
            "Emissions per unit": [one(grams / units, unit="answer")],
            "Dynamic energy per output token": [many(per_token)],
            "Energy of one request, by model": self.requests()["Energy per request"],
            "Quality, by model": [many(one(q, route=route, model=MODELS[route]) for route, q in QUALITY.items())],
            "Energy per point of quality, by model": [
                many(one(j / QUALITY[dict(labels)["route"]], **dict(labels)) for labels, j in self.mean_energy().items())
            ],
            "Energy by model": [many(one(j, model=model) for model, j in by_model.items())],
            "Measured share of requests' energy": [one(10 / 12)],
            "Factor in force, g CO2e per kWh": [factor_in_force],
            "PUE": [one(PUE, source="declared by the operator")],
            "Method": [one(1, method="cpu-time/1+synthetic/1", factor="ember:FR:2024", boundary="cpu+memory")],
        }


def quantile(q: float, values: Sequence[float], bounds: Sequence[float]) -> float:
    """The quantile as far as buckets tell it: linear inside the bucket that holds it, as in Prometheus's documentation."""
    wanted, below, low = q * len(values), 0, 0.0
    for bound in bounds:
        inside = sum(low < value <= bound for value in values)
        if below + inside >= wanted:
            return low + (bound - low) * (wanted - below) / inside
        below, low = below + inside, bound
    return low
