"""``frugal-meter declaration`` and ``frugal-meter harvest``: what a service tells the public, and what others told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Config, Language, one_line, say, settings_of

declaration = typer.Typer(no_args_is_help=True, help="What a service tells the public: check, write, schema.")


@declaration.command("check")
@one_line
def declaration_check(config: Config = None, lang: Language = None) -> None:
    """What people still have to say in [declaration]. Exit code: 0 nothing, 1 something, 2 bad input."""
    from .declaring import missing_lines
    from .public_texts import said
    from .texts import Words, language_of

    words = Words(language_of(lang))
    if lines := missing_lines(settings_of(config), words):
        print("\n".join(lines))
        raise typer.Exit(1)
    print(said(words.lang, "complete"))


@declaration.command("write", short_help="Write the declaration, the notices and carbon.txt.")
@one_line
def declaration_write(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to; files of the same names there are replaced.")],
    journal: Annotated[
        str | None,
        typer.Option(metavar="JOURNAL", help="Its file, or the address of its database. [default: that of the configuration]"),
    ] = None,
    config: Config = None,
    begin: Annotated[
        str | None, typer.Option(metavar="2026-01-01", help="First moment, with --end. [default: the last whole period]")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="2026-02-01", help="Moment after the last.")] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the folder is public, for carbon.txt. [default: [declaration] url]")
    ] = None,
    lang: Language = None,
) -> None:
    """Write frugal-ai.json, its schema, the notice in French and English, and carbon.txt, for any web server."""
    from .declaring import written
    from .texts import Words, language_of

    words = Words(language_of(lang))
    for line in written(settings_of(config), out, journal, (begin, end), url, words):
        say(line)


@declaration.command("schema")
@one_line
def declaration_schema() -> None:
    """The JSON Schema (2020-12) of frugal-ai.json."""
    from ..declaration.serving import schema_file

    print(schema_file().decode(), end="")


@one_line
def harvest(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="URL|FILE|FOLDER", help="Declarations, or folders of them.")
    ] = None,
    listed: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A list of them, one a line; # begins a remark.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write the observatory there. [default: check only]")] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Ask addresses of this machine and of private networks too.")
    ] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Longest wait for one declaration.", min=0.1, max=300)] = 10.0,
    lang: Language = None,
) -> None:
    """Fetch declarations, refuse what is ill-formed or stale, and build an observatory: pages, JSON and CSV.

    Exit code: 0 all were taken, 1 some were refused, 2 bad input or none was taken.
    """
    from .harvesting import harvested
    from .texts import Words, language_of

    words = Words(language_of(lang))
    raise typer.Exit(harvested(sources or [], listed, out, allow_private, timeout, words))
