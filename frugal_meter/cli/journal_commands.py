"""``frugal-meter journal``: its commands and their options; what each does is in `journal`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Language, one_line, say

journal = typer.Typer(no_args_is_help=True, help="What a service kept: info, period, verify, export, purge.")
File = Annotated[str, typer.Argument(metavar="JOURNAL", help="Its file, or the address of its database: postgresql://….")]


@journal.command("info", short_help="What is in it, its size, and what was lost, as JSON.")
@one_line
def journal_info(file: File) -> None:
    """What is in it, how large it is, and what was lost, as JSON."""
    from .journal import info

    print(info(file))


@journal.command("verify", short_help="Whether it is sound, and its books close.")
@one_line
def journal_verify(file: File, lang: Language = None) -> None:
    """Whether its structure is sound and its books close to the nanojoule. Exit code: 0 sound, 1 not, 2 bad input."""
    from .journal import verified
    from .texts import Words, language_of

    text, sound = verified(file, Words(language_of(lang)))
    print(text)
    raise typer.Exit(0 if sound else 1)


@journal.command("period", short_help="What the service cost over a period: the figures to cite.")
@one_line
def journal_period(
    file: File,
    begin: Annotated[str | None, typer.Option(metavar="2026-01-01", help="First moment, UTC. [default: the first kept]")] = None,
    end: Annotated[str | None, typer.Option(metavar="2026-02-01", help="Moment after the last. [default: the last kept]")] = None,
    unit: Annotated[str, typer.Option(help="Functional unit to divide by, as spans name it.")] = "request",
    for_public: Annotated[bool, typer.Option("--public", help="Refuse a period with fewer than 5 requests.")] = False,
    as_json: Json = False,
    lang: Language = None,
) -> None:
    """What the service cost over a period, per functional unit delivered: the figures to cite."""
    from .journal import as_json as document
    from .journal import figures, shown
    from .texts import Words, language_of

    found, words = figures(file, begin, end, unit, for_public), Words(language_of(lang))
    print(document(found) if as_json else shown(found, words))


@journal.command("export", short_help="Write it as JSON lines, CSV, Parquet or GSF.")
@one_line
def journal_export(
    file: File,
    format: Annotated[str, typer.Option(metavar="jsonl|csv|parquet|gsf", help="The shape.")] = "jsonl",
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="Where to. [default: stdout; parquet needs a folder]")] = None,
    lang: Language = None,
) -> None:
    """Write it in another shape; of a damaged file what can be read. Exit code: 0 all, 1 part of it, 2 bad input."""
    from .journal import exported
    from .texts import Words, language_of

    words, (count, damage) = Words(language_of(lang)), exported(file, format, out)
    say(words("journal_exported", count=count))
    if damage is not None:
        say(words("journal_damaged", damage=damage))
        raise typer.Exit(1)


@journal.command("purge", short_help="Delete for good what is older, or one period.")
@one_line
def journal_purge(
    file: File,
    before: Annotated[str, typer.Option(metavar="2026-02-01", help="Delete what ended before this moment, UTC.")],
    begin: Annotated[
        str | None, typer.Option(metavar="2026-01-01", help="Keep what ended before this one. [default: nothing]")
    ] = None,
) -> None:
    """Delete for good what is older, or one period; prints how many rows went."""
    from .journal import purged

    print(purged(file, before, begin))
