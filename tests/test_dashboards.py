"""The dashboards as files: made by their script, of Grafana's own types, and without the faults that dashboards usually have."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from real_prometheus import tool

from frugal_meter.exporters.spec import SPEC
from scripts.grafana.__main__ import DASHBOARDS, OUT, files

ROOT = Path(__file__).parent.parent
BOARDS: Final = {
    each.uid: json.loads((OUT / f"{each.uid.removeprefix('frugal-meter-')}.json").read_text()) for each in DASHBOARDS
}
PANELS: Final = [(uid, panel) for uid, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
#: Grafana's types, as it publishes them, and the compiler that checks against them
TYPES: Final = ("@grafana/schema@13.2.3", "typescript@5.9.3")
each_panel = pytest.mark.parametrize("panel", [p for _, p in PANELS], ids=[f"{uid[13:]}: {p['title']}" for uid, p in PANELS])


@pytest.mark.parametrize("name", sorted(files()))
def test_what_is_committed_is_what_the_script_makes(name: str) -> None:
    assert (OUT / name).read_text(encoding="utf-8") == files()[name], "python -m scripts.grafana"


def test_no_other_dashboard_is_committed() -> None:
    assert {str(path.relative_to(OUT)) for path in OUT.rglob("*.json")} == {name for name in files() if name.endswith(".json")}


# -- Grafana's types


@pytest.fixture(scope="session")
def types() -> Path:
    """A folder with Grafana's published types, fetched once with npm into the project's cache."""
    folder = ROOT / ".cache" / "grafana-schema"
    if not (folder / "node_modules/typescript/bin/tsc").is_file():
        npm = shutil.which("npm") or pytest.skip("needs npm to fetch Grafana's types; on Debian: apt-get install -y npm")
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as room:  # whole or not at all: another run may be at it too
            made = Path(room) / "made"
            made.mkdir()
            (made / "package.json").write_text("{}")
            command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(made), *TYPES]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"npm install {TYPES[0]} failed: {done.stderr.strip()[-200:]}")
            with contextlib.suppress(OSError):  # another was first
                made.rename(folder)
    return folder


#: JSON holds the text of an enumeration's member where TypeScript wants the member. What the Prometheus data source reads of an
#: annotation (its annotations.ts) is not among the types of a dashboard
_HEAD = """
import type { Dashboard, AnnotationQuery, GraphFieldConfig } from '@grafana/schema';
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Annotation = AnnotationQuery & { expr: string; titleFormat: string; step: string };
type Board = Plain<Omit<Dashboard, 'annotations'>> & { annotations: { list: Plain<Annotation>[] } };
"""
_KINDS = {
    "timeseries": "TimeSeries",
    "stat": "Stat",
    "bargauge": "BarGauge",
    "heatmap": "Heatmap",
    "table": "Table",
    "piechart": "PieChart",
    "barchart": "BarChart",
}


def compiled(types: Path, folder: Path, text: str) -> str:
    """What the compiler says of ``text``; nothing when it agrees."""
    (folder / "check.ts").write_text(text, encoding="utf-8")
    (folder / "node_modules").symlink_to(types / "node_modules")
    options = [
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "--moduleResolution",
        "bundler",
        "--module",
        "esnext",
        "--target",
        "es2022",
    ]
    compiler = types / "node_modules/typescript/bin/tsc"
    return subprocess.run([compiler, *options, "check.ts"], cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.xdist_group("npm")
@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboard_has_grafanas_own_types(uid: str, types: Path, tmp_path: Path) -> None:
    board = BOARDS[uid]
    lines = [_HEAD]
    for kind in {panel["type"] for panel in board["panels"]} - {"row"}:
        module = f"@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{_KINDS[kind]}PanelCfg_types.gen"
        lines.append(f"import type {{ Options as {_KINDS[kind]} }} from '{module}';")
    for number, panel in enumerate(p for p in board["panels"] if p["type"] != "row"):
        lines.append(f"export const o{number}: Plain<Partial<{_KINDS[panel['type']]}>> = {json.dumps(panel['options'])};")
        if panel["type"] == "timeseries":
            custom = json.dumps(panel["fieldConfig"]["defaults"]["custom"])
            lines.append(f"export const c{number}: Plain<GraphFieldConfig> = {custom};")
    lines.append(f"export const board: Board = {json.dumps(board)};")
    assert compiled(types, tmp_path, "\n".join(lines)) == ""


@pytest.mark.xdist_group("npm")
@pytest.mark.parametrize(
    ("right", "wrong"), [('"graphTooltip": 1', '"graphTooltip": "1"'), ('"gridPos"', '"gridPosition"'), ('"title"', '"tittle"')]
)
def test_grafanas_types_refuse_what_is_none_of_them(right: str, wrong: str, types: Path, tmp_path: Path) -> None:
    text = json.dumps(BOARDS["frugal-meter-ops"])
    assert right in text
    assert "error TS" in compiled(types, tmp_path, f"{_HEAD}export const board: Board = {text.replace(right, wrong)};")


# -- lint


def test_uids_and_numbers_of_panels_are_stable_and_not_shared() -> None:
    assert list(BOARDS) == ["frugal-meter-ops", "frugal-meter-budgets", "frugal-meter-impact"]
    for board in BOARDS.values():
        numbers = [panel["id"] for panel in board["panels"]]
        assert numbers == sorted(set(numbers))


def test_panels_do_not_overlap_nor_leave_the_page() -> None:
    for board in BOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells


def test_a_dashboard_chooses_its_source_and_service_and_leads_to_the_others() -> None:
    for board in BOARDS.values():
        source, *variables = board["templating"]["list"]
        assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
        assert [v["name"] for v in variables][:2] == ["job", "instance"]
        assert all(v["multi"] and v["includeAll"] and v["allValue"] == ".*" for v in variables)
        assert board["editable"] is False
        assert board["links"][0]["tags"] == ["frugal_meter"]
        assert board["links"][0]["includeVars"]
        assert board["links"][0]["keepTime"]
        assert {each["name"] for each in board["annotations"]["list"]} == {"Overrides", "Releases and restarts"}


@each_panel
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith((".", ")"))
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    assert all(step["value"] in (None, 0.7, 0.8, 1) for step in steps), "Grafana's own 80 means nothing here"


@each_panel
def test_a_query_chooses_its_service_and_no_window_of_its_own(panel: dict[str, Any]) -> None:
    counters = {f"{name}_total" for name, (kind, *_) in SPEC.items() if kind == "counter"}
    for target in panel["targets"]:
        expression = target["expr"]
        for name, selector in re.findall(r"(frugal_\w+)(\{[^}]*\})?", expression):
            assert 'job=~"$job", instance=~"$instance"' in selector, name
            if name in counters:
                assert re.search(rf"(rate|increase)\({name}\{{[^}}]*\}}\[", expression), name
        windows = set(re.findall(r"\[([^\]]+)\]", expression))
        assert windows <= {"$__rate_interval", "$__range"}
        over_time = panel["type"] in ("timeseries", "heatmap")
        assert target["range"] == over_time
        assert not (over_time and "$__range" in windows), "a total of the period is one figure, and not a line"


@each_panel
def test_a_query_names_only_metrics_and_labels_that_there_are(panel: dict[str, Any]) -> None:
    told = {f"{name}_total" if kind == "counter" else name: set(labels) for name, (kind, _, labels) in SPEC.items()}
    for name, (kind, _, labels) in SPEC.items():
        if kind == "histogram":
            told |= {f"{name}_{part}": {*labels, "le"} for part in ("bucket", "sum", "count")}
    for target in panel["targets"]:
        known = {"job", "instance"}
        for name, selector in re.findall(r"(frugal_\w+)\{([^}]*)\}", target["expr"]):
            assert set(re.findall(r"(\w+)=~?", selector)) <= told[name] | {"job", "instance"}
            known |= told[name]
        for group in re.findall(r"(?:by|on|without|group_left) \(([^)]*)\)", target["expr"]):
            assert {label for label in group.split(", ") if label} <= known
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known


# -- alerts for Grafana


def test_alerts_for_grafana_are_the_ones_of_prometheus_and_stand_alone(tmp_path: Path) -> None:
    ours = yaml.safe_load((ROOT / "exporters/prometheus/alerts.yml").read_text())
    names = [rule["alert"] for group in ours["groups"] for rule in group["rules"]]
    rules = json.loads((OUT / "alerts.json").read_text())
    assert [rule["title"] for rule in rules] == names
    assert len({rule["uid"] for rule in rules}) == len(rules)
    assert all(len(rule["uid"]) <= 40 for rule in rules)
    expressions = [rule["data"][0]["model"]["expr"] for rule in rules]
    assert not any(re.search(r"\bjob\w*:", expression) for expression in expressions)
    checked = [{"alert": name, "expr": each} for name, each in zip(names, expressions, strict=True)]
    text = yaml.safe_dump({"groups": [{"name": "g", "rules": checked}]})
    (tmp_path / "rules.yml").write_text(text)
    done = subprocess.run([tool("promtool"), "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert f"{len(rules)} rules found" in done.stdout, done.stdout + done.stderr


def test_files_to_mount_hold_the_same_alerts() -> None:
    mounted = yaml.safe_load((OUT / "provisioning/alerting/frugal.yml").read_text())
    assert mounted["apiVersion"] == 1
    rules = [rule | {"ruleGroup": group["name"]} for group in mounted["groups"] for rule in group["rules"]]
    assert rules == json.loads((OUT / "alerts.json").read_text())
    assert yaml.safe_load((OUT / "provisioning/dashboards.yml").read_text())["providers"][0]["type"] == "file"
