"""``frugal-meter dashboards push``: a folder, three dashboards and the alert rules, put into a Grafana as often as one likes."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..errors import ConfigurationError
from .grafana import Grafana, Json

FOLDER, TITLE = "frugal-meter", "Frugal"
#: what a Grafana writes into a dashboard by itself: no difference of ours
_ITS_OWN: Final = ("id", "version")
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
        return "new" if self.found is None else "same" if self.found == self.wanted else "changed"

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
    # a title that somebody chose for the folder is theirs
    if grafana.folder(FOLDER) is None:
        yield from _done(Thing("folder", FOLDER, None, {"uid": FOLDER, "title": TITLE}), dry)
        if not dry:
            grafana.make_folder(TITLE, FOLDER)
    for name in _FILES:
        yield from _dashboard(grafana, _read(place / name), dry=dry, force=force)
    if alerts:
        for rule in _read(place / "alerts.json"):
            yield from _rule(grafana, json.loads(json.dumps(rule).replace(_PLACEHOLDER, uid)), dry=dry)


def _dashboard(grafana: Grafana, wanted: Json, *, dry: bool, force: bool) -> Iterator[str]:
    there = grafana.dashboard(wanted["uid"])
    thing = Thing("dashboard", wanted["uid"], _plain(there), _plain(wanted))
    yield from _done(thing, dry)
    if dry or thing.state == "same":
        return
    # Grafana refuses with 412 what has another version than the one that was read: nobody's change is lost unseen
    known = {} if there is None else {"version": there.get("version", 0)}
    grafana.save_dashboard(
        {
            "dashboard": wanted | known | {"id": None},
            "folderUid": FOLDER,
            "overwrite": force,
            "message": "frugal-meter dashboards push",
        }
    )


def _rule(grafana: Grafana, rule: Json, *, dry: bool) -> Iterator[str]:
    thing = Thing("alert", rule["title"], _of(grafana.rule(rule["uid"]), rule), rule)
    yield from _done(thing, dry)
    if not dry and thing.state != "same":
        grafana.save_rule(rule | {"folderUID": FOLDER, "orgID": 1}, new=thing.found is None)


def _done(thing: Thing, dry: bool) -> Iterator[str]:
    yield f"{thing.state:<8}{thing.kind} {thing.name}"
    if dry and thing.state != "same":
        yield from thing.diff()


def _plain(dashboard: Any) -> Any:
    return dashboard and {name: value for name, value in dashboard.items() if name not in _ITS_OWN}


def _of(found: Any, wanted: Any) -> Any:
    """``found`` without what ``wanted`` says nothing of: Grafana fills in defaults, and a contact point is somebody's choice."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {name: _of(value, wanted[name]) for name, value in found.items() if name in wanted}
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [_of(*pair) for pair in zip(found, wanted, strict=True)]
    return found


def _text(document: Any) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} is no dashboard: {error}") from None
