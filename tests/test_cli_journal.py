"""``frugal-meter journal``: figures, checks, exports and deletion, read back by the tools that they are for."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import msgspec
import pytest
import yaml
from clause_house import a_pass, a_reading, fill
from typer.testing import CliRunner

from frugal_meter.cli.app import app
from frugal_meter.journal import sqlite
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


READERS = {
    "info": ["journal", "info", "FILE"],
    "verify": ["journal", "verify", "FILE"],
    "period": ["journal", "period", "FILE"],
    "export": ["journal", "export", "FILE"],
    "explain": ["explain", "01a2023f-d27e-7634-a1fa-bbc400000001", "--from", "FILE"],
    "compare": ["compare", "FILE", "FILE"],
    "clauses": ["clauses", "check", "CLAUSES", "--journal", "FILE"],
}


def commanded(path: Path, words: list[str]) -> tuple[int, str]:
    """Exit code and everything that a command says, with the journal for FILE and clauses of a day long past for CLAUSES."""
    clauses = path.parent / "clauses.toml"
    clauses.write_text("[[period]]\nbegin=2020-01-01\nend=2020-01-02\n[[clause]]\nfigure='measured'\nat_least=0.5\n")
    done = CliRunner().invoke(app, [{"FILE": str(path), "CLAUSES": str(clauses)}.get(word, word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_every_command_refuses_a_newer_journal_in_one_line(kept: tuple[Path, list[Reading]], words: list[str]) -> None:
    db = sqlite3.connect(kept[0])
    db.execute("PRAGMA user_version = 9")
    db.close()
    code, output = commanded(kept[0], words)
    assert code == 2
    assert "was written by a newer frugal-meter (layout 9, this one knows 1)" in output
    assert output.count("\n") == 1


@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_every_command_says_of_a_journal_whose_end_is_missing_what_can_be_saved_and_how(
    kept: tuple[Path, list[Reading]], words: list[str]
) -> None:
    os.truncate(kept[0], 3 * 8192)  # its layout and not much more
    before = kept[0].read_bytes()
    code, output = commanded(kept[0], words)
    assert code == (1 if words[1] in ("verify", "export") else 2)
    last = output.splitlines()[-1]
    assert "save what is left with frugal-meter journal export" in last
    assert words[1] == "export" or output.count("\n") == 1
    assert kept[0].read_bytes() == before


def test_a_journal_that_somebody_writes_is_read_and_not_purged(
    kept: tuple[Path, list[Reading]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.01)
    other = sqlite3.connect(kept[0], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for name, words in READERS.items():
        code, output = commanded(kept[0], [kept[1][0].id if word.startswith("01a") else word for word in words])
        assert code == (3 if name == "clauses" else 0), output
    code, output = commanded(kept[0], ["journal", "purge", "FILE", "--before", "2100-01-01"])
    other.execute("ROLLBACK")
    other.close()
    assert code == 2
    assert "database is locked" in output
    assert output.count("\n") == 1
    assert json.loads(run("info", kept[0]))["readings"] == 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["export", "FILE", "--out", "OUT"], "cannot be written (File too large)"),
        (["purge", "FILE", "--before", "2100-01-01"], "is full"),
    ],
)
def test_a_full_disk_is_one_line_and_loses_nothing(words: list[str], says: str, tmp_path: Path) -> None:
    """Full by RLIMIT_FSIZE, in a process of its own: the limit is the process's. SQLite itself needs 32 kB to read."""
    path, out = tmp_path / "journal.db", tmp_path / "out.jsonl"
    fill(str(path), [a_reading(number) for number in range(200)], [a_pass(1000)])
    given = [{"FILE": str(path), "OUT": str(out)}.get(word, word) for word in words]
    script = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (33_000, resource.RLIM_INFINITY))
from frugal_meter.cli.app import app
app(["journal", *{given!r}])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert json.loads(run("info", path))["readings"] == 200
