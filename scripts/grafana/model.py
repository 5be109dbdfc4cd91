"""What a dashboard is made of: panels as data, and the JSON that Grafana 11 and later reads (schema version 41)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "bargauge", "heatmap", "table", "piechart", "barchart"]

#: selectors of the variables: a service's own figures, those of its routes and models, and those of its budgets
JOB = 'job=~"$job", instance=~"$instance"'
ROUTE = f'{JOB}, route=~"$route", model=~"$model"'
BUDGET = f'{JOB}, budget=~"$budget"'
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
#: 1 is good and 0 is bad: the one meaning for which a panel has colours
UP = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
#: the ladder's steps as budgets have them unless told otherwise: warn, degrade, refuse
LADDER = [
    {"color": "green", "value": None},
    {"color": "yellow", "value": 0.7},
    {"color": "orange", "value": 0.8},
    {"color": "red", "value": 1},
]


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the legend of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel: ``unit`` is Grafana's name of it, ``steps`` its thresholds, where a value is good or bad in itself."""

    title: str
    kind: Kind
    unit: str
    description: str
    queries: tuple[Query, ...]
    width: int = 8
    height: int = 7
    steps: list[Json] = field(default_factory=list)
    stacked: bool = False
    interval: str = ""


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A dashboard: ``uid`` never changes, for links and bookmarks hold it."""

    uid: str
    title: str
    description: str
    variables: tuple[str, ...]
    rows: tuple[Row, ...]
    since: str
    tags: tuple[str, ...] = ("frugal_meter",)

    @property
    def panels(self) -> list[Panel]:
        """Every panel, in order."""
        return [panel for row in self.rows for panel in row.panels]


#: variable → label's name in Grafana's bar, and the query of its values
_VARIABLES = {
    "job": ("Service", "label_values(frugal_build_info, job)"),
    "instance": ("Instance", 'label_values(frugal_build_info{job=~"$job"}, instance)'),
    "route": ("Route", "label_values(frugal_requests_total{" + JOB + "}, route)"),
    "model": ("Model", "label_values(frugal_requests_total{" + JOB + "}, model)"),
    "budget": ("Budget", "label_values(frugal_budget_usage_ratio{" + JOB + "}, budget)"),
}


def as_json(dashboard: Dashboard) -> Json:
    """The dashboard as Grafana imports it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": list(dashboard.tags),
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "",
        "timezone": "browser",
        "time": {"from": dashboard.since, "to": "now"},
        "annotations": {"list": _annotations()},
        "links": _links(),
        "templating": {"list": [_source(), *(_variable(name) for name in dashboard.variables)]},
        "panels": _laid_out(dashboard),
    }


def _source() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(name: str) -> Json:
    label, query = _VARIABLES[name]
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # the empty label is a value too: a route without a model, work without a route
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
    }


def _annotations() -> list[Json]:
    """Overrides in force, and the moments at which a service began anew: releases and restarts reset its counters."""
    marks = {
        "Overrides": (f"max by (job, budget) (frugal_budget_overrides{{{JOB}}}) > 0", "orange", "override of {{budget}}"),
        "Releases and restarts": (
            f"sum by (job) (resets(frugal_process_cpu_seconds_total{{{JOB}}}[$__rate_interval])) > 0",
            "blue",
            "{{job}} was started anew",
        ),
    }
    return [
        {
            "name": name,
            "enable": True,
            "hide": False,
            "iconColor": colour,
            "datasource": _DATASOURCE,
            "expr": expr,
            "titleFormat": title,
            "step": "60s",
        }
        for name, (expr, colour, title) in marks.items()
    ]


def _links() -> list[Json]:
    return [
        {
            "title": "frugal_meter",
            "type": "dashboards",
            "tags": ["frugal_meter"],
            "asDropdown": False,
            "includeVars": True,
            "keepTime": True,
            "targetBlank": False,
            "icon": "",
            "tooltip": "The other dashboards, of the same services and time",
            "url": "",
        }
    ]


def _laid_out(dashboard: Dashboard) -> list[Json]:
    """Panels from left to right, a row below where one does not fit."""
    out: list[Json] = []
    y = 0
    for row in dashboard.rows:
        out.append(_row(len(out) + 1, row.title, y))
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y, tallest = 0, y + tallest, 0
            out.append(_panel(len(out) + 1, panel, {"x": x, "y": y, "w": panel.width, "h": panel.height}))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return out


def _row(number: int, title: str, y: int) -> Json:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
    }


def _panel(number: int, panel: Panel, place: Json) -> Json:
    defaults: Json = {"unit": panel.unit, "custom": _custom(panel)}
    if panel.steps:
        defaults["thresholds"] = {"mode": "absolute", "steps": panel.steps}
    shown: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [_target(panel, query, "ABCDEF"[place]) for place, query in enumerate(panel.queries)],
    }
    return shown | ({"interval": panel.interval} if panel.interval else {})


def _target(panel: Panel, query: Query, ref: str) -> Json:
    over_time = panel.kind in ("timeseries", "heatmap")
    return {
        "refId": ref,
        "datasource": _DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "range": over_time,
        "instant": not over_time,
        "format": {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series"),
        "editorMode": "code",
    }


def _custom(panel: Panel) -> Json:
    if panel.kind != "timeseries":
        return {}
    mode = {"group": "A", "mode": "normal" if panel.stacked else "none"}
    return {
        "drawStyle": "bars" if panel.interval else "line",
        "fillOpacity": 60 if panel.interval else 20 if panel.stacked else 0,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": mode,
    }


def _options(panel: Panel) -> Json:
    """What each kind of panel needs to be told; the rest is Grafana's own."""
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    legend = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
    return {
        "timeseries": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": {
            "reduceOptions": reduce,
            "colorMode": "value" if panel.steps else "none",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "auto",
            "wideLayout": True,
        },
        "bargauge": {
            "reduceOptions": reduce,
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
            "valueMode": "color",
        },
        "table": {"showHeader": True, "cellHeight": "sm"},
        "piechart": {"reduceOptions": reduce, "pieType": "donut", "legend": legend | {"values": ["value"]}, "displayLabels": []},
        "barchart": {"legend": legend, "orientation": "horizontal"},
        "heatmap": {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "orange", "reverse": False},
            "yAxis": {"unit": panel.unit, "axisPlacement": "left"},
            "legend": {"show": True},
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
        },
    }[panel.kind]
