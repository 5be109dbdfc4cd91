"""``frugal-meter clauses check``: a contract's clauses against a journal."""

from __future__ import annotations

import time
from pathlib import Path

from ..clauses.contract import load
from ..clauses.judging import chosen, judged
from ..clauses.report import Report
from ..exporters.page_texts import Lang
from ..journal.opening import open_store
from .writing import new_file


def checked(file: Path, where: str, period: str | None) -> Report:
    """Judge the clauses in ``file`` by the journal at ``where``. Raises ConfigurationError and StoreError."""
    contract, now_s = load(file), time.time()
    with open_store(where, create=False) as journal:
        judgements = [judged(contract, stretch, journal, now_s) for stretch in chosen(contract, period, now_s)]
        return Report(contract, judgements, journal.name, now_s)


def write_page(report: Report, out: Path, lang: Lang) -> None:
    """Write the page to a file that is not there yet. Raises ConfigurationError."""
    with new_file(out, 0o644) as file:
        file.write(report.html(lang))
