"""The power model against published measurements of servers that it was not fitted to."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from statistics import median
from types import ModuleType

import pytest

from frugal_meter.sources.cpu_table import load_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "tests" / "data"


@pytest.fixture(scope="module")
def evidence() -> ModuleType:
    """The benchmark, imported as it is run: from its own folder."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return import_module("power_model")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_the_table_is_the_one_that_its_builder_makes_of_the_data(tmp_path):
    subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "build_cpu_table.py", "--out", tmp_path], check=True, capture_output=True
    )
    for name in ("cpu_watts.json", "cpu_watts.json.sha256"):
        assert (tmp_path / name).read_bytes() == (ROOT / "frugal_meter" / "sources" / "data" / name).read_bytes()


def test_no_maker_whose_servers_are_tested_was_fitted_to(evidence):
    results, curves = evidence.held_out()
    tested = {result["maker"] for result in (*results, *curves)}
    assert tested
    assert not tested & set(load_table().fitted_makers)
    for origin in load_table().origins:
        assert hashlib.sha256((RESULTS / origin.file).read_bytes()).hexdigest() == origin.file_sha256


def test_a_server_of_the_tested_half_does_not_move_the_table(evidence):
    """Doubling the watts of every held-out server leaves the table as it is, to the last digit."""
    builder = sys.modules["build_cpu_table"]
    files = [builder.read(name) for name in builder.FILES]
    makers = builder.fitted_makers(files[0])
    before = json.dumps(builder.build(*files))
    for result in (result for file in files for result in file if result["maker"] not in makers):
        result.update({level: str(2 * float(result[level])) for level in builder.LEVELS if level in result})
    assert json.dumps(builder.build(*files)) == before


def test_the_data_are_power_that_rises_with_load():
    for row in _rows("specpower_curves.csv"):
        watts = [float(value) for key, value in row.items() if key.startswith("w") or key.endswith("_w")]
        assert watts == sorted(watts), row["result"]
    for row in _rows("specpower_idle_full.csv"):
        assert 0 < float(row["idle_w"]) < float(row["full_w"])
        assert int(row["cores"]) % int(row["chips"]) == 0, row["result"]


def test_nine_published_powers_in_ten_lie_inside_the_interval_and_four_in_five_of_each_family(evidence):
    found = evidence.in_table()
    groups = evidence.by_group(found)
    assert len(found) >= 500
    assert evidence.coverage(found) >= 0.90
    assert {family for family, points in groups.items() if evidence.coverage(points) < 0.80} == set()
    assert "ivy-bridge" in groups, "a generation that shares a row is held by itself"
    assert set(load_table().rows) - set(groups) == {"amd-epyc-5th-gen"}


def test_high_is_at_most_four_times_low_for_a_cpu_in_the_table(evidence):
    found = evidence.in_table()
    assert median(point.width for point in found) <= 4
    for family, points in evidence.by_group(found).items():
        assert median(point.width for point in points) <= 4.05, family


def test_no_row_is_surer_of_itself_than_all_rows_together(evidence):
    """A few servers that agree prove little: makers that were left out of the fit lay outside too often."""
    rows = load_table().rows.values()
    narrowest = min(row.idle_sd for row in rows), min(row.full_sd for row in rows)
    pooled = _pooled(evidence, "idle"), _pooled(evidence, "full")
    assert all(sd >= spread for sd, spread in zip(narrowest, pooled, strict=True))
    assert evidence.coverage(evidence.left_out()) >= 0.85


def test_the_middle_of_the_model_is_not_off_to_one_side(evidence):
    assert abs(median(point.error for point in evidence.in_table())) < 0.1


@pytest.mark.parametrize(("known", "widest"), [("guest", 8), ("relative", 8), ("vendor", 8), ("unknown", 8)])
def test_a_cpu_known_only_by_its_family_vendor_or_not_at_all_is_held_by_a_wider_interval(strangers, evidence, known, widest):
    points = strangers[known]
    assert evidence.coverage(points) >= 0.90
    assert median(point.width for point in points) <= widest
    assert median(point.width for point in points) > median(point.width for point in evidence.in_table())


@pytest.fixture(scope="module")
def strangers(evidence):
    return evidence.strangers()


def test_the_tables_in_the_documentation_are_those_of_this_model(evidence):
    text = (ROOT / "docs" / "method.md").read_text()
    told = text.partition(evidence.BEGIN)[2].partition(evidence.END)[0].strip()
    assert told == evidence.render(), "run: python benchmarks/power_model.py --write"


def _pooled(evidence: ModuleType, name: str) -> float:
    """Spread of one row's servers around their row, all rows of the fitted half together."""
    builder, rows = sys.modules["build_cpu_table"], load_table().rows
    makers, squares, freedom = load_table().fitted_makers, 0.0, -len(rows)
    for result in builder.read(builder.FILES[0]):
        if result["maker"] in makers and (key := builder.row_of(result)):
            row, size = rows[key], builder.threads_per_socket(result) / rows[key].threads_per_socket
            mid = getattr(row, f"{name}_w") * size ** getattr(row, f"{name}_exponent")
            squares += math.log(builder.per_socket(result, f"{name}_w") / mid) ** 2
            freedom += 1
    return math.sqrt(squares / freedom)


def _rows(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(newline="") as handle:
        return list(csv.DictReader(handle))
