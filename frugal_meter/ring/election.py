"""Whose turn it is to read: a lock on a file that the workers of one service on one host share.

The kernel lets go of the lock when its holder dies, at whatever instruction: nobody is ever asked to clean up after a
reader. The file is in a folder that only this user can enter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import multiprocessing
import os
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError

#: a pass takes about a millisecond of CPU, for which a crowded machine may let its reader wait some hundred times as long; one
#: that holds its turn longer is stopped, and this tick is left to the next
PATIENCE_S: Final = 1.0
_RETRY_S: Final = 0.0005


def run_folder() -> Path:
    """The folder of the ring: ``$FRUGAL_RUN_DIR``, else one in ``$XDG_RUNTIME_DIR``, else this user's own in the
    system's temporary folder. Made if it is not there.

    Raises ConfigurationError when it cannot be made, or when others may write into it.
    """
    given = os.environ.get("FRUGAL_RUN_DIR")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if given:
        folder = Path(given)
    elif runtime:
        folder = Path(runtime) / "frugal-meter"
    else:
        folder = Path(tempfile.gettempdir()) / f"frugal-meter-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigurationError(f"{folder}: no folder for workers to meet in ({error.strerror}); set FRUGAL_RUN_DIR") from None
    others = 0o022 if given else 0o077  # a folder that somebody chose may be looked into; its files may not be read
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & others:
        raise ConfigurationError(f"{folder}: workers meet in a folder of their own user's with mode 0700; mend it with chmod 700")
    return folder


def is_one_of_several() -> bool:
    """Whether this process looks like a worker that a server started: uvicorn's or granian's (children of Python's
    multiprocessing), or gunicorn's, which says so to its children.
    """
    return multiprocessing.parent_process() is not None or os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")


def ring_name(service: str, sources: Sequence[str], version: int) -> str:
    """The file that workers of ``service`` with the same sources share.

    Process numbers and monotonic time mean something within one boot and one process namespace only: both are in it.
    """
    return f"ring-{namesake(str(version), service, *sources)}"


def namesake(*parts: str) -> str:
    """What those share who have the same ``parts``, boot and process namespace."""
    here = [*parts, _boot_id(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\0".join(here).encode()).hexdigest()[:24]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def hold(folder: Path) -> int:
    """Open ``folder`` under a shared lock, by which cleaners of temporary files pass over it and all below it for as long as
    it is open (tmpfiles.d(5), on age): files that are written through memory look old to them.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return fd


class SharedFile:
    """A file with one lock; it is there from the first worker to the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = self._folder = -1

    def open(self, patience_s: float = PATIENCE_S) -> None:
        """Open the file, make it if need be, and take its lock. Raises OSError (TimeoutError when the lock is held)."""
        while True:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                self.lock(patience_s)
                if self.is_current():
                    self._folder = hold(self.path.parent)
                    return
            except OSError:
                self.close()
                raise
            self.close()  # the last worker before took the file away while we waited

    def is_current(self) -> bool:
        """Whether the open file is still the one of that name."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
        return False

    def lock(self, patience_s: float = PATIENCE_S) -> None:
        """Take the turn; raises TimeoutError after ``patience_s`` seconds."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{self.path}: another worker holds its turn") from None
                time.sleep(_RETRY_S)

    def unlock(self) -> None:
        """Give the turn up; closing the file did already."""
        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def remove(self) -> None:
        """Take the file away; with the lock held, and nobody else in it."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Let the file go, and the lock with it; safe to call twice."""
        for fd in (self.fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self.fd = self._folder = -1
