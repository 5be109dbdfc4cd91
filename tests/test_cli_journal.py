"""``frugal-meter journal``: figures, checks, exports and deletion, read back by the tools that they are for."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import duckdb
import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from frugal_meter.cli.app import app
from frugal_meter.records import Reading
from tests.support import burn, metered


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, list[Reading]]:
    path = tmp_path / "journal.db"
    with metered(journal=f"sqlite:///{path}") as (meter, out):
        for _ in range(6):
            with meter.measure("answer", model="=cmd()", unit="answer") as span:
                span.add_units(1)
                burn(0.002)
        meter.settle()
        meter.feedback(out.readings[0].id, 0.5)
    return path, out.readings


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["journal", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_info_and_verify_tell_what_there_is(kept: tuple[Path, list[Reading]]) -> None:
    told = json.loads(run("info", kept[0]))
    assert (told["readings"], told["feedback"], told["lost_readings"]) == (6, 1, 0)
    assert "sound" in run("verify", kept[0], "--lang", "en")


def test_books_that_somebody_changed_are_found(kept: tuple[Path, list[Reading]]) -> None:
    db = sqlite3.connect(kept[0])
    db.execute("""UPDATE passes SET books = replace(books, '"energy_nj":', '"energy_nj":1')""")
    db.commit()
    db.close()
    assert "do not close" in run("verify", kept[0], code=1)


@pytest.mark.parametrize(("lang", "mean"), [("fr", "pendant son traitement"), ("en", "while it ran")])
def test_the_figure_to_cite_stands_beside_the_mean_while_it_ran(kept: tuple[Path, list[Reading]], lang: str, mean: str) -> None:
    text = run("period", kept[0], "--unit", "answer", "--lang", lang)
    assert mean in text
    told = json.loads(run("period", kept[0], "--unit", "answer", "--json"))
    assert told["units"] == 6
    assert told["per_unit_j"]["mid"] == pytest.approx(told["total_nj"] / 1e9 / 6)
    assert told["quality"] == 0.5


def test_a_small_period_is_not_made_public(kept: tuple[Path, list[Reading]]) -> None:
    assert json.loads(run("period", kept[0], "--public", "--json"))["requests"] == 6
    begin = json.loads(run("info", kept[0]))["begin"]
    assert "fewer than 5" in run("period", kept[0], "--public", "--begin", "2020-01-01", "--end", begin, code=2)


def test_json_lines_hold_readings_whole(kept: tuple[Path, list[Reading]]) -> None:
    lines = [json.loads(line) for line in run("export", kept[0]).splitlines() if line.startswith("{")]
    readings = [msgspec.convert(line, Reading) for line in lines if line["type"] == "reading"]
    assert readings == sorted(kept[1], key=lambda reading: reading.id)
    drawn = [line for line in lines if line["type"] == "pass" and line["spans"]]
    assert sum(sum(p["spans"]["synthetic"][0].values()) for p in drawn) == round(sum(r.energy_dynamic_j for r in readings) * 1e9)


def test_csv_has_a_column_per_field_and_no_formula(kept: tuple[Path, list[Reading]], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    run("export", kept[0], "--format", "csv", "--out", out)
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert [row["id"] for row in rows] == sorted(reading.id for reading in kept[1])
    assert {row["model_served"] for row in rows} == {"'=cmd()"}
    assert {row["tokens_in"] for row in rows} == {""}
    assert out.stat().st_mode & 0o777 == 0o600


def test_parquet_is_read_back_by_duckdb(kept: tuple[Path, list[Reading]], tmp_path: Path) -> None:
    out = tmp_path / "parquet"
    run("export", kept[0], "--format", "parquet", "--out", out)
    query = (
        f"SELECT count(*), sum(energy_full_j), min(day)::VARCHAR FROM read_parquet('{out}/*/*.parquet', hive_partitioning = true)"
    )
    ((count, joules, day),) = duckdb.sql(query).fetchall()
    assert count == 6
    assert joules == pytest.approx(sum(reading.energy_full_j for reading in kept[1]))
    assert [folder.name for folder in out.iterdir()] == [f"day={day}"]
    assert "is there already" in run("export", kept[0], "--format", "parquet", "--out", out, code=2)


def test_the_impact_framework_manifest_sums_to_the_period(kept: tuple[Path, list[Reading]], tmp_path: Path) -> None:
    out = tmp_path / "manifest.yml"
    run("export", kept[0], "--format", "gsf", "--out", out)
    inputs = yaml.safe_load(out.read_text(encoding="utf-8"))["tree"]["children"]["service"]["inputs"]
    told = json.loads(run("period", kept[0], "--json"))
    assert sum(each["carbon"] for each in inputs) == pytest.approx(told["carbon_g"]["mid"])
    assert all(each["duration"] > 0 for each in inputs)


def test_purging_says_what_went(kept: tuple[Path, list[Reading]]) -> None:
    assert json.loads(run("purge", kept[0], "--before", "2020-01-01"))["readings"] == 0
    gone = json.loads(run("purge", kept[0], "--before", "2100-01-01"))
    assert (gone["readings"], gone["feedback"]) == (6, 1)
    assert "is empty" in run("period", kept[0], code=2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["info", "nowhere.db"], "there is no such file"),
        (["purge", "nowhere.db", "--before", "2026-01-01"], "there is no such file"),
        (["purge", "FILE", "--before", "yesterday"], "is no moment"),
        (["export", "FILE", "--format", "xml"], "is none of"),
        (["export", "FILE", "--format", "parquet"], "--out"),
        (["export", "FILE", "--out", "FILE"], "is there already"),
        (["period", "FILE", "--begin", "2030-01-01", "--end", "2020-01-01"], "ends before it begins"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], says: str, kept: tuple[Path, list[Reading]]) -> None:
    before = kept[0].read_bytes()
    output = run(*[str(kept[0]) if word == "FILE" else word for word in words], code=2)
    assert says in output
    assert output.strip().count("\n") == 0
    assert kept[0].read_bytes() == before
