"""A study made afterwards, out of what a service's journal holds of a period."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ..carbon.published import by_id
from ..carbon.sci import NOT_COUNTED
from ..errors import ConfigurationError
from ..journal.opening import open_store
from ..journal.store import JournalStore, Range
from ..periods import LEAST_PUBLIC, Pass, Tally, period, public, tallied
from ..records import Interval
from . import raw
from .building import Told, assembled
from .figuring import About
from .results import Lang, Machine, Protocol, Pue, Sensor, Study, Unit, Use

_VARIANT: Final = "as-run"
_FILE: Final = f"001-{_VARIANT}.jsonl"
#: what a journal does not tell
_UNTOLD: Final = "?"


class Asked(NamedTuple):
    """What is asked of a journal: a range of Unix ns, and how to present it. ``use`` is None where no year is supposed."""

    journal: str
    within: Range | None
    unit: Unit
    title: str
    lang: Lang
    use: Use | None


def run(asked: Asked, out: Path) -> Study:
    """The study of a period, its raw data in ``out/raw``. Raises ConfigurationError; an ``out`` that is there is left alone."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out}: is there already; name a folder that is not there")
    with open_store(asked.journal, create=False) as journal:
        _write(journal, asked, out)
    return study_of(asked, out)


def _write(journal: JournalStore, asked: Asked, out: Path) -> None:
    told = journal.info()
    if told["begin_ns"] is None:
        raise ConfigurationError(f"journal {journal.name}: is empty")
    begin_ns, end_ns = asked.within or (told["begin_ns"], told["end_ns"] + 1)
    if begin_ns >= end_ns:
        raise ConfigurationError("the period ends before it begins")
    passes = [row.books for row in journal.passes((begin_ns, end_ns))]
    if not passes:
        raise ConfigurationError(f"journal {journal.name}: holds nothing of that period")
    tallies = tallied(journal.tallies((begin_ns, end_ns)))
    names = sorted({each.service for each in tallies if each.service is not None})
    if len(names) > 1:
        raise ConfigurationError(f"journal {journal.name}: holds several services ({', '.join(names)}); a study is of one")
    if (few := _too_few(tallies, asked.unit.name)) is not None:
        raise ConfigurationError(
            f"journal {journal.name}: fewer than {LEAST_PUBLIC} {few} are in that period, and a study is made to be published: "
            "one person's use could be read off it; name a longer period"
        )
    try:
        (out / "raw").mkdir(parents=True)
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be made ({error.strerror})") from None
    raw.write(out / "raw" / _FILE, _lines(journal, passes, (begin_ns, end_ns), names[0] if names else _UNTOLD))


def _too_few(tallies: list[Tally], unit: str) -> str | None:
    """What there is too little of to be published, "requests" or "units"; none delivered at all tells of nobody."""
    found = period((), tallies, begin_s=0, end_s=1, unit=unit)
    if found.requests < LEAST_PUBLIC:
        return "requests"
    return None if public(found) is not None else "units"


def study_of(asked: Asked, out: Path) -> Study:
    """The study of what lies in ``out/raw``."""
    found = raw.read(out / "raw" / _FILE)
    begin_s, end_s = found.begin_s("load"), found.end_s("load")
    told = Told(
        title=asked.title,
        lang=asked.lang,
        origin="journal",
        unit=asked.unit,
        use=asked.use,
        protocol=Protocol(began_at=_iso(begin_s), ended_at=_iso(end_s), service=found.head.service),
    )
    return assembled([About(_VARIANT, asked.title, "as-run", ())], [found], told)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(journal: JournalStore, passes: list[Pass], within: Range, service: str) -> Iterator[bytes]:
    begin_s, end_s = within[0] / 1e9, within[1] / 1e9
    yield raw.encoded(_head(passes, service, _iso(begin_s)))
    yield raw.encoded(raw.Mark(name="load", at_s=begin_s))
    yield from (raw.encoded(raw.pass_line(row)) for row in journal.passes(within))
    yield from (raw.encoded(raw.TallyLine(tally=each)) for each in journal.rolled(within))
    yield from (
        raw.encoded(raw.ReadingLine(reading=msgspec.structs.replace(each, tenant=None))) for each in journal.scored(within)
    )
    yield raw.encoded(raw.Mark(name="end", at_s=end_s))


def _head(passes: list[Pass], service: str, began_at: str) -> raw.Head:
    ids = tuple(dict.fromkeys(id for each in passes for id in each.weight.factor_ids))
    sensors = {(b.source, b.component, b.tier) for each in passes for b in each.books}
    return raw.Head(
        variant=_VARIANT,
        round=1,
        began_at=began_at,
        service=service,
        zone=ids[0].split(":")[-2] if ids and ids[0].count(":") >= 2 else _UNTOLD,
        factors=tuple(found for id in ids if (found := by_id(id)) is not None),
        pue=_pue(passes),
        embodied=None,
        machine=Machine(
            **dict.fromkeys(("cpu", "cpus", "memory_gib")),
            system=_UNTOLD,
            python=_UNTOLD,
            sensors=tuple(Sensor(source=name, component=part, tier=tier) for name, part, tier in sorted(sensors)),
        ),
        not_counted=NOT_COUNTED,
        versions={"frugal-meter": metadata.version("frugal-meter")},
    )


def _pue(passes: list[Pass]) -> Pue:
    values: dict[Interval, None] = {each.weight.pue: None for each in passes}
    if len(values) > 1:
        shown = ", ".join(f"{each.mid:g}" for each in values)
        raise ConfigurationError(f"the PUE changed within the period ({shown}): make a study of each stretch apart")
    flags = tuple(dict.fromkeys(f for each in passes for f in each.weight.flags if f.startswith("pue:")))
    return Pue(value=next(iter(values)), source="the service's own setting", flags=flags)
