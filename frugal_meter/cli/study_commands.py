"""The commands of ``frugal-meter study`` and their options; what they do is in `study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Language, one_line

study = typer.Typer(no_args_is_help=True, help="The impact study: init, run, from-journal, verify, report.")
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the study goes.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A study's folder.")]


@study.command("init")
@one_line
def study_init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The declaration to write.")] = Path("study.toml"),
    lang: Language = None,
) -> None:
    """Write a commented declaration to fill in."""
    from .study import initiated
    from .texts import Words, language_of

    print(initiated(file, Words(language_of(lang))))


@study.command("run", short_help="Measure a declared scenario before deployment.")
@one_line
def study_run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The declaration: study.toml.")],
    out: Out,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that was interrupted.")] = False,
    lang: Language = None,
) -> None:
    """Measure a declared scenario before deployment: every variant, interleaved, beside its alternative."""
    from .study import ran
    from .texts import Words, language_of

    print(ran(file, out, resume, Words(language_of(lang))))


@study.command("from-journal", short_help="Make a study afterwards, of what was served.")
@one_line
def study_from_journal(
    where: Annotated[str, typer.Argument(metavar="JOURNAL", help="Its file, or the address of its database: postgresql://….")],
    out: Out,
    begin: Annotated[str | None, typer.Option(metavar="2026-01-01", help="First moment, with --end. [default: all]")] = None,
    end: Annotated[str | None, typer.Option(metavar="2026-04-01", help="Moment after the last.")] = None,
    unit: Annotated[str, typer.Option(metavar="NAME", help="The functional unit that the service counts.")] = "request",
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What one unit is, in words.")] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="The study's title.")] = None,
    per_year: Annotated[float | None, typer.Option("--per-year", metavar="N", help="Units supposed for a year.")] = None,
    source: Annotated[str | None, typer.Option(metavar="TEXT", help="Who supposes so.")] = None,
    lang: Language = None,
) -> None:
    """Make a study afterwards, of what a service's journal holds of a period."""
    from .study import from_journal
    from .texts import Words, language_of

    told = {"unit": unit, "description": description, "title": title, "per_year": per_year, "source": source}
    print(from_journal(where, out, begin, end, **told, words=Words(language_of(lang))))  # type: ignore[arg-type]


@study.command("verify", short_help="Check every hash, and recompute every figure.")
@one_line
def study_verify(out: Folder, lang: Language = None) -> None:
    """Check every hash, and recompute every figure from the raw data.

    Exit code: 0 sound, 1 something was changed or does not follow.
    """
    from .study import verified
    from .texts import Words, language_of

    text, sound = verified(out, Words(language_of(lang)))
    print(text)
    raise typer.Exit(0 if sound else 1)


@study.command("report")
@one_line
def study_report(
    out: Folder,
    lang: Annotated[str | None, typer.Option("--lang", metavar="fr|en", help="One language alone. [default: both]")] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Tagged PDFs as well (extra: study).")] = False,
) -> None:
    """Write the report's pages beside the study."""
    from .study import reported

    for file in reported(out, lang, pdf):
        print(file)
