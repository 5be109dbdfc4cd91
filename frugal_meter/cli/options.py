"""What every command has: its common options, its settings, and an end in one line for what the user can mend."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, ParamSpec

import typer

from ..config import DEFAULT_PATH, load
from ..errors import FrugalMeterError

P = ParamSpec("P")
#: exit code of a setting that cannot mean anything, the same as a command line that cannot (click, argparse)
BAD_INPUT: Final = 2

Config = Annotated[Path | None, typer.Option(metavar="FILE", help="frugal.toml to use. [default: $FRUGAL_CONFIG, ./frugal.toml]")]
Language = Annotated[str | None, typer.Option("--lang", metavar="fr|en", help="Language. [default: the locale's]")]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def one_line(command: Callable[P, None]) -> Callable[P, None]:
    """End with one line on stderr and exit code 2 for what the user can mend; anything else is ours to mend, and raises."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except FrugalMeterError as error:
            say(error)
            if kwargs.get("as_json"):
                told = {"exit_code": BAD_INPUT, "error": type(error).__name__, "message": str(error)}
                print(json.dumps(told, ensure_ascii=False))
            raise typer.Exit(BAD_INPUT) from None

    return guarded


def say(message: object) -> None:
    """One line on stderr."""
    print(f"frugal-meter: {message}", file=sys.stderr, flush=True)


def config_file(config: Path | None) -> Path | None:
    """The file that settings come from: asked for, of the environment, or in the current folder; None where there is none."""
    asked = config or os.environ.get("FRUGAL_CONFIG") or (DEFAULT_PATH if Path(DEFAULT_PATH).is_file() else None)
    return None if asked is None else Path(asked)


def settings_of(config: Path | None, **given: Any) -> dict[str, Any]:
    """Settings of the file under those given here."""
    path = config_file(config)
    file: Mapping[str, Any] = {} if path is None else load(path)
    return {**file, **{name: value for name, value in given.items() if value is not None}}
