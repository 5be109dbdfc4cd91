"""Grafana's own form of the alerts in exporters/prometheus/alerts.yml, for those whose Grafana evaluates them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
KIT = Path(__file__).parent.parent.parent / "exporters" / "prometheus"
#: in place of the data source's uid, which differs from one Grafana to the next: `push` and whoever mounts the file replace it
DATASOURCE = "${datasource}"


def alert_rules() -> list[Json]:
    """Rules as the provisioning API takes them (`POST /api/v1/provisioning/alert-rules`), without a folder."""
    recorded = {rule["record"]: rule["expr"] for rule in _rules("rules.yml")}
    return [_rule(rule, group, recorded) for group, rule in _grouped("alerts.yml")]


def _rule(rule: Json, group: str, recorded: dict[str, str]) -> Json:
    """Grafana keeps what a query returns and asks a condition of it: here, that there is a number at all."""
    expr = rule["expr"]
    for name, meaning in recorded.items():  # Grafana's rules stand alone: Prometheus need not have loaded rules.yml
        expr = expr.replace(name, f"({meaning})")
    return {
        "uid": re.sub(r"(?<!^)(?=[A-Z])", "-", rule["alert"]).lower(),
        "title": rule["alert"],
        "ruleGroup": group,
        "condition": "C",
        "for": rule.get("for", "0s"),
        "labels": rule["labels"],
        "annotations": {name: _template(text) for name, text in rule["annotations"].items()},
        "noDataState": "OK",
        "execErrState": "Error",
        "isPaused": False,
        "data": [_query(expr), _expression("B", "math", "is_number($A) || is_nan($A) || is_inf($A)"), _above_zero()],
    }


def _template(text: str) -> str:
    """Prometheus's `$value` is a number; Grafana's is a sentence, and the number is that of the query."""
    return re.sub(r"\$value\b", "$values.A.Value", text)


def _query(expr: str) -> Json:
    model = {"refId": "A", "expr": expr, "instant": True, "range": False, "intervalMs": 1000, "maxDataPoints": 43200}
    return {
        "refId": "A",
        "datasourceUid": DATASOURCE,
        "queryType": "",
        "relativeTimeRange": {"from": 600, "to": 0},
        "model": model,
    }


def _expression(ref: str, kind: str, expression: str, **more: Any) -> Json:
    model = {"refId": ref, "type": kind, "datasource": {"type": "__expr__", "uid": "__expr__"}, "expression": expression, **more}
    return {"refId": ref, "datasourceUid": "__expr__", "queryType": "", "relativeTimeRange": {"from": 0, "to": 0}, "model": model}


def _above_zero() -> Json:
    return _expression("C", "threshold", "B", conditions=[{"evaluator": {"type": "gt", "params": [0]}}])


def as_file(rules: list[Json]) -> Json:
    """The same rules as Grafana reads them from its folder provisioning/alerting."""
    groups: dict[str, list[Json]] = {}
    for rule in rules:
        groups.setdefault(rule["ruleGroup"], []).append({name: value for name, value in rule.items() if name != "ruleGroup"})
    made = [{"orgId": 1, "name": name, "folder": "Frugal", "interval": "1m", "rules": own} for name, own in groups.items()]
    return {"apiVersion": 1, "groups": made}


def _rules(file: str) -> list[Json]:
    return [rule for _, rule in _grouped(file)]


def _grouped(file: str) -> list[tuple[str, Json]]:
    loaded = yaml.safe_load((KIT / file).read_text(encoding="utf-8"))
    return [(group["name"], rule) for group in loaded["groups"] for rule in group["rules"]]
