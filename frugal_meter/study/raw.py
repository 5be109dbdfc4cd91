"""Raw data of one repetition: a file of JSON lines in the order in which things happened, written whole or not at all.

Lines have a ``type``: head (who, where, which weights), phase (from here on), pass (books of a tick, with what each span drew),
reading (settled in that phase), exchange (a request as the client saw it), end.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ..carbon.factors import Factor
from ..errors import ConfigurationError
from ..journal.rows import PassRow
from ..periods import Pass, Tally
from ..records import Reading
from .results import Embodied, Machine, Pue

Phase = Literal["start", "rest", "load"]


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="head"):
    """Who was measured, when (ISO 8601, UTC), and what its joules weigh. ``load`` says what was asked."""

    variant: str
    round: int
    began_at: str
    service: str
    zone: str
    factors: tuple[Factor, ...]
    pue: Pue
    embodied: Embodied | None
    machine: Machine
    not_counted: tuple[str, ...]
    versions: dict[str, str]
    load: str | None = None
    load_sha256: str | None = None
    requests: int | None = None


class Mark(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="phase"):
    """From here on, this phase; ``at_s`` is Unix time. The last mark is "end"."""

    name: Literal["start", "rest", "load", "end"]
    at_s: float


class Exchange(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="exchange"):
    """A request of the load as its client saw it. ``line`` is its place in the load, ``status`` None where no answer came.

    ``why`` says in a few words why it failed; ``score`` is the judge's, None where it was not judged. No text of it is kept.
    """

    line: int
    seconds: float
    status: int | None
    ok: bool
    why: str | None = None
    score: float | None = None


class PassLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="pass"):
    """The books of a tick; ``spans``: source → (dynamic nJ by span, idle nJ by span)."""

    books: Pass
    spans: dict[str, tuple[dict[int, int], dict[int, int]]]


class ReadingLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="reading"):
    """A settled reading."""

    reading: Reading


class TallyLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tally"):
    """Readings that a journal has rolled up into sums."""

    tally: Tally


Line = Head | Mark | PassLine | ReadingLine | TallyLine | Exchange
_DECODER: Final = msgspec.json.Decoder(Line)
_ENCODER: Final = msgspec.json.Encoder()


class Run(msgspec.Struct):
    """One file, read: its head, and by phase its passes, readings and moments; exchanges are those of the load."""

    file: str
    head: Head
    marks: list[Mark] = []
    passes: dict[str, list[Pass]] = {}
    readings: dict[str, list[Reading]] = {}
    tallies: list[Tally] = []
    exchanges: list[Exchange] = []

    def begin_s(self, phase: str) -> float:
        """Unix time at which a phase began."""
        return next(mark.at_s for mark in self.marks if mark.name == phase)

    def end_s(self, phase: str) -> float:
        """Unix time at which it ended."""
        place = next(place for place, mark in enumerate(self.marks) if mark.name == phase)
        return self.marks[place + 1].at_s


def pass_line(row: PassRow) -> PassLine:
    """A journal's row as a line."""
    return PassLine(books=row.books, spans={name: (dict(a), dict(b)) for name, (a, b) in row.spans.items()})


def encoded(line: Line | Mapping[str, Any]) -> bytes:
    """One line, with its end."""
    return _ENCODER.encode(line) + b"\n"


def write(file: Path, lines: Iterable[bytes]) -> None:
    """The file, whole and on the disk, or not at all. Raises ConfigurationError."""
    part = file.with_name(f".{file.name}.part")
    try:
        with part.open("wb") as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ConfigurationError(f"{file}: cannot be written ({error.strerror}); what was measured before is kept") from None


def lines(file: Path) -> Iterator[Line]:
    """The lines of a file. Raises ConfigurationError that names the line."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield _DECODER.decode(line)
        except msgspec.DecodeError as error:
            raise ConfigurationError(
                f"{file}, line {number}: is no line of a study ({error}); remove the file and run again with --resume"
            ) from None


def read(file: Path) -> Run:
    """A repetition. Raises ConfigurationError."""
    run: Run | None = None
    phase = ""
    for line in lines(file):
        if isinstance(line, Head):
            run = Run(f"raw/{file.name}", line)
        elif run is None:
            raise ConfigurationError(f"{file}: does not begin with its head; remove it and run again with --resume")
        elif isinstance(line, Mark):
            run.marks.append(line)
            phase = line.name
        elif isinstance(line, PassLine):
            run.passes.setdefault(phase, []).append(line.books)
        elif isinstance(line, ReadingLine):
            run.readings.setdefault(phase, []).append(line.reading)
        elif isinstance(line, TallyLine):
            run.tallies.append(line.tally)
        else:
            run.exchanges.append(line)
    if run is None or not run.marks or run.marks[-1].name != "end":
        raise ConfigurationError(f"{file}: its end is missing; remove it and run again with --resume")
    return run
