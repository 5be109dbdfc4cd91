"""The workers of one service put their sums where each of them can read them all: any worker tells the whole service's.

A folder per service and server: each worker has a snapshot there, replaced as a whole at every tick, and a mapped word that
counts the requests it has ended. Both outlive a `kill -9`; what the word counts beyond the snapshot was answered and never
settled. Workers that have ended are folded into one file, so that a scrape costs no more after a thousand of them.

The folder is named after the server's process (its number and start): a server that is started anew starts at 0.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from ..errors import ConfigurationError
from ..ring.election import hold, is_one_of_several, namesake, run_folder
from ..ring.peers import lives, started
from .sums import Sums, Total, grain

#: of the records in these files; workers of different versions do not meet
VERSION: Final = 3
_ENDED: Final = "ended"
_LOCK: Final = "lock"
_COUNT, _SUMS = ".count", ".sums"
#: a worker that has just begun tells its first sums within milliseconds; a scrape waits this long for it
_RETRIES, _RETRY_S = 20, 0.001

Item = TypeVar("Item", Sums, Total)
_joined: set[tuple[int, Path]] = set()  # by process: a second meter of the same name is not another worker


class _Member(NamedTuple):
    """A worker's files in the folder: ``name`` is its process and start."""

    name: str
    lives: bool
    sums: Sums | None
    ended: int


class Multiprocess:
    """This process's place among the workers of a service that one server started."""

    def __init__(self, service: str, sources: Sequence[str], fault: Callable[[str, BaseException], None]) -> None:
        self._parts, self._fault = (str(VERSION), service, *sources), fault
        self._folder: Path | None = None
        self._name = ""
        self._map: mmap.mmap | None = None
        self._held = -1

    @property
    def joined(self) -> bool:
        """Whether this worker's sums are among the service's."""
        return self._folder is not None

    def join(self, count: int) -> memoryview | None:
        """Take a place, and fold those whose workers have ended; the word in which ended requests are to be counted, at
        ``count`` now. None where this process is no worker of a server, or has nowhere to meet the others.
        """
        if self._folder is not None or not is_one_of_several():
            return None
        try:
            folder = self._meeting_place()
            if (os.getpid(), folder) in _joined:
                return None
            self._name = f"{os.getpid()}-{started()}"
            word = self._open_count(folder, count)
            self._folder, self._held = folder, hold(folder.parent)
            _joined.add((os.getpid(), folder))
            self._fold(folder)
        except (OSError, ConfigurationError) as error:
            self._fault("share", error)
            return None
        return word

    def _meeting_place(self) -> Path:
        server = os.getppid()
        run = run_folder()
        folder = run / f"sums-{server}-{started(server)}-{namesake(*self._parts)}"
        folder.mkdir(mode=0o700, exist_ok=True)
        for old in run.glob("sums-*"):
            if not _in_use(old):
                shutil.rmtree(old, ignore_errors=True)
        return folder

    def _open_count(self, folder: Path, count: int) -> memoryview:
        fd = os.open(folder / (self._name + _COUNT), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.truncate(fd, mmap.PAGESIZE)
            self._map = mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)
        word = memoryview(self._map).cast("Q")
        word[0] = count
        return word

    def publish(self, sums: Sums) -> None:
        """Replace this worker's snapshot. Raises OSError; the one before stays then."""
        if self._folder is not None:
            _replace(self._folder / (self._name + _SUMS), msgspec.msgpack.encode(sums))

    def gather(self) -> tuple[Total, list[Sums]]:
        """The workers that have ended, summed, and each that lives, as of its last tick; none where this worker has no place."""
        folder = self._folder
        if folder is None:
            return Total(), []
        for _ in range(_RETRIES):
            before = _stamp(folder / _ENDED)
            total, members = self._read(folder)
            if any(not member.lives for member in members) and self._try_to_fold(folder):
                continue
            # Nobody was folded meanwhile, so nobody is in both or in neither; and nobody has begun who has told nothing yet.
            if _stamp(folder / _ENDED) == before and all(member.sums is not None for member in members):
                break
            time.sleep(_RETRY_S)
        _add_ended(total, members)
        return total, [member.sums for member in members if member.lives and member.sums is not None]

    def _read(self, folder: Path) -> tuple[Total, list[_Member]]:
        total = _decoded(folder / _ENDED, Total) or Total()
        return total, [member for member in self._members(folder) if member.name not in total.names]

    def _members(self, folder: Path) -> Iterator[_Member]:
        for path in sorted(folder.glob("*" + _COUNT)):
            name = path.name.removesuffix(_COUNT)
            alive = _lives(name)  # asked first: what a dead worker wrote is final
            with contextlib.suppress(FileNotFoundError):  # folded and taken away since
                count = int.from_bytes(path.read_bytes()[:8], "little")
                yield _Member(name, alive, self._sums(path.with_suffix(_SUMS)), count)

    def _sums(self, path: Path) -> Sums | None:
        try:
            sums = _decoded(path, Sums)
            return None if sums is None else grain(sums)
        except msgspec.MsgspecError as error:  # nobody writes half a file: somebody else's hand
            self._fault("share", error)
            return None

    def _try_to_fold(self, folder: Path) -> bool:
        try:
            return self._fold(folder)
        except OSError as error:  # a full disk: their files stay, and are summed as they are
            self._fault("share", error)
            return False

    def _fold(self, folder: Path) -> bool:
        """Add workers that have ended to those before and take their files away; False when another one is at it."""
        with _locked(folder / _LOCK) as mine:
            if not mine:
                return False
            total, members = self._read(folder)
            for name in total.names:  # whoever folded them was killed before this
                _remove(folder, name)
            gone = [member for member in members if not member.lives]
            if gone:
                _add_ended(total, gone)
                total.close_rings([member.sums for member in members if member.lives and member.sums is not None])
                total.cap()
                total.names = [member.name for member in gone]
                _replace(folder / _ENDED, msgspec.msgpack.encode(total))
                for name in total.names:
                    _remove(folder, name)
            return bool(gone)

    def after_fork_in_child(self) -> None:
        """The place is the parent's; the child takes its own when it starts."""
        self._folder = self._map = None


def _add_ended(total: Total, members: Sequence[_Member]) -> None:
    for member in members:
        if member.sums is not None and not member.lives:
            settled = sum(sum(row.outcomes.values()) for row in member.sums.rows.values())
            total.add(member.sums, lost=max(0, member.ended - settled))


def _in_use(folder: Path) -> bool:
    """Whether the server that a folder is named after lives, or one of its workers does."""
    server = "-".join(folder.name.split("-")[1:3])
    return _lives(server) or any(_lives(path.name.removesuffix(_COUNT)) for path in folder.glob("*" + _COUNT))


def _lives(name: str) -> bool:
    pid, _, start = name.partition("-")
    return pid.isdecimal() and start.isdecimal() and lives(int(pid), int(start))


def _stamp(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def _decoded(path: Path, kind: type[Item]) -> Item | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or what was there before."""
    new = path.with_suffix(path.suffix + ".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
    os.replace(new, path)


def _remove(folder: Path, name: str) -> None:
    for suffix in (_SUMS, _COUNT):  # the count last: without it nobody looks for the other
        with contextlib.suppress(FileNotFoundError):
            (folder / (name + suffix)).unlink()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield _is_locked(fd)
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
