"""``python -m examples.assistant [--once] [--json] [--quality brief|sample|full] [--port N] [--no-llm] [--lang fr|en]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from frugal_meter import Meter
from frugal_meter.errors import FrugalMeterError
from frugal_meter.records import as_dict

from . import demo, service, tables
from .app import create_app
from .words import Words, language_of


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.assistant", description="A metered public-service assistant.")
    parser.add_argument("--once", action="store_true", help="end after the report instead of staying up")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of tables")
    parser.add_argument("--quality", choices=tuple(demo.QUALITY_SECONDS), default="sample", help="how long the model is scored")
    parser.add_argument("--port", type=int, help=f"default {service.DEFAULT_PORT}, or a spare one when it is taken")
    parser.add_argument("--no-llm", action="store_true", help="retrieval alone")
    parser.add_argument("--lang", choices=("fr", "en"), default=language_of())
    return parser.parse_args(argv)


@contextmanager
def _bars(words: Words) -> Iterator[demo.Progress]:
    """A progress bar per phase, on stderr: stdout belongs to the report."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    errors = Console(stderr=True)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def move(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(words(phase), total=total)
            bars.update(tasks[phase], completed=done)

        yield move


def _document(report: demo.Report, notebook: service.Notebook, why: str | None, seconds: float) -> dict[str, Any]:
    """The one JSON document; absent figures are null."""
    books = report.account
    return {
        "readings": [as_dict(reading) for reading in notebook.readings],
        "ticks": [as_dict(tick) for tick in notebook.ticks],
        "host": {
            "cpus": os.cpu_count(),
            "machine": platform.machine(),
            "system": platform.system(),
            **msgspec.to_builtins(books),
        },
        "summary": {
            "service": demo.SERVICE,
            "seconds": seconds,
            "requests": report.requests,
            "requests_planned": report.expected,
            "client_error": report.client_error,
            "language_model": {"available": why is None, "why": why},
            "routes": msgspec.to_builtins(report.rows),
            "quality": [
                msgspec.to_builtins(row) | {"joules_per_right": msgspec.to_builtins(row.joules_per_right)}
                for row in report.quality
            ],
            "degraded": msgspec.to_builtins(report.degraded),
            "refused": msgspec.to_builtins(report.refused),
        },
    }


def _notes(notebook: service.Notebook, words: Words) -> tuple[str, str]:
    """The emission factors, and what the interval is by which method, as the readings name them."""
    factors = sorted({name for reading in notebook.readings for name in reading.factor_ids})
    methods = sorted({reading.method_id for reading in notebook.readings})
    return ", ".join(factors) or "–", f"{words('plausible')}, {', '.join(methods)}"


def _report(asked: argparse.Namespace, words: Words, errors: Console, door: socket.socket) -> int:
    began = time.monotonic()
    with errors.status(words("loading")):
        tiers, why = demo.load_tiers(not asked.no_llm)
        budgets = demo.budgets(demo.price(tiers))
    if tiers.language_model is None:
        why = why or words("no_llm_asked")
        errors.print(words("no_llm", why=why), highlight=False, soft_wrap=True)
    notebook = service.Notebook()
    meter = Meter(demo.SERVICE, zone="FR", budgets=budgets, exporters=[notebook], store="memory")  # each run begins at zero
    with service.serving(create_app(meter, tiers), door) as base:
        with _bars(words) as progress:
            report = demo.run(meter, notebook, tiers, base, progress, demo.QUALITY_SECONDS[asked.quality])
        seconds = time.monotonic() - began
        if asked.json:
            print(json.dumps(_document(report, notebook, why, seconds), ensure_ascii=False, allow_nan=False), flush=True)
        else:
            out = Console(width=100)
            tables.show(report, words, out, *_notes(notebook, words))
            out.print(words("seconds", seconds=words.figure(seconds, "s")), highlight=False)
        if not asked.once:
            errors.print(words("up", base=base), highlight=False, soft_wrap=True)
            threading.Event().wait()
    return 1 if report.client_error else 0


def main(argv: Sequence[str] | None = None) -> int:
    """0 when the report was printed, 1 when the client could not finish, 2 for what cannot work here, in one line."""
    asked = _arguments(argv)
    words, errors = Words(asked.lang), Console(stderr=True)
    door = _door(asked.port)
    if door is None:
        errors.print(words("port_taken", port=asked.port), soft_wrap=True)
        return 2
    try:
        return _report(asked, words, errors, door)
    except KeyboardInterrupt:
        return 0
    except FrugalMeterError as error:
        errors.print(str(error), style="red", highlight=False, soft_wrap=True)
        return 2


def _door(port: int | None) -> socket.socket | None:
    try:
        return service.listen(service.DEFAULT_PORT if port is None else port)
    except OSError:
        return service.listen(0) if port is None else None


if __name__ == "__main__":
    raise SystemExit(main())
