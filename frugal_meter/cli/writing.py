"""Files that commands write: new ones never over somebody's, and published ones whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from ..errors import ConfigurationError


@contextlib.contextmanager
def new_file(out: Path, mode: int, newline: str | None = None) -> Iterator[IO[str]]:
    """A text file that was not there, with these rights. Raises ConfigurationError for one that is, or cannot be written."""
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8", newline=newline) as file:
            yield file
    except FileExistsError:
        raise ConfigurationError(f"{out}: is there already; name another file") from None
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written ({error.strerror})") from None


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write each file whole: who reads while it is replaced gets the old or the new one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            _replace(folder / name, data)
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot be written ({error.strerror})") from None


def _replace(path: Path, data: bytes) -> None:
    number, spare = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)  # a web server of another user gives it out
        os.replace(spare, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(spare)
        raise
