"""CPU of native threads by a known amount: a small C library, compiled where it is needed."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


@functools.cache
def _library() -> ctypes.CDLL:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler to make native threads of known CPU: install gcc or clang as `cc`")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "burner.so"
        subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-pthread", "-o", out, Path(__file__).parent / "burner.c"], check=True
        )
        library = ctypes.CDLL(str(out))  # stays mapped when the file has gone
    library.burn_native.argtypes, library.burn_native.restype = [ctypes.c_int, ctypes.c_int64], ctypes.c_int64
    return library


def burn_native(threads: int, seconds: float) -> float:
    """Use ``seconds`` of CPU on each of so many new native threads, and wait without the interpreter's lock; all of it, in s."""
    return float(_library().burn_native(threads, int(seconds * 1e9))) / 1e9
