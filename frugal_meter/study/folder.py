"""A study's folder: study.json, raw data, the script that recomputes it, and a manifest with the hash of every file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from ..errors import ConfigurationError
from . import recompute
from .raw import write
from .results import Study, decoded, encoded

MANIFEST: Final = "manifest.json"
SUMS: Final = "SHA256SUMS"
STUDY: Final = "study.json"
SCRIPT: Final = "recompute.py"
#: a folder's own declaration; a study from a journal has none
DECLARATION: Final = "study.toml"
_SCHEMA: Final = "frugal-meter-study-manifest/1"


class File(msgspec.Struct, frozen=True):
    """A file of the folder: its path in it, SHA-256 and bytes."""

    path: str
    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the folder holds, and how it came to be. ``command`` made it, ``recompute`` checks it."""

    title: str
    made_at: str
    command: str
    recompute: str
    seed: int | None
    machine: str
    versions: dict[str, str]
    files: tuple[File, ...]
    schema: str = _SCHEMA


def save(folder: Path, study: Study, command: str) -> None:
    """Write study.json and the script, and seal the folder. Raises ConfigurationError."""
    write(folder / STUDY, [encoded(study)])
    write(folder / SCRIPT, [Path(recompute.__file__).read_bytes()])
    _seal(folder, study, command)


def _seal(folder: Path, study: Study, command: str) -> None:
    found = Manifest(
        title=study.title,
        made_at=study.made_at,
        command=command,
        recompute=f"python3 -I -S {SCRIPT}",
        seed=study.protocol.seed,
        machine=_in_words(study),
        versions=study.versions,
        files=tuple(_file(folder, path) for path in _paths(folder)),
    )
    text = msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"
    write(folder / MANIFEST, [text])
    own = File(MANIFEST, hashlib.sha256(text).hexdigest(), len(text))
    write(folder / SUMS, [f"{each.sha256}  {each.path}\n".encode() for each in (*found.files, own)])


def _paths(folder: Path) -> list[Path]:
    """What is sealed. Reports are not: they are made of the study, quote its manifest's hash, and can be made again."""
    raw_data = sorted(path for path in (folder / "raw").iterdir() if path.is_file() and not path.name.startswith("."))
    named = (folder / name for name in (DECLARATION, SCRIPT, STUDY))
    return [*(path for path in named if path.is_file()), *raw_data]


def _file(folder: Path, path: Path) -> File:
    content = path.read_bytes()
    return File(path.relative_to(folder).as_posix(), hashlib.sha256(content).hexdigest(), len(content))


def _in_words(study: Study) -> str:
    machine = study.machine
    sensors = ", ".join(f"{each.source} ({each.tier})" for each in machine.sensors)
    memory = None if machine.memory_gib is None else f"{machine.memory_gib:g} GiB"
    cpus = None if machine.cpus is None else f"{machine.cpus} CPUs"
    return "; ".join(filter(None, (machine.cpu, cpus, memory, machine.system, sensors)))


def read(folder: Path) -> Study:
    """The study in a folder. Raises ConfigurationError."""
    file = folder / STUDY
    try:
        return decoded(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"{file}: cannot be read ({error.strerror}); frugal-meter study run --resume finishes a study that was interrupted"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: is no study ({error}); frugal-meter study verify says what was changed") from None


def manifest(folder: Path) -> Manifest:
    """Its manifest. Raises ConfigurationError."""
    file = folder / MANIFEST
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: is no manifest ({error})") from None


def verify(folder: Path) -> tuple[list[str], int]:
    """What is not as it was sealed, or does not follow from the raw data; and how many figures were recomputed."""
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: there is no such folder")
    return recompute.check(folder)


def identity(folder: Path) -> str:
    """What to cite: the SHA-256 of the manifest, which holds those of all the rest."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
