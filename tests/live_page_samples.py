"""States of the live page worth looking at: busy, just started, without any joules, hostile, and with endless names."""

from __future__ import annotations

from typing import Any

import msgspec

from frugal_meter.exporters.live_page import BudgetState, FactorLine, LiveState, SourceState
from frugal_meter.records import Interval, Reading

AT = 1_795_000_000.0  # 18 November 2026, 11:06:40 UTC


def reading(n: int = 0, **changes: Any) -> Reading:
    base: dict[str, Any] = {
        "id": f"r{n}", "service": "accueil-usagers", "started_at": AT - 2 * n, "route": "/demarches/{theme}", "method": "POST",
        "status": 200, "outcome": "ok", "tenant": "mairie-secrete", "model_requested": "gemma-3-270m",
        "model_served": "gemma-3-270m", "wall_s": 2.4, "cpu_s": 2.1 + n / 7, "gpu_s": None, "tokens_in": 412,
        "tokens_out": 96, "unit": "answer", "units": 1.0, "quality": None, "quality_metric": None,
        "energy_dynamic_j": 14.2 + n, "energy_full_j": 21.7 + n, "energy_low_j": 10.1 + n / 2, "energy_high_j": 38.9 + 2 * n,
        "energy_remote_j": None, "tier": "modelled", "measured_share": 0.0, "boundary": ("cpu", "dram"),
        "carbon_g": 0.00031 * (n + 1), "carbon_low_g": 0.00012 * (n + 1), "carbon_high_g": 0.00071 * (n + 1),
        "factor_ids": ("ember:FRA:2024",), "method_id": "cpu-time/1",
        "idle_source": "model", "decision": "admit", "settled": n > 0,
    }  # fmt: skip
    return Reading(**base | changes)


FRUGAL = {"model_served": "tfidf", "cpu_s": 0.0021, "energy_dynamic_j": 0.014, "energy_full_j": 0.019, "energy_low_j": 0.008,
          "energy_high_j": 0.036, "carbon_g": 3.1e-7, "carbon_low_g": 1.1e-7, "carbon_high_g": 7e-7,
          "tokens_in": None, "tokens_out": None}  # fmt: skip
REFUSED = {"status": 429, "outcome": "refused", "decision": "refuse", "model_served": None, "cpu_s": 0.0004} | dict.fromkeys(
    ("energy_dynamic_j", "energy_full_j", "energy_low_j", "energy_high_j", "carbon_g", "carbon_low_g", "carbon_high_g",
     "tokens_in", "tokens_out", "tier")
)  # fmt: skip


def busy(**changes: Any) -> LiveState:
    """A service in the middle of its day: thirty requests of every kind, three budgets, three sources."""
    kinds: tuple[dict[str, Any], ...] = (
        {}, FRUGAL | {"decision": "degrade"}, {"decision": "warn", "tier": "measured"}, REFUSED,
        {"outcome": "client_disconnect", "status": None, "gpu_s": 0.42}, FRUGAL | {"model_requested": "tfidf", "decision": None},
    )  # fmt: skip
    state = LiveState(
        service="accueil-usagers", zone="FR", at=AT, since=AT - 86_400,
        watts_now=Interval(10.2, 14.1, 21.4), watts_tier="modelled", window_s=10.0,
        buckets_j={"requests": 4210.5, "late": 212.0, "overhead": 388.2, "other": 1650.0, "idle": 9120.9, "gap": 40.0},
        bounds_j={"total": Interval(9800.0, 15621.6, 24100.0), "requests": Interval(2100.0, 4210.5, 7900.0)},
        account_tier="modelled", off_nj=0,
        sources=(
            SourceState(name="model:cpu", component="cpu", tier="modelled", up=True, watts=11.9, bounds=Interval(8.1, 11.9, 18.0),
                        provenance="Idle and full-load watts per microarchitecture, 2024, Apache-2.0"),
            SourceState(name="model:dram", component="dram", tier="modelled", up=True, watts=2.2, bounds=Interval(1.4, 2.2, 3.9),
                        provenance="0.38 W per GB, 2021, Apache-2.0"),
            SourceState(name="nvml:GPU-3f1e", component="gpu", tier="measured", up=False, watts=None,
                        provenance="NVML total energy counter"),
        ),
        requests=tuple(reading(n, **kinds[n % len(kinds)]) for n in range(30)),
        budgets=(
            BudgetState(name="chat", key=None, unit="J", limit=50_000.0, settled=41_200.0, reserved=900.0, window="day",
                        resets_at=AT + 43_000, level="degrade", enforced=True, tier="modelled",
                        bounds=Interval(2e4, 41_200.0, 8e4), dynamic=True),
            BudgetState(name="carbone", key="model", unit="gCO2e", limit=20.0, settled=3.2, reserved=0.0, window="month",
                        resets_at=None, level="ok", enforced=True, tier="modelled",
                        match={"route": "/demander", "model": "gemma-*"}),
            BudgetState(name="essai", key="tenant", unit="requests", limit=1000.0, settled=1120.0, reserved=0.0, window="hour",
                        resets_at=AT + 600, level="refuse", enforced=False, tier=None),
        ),
        factor=FactorLine(zone="FR", grams_per_kwh=33.0, dataset="Ember yearly electricity data", year=2024, licence="CC BY 4.0",
                          bounds=Interval(31.0, 33.0, 98.0)),
        pue=Interval(1.1, 1.5, 2.0), method_id="cpu-time/1+power-model/3", flags=("pue:default", "interval:expert-assumption"),
        meter_cpu_share=0.0042,
    )  # fmt: skip
    return msgspec.structs.replace(state, **changes)


def quiet() -> LiveState:
    """A service that has just started."""
    return busy(requests=(), budgets=(), buckets_j=dict.fromkeys(busy().buckets_j, 0.0), bounds_j={}, meter_cpu_share=None)


def blind() -> LiveState:
    """A machine where nothing gives joules: every figure that can be unknown is."""
    nothing = dict.fromkeys(k for k in reading().__struct_fields__ if "energy" in k or "carbon" in k) | {
        "gpu_s": None, "tier": None, "route": None, "method": None, "decision": None,
        "model_served": None, "model_requested": None,
    }  # fmt: skip
    budget = msgspec.structs.replace(busy().budgets[0], settled=None, reserved=None, tier=None, enforced=False, level="ok")
    return busy(
        watts_now=None, watts_tier=None, window_s=None, buckets_j={}, bounds_j={}, account_tier=None, off_nj=None, sources=(),
        requests=tuple(reading(n, **nothing) for n in range(3)), budgets=(budget,), factor=None, meter_cpu_share=None,
    )  # fmt: skip


EVIL = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">"\'&'


def hostile() -> LiveState:
    """Every text that a stranger could choose holds markup."""
    b = busy()
    return busy(
        service=EVIL, zone=EVIL, pue=EVIL, method_id=EVIL, flags=(EVIL,), buckets_j=dict(b.buckets_j) | {EVIL: 5.0},
        requests=(
            reading(0, route=EVIL, method=EVIL, model_requested=EVIL, model_served=EVIL + "2", outcome=EVIL, decision=EVIL),
        ),
        budgets=(msgspec.structs.replace(b.budgets[0], name=EVIL, key=EVIL, unit=EVIL, window=EVIL, level=EVIL,
                                      match={"route": EVIL, EVIL: EVIL}),),
        sources=(msgspec.structs.replace(b.sources[0], name=EVIL, component=EVIL, provenance=EVIL),),
        factor=FactorLine(zone=EVIL, grams_per_kwh=1.0, dataset=EVIL, year=None, licence=EVIL),
    )  # fmt: skip


def endless() -> LiveState:
    """Names that no column is wide enough for."""
    long = "/v1/" + "tres-long-segment-de-route-sans-espace-" * 4 + "{identifiant}"
    return busy(
        service="service-numerique-d-accueil-des-usagers-de-la-communaute-d-agglomeration",
        requests=(reading(0, route=long, model_served="organisation/" + "m" * 120), reading(1, route="/" + "x" * 200)),
        budgets=(msgspec.structs.replace(busy().budgets[0], name="budget_" * 12, key="k" * 80),),
        sources=(msgspec.structs.replace(busy().sources[0], name="rapl:" + "intel-rapl-mmio:0:" * 6),),
    )


STATES = {"busy": busy, "quiet": quiet, "blind": blind, "hostile": hostile, "endless": endless}
