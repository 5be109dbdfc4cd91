#!/bin/sh
# What must be clean besides the tests: style, types, and a wheel that holds the package and nothing else.
set -eu
bin=.venv/bin
$bin/ruff check .
$bin/ruff format --check .
$bin/mypy
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
$bin/uv build -q --wheel --sdist -o "$out" 2>/dev/null || $bin/python -m build -q -o "$out"
$bin/python - "$out" <<'PYTHON'
import pathlib, sys, tarfile, zipfile
out = pathlib.Path(sys.argv[1])
wheel, sdist = next(out.glob("*.whl")), next(out.glob("*.tar.gz"))
names = zipfile.ZipFile(wheel).namelist()
tops = {n.split("/")[0] for n in names if ".dist-info" not in n.split("/")[0]}
assert tops == {"frugal_meter"}, f"the wheel holds {tops}"
for needed in ("frugal_meter/py.typed", "frugal_meter/exporters/live_page.html", "frugal_meter/carbon/data/ember.csv",
               "frugal_meter/sources/data/cpu_watts.json"):
    assert needed in names, f"the wheel lacks {needed}"
assert any(n.endswith("pyproject.toml") for n in tarfile.open(sdist).getnames())
print(f"wheel {wheel.stat().st_size / 1000:.0f} kB, {len(names)} files, only frugal_meter")
PYTHON
