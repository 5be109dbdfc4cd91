"""What a worker leaves behind when it is killed: its accounts in a mapped file, current to the last lease.

The file is locked for as long as its worker lives. Whoever finds it unlocked settles the dead worker's accounts exactly: what it
had settled as settled, its leases in flight at their reservation, its unused slice given back.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from .stores import Account, Report

_MAGIC: Final = b"frugal budget 1\0"
_HEAD, _CELL = 256, 512  # bytes; a cell: settled, reserved, base (signed 64 bits each), length, the account
_CELLS: Final = 64
_ACCOUNT_AT: Final = 32
_MOST_ACCOUNT: Final = _CELL - _ACCOUNT_AT
#: a survivor reports above any number that the dead worker can have used
FAR_SEQ: Final = 2**40


class Left(NamedTuple):
    """A dead worker: who it was, and its last reports."""

    holder: str
    reports: list[Report]


def prefix(service: str, store: str) -> str:
    """Of the files of all workers that share ``store`` for ``service`` (a digest: the address may hold a password)."""
    return "budget-" + hashlib.sha256(f"{service}\0{store}".encode()).hexdigest()[:20] + "-"


class Record:
    """This worker's own file. Raises OSError when it cannot be made."""

    def __init__(self, folder: Path, name: str, holder: str) -> None:
        self.path = folder / (name + hashlib.sha256(holder.encode()).hexdigest()[:16])
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._maps: list[mmap.mmap] = []
        self._cells = 0
        self._free: list[int] = []
        self._views: dict[int, tuple[memoryview, memoryview]] = {}
        try:
            self._grow()
        except OSError:
            self.close()
            raise
        head = holder.encode()
        self._maps[0][: len(_MAGIC) + 1 + len(head)] = _MAGIC + bytes([len(head)]) + head

    def _grow(self) -> None:
        """Twice the cells. Older mappings stay: views into them show the same pages."""
        before, cells = self._cells, self._cells * 2 or _CELLS
        size = _HEAD + cells * _CELL
        # Not `truncate`: a write to a page that a full disk has no room for kills the process.
        os.posix_fallocate(self._fd, 0, size)
        self._maps.append(mmap.mmap(self._fd, size))
        self._cells = cells
        self._free += range(self._cells - 1, before - 1, -1)

    def take(self, account: Account, base: int) -> tuple[int, memoryview] | None:
        """A cell for ``account``: its number, and a view to write settled and reserved to; None where there is no room."""
        body = msgspec.json.encode(account[:5])
        if len(body) > _MOST_ACCOUNT:
            return None
        if not self._free:
            try:
                self._grow()
            except OSError:
                return None  # its worker's death is then charged when the store misses it, and in full
        number = self._free.pop()
        at, pages = _HEAD + number * _CELL, self._maps[-1]
        pages[at + _ACCOUNT_AT : at + _ACCOUNT_AT + len(body)] = body
        whole = memoryview(pages)
        view = whole[at : at + 24].cast("q")
        view[0], view[1], view[2] = base, 0, base
        pages[at + 24 : at + 26] = len(body).to_bytes(2, "little")  # last: from here on the cell counts
        self._views[number] = whole, view
        return number, view

    def free(self, number: int) -> None:
        """Give a cell back, once its account is settled with the store."""
        at = _HEAD + number * _CELL
        self._maps[-1][at + 24 : at + 26] = b"\0\0"
        whole, view = self._views.pop(number)
        view.release()
        whole.release()
        self._free.append(number)

    def close(self, *, remove: bool = True) -> None:
        """Let go; ``remove`` when nothing is owed. A forked child does not remove: the lock stays its parent's."""
        for whole, view in self._views.values():
            view.release()
            whole.release()
        for each in self._maps:
            with contextlib.suppress(BufferError):  # a book that still holds its cell keeps the pages, which is harmless
                each.close()
        if remove:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        os.close(self._fd)


def the_dead(folder: Path, name: str) -> Iterator[Left]:
    """Workers that left accounts and live no more; each file is removed when the caller comes back for the next."""
    for path in sorted(folder.glob(name + "*")):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)  # alive, or settled by somebody else just now
            continue
        try:
            try:
                left = _read(os.pread(fd, os.fstat(fd).st_size, 0))
            except (ValueError, IndexError, msgspec.DecodeError):
                left = None  # torn: its worker is charged when the store misses it, and nobody else is held up
            if left is not None:
                yield left
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        finally:
            os.close(fd)


def _read(data: bytes) -> Left | None:
    if not data.startswith(_MAGIC):
        return None  # it died before it held anything
    length = data[len(_MAGIC)]
    holder = data[len(_MAGIC) + 1 : len(_MAGIC) + 1 + length].decode()
    reports = []
    for at in range(_HEAD, len(data) - _CELL + 1, _CELL):
        used = int.from_bytes(data[at + 24 : at + 26], "little")
        if not used:
            continue
        settled, reserved, base = memoryview(data)[at : at + 24].cast("q")
        account = msgspec.json.decode(
            data[at + _ACCOUNT_AT : at + _ACCOUNT_AT + used], type=tuple[str, str, tuple[str, ...], int, int]
        )
        # Nobody knows what its running work would have used: the reservation is charged.
        reports.append(Report(Account(*account), settled + reserved - base, 0, 0))  # type: ignore[arg-type]
    return Left(holder, reports)
