"""``study.toml``: what is to be studied, declared before it is measured, with every key checked."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from ..carbon.embodied import SECONDS_PER_YEAR, Embodied
from ..carbon.pue import Pue
from ..carbon.zones import canonical
from ..config import METER_KEYS
from ..errors import ConfigurationError
from ..records import Interval
from ..tables import only, read_tables
from .results import Kind, Lang, Upstream

#: a figure, or its low, mid and high
Figure = float | list[float]
#: settings of the meter that a study sets otherwise, or that make no sense for one run
_NOT_HERE: Final = ("service", "zone", "pue", "journal", "store", "workers")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")


class ServiceTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[service]``: what answers. ``meter`` holds settings of `Meter` for an application that does not meter itself."""

    app: str
    factory: bool = False
    name: str | None = None
    env: dict[str, str] = {}
    meter: dict[str, Any] = {}


class UnitTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[unit]``: the functional unit, by the name that the service counts it under, or "request"."""

    name: str
    description: str
    rationale: str | None = None


class UseTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[use]``: what is supposed for a year."""

    units_per_year: Figure
    source: str
    hours_per_year: float = 8760
    starts_per_year: float = 12


class LoadTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[load]``: what is asked. One of ``file`` (JSON lines) and ``call`` (``module:function``).

    All of it is asked again until ``at_least_s`` have passed: a fast variant is not measured over an instant.
    """

    file: str | None = None
    call: str | None = None
    requests: int | None = None
    concurrency: int = 1
    timeout_s: float = 120
    at_least_s: float = 2


class RunTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[run]``: how it is measured."""

    warm_up: int = 3
    repetitions: int = 5
    baseline_s: float = 10
    seed: int = 1


class JudgeTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[judge]``: who scores the answers, 0…1."""

    call: str
    metric: str


class VariantTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[variant]]``: one way of answering; ``set`` is merged into JSON bodies, ``path`` asked instead, ``env`` added."""

    name: str
    title: str
    kind: Kind
    models: list[str] = []
    app: str | None = None
    env: dict[str, str] = {}
    set: dict[str, Any] = {}
    path: str | None = None
    load: str | None = None


class AlternativeTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[alternative]``: why there is no variant without AI or with a smaller one."""

    none: str


class CarbonTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[carbon]``: where it runs. What is not told here is the service's own setting, or a flagged default."""

    zone: str
    pue: Figure | None = None
    pue_source: str | None = None
    embodied_kg: Figure | None = None
    embodied_covers: str = "host"
    lifetime_years: Figure | None = None
    embodied_source: str | None = None


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """All of ``study.toml``."""

    title: str
    service: ServiceTable
    unit: UnitTable
    use: UseTable
    load: LoadTable
    carbon: CarbonTable
    variant: list[VariantTable]
    lang: Lang = "fr"
    purpose: str | None = None
    author: str | None = None
    organisation: str | None = None
    contact: str | None = None
    rebound: str | None = None
    limits: list[str] = []
    run: RunTable = RunTable()
    judge: JudgeTable | None = None
    alternative: AlternativeTable | None = None
    upstream: list[Upstream] = []


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration that has been checked, where it lies, and its text."""

    declared: Declared
    folder: Path
    text: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the declaration's meaning: comments and blanks may change, what is measured may not."""
        return hashlib.sha256(msgspec.json.encode(tomllib.loads(self.text), order="deterministic")).hexdigest()

    @property
    def service(self) -> str:
        """The name of the service."""
        return self.declared.service.name or self.declared.service.app.partition(":")[0]


def load(file: Path) -> Plan:
    """A checked ``study.toml``. Raises ConfigurationError, in one line with the file and the key."""
    raw, tables = read_tables(file, "frugal-meter study init writes one")
    try:
        known_keys(tables, Declared, "the file")
        declared = msgspec.convert(tables, Declared)
        check(declared)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{file}: {said(error)}") from None
    return Plan(declared=declared, folder=file.absolute().parent, text=raw.decode())


def said(error: msgspec.ValidationError) -> str:
    """What msgspec says, without its paths' dollar: "run.repetitions: expected `int`, got `str`"."""
    what, _, where = str(error).partition(" - at `$")
    place = where.strip("`.").replace("[...]", "")
    what = what.replace("Object missing required field", "needs")
    return f"{place}: {what[0].lower()}{what[1:]}" if place else what


def known_keys(table: Any, of: Any, where: str) -> None:
    """Raise ConfigurationError for a key that is none, with the nearest one that is."""
    if not isinstance(table, dict):
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(of)}
    only(where, table, fields)
    for key, value in table.items():
        inner = _struct(fields[key])
        if inner is not None:
            for place, each in enumerate(value if isinstance(value, list) else [value], 1):
                known_keys(each, inner, f"[[{key}]] {place}" if isinstance(value, list) else f"[{key}]")


def _struct(kind: Any) -> Any:
    inner = [kind, *getattr(kind, "__args__", ())]
    return next((each for each in inner if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)


def check(declared: Declared) -> None:
    """Raise ConfigurationError for what cannot be studied."""
    _check_variants(declared)
    _check_load(declared.load)
    if not declared.unit.description.strip():
        raise ConfigurationError('[unit] description is empty: say in words what one is, such as "one answer to a question"')
    for table, key, least, most in (
        *((declared.run, key, low, high) for key, low, high in _RUN),
        (declared.use, "hours_per_year", 1, 8784),
        (declared.use, "starts_per_year", 0, 1e6),
    ):
        value = getattr(table, key)
        if not least <= value <= most:
            raise ConfigurationError(f"{_place(table)} {key} = {value:g}: it is from {least:g} to {most:g}")
    if interval(declared.use.units_per_year, "[use] units_per_year").low <= 0:
        raise ConfigurationError("[use] units_per_year must be above 0")
    for key in declared.service.meter:
        if key not in METER_KEYS or key in _NOT_HERE:
            known = [each for each in METER_KEYS if each not in _NOT_HERE]
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near and key not in _NOT_HERE else f"known here: {', '.join(known)}"
            raise ConfigurationError(f"[service.meter] has no setting {key!r}; {hint}")
    pue_of(declared.carbon)
    embodied_of(declared.carbon, None)
    canonical(declared.carbon.zone)


_RUN: Final = (("warm_up", 0, 10_000), ("repetitions", 1, 1_000), ("baseline_s", 0.1, 86_400), ("seed", 0, 2**63))


def _place(table: object) -> str:
    return f"[{type(table).__name__.removesuffix('Table').lower()}]"


def _check_load(load: LoadTable) -> None:
    if (load.file is None) == (load.call is None):
        raise ConfigurationError('[load] needs one of file = "questions.jsonl" and call = "module:function"')
    if not 1 <= load.concurrency <= 1_000:
        raise ConfigurationError(f"[load] concurrency = {load.concurrency}: it is from 1 to 1000 requests at once")
    if load.requests is not None and load.requests < 1:
        raise ConfigurationError(f"[load] requests = {load.requests}: leave it out for the whole load, or write 1 or more")
    for key, least in (("timeout_s", 1e-3), ("at_least_s", 0.0)):
        if not least <= getattr(load, key) <= 86_400:
            raise ConfigurationError(f"[load] {key} = {getattr(load, key):g}: it is seconds, from {least:g} to 86400")


def _check_variants(declared: Declared) -> None:
    names = [each.name for each in declared.variant]
    if not names:
        raise ConfigurationError("no [[variant]]: declare what is to be compared")
    for each in declared.variant:
        if not _NAME.fullmatch(each.name):
            raise ConfigurationError(f"[[variant]] name {each.name!r}: 1 to 40 of a…z, 0…9, '.', '_' and '-'")
        if each.kind == "as-run":
            raise ConfigurationError(f'[[variant]] {each.name}: kind is "ai", "smaller-ai" or "no-ai"')
        if names.count(each.name) > 1:
            raise ConfigurationError(f"[[variant]] {each.name!r} is there twice; each name is its own")
    other = any(each.kind != "ai" for each in declared.variant)
    if not other and declared.alternative is None:
        raise ConfigurationError(
            'no alternative: add a [[variant]] of kind "no-ai" or "smaller-ai", or say why not: [alternative] none = "…"'
        )
    if other and declared.alternative is not None:
        raise ConfigurationError("[alternative] says that there is none, and a [[variant]] is one: remove either")
    if declared.alternative is not None and not declared.alternative.none.strip():
        raise ConfigurationError('[alternative] none is empty: say why, such as none = "the law asks for this very model"')


def interval(value: Figure, where: str) -> Interval:
    """A figure, or its low, mid and high, as an interval. Raises ConfigurationError."""
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3 or not all(math.isfinite(each) for each in values) or not values[0] <= values[1] <= values[2]:
        raise ConfigurationError(f"{where} is {value}: write a number, or [low, mid, high]")
    return Interval(*map(float, values))


def pue_of(carbon: CarbonTable) -> Pue | None:
    """The declared PUE, or None. Raises ConfigurationError."""
    if carbon.pue is None:
        return None
    if not (carbon.pue_source or "").strip():
        raise ConfigurationError("[carbon] pue needs pue_source: who measured it, and when")
    return Pue(interval(carbon.pue, "[carbon] pue"), carbon.pue_source or "")


def embodied_of(carbon: CarbonTable, known: Embodied | None) -> Embodied | None:
    """The declared embodied carbon; where only the lifetime is declared, ``known`` with that life. Raises ConfigurationError."""
    years = None if carbon.lifetime_years is None else interval(carbon.lifetime_years, "[carbon] lifetime_years")
    if carbon.embodied_kg is None:
        if years is None or known is None:
            return known
        return msgspec.structs.replace(known, lifespan_s=years.times(SECONDS_PER_YEAR))
    if years is None or not (carbon.embodied_source or "").strip():
        raise ConfigurationError("[carbon] embodied_kg needs lifetime_years and embodied_source: who says so, and when")
    if carbon.embodied_covers not in ("host", "vm"):
        raise ConfigurationError(f'[carbon] embodied_covers is "host" or "vm", not {carbon.embodied_covers!r}')
    kg = interval(carbon.embodied_kg, "[carbon] embodied_kg")
    return Embodied.declared(kg, years, source=carbon.embodied_source or "", covers=carbon.embodied_covers)  # type: ignore[arg-type]
