"""Files and tables that people write by hand: TOML read, and every key checked, so that a slip is told and not passed over."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from .errors import ConfigurationError


def read_tables(file: Path, remedy: str = "") -> tuple[bytes, dict[str, Any]]:
    """The bytes of a TOML file and its tables. ``remedy`` is what to do where there is none.

    Raises ConfigurationError, in one line with the file, for one that cannot be read, is not UTF-8 or no TOML.
    """
    try:
        raw = file.read_bytes()
        return raw, tomllib.loads(raw.decode())
    except OSError as error:
        told = f"; {remedy}" if remedy else ""
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}){told}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file}: is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: not valid TOML: {error}") from None


def only(where: str, keys: Iterable[object], known: Collection[str], *, what: str = "setting") -> None:
    """Raise ConfigurationError for a key that is not ``known``, with the nearest one that is."""
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigurationError(f"{where} has no {what} {key!r}; {hint}")
