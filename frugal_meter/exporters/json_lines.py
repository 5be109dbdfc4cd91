"""`JsonLines`: settled readings in a file, one JSON object a line, for ``frugal-meter explain`` and ``compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..records import Reading, Tick, as_dict


class JsonLines:
    """An exporter that appends to ``path``; what is there stays. Each batch is with the kernel before the next one comes.

    Raises OSError at once for a path that cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 - open for as long as the meter runs

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Append ``readings``."""
        if readings:
            self._file.write(b"".join(msgspec.json.encode(as_dict(each)) + b"\n" for each in readings))

    def stop(self) -> None:
        """Close the file."""
        self._file.close()
