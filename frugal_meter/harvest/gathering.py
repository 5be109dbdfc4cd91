"""Where declarations come from: addresses, files, folders of files; each gives its bytes, or why it has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ..declaration.reading import MOST_BYTES
from ..errors import ConfigurationError, DeclarationError
from .fetch import Limits, fetch

#: declarations of one harvest, and how many are fetched at once
MOST_SOURCES: Final = 5000
_AT_ONCE: Final = 8


class Found(NamedTuple):
    """What a source gave: its name, who answers for it (a host or a folder), and its bytes or why it has none."""

    source: str
    origin: str
    data: bytes | None
    why: str = ""


def sources_of(given: Sequence[str], listed: Path | None) -> list[str]:
    """Every source once, in order: those given, those of a list, and for a folder its ``*.json``. Raises ConfigurationError."""
    names = [*given, *(_lines(listed) if listed is not None else ())]
    every = [each for name in names for each in _spread(name)]
    found = list(dict.fromkeys(every))
    if not found:
        raise ConfigurationError("nothing to harvest: name addresses, files or folders, or give --from FILE")
    if len(found) > MOST_SOURCES:
        raise ConfigurationError(f"{len(found)} declarations at once: {MOST_SOURCES} at most")
    return found


def gathered(sources: Sequence[str], limits: Limits) -> Iterator[Found]:
    """What each source gives, in their order."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="frugal-harvest") as pool:
        yield from pool.map(lambda source: _one(source, limits), sources)


def is_address(source: str) -> bool:
    """Whether a source is an address rather than a file."""
    return "://" in source


def _one(source: str, limits: Limits) -> Found:
    try:
        if is_address(source):
            data, origin = fetch(source, limits), urlsplit(source).netloc.lower()
        else:
            data, origin = _file(Path(source)), str(Path(source).parent)
    except DeclarationError as error:
        return Found(source, "", None, str(error))
    return Found(source, origin, data)


def _file(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise DeclarationError("there is no such file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DeclarationError(f"cannot be read ({error.strerror})") from None
    if len(data) > MOST_BYTES:
        raise DeclarationError(f"larger than {MOST_BYTES // 1_000_000} MB")
    return data


def _spread(name: str) -> list[str]:
    if is_address(name) or not Path(name).is_dir():
        return [name]
    files = sorted(str(each) for each in Path(name).glob("*.json") if not each.name.endswith(".schema.json"))
    if not files:
        raise ConfigurationError(f"{name}: holds no *.json")
    return files


def _lines(listed: Path) -> list[str]:
    try:
        if listed.stat().st_size > MOST_BYTES:
            raise ConfigurationError(f"{listed}: larger than {MOST_BYTES // 1_000_000} MB")
        text = listed.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{listed}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{listed}: is not UTF-8 text; save it as UTF-8") from None
    lines = (line.partition(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
