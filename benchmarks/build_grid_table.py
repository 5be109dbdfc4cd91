"""Rebuild the bundled grid tables from the published packages that carry them.

    python benchmarks/build_grid_table.py PACKAGES_FOLDER

``PACKAGES_FOLDER`` holds, as downloaded: the wheels carbontracker 2.4.7, codecarbon 3.3.2 and babel 2.17.0 (PyPI), and
the tarballs @tgwf/co2 0.19.0 and @cloud-carbon-footprint/aws 0.15.0 (npm; only printed as a check of ``embodied.py``).
Each is refused unless its sha256 is the one below. Writes ``frugal_meter/carbon/data/*.csv`` and ``datasets.json``.

Two tables are written and never merged: Ember's (CC BY 4.0) and Electricity Maps' (ODbL 1.0, share-alike).
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import pickle
import re
import statistics
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "frugal_meter" / "carbon" / "data"
PACKAGES = {
    "carbontracker-2.4.7-py3-none-any.whl": "b83395096344f6466d526e4f20c12d38bafbfc0a56fd793085b1ac7df8a0aa0f",
    "codecarbon-3.3.2-py3-none-any.whl": "05b31dea9dd26ed1e90947973c9ef20c87d127ea71fc32b4cb55a3ec512b8897",
    "babel-2.17.0-py3-none-any.whl": "4d0b53093fdfb4b21c92b5213dba5a1b23885afa8383709427046b21c366e5f2",
    "tgwf-co2-0.19.0.tgz": "921bf6ba23bb009d746fab91f40864bf5dbaf109ae7b1dc7ef1c830ed7e77e26",
    "cloud-carbon-footprint-aws-0.15.0.tgz": "64fcc1950518579958f7cd9aa2b8b29c0e077c254c0103c16ff57840a8e6a068",
}
#: a factor older than this is not shipped (one row: Western Sahara 2009)
OLDEST_YEAR = 2015
#: in the tables but not in carbontracker's list, whose "NA" for Namibia was read as a missing value
ALPHA_3 = {
    "NA": "NAM",
    "XK": "XKX",
    "YT": "MYT",
    "AX": "ALA",
    "AD": "AND",
    "CW": "CUW",
    "GG": "GGY",
    "IM": "IMN",
    "JE": "JEY",
    "LI": "LIE",
    "MC": "MCO",
    "SM": "SMR",
    "ME": "MNE",
    "TF": "ATF",
    "BL": "BLM",
    "MF": "MAF",
    "WF": "WLF",
    "PW": "PLW",
    "IO": "IOT",
    "GS": "SGS",
    "FM": "FSM",
    "MH": "MHL",
    "MP": "MNP",
    "NF": "NFK",
    "NU": "NIU",
    "TV": "TUV",
}
#: French names of zones below the country that an agent of the state is likely to type
FRENCH = {"FR-COR": "Corse"}
INTENSITY = "Carbon intensity of electricity (gCO2eq/kWh)"
COUNTRY_ROW = re.compile(r"[A-Z]{2}$")


class Package:
    """One verified origin package; hands out its files with their sha256."""

    def __init__(self, folder: Path, name: str) -> None:
        self.release = " ".join(name.removesuffix(".tgz").removeprefix("tgwf-").split("-")[:2]).replace("co2 ", "CO2.js ")
        blob = (folder / name).read_bytes()
        self.name, self.sha256 = name, hashlib.sha256(blob).hexdigest()
        if self.sha256 != PACKAGES[name]:
            raise SystemExit(f"{name}: sha256 is {self.sha256}, expected {PACKAGES[name]}")
        self._blob = io.BytesIO(blob)

    def read(self, path: str) -> bytes:
        """The bytes of ``path`` inside the wheel or tarball."""
        self._blob.seek(0)
        if self.name.endswith(".whl"):
            return zipfile.ZipFile(self._blob).read(path)
        with tarfile.open(fileobj=self._blob) as tar:
            member = tar.extractfile(path)
            if member is None:
                raise SystemExit(f"{self.name} has no file {path}")
            return member.read()

    def origin(self, path: str) -> dict[str, str]:
        """Where ``path`` came from, as ``datasets.json`` keeps it."""
        sha256 = hashlib.sha256(self.read(path)).hexdigest()
        return {"release": self.release, "package": self.name, "package_sha256": self.sha256, "file": path, "sha256": sha256}


class LocaleData(pickle.Unpickler):
    """Reads Babel's locale pickles without Babel, and without running any code of theirs: classes become empty ones."""

    def find_class(self, module: str, name: str) -> type:
        """An inert stand-in for every class the pickle names; the territories are plain dictionaries."""
        return type(name, (), {"__init__": lambda *_: None, "__setstate__": lambda *_: None, "__module__": module})


def javascript_object(source: bytes, name: str) -> dict[str, object]:
    """The literal assigned to ``const NAME`` in one line of a CO2.js module."""
    found = re.search(rf"const {name} = (\{{.*?\}});\n", source.decode())
    if not found:
        raise SystemExit(f"no constant {name} in the JavaScript module")
    value = ast.literal_eval(found.group(1))
    assert isinstance(value, dict)
    return value


def ember_rows(tracker: bytes, codecarbon: bytes) -> Iterator[tuple[str, str, int, float, str]]:
    """Rows of the Ember table. carbontracker's revision is the newer: codecarbon only adds other years and zones."""
    seen: set[tuple[str, int]] = set()
    code = {alpha_3: alpha_2 for alpha_2, alpha_3 in ALPHA_3.items()}
    for row in csv.DictReader(io.StringIO(tracker.decode())):
        code[row["Code"]] = row["alpha-2"]
        zone, year = row["alpha-2"], int(row["Year"])
        seen.add((zone, year))
        yield zone, row["Entity"], year, float(row[INTENSITY]), "carbontracker"
    for alpha_3, entry in json.loads(codecarbon).items():
        zone, year = code[alpha_3], int(entry["year"])
        if (zone, year) not in seen:
            yield zone, entry["country_name"], year, float(entry["carbon_intensity"]), "codecarbon"


def electricity_maps_rows(co2js: Package, years: Iterable[int]) -> Iterator[tuple[str, str, int, float, str]]:
    """Rows of the Electricity Maps table, one per zone and year."""
    for year in years:
        for zone, entry in javascript_object(co2js.read(yearly(year)), "data").items():
            assert isinstance(entry, dict)
            place = entry["zone"]
            name = place["zoneName"] + (f" ({place['countryName']})" if "countryName" in place else "")
            intensity = entry["carbonIntensity"]
            assert intensity["unit"] == "gCO2eq/kWh"
            yield zone, name, year, float(intensity["value"]), f"co2js-{year}"


def yearly(year: int) -> str:
    """Path of one year of Electricity Maps inside CO2.js."""
    return f"package/dist/esm/data/electricity-maps/yearly_{year}.js"


def write_table(name: str, rows: Iterable[tuple[str, str, int, float, str]], licence: str) -> list[str]:
    """Write one table, newest year first in each zone; returns its zones. Rows of 0 g/kWh are unknown, not clean: dropped."""
    kept = [r for r in rows if r[3] > 0 and r[2] >= OLDEST_YEAR]
    kept.sort(key=lambda r: (r[0], -r[2]))
    with (DATA / name).open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["zone", "name", "year", "grams_per_kwh", "licence", "origin"])
        table.writerows((z, n, y, f"{g:.6g}", licence, origin) for z, n, y, g, origin in kept)
    return [r[0] for r in kept]


def write_names(zones: set[str], tracker: bytes, babel: Package) -> None:
    """Write the English and French names that errors suggest; the ISO codes come with carbontracker's list."""
    english, french = (LocaleData(io.BytesIO(babel.read(f"babel/locale-data/{x}.dat"))).load() for x in ("en", "fr"))
    alpha_3 = ALPHA_3 | {r["alpha-2"]: r["Code"] for r in csv.DictReader(io.StringIO(tracker.decode()))}
    with (DATA / "names.csv").open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["zone", "alpha_3", "english", "french"])
        for zone in sorted(z for z in zones if COUNTRY_ROW.match(z)):
            table.writerow([zone, alpha_3[zone], english["territories"][zone], french["territories"][zone]])
        table.writerows([zone, "", "", name] for zone, name in FRENCH.items())


def describe(tracker: Package, carbon: Package, co2js: Package, files: dict[str, str]) -> dict[str, object]:
    """What ``datasets.json`` says of each table; the licence is repeated in every row of the tables themselves."""
    common = {"scope": "lifecycle", "basis": "location"}
    return {
        "ember": common
        | {
            "title": "Ember, Yearly Electricity Data",
            "mix": "production",
            "licence": "CC-BY-4.0",
            "licence_url": "https://creativecommons.org/licenses/by/4.0/",
            "attribution": "Ember (ember-energy.org), with processing by Our World in Data",
            "file": "ember.csv",
            "origins": {
                "carbontracker": tracker.origin(files["tracker"]),
                "codecarbon": carbon.origin(files["codecarbon"]),
            },
        },
        "electricity-maps": common
        | {
            "title": "Electricity Maps, yearly grid carbon intensity",
            "mix": "consumption",
            "licence": "ODbL-1.0",
            "licence_url": "https://opendatacommons.org/licenses/odbl/1-0/",
            "attribution": "Electricity Maps (electricitymaps.com), republished by The Green Web Foundation in CO2.js",
            "file": "electricity_maps.csv",
            "origins": {f"co2js-{y}": co2js.origin(yearly(y)) for y in range(2021, 2026)},
        },
    }


def check_ember(tracker: bytes, co2js: Package) -> str:
    """How many of carbontracker's rows CO2.js gives identically: the evidence that they are Ember's."""
    theirs = javascript_object(co2js.read("package/dist/esm/data/average-intensities.min.js"), "data")
    rows = {r["Code"]: float(r[INTENSITY]) for r in csv.DictReader(io.StringIO(tracker.decode()))}
    shared = [code for code in rows if code in theirs]
    same = sum(abs(rows[code] - float(str(theirs[code]))) < 0.006 for code in shared)
    return f"{same} of {len(shared)} rows equal CO2.js 0.19.0's Ember table to two decimals (the others are other revisions)"


def check_embodied(ccf: Package) -> str:
    """kg CO2e per vCPU of the EC2 hosts from the fifth generation on, general purpose and whole: 5 %, 50 %, 95 %."""
    source = ccf.read("package/dist/lib/AWSInstanceTypes.js").decode()
    block = source.split("exports.EC2_INSTANCE_TYPES = {")[1].split("\n};")[0]
    per_vcpu = []
    for family, sizes in re.findall(r"^    '?([\w-]+)'?: \{\n(.*?)^    \}", block, re.S | re.M):
        if re.fullmatch(r"[cmr][5-7]\w*", family):
            vcpus, _, tonnes = max(tuple(map(float, s.split(","))) for s in re.findall(r"\[([^\]]+)\]", sizes))
            per_vcpu.append(1000 * tonnes / vcpus)
    cuts = statistics.quantiles(per_vcpu, n=20, method="inclusive")
    return f"{len(per_vcpu)} EC2 families: {cuts[0]:.1f} / {cuts[9]:.1f} / {cuts[18]:.1f} kgCO2e per vCPU"


def main(folder: Path) -> None:
    """Write every table and print the checks."""
    packages = {name.split("-")[0]: Package(folder, name) for name in PACKAGES}
    tracker, carbon, co2js = packages["carbontracker"], packages["codecarbon"], packages["tgwf"]
    files = {
        "tracker": "carbontracker/data/carbon-intensities.csv",
        "codecarbon": "codecarbon/data/private_infra/global_energy_mix.json",
    }
    intensities = tracker.read(files["tracker"])
    zones = write_table("ember.csv", ember_rows(intensities, carbon.read(files["codecarbon"])), "CC-BY-4.0")
    zones += write_table("electricity_maps.csv", electricity_maps_rows(co2js, range(2021, 2026)), "ODbL-1.0")
    write_names(set(zones), intensities, packages["babel"])
    described = describe(tracker, carbon, co2js, files)
    for about in described.values():
        assert isinstance(about, dict)
        about["file_sha256"] = hashlib.sha256((DATA / about["file"]).read_bytes()).hexdigest()
    (DATA / "datasets.json").write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(set(zones))} zones, {len(zones)} rows\nember: {check_ember(intensities, co2js)}")
    print(f"embodied: {check_embodied(packages['cloud'])}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
