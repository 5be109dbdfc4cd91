"""``frugal-meter clauses``: its commands and their options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Language, one_line

clauses = typer.Typer(no_args_is_help=True, help="Clauses of a public contract: check them against a journal.")


@clauses.callback()
def _group() -> None:
    """Clauses of a public contract: check them against a journal."""


@clauses.command("check", short_help="Whether each clause was kept, and how sure that is.")
@one_line
def clauses_check(
    file: Annotated[Path, typer.Argument(metavar="CLAUSES", help="The clauses, as TOML.")],
    journal: Annotated[str, typer.Option(metavar="JOURNAL", help="A journal's file, or postgresql://….")],
    period: Annotated[
        str | None, typer.Option(metavar="NAME", help="One period of the contract. [default: all that are over]")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report for both parties, as a page.")] = None,
    as_json: Json = False,
    lang: Language = None,
) -> None:
    """Whether each clause of a contract was kept, and how sure that is.

    Exit code: 0 all kept, 1 one is broken, 2 bad input, 3 none is broken for sure but not all can be judged.
    """
    from .clauses import checked, write_page
    from .texts import language_of

    spoken, report = language_of(lang), checked(file, journal, period)
    if html is not None:
        write_page(report, html, spoken)
    print(json.dumps(report.json(), ensure_ascii=False, indent=2) if as_json else report.text(spoken))
    raise typer.Exit(report.exit_code)
