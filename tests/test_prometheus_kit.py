"""The kit for Prometheus: configurations it accepts, rules and alerts that are tested, runbooks that are there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_prometheus import tool

from frugal_meter.exporters.spec import SPEC

ROOT = Path(__file__).parent.parent
KIT = ROOT / "exporters" / "prometheus"
RULES = [
    rule
    for name in ("rules.yml", "alerts.yml")
    for g in yaml.safe_load((KIT / name).read_text())["groups"]
    for rule in g["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
TESTS = [test for file in sorted((KIT / "tests").glob("*.yml")) for test in yaml.safe_load(file.read_text())["tests"]]


def promtool(*arguments: str) -> str:
    done = subprocess.run([tool("promtool"), *arguments], cwd=KIT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["scrape.yml", "scrape-files.yml"])
def test_prometheus_accepts_each_configuration_with_its_rules(name: str) -> None:
    assert "rule files found" in promtool("check", "config", name)


def test_prometheus_accepts_the_targets_that_a_file_lists() -> None:
    (listed,) = (KIT / "targets").glob("*.yml")
    entries = yaml.safe_load(listed.read_text())
    assert all(set(entry) == {"targets", "labels"} for entry in entries)
    assert "SUCCESS" in promtool("check", "config", "scrape-files.yml")


def discovered(folder: Path, labels: dict[str, str]) -> list[dict[str, str]]:
    """What scrape-kubernetes.yml makes of a pod with these labels of discovery: the labels of each target that it keeps.

    Debian's Prometheus is built without Kubernetes, so that a file stands in for its API; the relabelling is the kit's own.
    """
    loaded = yaml.safe_load((KIT / "scrape-kubernetes.yml").read_text())
    (job,) = loaded["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    pod = [{"targets": ["10.1.2.3:8080"], "labels": labels}]
    (folder / "pods.json").write_text(json.dumps(pod))
    job["file_sd_configs"] = [{"files": [str(folder / "pods.json")]}]
    del loaded["rule_files"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(loaded))
    told = promtool("check", "service-discovery", "--timeout=2s", str(folder / "prometheus.yml"), job["job_name"])
    return [each["labels"] for each in json.loads(told) if each.get("labels")]


POD = {
    "__meta_kubernetes_pod_annotation_prometheus_io_scrape": "true",
    "__meta_kubernetes_pod_annotation_prometheus_io_port": "9464",
    "__meta_kubernetes_pod_ip": "10.1.2.3",
    "__meta_kubernetes_pod_phase": "Running",
    "__meta_kubernetes_pod_name": "accueil-0",
    "__meta_kubernetes_namespace": "mairie",
    "__meta_kubernetes_pod_label_app_kubernetes_io_name": "accueil-usagers",
}


def test_a_pod_is_scraped_where_its_annotations_say(tmp_path: Path) -> None:
    (found,) = discovered(tmp_path, POD | {"__meta_kubernetes_pod_annotation_prometheus_io_path": "/frugal/metrics"})
    assert found["__address__"] == found["instance"] == "10.1.2.3:9464"
    assert found["__metrics_path__"] == "/frugal/metrics"
    assert (found["job"], found["namespace"], found["pod"]) == ("accueil-usagers", "mairie", "accueil-0")


@pytest.mark.parametrize(
    "change",
    [
        {"__meta_kubernetes_pod_annotation_prometheus_io_scrape": "false"},
        {"__meta_kubernetes_pod_phase": "Succeeded"},
    ],
    ids=["not annotated", "ended"],
)
def test_a_pod_that_says_no_or_has_ended_is_not_scraped(tmp_path: Path, change: dict[str, str]) -> None:
    assert discovered(tmp_path, POD | change) == []


def test_rules_pass_the_linter_of_promtool() -> None:
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yml", "alerts.yml")
    assert told.count("SUCCESS") == 2


@pytest.mark.parametrize("file", sorted(path.name for path in (KIT / "tests").glob("*.yml")))
def test_rules_and_alerts_do_what_their_tests_say(file: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", f"tests/{file}")


def test_every_alert_fires_in_one_test_and_is_silent_in_another() -> None:
    fires, silent = set(), set()
    for test in TESTS:
        for each in test.get("alert_rule_test", []):
            (fires if each["exp_alerts"] else silent).add(each["alertname"])
    assert fires == silent == {rule["alert"] for rule in ALERTS}


def test_every_recording_rule_is_compared_with_a_figure() -> None:
    asked = " ".join(each["expr"] for test in TESTS for each in test.get("promql_expr_test", []) if each["exp_samples"])
    assert [rule["record"] for rule in RULES if "record" in rule and rule["record"] not in asked] == []


def test_a_changed_threshold_fails_a_test(tmp_path: Path) -> None:
    """The tests hold the alerts: with every comparison turned round, none of those that fired still does."""
    for name in ("rules.yml", "tests"):
        (shutil.copytree if (KIT / name).is_dir() else shutil.copy)(KIT / name, tmp_path / name)
    (tmp_path / "alerts.yml").write_text(re.sub(r" > (?=0\.9)", " > 1", (KIT / "alerts.yml").read_text()))
    done = subprocess.run(
        [tool("promtool"), "test", "rules", "tests/alerts_test.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "FrugalBudgetNearlyExhausted" in done.stdout + done.stderr


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_a_runbook_of_three_answers(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page == "docs/runbooks.md"
    sections = re.split(r"^## ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = (each for each in sections if each.partition("\n")[0].lower() == anchor)
    assert section.startswith(f"{rule['alert']}\n")
    assert all(f"**{part}.**" in section for part in ("Means", "Look at", "Do"))
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_runbooks_speak_of_no_alert_that_is_gone() -> None:
    told = set(re.findall(r"^## (Frugal\w+)", (ROOT / "docs/runbooks.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert told == {rule["alert"] for rule in ALERTS}


def test_rules_name_only_metrics_and_labels_that_there_are() -> None:
    told = {f"{name}_total" if kind == "counter" else name: labels for name, (kind, _, labels) in SPEC.items()}
    for name, (kind, _, labels) in SPEC.items():
        if kind == "histogram":
            told |= {f"{name}_{part}": labels for part in ("bucket", "sum", "count")}
    known = {label for labels in told.values() for label in labels} | {"job", "instance"}
    for rule in RULES:
        bare = re.sub(r"job\w*:frugal_\w+:\w+", "", rule["expr"])
        assert set(re.findall(r"\bfrugal_\w+", bare)) <= told.keys(), rule
        by = re.findall(r"(?:by|on|without|group_left) \(([^)]*)\)", rule["expr"])
        assert {label.strip() for group in by for label in group.split(",") if label.strip()} <= known, rule
