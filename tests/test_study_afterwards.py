"""A study out of a journal: the period figures of what was served, recomputable from its own folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from frugal_meter import Meter
from frugal_meter.cli.app import app
from frugal_meter.journal.sqlite import SqliteJournal
from frugal_meter.journal.writer import Journal
from frugal_meter.study import folder
from frugal_meter.study.results import Study, decoded
from frugal_meter.testing import SyntheticSource
from tests.support import burn, metered


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Six answers, one that failed, and calls to a model elsewhere."""
    path = tmp_path / "journal.db"
    reply = SimpleNamespace(model="mistral-small", usage=SimpleNamespace(prompt_tokens=12, completion_tokens=200))
    with metered(journal=f"sqlite:///{path}", host_share=0.5) as (meter, out):
        for n in range(6):
            with meter.measure("answer", model="tiny", unit="answer") as span:
                span.add_units(1)
                burn(0.002)
                if n % 2:
                    with meter.remote(model="mistral-small", provider="mistralai") as call:
                        call.note(reply)
        with pytest.raises(RuntimeError), meter.measure("answer"):
            burn(0.002)
            raise RuntimeError
        meter.settle()
        meter.feedback(out.readings[0].id, 0.5)
    return path


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["study", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def made(out: Path) -> Study:
    return decoded((out / "study.json").read_bytes())


def test_the_figure_to_cite_is_the_periods_own_with_what_was_spent_elsewhere(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run("from-journal", journal, "--out", out, "--unit", "answer", "--lang", "en")
    (as_run,) = made(out).variants
    period = json.loads(CliRunner().invoke(app, ["journal", "period", str(journal), "--unit", "answer", "--json"]).stdout)
    assert as_run.load.total_nj == period["total_nj"]
    assert as_run.in_use is not None
    assert as_run.in_use.own_j.mid == pytest.approx(period["per_unit_j"]["mid"], rel=1e-12)
    assert as_run.in_use.remote_j is not None
    assert as_run.in_use.energy_j.mid == pytest.approx(period["per_unit_j"]["mid"] + period["remote_j"] / 6, rel=1e-9)
    assert as_run.in_use.remote_g is not None
    assert as_run.in_use.remote_g.low < as_run.in_use.remote_g.mid < as_run.in_use.remote_g.high
    assert (as_run.requests, as_run.failed, as_run.load.units, as_run.tier) == (7, 1, 6.0, "sourced")
    assert as_run.quality is not None
    assert (as_run.quality.judged, as_run.quality.unjudged, as_run.quality.score.mid) == (1, 6, 0.5)
    assert as_run.year is None
    assert made(out).origin == "journal"


def test_a_third_party_recomputes_it(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    supposed = ("--per-year", "5000", "--source", "compteur de 2025")
    assert "per answer, at the declared use" in run(
        "from-journal", journal, "--out", out, "--unit", "answer", "--lang", "en", *supposed
    )
    command = [sys.executable, "-I", "-S", str(out / "recompute.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    study = made(out)
    assert {line.lever for line in study.sensitivity} == {"grid", "pue", "use"}
    (as_run,) = study.variants
    assert as_run.year is not None
    assert as_run.tested is not None
    assert as_run.year.energy_j.mid == pytest.approx(5000 * as_run.tested.energy_j.mid)
    assert "sound" in run("verify", out, "--lang", "en")
    assert "intègre" in run("verify", out, "--lang", "fr")


def test_what_was_rolled_up_into_hours_is_in_it(journal: Path, tmp_path: Path) -> None:
    keeper = SqliteJournal(journal)
    _, end_ns = keeper.info()["begin_ns"], keeper.info()["end_ns"]
    keeper.roll_up(end_ns + 2 * 3600 * 10**9)
    keeper.close()
    out = tmp_path / "study"
    text = run(
        "from-journal", journal, "--out", out, "--unit", "answer", "--begin", "2020-01-01", "--end", "2100-01-01", "--lang", "en"
    )
    (as_run,) = made(out).variants
    assert (as_run.requests, as_run.load.units) == (7, 6.0)
    assert "study verify" in text
    assert "per answer, over what was served" in text
    assert "of this period was metered: the rest is not in these figures" in text
    assert run("verify", out)


def test_tenants_are_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_JOURNAL_KEY", "a secret of sixteen")
    path, out = tmp_path / "journal.db", tmp_path / "study"
    with metered(journal=Journal(f"sqlite:///{path}", tenants="hash")) as (meter, _):
        for _ in range(5):
            with meter.measure("answer", unit="answer", tenant="mairie") as span:
                span.add_units(1)
        meter.settle()
    kept = next(SqliteJournal(path, create=False).readings())
    assert kept.tenant
    run("from-journal", path, "--out", out, "--unit", "answer")
    assert kept.tenant not in (out / "raw/001-as-run.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--begin", "2020-01-01"), "--begin and --end come together"),
        (("--begin", "2020-01-01", "--end", "2020-01-02"), "holds nothing of that period"),
        (("--begin", "2020-01-02", "--end", "2020-01-01"), "ends before it begins"),
        (("--per-year", "100"), "--source says who supposes so"),
        (("--per-year", "-1", "--source", "moi"), "is a number above 0"),
        (("--begin", "hier", "--end", "2020-01-01"), "'hier' is no moment"),
    ],
)
def test_what_cannot_be_asked_of_a_journal_is_one_line_and_leaves_nothing(
    journal: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "study"
    told = run("from-journal", journal, "--out", out, *words, code=2)
    assert said in told
    assert len(told.strip().splitlines()) == 1
    assert not out.exists()


def test_a_folder_that_is_there_is_left_alone(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert "is there already" in run("from-journal", journal, "--out", tmp_path, code=2)


def test_a_pue_that_changed_is_no_single_study(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for pue in (1.2, 1.5):
        with metered(journal=f"sqlite:///{path}", pue=pue) as (meter, _):
            for _ in range(3):
                with meter.measure("answer"):
                    burn(0.002)
            meter.settle()
    said = run("from-journal", path, "--out", tmp_path / "study", code=2)
    assert "the PUE changed within the period (1.2, 1.5)" in said


@pytest.mark.parametrize(("requests", "units", "lacking"), [(4, 4, "requests"), (6, 3, "units")])
def test_a_period_in_which_one_persons_use_could_be_read_is_no_study(
    tmp_path: Path, requests: int, units: int, lacking: str
) -> None:
    with metered(journal=f"sqlite:///{tmp_path / 'journal.db'}") as (meter, _):
        for n in range(requests):
            with meter.measure("answer", unit="answer" if n < units else None):
                burn(0.001)
        meter.settle()
    said = run("from-journal", tmp_path / "journal.db", "--out", tmp_path / "study", "--unit", "answer", code=2)
    assert f"fewer than 5 {lacking} are in that period" in said
    assert not (tmp_path / "study").exists()


def test_a_journal_of_two_services_is_no_study_though_their_readings_are_sums_by_now(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for name in ("one", "other"):
        with Meter(name, zone="FR", sources=SyntheticSource(2.0, 10.0), journal=f"sqlite:///{path}", tick=60) as meter:
            with meter.measure("answer"):
                burn(0.001)
            meter.settle()
    with SqliteJournal(path) as journal:
        journal.roll_up(2**62)
    assert "holds several services (one, other)" in run("from-journal", path, "--out", tmp_path / "study", code=2)
    assert not (tmp_path / "study").exists()


def test_scores_of_several_metrics_are_not_averaged(tmp_path: Path) -> None:
    with metered(journal=f"sqlite:///{tmp_path / 'journal.db'}") as (meter, _):
        for n in range(6):
            with meter.measure("answer", unit="answer") as span:
                span.add_units(1)
                span.quality(n % 2, metric="exact" if n % 2 else "thumb")
        meter.settle()
    out = tmp_path / "study"
    run("from-journal", tmp_path / "journal.db", "--out", out, "--unit", "answer")
    (variant,) = made(out).variants
    assert (variant.quality, "study:several-metrics" in variant.flags) == (None, True)
    assert folder.verify(out)[0] == []


def changed(out: Path, **fields: Any) -> None:
    text = json.loads((out / "study.json").read_text())
    (out / "study.json").write_text(json.dumps(text | fields))


def test_verify_says_what_is_wrong_and_exits_with_one(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run("from-journal", journal, "--out", out, "--unit", "answer")
    changed(out, title="autre")
    told = run("verify", out, "--lang", "en", code=1)
    assert "study.json: is not what SHA256SUMS says" in told
    assert "1 fault" in told
    assert "there is no such folder" in run("verify", tmp_path / "none", code=2)


def test_every_line_of_its_raw_data_is_of_a_known_type(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run("from-journal", journal, "--out", out)
    kinds = [msgspec.json.decode(line)["type"] for line in (out / "raw/001-as-run.jsonl").read_text().splitlines()]
    assert (kinds[0], kinds[1], kinds[-1]) == ("head", "phase", "phase")
    assert set(kinds) == {"head", "phase", "pass", "reading"}
