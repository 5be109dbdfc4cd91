"""``frugal-meter clauses check``: a contract's clauses against a journal."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..clauses.contract import load
from ..clauses.judging import chosen, judged
from ..clauses.report import Report
from ..errors import ConfigurationError
from ..exporters.page_texts import Lang
from ..journal.opening import open_store


def checked(file: Path, where: str, period: str | None) -> Report:
    """Judge the clauses in ``file`` by the journal at ``where``. Raises ConfigurationError and StoreError."""
    contract, now_s = load(file), time.time()
    with open_store(where, create=False) as journal:
        judgements = [judged(contract, stretch, journal, now_s) for stretch in chosen(contract, period, now_s)]
        return Report(contract, judgements, journal.name, now_s)


def write_page(report: Report, out: Path, lang: Lang) -> None:
    """Write the page to a file that is not there yet. Raises ConfigurationError."""
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            file.write(report.html(lang))
    except FileExistsError:
        raise ConfigurationError(f"{out}: is there already; name another file") from None
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written ({error.strerror})") from None
