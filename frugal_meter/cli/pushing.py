"""``frugal-meter dashboards push``: a folder, three dashboards and the alert rules, put into a Grafana as often as one likes."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..errors import ConfigurationError
from .grafana import Grafana, Json, escaped

FOLDER: Final = "frugal-meter"
#: what a Grafana adds by itself: no difference of ours
_ITS_OWN: Final = (
    "id",
    "version",
    "orgID",
    "updated",
    "provenance",
    "folderUID",
    "keep_firing_for",
    "notification_settings",
    "record",
)
_PLACEHOLDER: Final = "${datasource}"
#: dashboards ask their user for a data source; alerts have nobody to ask
_FILES: Final = ("ops.json", "budgets.json", "impact.json")


class Thing(NamedTuple):
    """What is to be there: its kind and name, what is there now (None: nothing), and what is to be."""

    kind: str
    name: str
    found: Any
    wanted: Any

    @property
    def state(self) -> str:
        """new, changed or same."""
        return "new" if self.found is None else "same" if _plain(self.found) == _plain(self.wanted) else "changed"

    def diff(self) -> Iterator[str]:
        """Lines that differ, as in ``diff -u``."""
        before, after = ("" if each is None else _text(each) for each in (self.found, self.wanted))
        label = f"{self.kind} {self.name}"
        yield from difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"there/{label}", f"new/{label}", n=1, lineterm=""
        )


def folder_of(given: Path | None) -> Path:
    """Where the dashboards are: ``given``, those of the wheel, or those of the repository that this runs from."""
    package = Path(__file__).parent
    places = [given] if given is not None else [package / "dashboards", package.parent.parent / "dashboards"]
    for place in places:
        if all((place / name).is_file() for name in (*_FILES, "alerts.json")):
            return place
    raise ConfigurationError(f"no dashboards in {places[-1]}: --dir is a folder with {', '.join(_FILES)} and alerts.json")


def push(grafana: Grafana, place: Path, *, datasource: str | None, alerts: bool, dry: bool, force: bool) -> Iterator[str]:
    """Bring ``grafana`` to what ``place`` holds, and say line by line what was done; ``dry`` only says."""
    version = grafana.check_version()
    uid = grafana.datasource(datasource)
    yield f"{grafana.url}: Grafana {version}, data source {uid}"
    folder = Thing("folder", FOLDER, _folder(grafana), {"uid": FOLDER, "title": "Frugal"})
    # a title that somebody chose for the folder is theirs
    if folder.found is None:
        yield from _done(folder, dry)
        if not dry:
            grafana.call("POST", "/api/folders", folder.wanted)
    for name in _FILES:
        yield from _dashboard(grafana, _read(place / name), dry=dry, force=force)
    if alerts:
        for rule in _read(place / "alerts.json"):
            yield from _rule(grafana, json.loads(json.dumps(rule).replace(_PLACEHOLDER, uid)), dry=dry)


def _dashboard(grafana: Grafana, wanted: Json, *, dry: bool, force: bool) -> Iterator[str]:
    there = grafana.find(f"/api/dashboards/uid/{escaped(wanted['uid'])}")
    thing = Thing("dashboard", wanted["uid"], None if there is None else there["dashboard"], wanted)
    yield from _done(thing, dry)
    if dry or thing.state == "same":
        return
    # Grafana refuses with 412 what has another version than the one that was read: nobody's change is lost unseen
    known = {} if there is None else {"version": there["dashboard"].get("version", 0)}
    body = {
        "dashboard": wanted | known | {"id": None},
        "folderUid": FOLDER,
        "overwrite": force,
        "message": "frugal-meter dashboards push",
    }
    grafana.call("POST", "/api/dashboards/db", body)


def _rule(grafana: Grafana, rule: Json, *, dry: bool) -> Iterator[str]:
    path = f"/api/v1/provisioning/alert-rules/{escaped(rule['uid'])}"
    thing = Thing("alert", rule["title"], grafana.find(path), rule)
    yield from _done(thing, dry)
    if dry or thing.state == "same":
        return
    body = rule | {"folderUID": FOLDER, "orgID": 1}
    if thing.found is None:
        grafana.call("POST", "/api/v1/provisioning/alert-rules", body)
    else:
        grafana.call("PUT", path, body)


def _folder(grafana: Grafana) -> Any:
    return grafana.find(f"/api/folders/{FOLDER}")


def _done(thing: Thing, dry: bool) -> Iterator[str]:
    yield f"{thing.state:<8}{thing.kind} {thing.name}"
    if dry and thing.state != "same":
        yield from thing.diff()


def _plain(document: Any) -> Any:
    return {name: value for name, value in document.items() if name not in _ITS_OWN}


def _text(document: Any) -> str:
    return json.dumps(_plain(document), indent=1, sort_keys=True, ensure_ascii=False)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} is no dashboard: {error}") from None
