"""Plays a story to `frugal_meter.sources.nvml` through the real nvidia-ml-py and the compiled fake_nvml.c.

The library of the driver is found by its name, so each story runs in a process of its own (this file, run as a
script) that LD_LIBRARY_PATH leads to the fake. A story is a list of scenes; a scene is the machine as lines of text
(see fake_nvml.c), and what the clock did since the scene before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def build(folder: Path) -> Path:
    """Compile the fake driver into ``folder``, or skip with the reason and the remedy."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the fake NVIDIA driver: apt-get install gcc libc6-dev")
    library = folder / "libnvidia-ml.so.1"
    command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(HERE / "fake_nvml.c")]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def scene(*machine: str, seconds: float = 0.5, suspended: float = 0.0, ask: tuple[list[int], int] | None = None) -> dict:
    """The machine at one tick; ``ask`` is (pids, since) for ``utilization_of`` the first GPU."""
    return {"machine": "\n".join(machine) + "\n", "seconds": seconds, "suspended": suspended, "ask": ask}


def play(driver: Path, tmp_path: Path, *scenes: dict) -> dict:
    """Discover at the first scene, read every source at each: {"sources", "findings", "reads", "shares"}."""
    state = tmp_path / "machine"
    state.write_text(scenes[0]["machine"])
    env = os.environ | {"LD_LIBRARY_PATH": str(driver), "FAKE_NVML": str(state), "PYTHONPATH": str(HERE.parent)}
    story = subprocess.run([sys.executable, __file__], input=json.dumps(scenes), capture_output=True, text=True, env=env)
    assert story.returncode == 0, story.stderr
    return json.loads(story.stdout)


def run(driver: Path, tmp_path: Path, script: str) -> dict:
    """What ``script`` printed as JSON, run with the fake driver behind nvidia-ml-py; ``machine(*lines)`` sets the machine."""
    state = tmp_path / "machine"
    state.write_text("")
    env = os.environ | {"LD_LIBRARY_PATH": str(driver), "FAKE_NVML": str(state), "PYTHONPATH": f"{HERE.parent}:{HERE}"}
    story = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert story.returncode == 0, story.stderr
    return json.loads(story.stdout)


def machine(*lines: str) -> None:
    """Set the machine, from inside a script that `run` runs."""
    Path(os.environ["FAKE_NVML"]).write_text("\n".join(lines) + "\n")


def _main() -> None:
    import msgspec

    from frugal_meter.sources import Window, nvml

    scenes, state = json.load(sys.stdin), Path(os.environ["FAKE_NVML"])
    found = nvml.discover()
    told = {"sources": [], "findings": msgspec.to_builtins(found.findings), "reads": [], "shares": []}
    for source in found.sources:
        facts = ("name", "component", "covers", "tier", "sensor", "method", "provenance", "shared", "counts", "resolution_nj")
        told["sources"].append({fact: getattr(source, fact) for fact in facts})
    now_ns = 0
    for each in scenes:
        state.write_text(each["machine"])
        start_ns, now_ns = now_ns, now_ns + int(each["seconds"] * 1e9)
        window = Window(start_ns, now_ns, None, 1, 0, suspended_ns=int(each["suspended"] * 1e9))
        told["reads"].append([msgspec.to_builtins(source.read(window)) for source in found.sources])
        if each["ask"]:
            told["shares"].append(found.sources[0].utilization_of(*each["ask"]))
    for source in found.sources * 2:
        source.close()
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    _main()
