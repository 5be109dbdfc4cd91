"""The face: the names, signatures and attributes that others rely on, and an import that costs little and does nothing."""

from __future__ import annotations

import inspect
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import frugal_meter
from frugal_meter import Budget, Meter, MeterMiddleware, Reading, Tick, testing

FACE = Path(frugal_meter.__file__)
#: the contract: a name leaves this list only with a major version
NAMES = ["Budget", "Exporter", "Factor", "FrugalMeterError", "Meter", "MeterMiddleware", "Pue", "Reading", "Tick"]
#: libraries that an import of the package has no need of
HEAVY = {
    *(
        "prometheus_client",
        "starlette",
        "anyio",
        "uvicorn",
        "fastapi",
        "httpx",
        "typer",
        "rich",
        "pynvml",
        "codecarbon",
        "opentelemetry",
    ),
    *("redis", "sklearn", "numpy", "pandas", "grafana_client", "ecologits", "asyncio", "importlib.metadata"),
}
MOST_IMPORT_MS = 150.0
RUNS = 7

required = inspect.Parameter.empty


def run(code: str, **environment: str) -> str:
    """Standard output of a bare interpreter that runs ``code``, warnings as errors."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FRUGAL_")} | environment
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- names and signatures


def test_the_face_shows_the_contract_sorted_and_nothing_else() -> None:
    assert frugal_meter.__all__ == sorted(frugal_meter.__all__) == NAMES
    assert all(getattr(frugal_meter, name).__name__ == name for name in NAMES)
    space: dict[str, Any] = {}
    exec("from frugal_meter import *", space)
    assert sorted(space.keys() - {"__builtins__"}) == NAMES


def test_the_face_is_one_screen() -> None:
    assert len(FACE.read_text(encoding="utf-8").splitlines()) <= 45


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Metre'"):
        _ = frugal_meter.Metre


def signature(function: Any) -> dict[str, Any]:
    """Parameters but self and their defaults; ``required`` for none."""
    return {name: each.default for name, each in inspect.signature(function).parameters.items() if name != "self"}


def keyword_only(function: Any) -> set[str]:
    return {name for name, each in inspect.signature(function).parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY}


def test_the_signature_of_a_meter_is_the_contract() -> None:
    given = signature(Meter)
    contract = {
        **{"service": required, "zone": None, "sources": "auto", "budgets": (), "exporters": (), "journal": None, "tick": 0.5},
        **{"pue": None, "tenant": None, "host_share": None},
    }
    assert {name: given[name] for name in contract} == contract
    assert keyword_only(Meter) == given.keys() - {"service"}


def test_the_signature_of_a_budget_is_the_contract() -> None:
    assert signature(Budget) == {
        **{"name": required, "limit": required, "per": required, "key": None, "match": None, "estimate": None},
        **{"warn_at": 0.7, "degrade_at": 0.8, "throttle_at": None, "max_in_flight": None, "hard": False, "enforce": True},
        **{"require_tier": None, "basis": "dynamic", "timezone": "Europe/Paris"},
        **{"min_quality": None, "fallback_url": None},
        **{"throttle_wait": 10.0, "max_fraction": 1.0, "sliding": False, "scope": "cluster"},
    }
    assert keyword_only(Budget) == signature(Budget).keys() - {"name", "limit"}


def test_the_methods_of_a_meter_are_the_contract() -> None:
    measured = ("name", "model", "fallback", "unit", "tenant", "estimate", "size", "min_quality")
    assert signature(Meter.measure) == dict.fromkeys(measured)
    assert signature(Meter.ops_app) == {"token": None, "public": False}
    assert signature(Meter.carry) == {"fn": required}
    assert list(signature(MeterMiddleware)) == ["app", "meter"]
    for method in (Meter.start, Meter.stop, Meter.current):
        assert signature(method) == {}
    assert "path" in signature(Meter.from_config)
    inspect.signature(Meter.settle).bind(None)  # needs nothing


def test_what_a_span_offers_is_the_contract() -> None:
    with Meter("face", zone="FR", sources=testing.SyntheticSource(1, 1), tick=60) as meter, meter.measure("block") as span:
        assert meter.current() is span
        assert signature(span.add_tokens).keys() >= {"input", "output"}
        assert next(iter(signature(span.add_units))) == "count"
        assert signature(span.quality) == {"score": required, "metric": None}
        assert signature(span.section)["weight"] == 1
        assert signature(span.identify) == {"model": None, "tenant": None, "route": None}
        assert isinstance(span.reading, Reading)
        assert isinstance(span.reading.settled, bool)
    assert meter.current() is None


READING = """id service route method status outcome tenant model_requested model_served wall_s cpu_s gpu_s tokens_in tokens_out
unit units quality energy_dynamic_j energy_full_j energy_low_j energy_high_j energy_remote_j tier measured_share boundary carbon_g
carbon_low_g carbon_high_g factor_ids method_id decision settled"""
TICK = "source t0_ns t1_ns energy_nj idle_nj requests_nj late_nj overhead_nj other_nj gap_nj idle_requests_nj overhead_parts"


@pytest.mark.parametrize(("record", "names"), [(Reading, READING), (Tick, TICK)], ids=["Reading", "Tick"])
def test_records_are_frozen_and_carry_the_attributes_of_the_contract(record: Any, names: str) -> None:
    assert set(names.split()) <= set(record.__struct_fields__)
    assert record.__struct_config__.frozen


def test_the_doubles_that_ship_are_the_contract() -> None:
    assert {"SyntheticSource", "RecordingExporter", "FrozenClock", "PowercapTree", "ProcTree", "CgroupTree"} == set(
        testing.__all__
    )
    assert {"idle_watts", "watts_per_cpu", "tier", "power"} <= signature(testing.SyntheticSource).keys()
    out = testing.RecordingExporter()
    assert (out.readings, out.ticks) == ([], [])


def test_errors_derive_from_one_and_the_star_import_brings_it() -> None:
    from frugal_meter import errors

    raised = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, Exception)]
    assert len(raised) > 5
    assert all(issubclass(each, frugal_meter.FrugalMeterError) for each in raised)


# -- what an import does, and costs

WATCH = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event in ("socket.__new__", "_thread.start_new_thread") else None)
{code}
import json, os, threading
print(json.dumps({{"modules": sorted(sys.modules), "seen": seen, "threads": threading.active_count()}}))
"""


def after(code: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(WATCH.format(code=code)))
    return found


def test_an_import_brings_no_extra_and_no_server_library() -> None:
    found = after("import frugal_meter")
    brought = {name for name in found["modules"] if name in HEAVY or name.partition(".")[0] in HEAVY}
    assert brought == set()


def test_a_meter_is_imported_without_any_extra() -> None:
    found = after("from frugal_meter import Budget, Meter, MeterMiddleware, testing")
    extras = HEAVY - {"asyncio", "importlib.metadata", "anyio"}
    assert {name.partition(".")[0] for name in found["modules"]} & extras == set()


@pytest.mark.parametrize("code", ["import frugal_meter", "from frugal_meter import *"])
def test_an_import_starts_no_thread_and_opens_no_socket(code: str) -> None:
    found = after(code)
    assert (found["seen"], found["threads"]) == ([], 1)


def test_a_meter_that_was_made_has_started_nothing_and_registered_nothing() -> None:
    code = (
        "import prometheus_client\n"
        "before = list(prometheus_client.REGISTRY.collect())\n"
        "from frugal_meter import Meter\n"
        "meter = Meter('face', zone='FR')\n"
        "assert [m.name for m in prometheus_client.REGISTRY.collect()] == [m.name for m in before]"
    )
    found = after(code)
    assert (found["seen"], found["threads"]) == ([], 1)


def cost_ms(code: str) -> float:
    """CPU (user and system) of a bare interpreter that runs ``code``: its wall time on a machine with nothing else to do."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return 1000 * (usage.ru_utime + usage.ru_stime)


def test_an_import_costs_little(capsys: pytest.CaptureFixture[str]) -> None:
    """Interleaved with an interpreter that imports nothing, medians compared."""
    codes = ["pass", "import frugal_meter", "from frugal_meter import Meter, MeterMiddleware"]
    runs = [[cost_ms(code) for code in codes] for _ in range(RUNS)]
    bare, face, meter = (statistics.median(column) for column in zip(*runs, strict=True))
    with capsys.disabled():
        print(f"\n  import frugal_meter {face - bare:.0f} ms, with Meter and MeterMiddleware {meter - bare:.0f} ms")
    assert face - bare < MOST_IMPORT_MS
    assert meter > face  # the names are looked up when asked for, not before
