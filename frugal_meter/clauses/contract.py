"""``clauses.toml``: what a contract promises of a service's energy, carbon and quality, with every key checked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date, datetime, time
from hashlib import sha256
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from ..errors import ConfigurationError, UnitError
from ..periods import LEAST_PUBLIC
from ..tables import only, read_tables
from ..units import parse_quantity

Figure = Literal["energy", "carbon", "measured", "quality", "degraded", "refused", "failed", "degraded or refused"]
Over = Literal["period", "p95"]
Bound = Literal["at_most", "at_least"]
Proof = Literal["probable", "sure"]

#: figure → what its limit is: a quantity of this resource, a share of 100 %, or a score from 0 to 1
KINDS: Final[Mapping[str, str]] = {
    **{"energy": "energy", "carbon": "carbon", "quality": "score"},
    **dict.fromkeys(("measured", "degraded", "refused", "failed", "degraded or refused"), "share"),
}
#: fewer units than this have no 95th percentile: it would be their largest
LEAST_FOR_P95: Final = 20
LEAST_UNITS: Final = 100
LEAST_COVERED: Final = 0.9
#: what ends a line, moves a cursor, or turns the direction of the text after it
_FOREIGN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_TOP: Final = (
    *("title", "buyer", "supplier", "service", "unit", "timezone", "least_units", "least_scores", "least_covered", "proof"),
    *("period", "clause", "unit_names"),
)
_PERIOD: Final = ("name", "begin", "end")
_CLAUSE: Final = ("id", "figure", "over", "at_most", "at_least", "unit", "metric")


class Clause(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: ``figure`` is ``bound`` ``limit``: joules or gCO2e per unit, a share 0…1, or a score 0…1."""

    id: str
    figure: Figure
    over: Over
    bound: Bound
    limit: float
    unit: str
    metric: str | None
    watt_hours: str | None = None  # the limit as it was signed, where that is in Wh


class Stretch(msgspec.Struct, frozen=True):
    """A period of the contract, Unix seconds; ``end_s`` is the first moment after it."""

    name: str
    begin_s: float
    end_s: float


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A file of clauses. ``proof`` says what counts as kept: "probable", a middle within the limit; "sure", a whole interval."""

    title: str
    buyer: str | None
    supplier: str | None
    service: str | None
    timezone: str
    least_units: int
    least_scores: int
    least_covered: float
    proof: Proof
    periods: tuple[Stretch, ...]
    clauses: tuple[Clause, ...]
    sha256: str
    #: how people call a unit: its name → language → word
    unit_names: Mapping[str, Mapping[str, str]] = {}


def load(file: Path) -> Contract:
    """The contract in ``file``. Raises ConfigurationError in one line with the file, the place and what would do."""
    raw, tables = read_tables(file)
    try:
        return _contract(tables, sha256(raw).hexdigest())
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None


def _contract(tables: Mapping[str, Any], digest: str) -> Contract:
    only("the file", tables, _TOP)
    unit = _text("the file", tables, "unit") or "request"
    zone = _text("the file", tables, "timezone") or "Europe/Paris"
    try:
        timezone = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise ConfigurationError(f'timezone = {zone!r} is no time zone: write one such as "Europe/Paris"') from None
    least_units = _whole(tables, "least_units", LEAST_UNITS)
    clauses = tuple(_clause(number, table, unit) for number, table in enumerate(_tables(tables, "clause"), 1))
    proof = tables.get("proof", "probable")
    if proof not in ("probable", "sure"):
        raise ConfigurationError(f'proof = {proof!r} cannot be: "probable" or "sure"')
    _agree(clauses, least_units)
    return Contract(
        title=_text("the file", tables, "title") or "",
        buyer=_text("the file", tables, "buyer"),
        supplier=_text("the file", tables, "supplier"),
        service=_text("the file", tables, "service"),
        timezone=zone,
        least_units=least_units,
        least_scores=_whole(tables, "least_scores", 30),
        least_covered=_share("the file", "least_covered", tables.get("least_covered", LEAST_COVERED)),
        proof=proof,
        periods=_periods(_tables(tables, "period"), timezone),
        clauses=clauses,
        sha256=digest,
        unit_names=_unit_names(tables.get("unit_names", {})),
    )


def _clause(number: int, table: Mapping[str, Any], unit: str) -> Clause:
    id = _text(f"[[clause]] {number}", table, "id") or str(number)
    where = f"[[clause]] {id!r}"
    only(where, table, _CLAUSE)
    figure = _one_of(where, "figure", table.get("figure"), tuple(KINDS))
    kind = KINDS[figure]
    weighed = kind in ("energy", "carbon")
    bounds = [name for name in ("at_most", "at_least") if name in table]
    if len(bounds) != 1:
        raise ConfigurationError(f"{where}: give it at_most or at_least, one of them")
    if "over" in table and not weighed:
        raise ConfigurationError(f'{where}: over is for "energy" and "carbon"; {figure!r} is always of the whole period')
    if "metric" in table and figure != "quality":
        raise ConfigurationError(f'{where}: metric is for "quality" alone')
    limit, watt_hours = _limit(where, bounds[0], kind, table[bounds[0]])
    over = _one_of(where, "over", table.get("over", None if weighed else "period"), ("period", "p95"))
    return Clause(
        id=id,
        figure=figure,  # type: ignore[arg-type]
        over=over,  # type: ignore[arg-type]
        bound=bounds[0],  # type: ignore[arg-type]
        limit=limit,
        unit=_text(where, table, "unit") or unit,
        metric=_text(where, table, "metric"),
        watt_hours=watt_hours,
    )


def _limit(where: str, name: str, kind: str, given: object) -> tuple[float, str | None]:
    """The limit, and as it was written where that is in Wh."""
    if kind == "share":
        return _share(where, name, given), None
    if kind == "score":
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
            raise ConfigurationError(f"{where}: {name} = {given!r} cannot be: quality is a score from 0 to 1")
        return float(given), None
    try:
        quantity = parse_quantity(given)
    except UnitError as error:
        raise ConfigurationError(f"{where}: {name}: {error}") from None
    if quantity.resource != kind:
        example = '"300 J" or "0.1 Wh"' if kind == "energy" else '"20 mgCO2e"'
        raise ConfigurationError(f"{where}: {name} = {given!r} is no amount of {kind}: write {example}")
    text = quantity.text.strip()
    return quantity.shown, text if text.endswith("Wh") else None


def _share(where: str, name: str, given: object) -> float:
    value = given
    if isinstance(given, str) and given.rstrip().endswith("%"):
        try:
            value = float(given.rstrip().removesuffix("%")) / 100
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigurationError(f'{where}: {name} = {given!r} is no share: write "5 %", or 0.05')
    return float(value)


def _agree(clauses: Collection[Clause], least_units: int) -> None:
    """Refuse clauses that are two of a kind, or that cannot both be kept."""
    if not clauses:
        raise ConfigurationError("has no [[clause]]")
    for one, other in combinations(clauses, 2):
        if one.id == other.id:
            raise ConfigurationError(f"two clauses are called {one.id!r}; give each an id of its own")
        if (one.figure, one.over, one.unit, one.metric) != (other.figure, other.over, other.unit, other.metric):
            continue
        if one.bound == other.bound:
            raise ConfigurationError(f"clauses {one.id!r} and {other.id!r} limit one figure twice; keep one of them")
        low, high = (one, other) if one.bound == "at_least" else (other, one)
        if low.limit > high.limit:
            raise ConfigurationError(
                f"clauses {one.id!r} and {other.id!r} contradict each other: {one.figure} cannot be at least {low.limit:g} "
                f"and at most {high.limit:g}"
            )
    _agree_on_shares(clauses)
    for each in clauses:
        if each.over == "p95" and least_units < LEAST_FOR_P95:
            raise ConfigurationError(
                f"least_units = {least_units} is too few for clause {each.id!r}: of fewer than {LEAST_FOR_P95} units there is "
                "no 95th percentile"
            )


def _agree_on_shares(clauses: Collection[Clause]) -> None:
    """Refuse a least share of requests degraded, or refused, above the most that may be either."""
    for most in (each for each in clauses if each.figure == "degraded or refused" and each.bound == "at_most"):
        for least in (each for each in clauses if each.figure in ("degraded", "refused") and each.bound == "at_least"):
            if least.limit > most.limit:
                raise ConfigurationError(
                    f"clauses {least.id!r} and {most.id!r} contradict each other: {least.figure} cannot be at least "
                    f"{least.limit:g} and {most.figure} at most {most.limit:g}"
                )


def _periods(tables: Collection[Mapping[str, Any]], timezone: ZoneInfo) -> tuple[Stretch, ...]:
    if not tables:
        raise ConfigurationError('has no [[period]]: name = "2026-01", begin = 2026-01-01, end = 2026-02-01 (the day after)')
    periods = []
    for number, table in enumerate(tables, 1):
        name = _text(f"[[period]] {number}", table, "name") or str(number)
        where = f"[[period]] {name!r}"
        only(where, table, _PERIOD)
        begin, end = (_moment(where, key, table.get(key), timezone) for key in ("begin", "end"))
        if begin >= end:
            raise ConfigurationError(f"{where}: ends before it begins")
        periods.append(Stretch(name, begin, end))
    periods.sort(key=lambda each: each.begin_s)
    for one, then in pairwise(periods):
        if then.begin_s < one.end_s:
            raise ConfigurationError(f"periods {one.name!r} and {then.name!r} overlap; end is the day after the last")
    if len({each.name for each in periods}) < len(periods):
        raise ConfigurationError("two periods have one name; give each its own")
    return tuple(periods)


def _moment(where: str, key: str, given: object, timezone: ZoneInfo) -> float:
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            given = None
    if isinstance(given, date) and not isinstance(given, datetime):
        given = datetime.combine(given, time())
    if not isinstance(given, datetime):
        raise ConfigurationError(f"{where}: {key} is a day or a moment: {key} = 2026-01-31")
    if not 1970 <= given.year < 2200:
        raise ConfigurationError(f"{where}: {key} is of the year {given.year}: write one from 1970 to 2199")
    return (given if given.tzinfo else given.replace(tzinfo=timezone)).timestamp()


def _unit_names(given: object) -> Mapping[str, Mapping[str, str]]:
    try:
        names = msgspec.convert(given, dict[str, dict[str, str]])
    except msgspec.ValidationError:
        raise ConfigurationError('unit_names: write unit_names.answer = {fr = "réponse", en = "answer"}') from None
    for unit, said in names.items():
        only(f"unit_names.{unit}", said, ("fr", "en"))
        for lang in said:
            _text(f"unit_names.{unit}", said, lang)
    return names


def _tables(tables: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    given = tables.get(name, [])
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise ConfigurationError(f"{name}: write [[{name}]] above each of them")
    return given


def _one_of(where: str, name: str, given: object, known: Collection[str]) -> str:
    if not isinstance(given, str) or given not in known:
        said = f"{name} is missing" if given is None else f"{name} = {given!r} cannot be"
        raise ConfigurationError(f"{where}: {said}: use {', '.join(repr(each) for each in known)}")
    return given


def _text(where: str, table: Mapping[str, Any], name: str) -> str | None:
    given = table.get(name)
    if given is not None and not (isinstance(given, str) and given.strip() and not _FOREIGN.search(given)):
        raise ConfigurationError(f"{where}: {name} = {given!r} cannot be: it is a text of one line, without control characters")
    return given


def _whole(tables: Mapping[str, Any], name: str, default: int) -> int:
    given = tables.get(name, default)
    if isinstance(given, bool) or not isinstance(given, int) or given < LEAST_PUBLIC:
        raise ConfigurationError(
            f"{name} = {given!r} cannot be: a whole number of at least {LEAST_PUBLIC} (of fewer, one person's use could be read)"
        )
    return given
