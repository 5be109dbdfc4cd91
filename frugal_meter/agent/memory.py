"""What an agent leaves to the next one: its totals and the readings of its counters, in one small file.

Written after each pass, so that an agent that was killed is followed by one that counts on; nobody's joules are in it but
the host's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from ..errors import ConfigurationError
from .host import Host, Totals

VERSION: Final = 1


class Memory(msgspec.Struct, frozen=True):
    """The host at ``t_ns`` (monotonic) of the boot ``boot``: totals by source, and readings of counters."""

    version: int
    boot: str
    t_ns: int
    totals: Mapping[str, Totals]
    marks: Mapping[str, int]


def remember(path: Path, host: Host, boot: str) -> None:
    """Write the memory of ``host``; the file is whole at any instant. Raises OSError."""
    totals = {source.name: total for source, total in zip(host.sources, host.totals, strict=True)}
    marks = {source.name: getattr(source, "mark", None) for source in host.sources}
    told = {name: mark for name, mark in marks.items() if isinstance(mark, int)}
    new = path.with_name(f"{path.name}.new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(Memory(VERSION, boot, host.t_ns, totals, told)))
    os.replace(new, path)


def recall(path: Path, host: Host, boot: str) -> bool:
    """Let ``host`` go on from the memory at ``path``; False where there is none of this boot."""
    try:
        memory = msgspec.json.decode(path.read_bytes(), type=Memory)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
    except OSError as error:
        raise ConfigurationError(f"--state {path}: {error.strerror}") from None
    if memory.version != VERSION or memory.boot != boot or memory.t_ns > host.t_ns:
        return False
    host.resume(memory.totals, memory.marks, memory.t_ns)
    return True


def boot_id(proc: Path = Path("/proc")) -> str:
    """The kernel's name of this boot: monotonic time means something within it only."""
    with contextlib.suppress(OSError):
        return (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return "unknown"
