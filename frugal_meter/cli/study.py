"""``frugal-meter study init | run | from-journal | verify | report``: the impact study."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError
from ..exporters.page_figures import localised
from ..exporters.page_texts import LANGUAGES, Lang
from ..records import Interval
from ..study import afterwards, folder
from ..study.building import study_of
from ..study.declaring import load
from ..study.raw import write
from ..study.results import Cost, Study, Unit, Use, Variant
from ..study.running import Progress, order, run
from ..study.template import TEMPLATES
from .journal import moment
from .study_texts import WORDS
from .texts import Words

#: less of the period metered, and the figures are not of that period (as `clauses.contract` has it by default)
_WELL_COVERED: Final = 0.9


def said(key: str, words: Words, **values: object) -> str:
    """A text of this command."""
    french, english = WORDS[key]
    return (french if words.lang == "fr" else english).format(**values)


def initiated(file: Path, words: Words) -> str:
    """Write a commented declaration. Raises ConfigurationError where there is one."""
    if file.exists():
        raise ConfigurationError(f"{file}: is there already; name another file")
    if not file.parent.is_dir():
        raise ConfigurationError(f"{file}: its folder does not exist; make it, or name another file")
    write(file, [TEMPLATES[words.lang].encode()])
    return said("wrote", words, file=file, command=f"frugal-meter study run {shlex.quote(str(file))} --out …")


def ran(file: Path, out: Path, resume: bool, words: Words) -> str:
    """Run a declared study, and save it; what it found, in short. Raises ConfigurationError."""
    plan = load(file)
    try:
        with _bar(words) as progress:
            run(plan, out, resume=resume, progress=progress)
    except KeyboardInterrupt:
        steps = order(plan)
        done = sum((out / "raw" / step.file).is_file() for step in steps)
        raise ConfigurationError(said("kept", words, done=done, all=len(steps), out=out)) from None
    study = study_of(plan, out)
    folder.save(out, study, f"frugal-meter study run {file.name} --out {out.name}")
    return _told(study, out, words)


def from_journal(
    where: str,
    out: Path,
    begin: str | None,
    end: str | None,
    *,
    unit: str,
    description: str | None,
    title: str | None,
    per_year: float | None,
    source: str | None,
    words: Words,
) -> str:
    """Make a study of a journal's period, and save it; what it found, in short. Raises ConfigurationError."""
    if per_year is not None and not (0 < per_year < 1e15 and (source or "").strip()):
        raise ConfigurationError("--per-year is a number above 0, and --source says who supposes so")
    if (begin is None) != (end is None):
        raise ConfigurationError("--begin and --end come together, or neither for all that the journal holds")
    use = (
        None
        if per_year is None
        else Use(units=Interval(per_year, per_year, per_year), hours=8760.0, starts=0.0, source=source or "")
    )
    shown = Path(where.partition("?")[0])  # of a database its name, and no password
    within = (moment(begin), moment(end)) if begin and end else None
    called = title or shown.stem
    asked = afterwards.Asked(where, within, Unit(name=unit, description=description or unit), called, words.lang, use)
    study = afterwards.run(asked, out)
    period = "" if within is None else f" --begin {begin} --end {end}"
    folder.save(out, study, f"frugal-meter study from-journal {shown.name}{period} --unit {unit} --out {out.name}")
    return _told(study, out, words)


def verified(out: Path, words: Words) -> tuple[str, bool]:
    """What is not as it was sealed, a line each; and whether nothing is."""
    faults, figures = folder.verify(out)
    if faults:
        return "\n".join([*faults, said("unsound", words, n=len(faults))]), False
    return said("sound", words, figures=figures, identity=folder.identity(out)), True


def reported(out: Path, lang: str | None, pdf: bool) -> list[Path]:
    """Write the report's pages; which files. Raises ConfigurationError and MissingExtraError."""
    from ..study.report import write as write_report

    if lang is not None and lang not in LANGUAGES:
        raise ConfigurationError(f"--lang {lang!r} is not spoken here: use fr or en")
    langs: Sequence[Lang] = LANGUAGES if lang is None else (lang,)
    return write_report(out, langs=langs, pdf=pdf)


@contextmanager
def _bar(words: Words) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a line per repetition."""
    if not sys.stderr.isatty():
        yield _Lines(words)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2) as bar:
        task = bar.add_task(said("measuring", words), total=None)

        def move(done: float, total: float, what: str) -> None:
            bar.update(task, completed=done, total=total, description=_step(what, words))

        yield move


class _Lines:
    """Progress for a log: a line when another repetition begins."""

    def __init__(self, words: Words) -> None:
        self._words, self._last = words, ""

    def __call__(self, done: float, total: float, what: str) -> None:
        if what != self._last:
            self._last = what
            print(f"frugal-meter: {_step(what, self._words)} ({100 * done / total:.0f} %)", file=sys.stderr, flush=True)


def _step(what: str, words: Words) -> str:
    """``"2:small"`` for people: the second round, of the variant ``small``."""
    round_, _, variant = what.partition(":")
    return said("step", words, round=round_, variant=variant) if variant else said("measuring", words)


def _told(study: Study, out: Path, words: Words) -> str:
    head = "head" if any(each.year is not None for each in study.variants) else "head_served"
    lines = [study.title, said(head, words, unit=study.unit.description)]
    for each in study.variants:
        lines += _variant(each, words)
    lines += [
        "  " + said("ratio", words, variant=each.variant, reference=each.reference, ratio=_ratio(each.energy, words))
        for each in study.comparisons
        if each.energy is not None
    ]
    return "\n".join([*lines, said("done", words, out=out), said("next", words, out=out)])


def _variant(of: Variant, words: Words) -> Iterator[str]:
    cited = of.in_use or of.tested
    if cited is None:
        yield f"  {of.title}{words.colon} {said('none_delivered', words)}"
    else:
        yield f"  {of.title}{words.colon} {_cost(cited, words)} · {words.tier(of.tier)}"
        if of.in_use is not None and of.tested is not None and of.in_use != of.tested:
            yield f"    {said('tested', words)}{words.colon} {_cost(of.tested, words)}"
    if of.quality is None:
        yield f"    {said('no_quality', words)}"
    else:
        low, mid, high = (words.number(round(v, 2)) for v in (of.quality.score.low, of.quality.score.mid, of.quality.score.high))
        yield f"    {said('quality', words, score=mid, low=low, high=high)} · {of.quality.metric}"
    if of.failed:
        yield f"    {said('failed', words, failed=of.failed, all=of.requests, why=', '.join(of.why_failed))}"
    if of.kind == "as-run" and (share := of.load.covered_s / (of.load.end_s - of.load.begin_s)) < _WELL_COVERED:
        yield f"    {said('covered', words, share=words.percent(share))}"
    for flag in ("beyond-one-machine", "remote-unknown", "remote-carbon-unknown"):
        if f"study:{flag}" in of.flags:
            yield f"    {said(flag, words)}"


def _cost(of: Cost, words: Words) -> str:
    return f"{words.known(of.energy_j, 'J')}, {words.known(of.carbon_g, 'gCO2e')}"


def _ratio(of: Interval, words: Words) -> str:
    low, mid, high = (localised(f"{value:.3g}", words.lang) for value in (of.low, of.mid, of.high))
    return f"{mid} ({low}–{high})"
