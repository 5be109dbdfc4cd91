"""Command line: ``frugal-meter doctor``, ``run``, ``calibrate``, ``agent``, ``factors``, ``budget``, ``dashboards``, …"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

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
    app(args=None if arguments is None else list(arguments), prog_name="frugal-meter")
