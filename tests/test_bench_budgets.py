"""The budget benchmark, in small: budgets hold on the virtual clock, and through four processes on a real store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from redis_server import RedisServer

ROOT = Path(__file__).parent.parent


def test_a_small_run_overshoots_nowhere_that_the_cost_is_known_and_writes_its_report(tmp_path: Path) -> None:
    small = ["--seeds", "3", "--live-seeds", "0", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/budgets.py"), *small, "--out", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "budgets.json").read_text(encoding="utf-8"))
    for title, rows in found["virtual"].items():
        assert rows["ours, true cost known"]["over_most"] <= 0
        assert rows["ours, true cost known"]["wasted_j"] == 0
        debited = rows["`limits`, debit afterwards"]["over_median"]
        assert debited > (200 if "200" in title else 5), "or this run would prove nothing"
    for rows in found["by_size"].values():
        of_all, of_its_size = rows["ours, p90 of all"], rows["ours, p90 of its size"]
        assert of_its_size["completed"] > of_all["completed"]
        assert abs(of_its_size["over_median"]) < abs(of_all["over_median"]), "the size is told, and worth nothing"
    if shutil.which("redis-server"):
        assert found["prices"]["PING"]["median_us"] > 0
    assert "| ours, memory |" in (tmp_path / "budgets.md").read_text(encoding="utf-8")


def test_four_processes_on_one_redis_use_up_the_budget_and_no_more(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    import budgets_live

    (run,) = budgets_live.burst(redis_server.url, "known", range(1), 0.5)
    assert -0.2 < run.over <= 0
    assert run.completed >= 30
    assert run.wasted_j == 0
