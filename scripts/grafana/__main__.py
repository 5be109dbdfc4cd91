"""Write dashboards/ anew: `python -m scripts.grafana`. A test compares what is committed with what this makes."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from .alerting import alert_rules, as_file
from .budgets import BUDGETS
from .impact import IMPACT
from .model import as_json
from .ops import OPS

OUT = Path(__file__).parent.parent.parent / "dashboards"
DASHBOARDS = (OPS, BUDGETS, IMPACT)


def files() -> dict[str, str]:
    """Every file that is made: its path below dashboards/, and its text."""
    rules = alert_rules()
    made = {f"{each.uid.removeprefix('frugal-meter-')}.json": _text(as_json(each)) for each in DASHBOARDS}
    head = "# Made of exporters/prometheus/alerts.yml by python -m scripts.grafana; ${datasource} is your data source's uid.\n"
    alerting = head + yaml.safe_dump(as_file(rules), sort_keys=False, width=130, allow_unicode=True)
    return made | {"alerts.json": _text(rules), "provisioning/alerting/frugal.yml": alerting}


def _text(document: object) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write them all."""
    for name, text in files().items():
        (OUT / name).parent.mkdir(parents=True, exist_ok=True)
        (OUT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
