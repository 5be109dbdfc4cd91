"""``frugal-meter declaration``: what is missing, and the files that any web server can give out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ..budgets.budget import Budget
from ..carbon.packs import load_pack
from ..declaration.calendar import last_whole
from ..declaration.carbon_txt import carbon_txt
from ..declaration.document import Declaration, as_json
from ..declaration.notice import notice
from ..declaration.serving import CARBON_TXT, DECLARATION, SCHEMA_FILE, SETTLED_AFTER, Declarer, finder, schema_file
from ..declaration.statement import Statement, statement_of
from ..errors import ConfigurationError
from ..journal.opening import open_store
from ..setup import emission_factor
from .journal import moment
from .public_texts import meaning, said
from .texts import Words
from .writing import put

NOTICES = {"fr": "notice.fr.html", "en": "notice.en.html"}
Period = tuple[str | None, str | None]


def missing_lines(settings: Mapping[str, Any], words: Words) -> list[str]:
    """A line for each thing that people have not said yet."""
    if not settings:
        raise ConfigurationError("no configuration: name the service's frugal.toml with --config, or set FRUGAL_CONFIG")
    keys = statement_of(settings.get("declaration")).missing()
    return [said(words.lang, "missing", key=key, means=meaning(words.lang, key)) for key in keys]


def written(
    settings: Mapping[str, Any], out: Path, journal: str | None, period: Period, url: str | None, words: Words
) -> Iterator[str]:
    """Write the files into ``out``; a line for each thing worth saying. Raises ConfigurationError and StoreError."""
    told = settings.get("declaration")
    statement = statement_of(
        {**told, "url": url} if url and isinstance(told, Mapping) else told or ({"url": url} if url else None)
    )
    declarer = _declarer(settings, statement, journal)
    made = _made(declarer, statement, period)
    files = _files(made, statement)
    put(out, files)
    yield said(words.lang, "written", names=", ".join(files), folder=out)
    if made.services[0].volume.requests is None:
        why = next(each for each in made.unknown if each.path == "/services/0/volume/requests")
        yield said(words.lang, "no_figures", why=said(words.lang, why.code))
    if CARBON_TXT not in files:
        yield said(words.lang, "no_carbon_txt")
    if missing := statement.missing():
        yield said(words.lang, "some_missing", keys=", ".join(missing))


def _declarer(settings: Mapping[str, Any], statement: Statement, journal: str | None) -> Declarer:
    service, kept = settings.get("service"), settings.get("journal")
    if not service:
        raise ConfigurationError('the service has no name: give --config frugal.toml with [meter] service = "…"')
    where = journal or (kept if isinstance(kept, str) else None)
    opener = None if where is None else partial(open_store, where, create=False)
    budgets: list[Budget] = list(settings.get("budgets", ()))
    return Declarer(statement, str(service), opener, lambda: budgets, finder(*_factors(settings)))


def _factors(settings: Mapping[str, Any]) -> tuple[list[Any], Any]:
    pack, factor = settings.get("factor_pack"), settings.get("factor")
    if settings.get("zone") is None and factor is None:
        return [], None if pack is None else load_pack(pack)
    own, _ = emission_factor(settings.get("zone"), factor, pack)
    return [own], None if pack is None else load_pack(pack)


def _made(declarer: Declarer, statement: Statement, period: Period) -> Declaration:
    now = datetime.now(UTC)
    if (period[0] is None) != (period[1] is None):
        raise ConfigurationError("--begin and --end go together; without both it is the last whole period")
    if period[0] is None or period[1] is None:
        begin, end = last_whole(statement.period, now - SETTLED_AFTER, statement.zone)
    else:
        begin, end = (datetime.fromtimestamp(moment(each) / 1e9, UTC) for each in period if each)
    if begin >= end:
        raise ConfigurationError("the period ends before it begins")
    if end > now:
        raise ConfigurationError(f"the period ends at {end.isoformat()}, which is still to come")
    made = declarer.declare(begin, end, now)
    if made.valid_until <= now:
        raise ConfigurationError(
            f"a declaration of that period was valid until {made.valid_until.date()}: readers would refuse it; name a later one"
        )
    return made


def _files(made: Declaration, statement: Statement) -> dict[str, bytes]:
    files = {DECLARATION: as_json(made), SCHEMA_FILE: schema_file()}
    for lang in ("fr", "en"):
        page = notice(made, lang, links=NOTICES, document=DECLARATION)  # type: ignore[arg-type]
        files[NOTICES[lang]] = page.encode("utf-8", "replace")
    if statement.url is not None:
        base = statement.url.rstrip("/")
        files[CARBON_TXT] = carbon_txt(made, base, notice=f"{base}/{NOTICES['fr']}").encode()
    return files
