"""The journal holds what settled, through kill -9, locks, full disks and damaged files, and never costs the service a request."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from frugal_meter import Meter
from frugal_meter.errors import ConfigurationError
from frugal_meter.journal.sqlite import SqliteJournal
from frugal_meter.journal.writer import Journal
from frugal_meter.testing import RecordingExporter
from tests.support import ask, burn, metered

HOUR_S = 3600
ROOT = Path(__file__).parent.parent


def address(path: Path) -> str:
    return f"sqlite:///{path}"


@contextmanager
def kept(path: Path, **settings: Any) -> Iterator[tuple[Meter, RecordingExporter]]:
    with metered(journal=address(path), **settings) as (meter, out):
        yield meter, out


def serve(meter: Meter, times: int = 1, **measured: Any) -> None:
    for _ in range(times):
        with meter.measure("answer", unit="answer", **measured) as span:
            span.add_units(1)
            burn(0.002)


def test_a_full_disk_costs_no_request_and_the_journal_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """Full by RLIMIT_FSIZE, in a process of its own: the limit is the process's."""
    script = f"""
import resource, signal
from tests.test_journal import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path({str(tmp_path / "journal.db")!r})
with kept(path) as (meter, out):
    serve(meter); meter.settle()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{{path}}-wal").stat().st_size, hard))
    serve(meter, 30); meter.settle()
    assert meter.journal.waiting == 30, meter.journal.waiting
    assert meter.errors["export"] == 1, meter.errors
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    meter.settle()
    assert meter.journal.waiting == 0
journal = SqliteJournal(path, create=False)
assert len(list(journal.readings())) == 31
assert journal.verify() == []
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_journal_of_a_newer_version_is_refused_in_one_line_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    made = SqliteJournal(path)
    made.roll_up(0)
    made.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"newer frugal-meter \(layout 99") as refused:
        Journal(address(path))
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


def truncated(path: Path) -> int:
    with kept(path) as (meter, _):
        for _ in range(40):
            serve(meter, 5)
            meter.settle()
    whole = path.stat().st_size
    assert not Path(f"{path}-wal").exists()
    os.truncate(path, whole - 8192)
    return whole


def test_of_a_truncated_journal_what_is_left_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    truncated(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="its end is missing; save what is left"):
        Journal(address(path))
    journal = SqliteJournal(path, create=False)
    saved = [reading.id for reading in journal.saved_readings()]
    assert 100 < len(saved) == len(set(saved)) <= 200
    assert len(list(journal.saved_passes())) > 20
    assert journal.damage is not None
    assert "malformed" in journal.damage
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a letter to the mayor\n" * 20, b"SQLite format 3\0" + bytes(200)])
def test_somebody_elses_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="something else's file"):
        Journal(address(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("where", "settings", "says"),
    [
        ("mysql://user:hunter2@db/journal", {}, "not mysql://…"),
        ("journal.db", {}, "not 'journal.db'"),
        (5, {}, "not 5"),
        ("sqlite:///", {}, "journal is"),
        ("sqlite:////nowhere/at/all.db", {}, "folder does not exist"),
        ("sqlite:///{}", {"raw_days": 0}, "raw_days=0"),
        ("sqlite:///{}", {"keep_days": True}, "keep_days=True"),
        ("sqlite:///{}", {"tenants": "plain"}, 'tenants is "drop" or "hash"'),
        ("sqlite:///{}", {"tenants": "hash"}, "FRUGAL_JOURNAL_KEY"),
    ],
)
def test_a_journal_that_cannot_be_is_refused_in_one_line(
    where: Any, settings: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRUGAL_JOURNAL_KEY", raising=False)
    with pytest.raises(ConfigurationError) as refused:
        Journal(where.format(tmp_path / "j.db") if isinstance(where, str) else where, **settings)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_purging_leaves_nothing_of_it_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with kept(path) as (meter, out):
        serve(meter, model="tiny-model")
        meter.settle()
        id = out.readings[0].id
    journal = SqliteJournal(path)
    gone = journal.purge(2**62)
    assert gone["readings"] == 1
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert id.encode() not in content
    assert journal.info()["passes"] == 0
    journal.close()


# -- quality


@pytest.mark.parametrize(
    ("given", "says"),
    [(("x", 0.5), "is no id"), (("0" * 36, 2), "score=2"), (("0" * 36, True), "score=True"), (("0" * 36, 0.1, 5), "metric=5")],
)
def test_feedback_that_means_nothing_is_refused(given: Any, says: str, tmp_path: Path) -> None:
    with kept(tmp_path / "journal.db") as (meter, _), pytest.raises(ConfigurationError, match=says):
        meter.feedback(*given)


def test_feedback_without_a_journal_is_refused() -> None:
    with metered() as (meter, _), pytest.raises(ConfigurationError, match="there is none"):
        meter.feedback("0" * 36, 1)


JSON = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    ("headers", "body", "client", "status"),
    [
        ([JSON], b'{"id": "ID", "score": 0.25, "metric": "thumb"}', "127.0.0.1", 202),
        ([JSON], b'{"id": "ID", "score": 0.25}', "203.0.113.9", 403),
        ([JSON, (b"x-forwarded-for", b"127.0.0.1")], b'{"id": "ID", "score": 0.25}', "127.0.0.1", 403),
        ([], b'{"id": "ID", "score": 0.25}', "127.0.0.1", 415),
        ([JSON], b'{"id": "ID", "score": 7}', "127.0.0.1", 400),
        ([JSON], b'{"id": "ID", "score": 1, "name": "Marie"}', "127.0.0.1", 400),
        ([JSON], b"\xff", "127.0.0.1", 400),
        ([JSON], b" " * 5000, "127.0.0.1", 413),
    ],
)
def test_feedback_over_http_is_taken_from_the_machine_itself_only(
    headers: Any, body: bytes, client: str, status: int, tmp_path: Path
) -> None:
    path = tmp_path / "journal.db"
    with kept(path) as (meter, out):
        serve(meter)
        meter.settle()
        request = ask(
            meter.ops_app(public=True),
            "/feedback",
            method="POST",
            client=(client, 40_000),
            headers=headers,
            messages=[{"type": "http.request", "body": body.replace(b"ID", out.readings[0].id.encode()), "more_body": False}],
        )
        assert asyncio.run(request)[0]["status"] == status
        meter.settle()
    scores = [f.score for f in SqliteJournal(path, create=False).feedback()]
    assert scores == ([0.25] if status == 202 else [])
