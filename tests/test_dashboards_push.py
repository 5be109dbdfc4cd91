"""`frugal-meter dashboards push`, against a server that speaks the documented contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from grafana_server import EDITOR, VIEWER, GrafanaServer, a_grafana

from frugal_meter.cli import main

ROOT = Path(__file__).parent.parent
ALERTS = json.loads((ROOT / "dashboards/alerts.json").read_text(encoding="utf-8"))


@pytest.fixture
def grafana() -> Iterator[GrafanaServer]:
    with a_grafana() as it:
        yield it


def push(grafana: GrafanaServer, *more: str, token: str = EDITOR) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["dashboards", "push", "--url", grafana.url, "--token", token, *more])
    return int(ended.value.code or 0)


def test_everything_is_there_after_one_push_and_a_second_changes_nothing(grafana: GrafanaServer, capsys) -> None:
    assert push(grafana) == 0
    first = capsys.readouterr().out
    assert grafana.dashboards.keys() == {"frugal-meter-ops", "frugal-meter-budgets", "frugal-meter-impact"}
    assert len(grafana.alerts) == len(ALERTS)
    assert {d["datasourceUid"] for rule in grafana.alerts.values() for d in rule["data"]} == {"p1", "__expr__"}
    assert first.count("new ") == 1 + 3 + len(ALERTS)
    grafana.asked.clear()
    assert push(grafana) == 0
    assert grafana.writes == []
    assert capsys.readouterr().out.count("same ") == 3 + len(ALERTS)


def test_a_dry_run_shows_what_would_change_and_changes_nothing(grafana: GrafanaServer, capsys, tmp_path: Path) -> None:
    push(grafana)
    for file in (ROOT / "dashboards").glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8").replace("Power of the host", "Power of this host"))
    grafana.asked.clear()
    capsys.readouterr()
    assert push(grafana, "--dir", str(tmp_path), "--dry-run") == 0
    told = capsys.readouterr().out
    assert grafana.writes == []
    assert "changed dashboard frugal-meter-ops" in told
    assert '-   "title": "Power of the host"' in told
    assert '+   "title": "Power of this host"' in told
    assert push(grafana, "--dir", str(tmp_path)) == 0
    assert grafana.writes == [("POST", "/grafana/api/dashboards/db")]
    assert grafana.dashboards["frugal-meter-ops"]["version"] == 2


def test_a_dry_run_on_an_empty_grafana_writes_nothing(grafana: GrafanaServer, capsys) -> None:
    assert push(grafana, "--dry-run") == 0
    assert grafana.writes == []
    assert "new     alert FrugalMeterDown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("token", "said"),
    [("glsa_nobody", "answers 401 to GET /api/datasources: Invalid API key"), (VIEWER, "answers 403 to POST /api/folders")],
)
def test_a_token_that_is_unknown_or_may_only_look_gets_one_line(grafana: GrafanaServer, capsys, token: str, said: str) -> None:
    assert push(grafana, token=token) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert token not in told.out + told.err
    assert not grafana.dashboards


def test_an_address_that_is_not_grafanas_gets_one_line(grafana: GrafanaServer, capsys) -> None:
    grafana.url = grafana.url.removesuffix("/grafana")
    assert push(grafana) == 2
    told = capsys.readouterr().err
    assert "404" in told
    assert "--url https://example.org/grafana" in told
    assert told.count("\n") == 1


def test_what_somebody_changed_meanwhile_is_refused_until_it_is_forced(grafana: GrafanaServer, capsys) -> None:
    push(grafana)
    ops = grafana.dashboards["frugal-meter-ops"]
    ops["title"] = "Ours"

    def somebody_saves() -> None:
        ops["version"] += 1

    grafana.before_writing = somebody_saves
    assert push(grafana) == 2
    told = capsys.readouterr().err
    assert "answers 412" in told
    assert "--force" in told
    assert grafana.dashboards["frugal-meter-ops"]["title"] == "Ours"
    assert push(grafana, "--force") == 0
    assert grafana.dashboards["frugal-meter-ops"]["title"] == "Frugal: operations"


@pytest.mark.parametrize(("version", "said"), [("9.5.2", "is version 9.5.2"), ("", "does not say its version")])
def test_another_version_is_refused_before_anything_is_written(grafana: GrafanaServer, capsys, version: str, said: str) -> None:
    grafana.version = version
    assert push(grafana) == 2
    assert said in capsys.readouterr().err
    assert grafana.asked == [("GET", "/grafana/api/health")]


def test_one_of_several_data_sources_is_named_or_the_default(grafana: GrafanaServer, capsys) -> None:
    assert push(grafana, "--datasource", "Other") == 0
    assert {d["datasourceUid"] for rule in grafana.alerts.values() for d in rule["data"]} == {"p2", "__expr__"}
    assert push(grafana, "--datasource", "Logs") == 2
    assert "Main, Other" in capsys.readouterr().err
    grafana.sources[0]["isDefault"] = False
    assert push(grafana) == 2
    assert "--datasource NAME" in capsys.readouterr().err


def test_alerts_are_left_out_when_prometheus_evaluates_them(grafana: GrafanaServer) -> None:
    assert push(grafana, "--no-alerts") == 0
    assert len(grafana.dashboards) == 3
    assert not grafana.alerts


@pytest.mark.parametrize(
    ("url", "token", "said"),
    [
        ("http://grafana.example.org", EDITOR, "is not encrypted"),
        ("https://me:pass@grafana.example.org", EDITOR, "without a user"),
        ("grafana.example.org", EDITOR, "such as https://"),
        ("http://127.0.0.1:1", EDITOR, "cannot be reached"),
        ("http://127.0.0.1:1", "", "token is empty"),
        ("http://127.0.0.1:1", "two words", "holds a space"),
    ],
)
def test_bad_input_gets_one_line_without_the_token(capsys, url: str, token: str, said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dashboards", "push", "--url", url, "--token", token])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in told
    assert told.count("\n") == 1
    assert not token or token not in told
    assert "pass@" not in told


def test_a_folder_without_dashboards_is_refused(grafana: GrafanaServer, capsys, tmp_path: Path) -> None:
    assert push(grafana, "--dir", str(tmp_path)) == 2
    assert "no dashboards in" in capsys.readouterr().err
    assert grafana.asked == []


def test_the_wheel_brings_its_dashboards_and_the_token_comes_from_the_environment(grafana: GrafanaServer, tmp_path: Path) -> None:
    """The package unpacked from a wheel, without the repository beside it."""
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "frugal_meter.cli", "dashboards", "push", "--url", grafana.url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "GRAFANA_TOKEN": EDITOR},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert len(grafana.dashboards) == 3
    assert EDITOR not in done.stdout + done.stderr
