"""Where the readings are that ``explain`` and ``compare`` speak of: a running meter, a file, or whatever else can look one up."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec

from ..errors import ConfigurationError
from ..journal.opening import is_server, open_store
from ..records import Reading

#: where ``frugal-meter run`` and `Meter.serve_ops` listen
OPS: Final = "http://127.0.0.1:9464"
_TIMEOUT_S: Final = 10.0
_MOST_BYTES: Final = 1_000_000
#: how a database file begins (sqlite.org, "Database File Format", 1.2)
_SQLITE: Final = b"SQLite format 3\0"


class Book(Protocol):
    """Something that readings can be looked up in."""

    def find(self, id: str) -> Reading | None:
        """The reading of that id; None where there is none."""


class File:
    """Readings exported as JSON lines, by `exporters.json_lines.JsonLines` or in its shape."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, id: str) -> Reading | None:
        """The last reading of that id."""
        found = None
        for reading in self.readings():
            if reading.id == id:
                found = reading
        return found

    def readings(self) -> Iterator[Reading]:
        """All of them. Raises ConfigurationError with the line that is none; a last one cut short is passed over."""
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        try:
                            yield reading_of(json.loads(line), f"{self._path}, line {number}")
                        except ValueError as error:
                            if isinstance(error, ConfigurationError):
                                raise
                            if line.endswith(b"\n"):  # else its writer was killed in the middle of it
                                raise ConfigurationError(f"{self._path}, line {number}: not JSON ({error})") from None
        except OSError as error:
            raise ConfigurationError(f"{self._path}: cannot be read ({error.strerror})") from None


class Kept:
    """A journal: a file, or the address of a database."""

    def __init__(self, where: str) -> None:
        self._where = where

    def find(self, id: str) -> Reading | None:
        """The reading of that id."""
        with open_store(self._where, create=False) as journal:
            return journal.find(id)

    def readings(self) -> Iterator[Reading]:
        """All of them that have not become sums by the hour."""
        with open_store(self._where, create=False) as journal:
            yield from journal.readings()


class Ops:
    """The ops pages of a running meter, with ``$FRUGAL_OPS_TOKEN`` where it is set."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def find(self, id: str) -> Reading | None:
        """The reading, of the last 10,000 of the process that answers."""
        token = os.environ.get("FRUGAL_OPS_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{self._url}/readings/{quote(id, safe='')}", headers=headers)
        try:
            # Without the environment's proxies: they know nothing of this machine's own pages.
            opened = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_TIMEOUT_S)
            with opened as reply:
                told = json.loads(reply.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            raise ConfigurationError(f"{self._url}: answered {error.code}; set FRUGAL_OPS_TOKEN where it needs a token") from None
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{self._url}: no meter answers there ({getattr(error, 'reason', error)}); give --from URL or --from FILE"
            ) from None
        return reading_of(told, self._url)


def book_of(where: str | None) -> Book:
    """What ``--from`` names: the pages of a meter, a journal, exported readings, or the meter of this machine."""
    if where is None or where.startswith(("http://", "https://")):
        return Ops(where or OPS)
    return Kept(where) if is_journal(where) else File(Path(where))


def is_journal(where: str) -> bool:
    """Whether this is a journal's address, or the path of its file."""
    if is_server(where) or where.startswith("sqlite:///"):
        return True
    try:
        with Path(where).open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def reading_of(told: Any, where: str) -> Reading:
    """A `Reading` from JSON; raises ConfigurationError."""
    try:
        return msgspec.convert(told, Reading)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: no reading of this version ({error})") from None


def found(id: str, book: Book) -> Reading:
    """The reading of that id; raises ConfigurationError."""
    reading = book.find(id)
    if reading is None:
        if not isinstance(book, Ops):
            raise ConfigurationError(f"no reading {id!r} in what --from names")
        raise ConfigurationError(
            f"no reading {id!r} there: a running meter without a journal keeps the last 10,000 of each process; "
            "give --from its pages (…/frugal), a journal or an export"
        )
    return reading
