"""The wheel: one importable name, everything it needs at run time, its licences, and a size that suits its subject."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

import frugal_meter

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: bytes that the package itself may take, unpacked
MOST_BYTES = 2_400_000
#: bytes that an installation of the core may take with everything it pulls in, compiled files left out
MOST_INSTALLED_BYTES = 5_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as the build backend makes it, without a network."""
    out = tmp_path_factory.mktemp("dist")
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(out)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def sizes(wheel: Path) -> Mapping[str, int]:
    """Files of the wheel and their sizes in bytes, unpacked."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


@pytest.fixture(scope="module")
def described(wheel: Path, sizes: Mapping[str, int]) -> Message:
    """The wheel's METADATA."""
    (name,) = (each for each in sizes if each.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_frugal_meter_and_no_other_importable_name(sizes: Mapping[str, int]) -> None:
    assert {name.split("/")[0] for name in sizes if ".dist-info/" not in name} == {"frugal_meter"}


def test_the_wheel_holds_every_file_of_the_package(sizes: Mapping[str, int]) -> None:
    package = ROOT / "frugal_meter"
    there = {
        f"frugal_meter/{path.relative_to(package)}" for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    there |= {f"frugal_meter/cli/dashboards/{path.name}" for path in (ROOT / "dashboards").glob("*.json")}
    assert {name for name in sizes if ".dist-info/" not in name} == there
    assert {"frugal_meter/py.typed", "frugal_meter/carbon/data/ember.csv", "frugal_meter/sources/data/cpu_watts.json"} <= there
    assert "frugal_meter/exporters/live_page.html" in there


def test_licences_travel_with_the_code_and_with_the_data(sizes: Mapping[str, int]) -> None:
    files = {Path(name).name for name in sizes if "/licenses/" in name}
    assert files == {"LICENSE", "NOTICE"}
    assert {"frugal_meter/carbon/data/LICENCES.md", "frugal_meter/sources/data/NOTICE"} <= sizes.keys()


def test_metadata_say_what_the_project_says(described: Message) -> None:
    assert described["Version"] == frugal_meter.__version__ == PROJECT["version"]
    assert described["License-Expression"] == "Apache-2.0"
    assert described["Requires-Python"] == ">=3.11"
    assert set(described.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def test_the_core_needs_three_libraries(described: Message) -> None:
    needed = [line for line in described.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(name_of(line) for line in needed) == ["msgspec", "prometheus-client", "starlette"]


def test_every_extra_that_an_error_names_exists() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "frugal_meter").rglob("*.py"))
    named = {each.split('"')[1] for each in text.split("MissingExtraError(")[1:] if each.startswith('"')}
    named |= {each.split("'")[1] for each in text.split("MissingExtraError(")[1:] if each.startswith("'")}
    assert named
    assert named <= PROJECT["optional-dependencies"].keys()


def test_the_command_starts_what_the_entry_point_names(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("entry_points.txt"))
        assert archive.read(name).decode().split() == ["[console_scripts]", "frugal-meter", "=", "frugal_meter.cli:main"]
    (point,) = metadata.entry_points(group="console_scripts", name="frugal-meter")
    assert callable(point.load())


def test_an_installation_of_the_core_is_small(wheel: Path, sizes: Mapping[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    own = sum(sizes.values())
    others = {name: installed_bytes(name) for name in pulled_in("frugal-meter")}
    parts = ", ".join(f"{name} {size / 1e6:.2f}" for name, size in sorted(others.items()))
    with capsys.disabled():
        print(f"\n  wheel {wheel.stat().st_size / 1e6:.2f} MB, installed {own / 1e6:.2f} MB + {parts} MB")
    assert own <= MOST_BYTES
    assert own + sum(others.values()) <= MOST_INSTALLED_BYTES


def name_of(requirement: str) -> str:
    """The name that a requirement begins with, normalised (PEP 503)."""
    name = "".join(char if char.isalnum() or char in "-_." else " " for char in requirement).split()[0]
    return name.lower().replace("_", "-").replace(".", "-")


def pulled_in(distribution: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """Every distribution that an installation without extras brings along, as far as this Python needs it."""
    for line in metadata.requires(distribution) or ():
        name = name_of(line)
        if "extra ==" in line or name in seen:
            continue
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another Python or system
            continue
        seen = pulled_in(name, seen | {name})
    return seen


def installed_bytes(distribution: str) -> int:
    """Bytes of its files, compiled ones left out."""
    files = metadata.distribution(distribution).files or ()
    paths = (Path(str(file.locate())) for file in files if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.is_file())
