"""`frugal-meter dashboards push`, against a server that speaks the documented contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from grafana_server import EDITOR, VIEWER, GrafanaServer, a_grafana

from frugal_meter.cli import main
from frugal_meter.cli.grafana import Grafana
from frugal_meter.errors import ReceiverError

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
    [
        ("glsa_nobody", "answers 401 for the list of data sources: Invalid API key"),
        (VIEWER, "answers 403 for a new folder frugal-meter: You"),
    ],
)
def test_a_token_that_is_unknown_or_may_only_look_gets_one_line(grafana: GrafanaServer, capsys, token: str, said: str) -> None:
    assert push(grafana, token=token) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.err.startswith("frugal-meter: Grafana answers 40")
    assert token not in told.out + told.err
    assert not grafana.dashboards


def test_an_address_that_is_not_grafanas_gets_one_line(grafana: GrafanaServer, capsys) -> None:
    grafana.url = grafana.url.removesuffix("/grafana")
    assert push(grafana) == 2
    told = capsys.readouterr().err
    assert "404" in told
    assert "--url https://example.org/grafana" in told
    assert told.count("\n") == 1


def test_only_a_grafana_says_that_a_thing_is_not_there(grafana: GrafanaServer) -> None:
    """The page of another server is 404 too: it must not pass for a folder to be made."""
    assert Grafana(grafana.url, EDITOR).folder("frugal-meter") is None
    with pytest.raises(ReceiverError, match=r"answers 404 for folder frugal-meter: Not Found .*Is this Grafana's own address"):
        Grafana(grafana.url.removesuffix("/grafana"), EDITOR).folder("frugal-meter")


def test_a_page_where_json_is_expected_is_no_grafana(grafana: GrafanaServer) -> None:
    grafana.version = ""
    grafana.sources = "not a list"  # type: ignore[assignment]
    with pytest.raises(ReceiverError, match="something else than JSON for the list of data sources"):
        Grafana(grafana.url, EDITOR).datasource(None)


def test_a_redirect_is_refused_for_a_write_would_be_lost_on_the_way(grafana: GrafanaServer, capsys) -> None:
    grafana.moved_to = "http://127.0.0.1:1/elsewhere"
    assert push(grafana) == 2
    told = capsys.readouterr().err
    assert "sends the health check to another address" in told
    assert told.count("\n") == 1


def test_a_grafana_that_says_nothing_is_given_up_in_one_line(grafana: GrafanaServer) -> None:
    grafana.awake.clear()
    with pytest.raises(ReceiverError, match=r"does not answer within 0\.2 s \(http://127"):
        Grafana(grafana.url, EDITOR, timeout_s=0.2).check_version()


def test_a_certificate_that_nobody_vouches_for_is_refused_until_its_authority_is_named(
    capsys, tmp_path: Path, monkeypatch
) -> None:
    with a_grafana(tmp_path) as secure:
        assert push(secure) == 2
        told = capsys.readouterr().err
        assert "has a certificate that is not trusted: " in told
        assert "self-signed certificate" in told
        assert "REQUESTS_CA_BUNDLE=" in told
        assert told.count("\n") == 1
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        assert push(secure, "--no-alerts") == 0
        assert len(secure.dashboards) == 3


def test_a_rule_that_somebody_changed_is_put_back_and_what_they_added_is_left(grafana: GrafanaServer, capsys) -> None:
    push(grafana)
    mine = grafana.alerts[ALERTS[0]["uid"]]
    mine["notification_settings"] = {"receiver": "on-call"}
    capsys.readouterr()
    assert push(grafana) == 0
    assert "changed" not in capsys.readouterr().out
    mine["for"] = "1h"
    assert push(grafana) == 0
    assert capsys.readouterr().out.count("changed alert") == 1
    assert grafana.alerts[ALERTS[0]["uid"]]["for"] == ALERTS[0]["for"]


def test_without_the_extra_one_line_says_how_to_install_it(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "grafana_client", None)
    with pytest.raises(SystemExit) as ended:
        main(["dashboards", "push", "--url", "http://127.0.0.1:1", "--token", EDITOR])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told == "frugal-meter: dashboards push needs an optional dependency: pip install 'frugal-meter[grafana]'\n"


def test_the_extra_leaves_urllib3_to_the_others() -> None:
    """From 4 on grafana-client brings urllib3-future, which takes the place of urllib3 in the whole environment."""
    meta = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert meta["grafana"] == ["grafana-client>=3.9,<4"]
    assert not [each for each in requires("grafana-client") or [] if "niquests" in each]


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
        ("http://127.0.0.1:99999", EDITOR, "such as https://"),
        ("http://[::1", EDITOR, "such as https://"),
        (
            "http://127.0.0.1:1",
            EDITOR,
            "cannot be reached: Failed to establish a new connection: [Errno 111] Connection refused (",
        ),
        ("http://127.0.0.1:1", "", "into GRAFANA_TOKEN"),
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
