"""``frugal-meter study`` as its user types it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.study_house import declare

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "frugal_meter.cli", "study"]

pytestmark = pytest.mark.xdist_group("study")


def typed(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, cwd=cwd, env=env, check=False)


@pytest.mark.parametrize(("lang", "first"), [("fr", "# Étude d'impact"), ("en", "# Impact study")])
def test_init_writes_a_declaration_in_the_users_language_and_never_over_one(tmp_path: Path, lang: str, first: str) -> None:
    done = typed("init", "--lang", lang, cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "study.toml").read_text().startswith(first)
    assert "frugal-meter study run study.toml --out" in done.stdout
    again = typed("init", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (2, "frugal-meter: study.toml: is there already; name another file\n")


def test_a_run_tells_its_progress_by_lines_and_what_it_found_in_both_languages(tmp_path: Path) -> None:
    meter = '[service.meter]\nsources = "model"\nhost_share = 0.1'
    file = declare(tmp_path / "d", app="plain", unit="request", repetitions=1, first="broken", service=meter)
    out = tmp_path / "étude"
    done = typed("run", file, "--out", out, "--lang", "fr")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("frugal-meter: série 1, ")
    assert lines[0].endswith("(0 %)")
    assert "2 requêtes sur 4 ont échoué (2 × HTTP 500)" in done.stdout
    assert "qualité 0,6" in done.stdout
    assert "modélisé" in done.stdout
    assert f"étude terminée : {out}" in done.stdout
    again = typed("run", file, "--out", out)
    assert again.returncode == 2
    assert again.stderr == f"frugal-meter: {out}: holds this study already; go on with it with --resume, or name another folder\n"
    finished = typed("run", file, "--out", out, "--resume", "--lang", "en")
    assert finished.returncode == 0
    assert "2 of 4 requests failed (2 × HTTP 500)" in finished.stdout
    checked = typed("verify", out, "--lang", "fr")
    assert checked.returncode == 0
    assert checked.stdout.startswith("intègre")


def test_ctrl_c_keeps_what_is_measured_and_says_how_to_go_on(tmp_path: Path) -> None:
    file, out = declare(tmp_path / "d", lines=1), tmp_path / "out"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "fr_FR.UTF-8"}
    command = [*COMMAND, "run", str(file), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env) as running:
        assert running.stderr is not None
        assert running.stderr.readline()
        assert running.stderr.readline()  # the second repetition begins: the first is kept
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == 2
    assert "étude interrompue ; répétitions gardées dans " in rest
    assert " sur 4 ; reprenez avec --resume" in rest
    assert "Traceback" not in rest
    assert list((out / "raw").glob("*.jsonl"))
    finished = typed("run", file, "--out", out, "--resume")
    assert finished.returncode == 0, finished.stderr
    assert "✓" in finished.stderr


def test_a_typo_is_one_line_and_leaves_no_folder(tmp_path: Path) -> None:
    file = declare(tmp_path / "d")
    load = tmp_path / "d" / "load.jsonl"
    load.write_text(load.read_text().replace('"json"', '"jsno"', 1))
    done = typed("run", file, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == "frugal-meter: load load.jsonl, line 1: has no key 'jsno'; did you mean json?\n"
    assert not (tmp_path / "out").exists()
