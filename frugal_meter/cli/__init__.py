"""Command line: ``frugal-meter doctor``, ``run``, ``calibrate``, ``agent``, ``factors``, ``budget``, ``dashboards``, …"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import MissingExtraError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (``sys.argv`` without ``arguments``); ends by SystemExit with the command's exit code."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal in an old encoding shows "?" for "₂" instead of ending in a UnicodeEncodeError
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        from .app import app
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "typer":
            raise
        print(f"frugal-meter: {MissingExtraError('cli', 'the command line')}", file=sys.stderr)
        raise SystemExit(2) from None
    given = None if arguments is None else list(arguments)
    try:
        code = app(args=given, prog_name="frugal-meter", standalone_mode=False)
    except Exception as error:  # typer brings its own copy of click from some version on: their classes are told by shape
        if not hasattr(error, "format_message"):
            raise
        print(_mistyped(error), file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(code or 0)


def _mistyped(error: Any) -> str:
    """A command line that means nothing, in one line; the help where no command was named."""
    told = str(error.format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        return told
    path = error.ctx.command_path if getattr(error, "ctx", None) else "frugal-meter"
    return f"frugal-meter: {told[:1].lower()}{told[1:].rstrip('.')}; see {path} --help"
