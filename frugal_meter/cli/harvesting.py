"""``frugal-meter harvest``: declarations checked, and an observatory made of those that hold."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ..exporters.page_texts import LANGUAGES
from ..harvest.fetch import Limits
from ..harvest.gathering import gathered, sources_of
from ..harvest.harvest import Harvest, harvest
from ..harvest.observatory import CSV_FILE, FILES, JSON_FILE, observatory
from ..harvest.tables import as_csv, as_json
from .options import say
from .public_texts import said
from .texts import Words
from .writing import put

TAKEN, SOME_REFUSED, NONE_TAKEN = 0, 1, 2


def harvested(given: list[str], listed: Path | None, out: Path | None, private: bool, timeout_s: float, words: Words) -> int:
    """Harvest, say what was refused and why, write the observatory; the exit code. Raises ConfigurationError."""
    now = datetime.now(UTC)
    sources = sources_of(given, listed)
    found = harvest(gathered(sources, Limits(timeout_s, private)), now=now)
    for each in found.refused:
        say(said(words.lang, "refused", source=_printable(each.source), why=_printable(each.why)))
    say(said(words.lang, "taken", taken=len(found.taken), refused=len(found.refused), services=len(found.entries)))
    if not found.taken:
        return NONE_TAKEN
    if out is not None:
        files = _files(found, now)
        put(out, files)
        say(said(words.lang, "observatory", names=", ".join(files), folder=out))
    return SOME_REFUSED if found.refused else TAKEN


def _files(found: Harvest, now: datetime) -> dict[str, bytes]:
    pages = {FILES[lang]: observatory(found, lang, now=now).encode("utf-8", "replace") for lang in LANGUAGES}
    return {**pages, JSON_FILE: as_json(found, now), CSV_FILE: as_csv(found).encode()}


def _printable(text: str) -> str:
    """A stranger's text as it may be shown in a terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)
