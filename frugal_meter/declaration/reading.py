"""A declaration from bytes that a stranger wrote: strict JSON, the schema, and figures that agree with each other."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from ..errors import DeclarationError
from ..units import J_PER_KWH
from .document import SCHEMA, Bounds, Declaration, Service, nulls

#: a declaration is tens of kilobytes; nothing larger is read
MOST_BYTES: Final = 1_000_000
#: clocks differ; a declaration of the day after tomorrow is made up
_CLOCKS_DIFFER: Final = timedelta(days=1)
#: figures are rounded to three digits and counts to fives: beyond these they contradict each other
_OFF: Final = 0.02
_ENOUGH: Final = 500


def declaration_of(data: bytes, *, now: datetime) -> Declaration:
    """The declaration in ``data``. Raises DeclarationError, in one line, for whatever is not a valid one at ``now``."""
    told = _parsed(data)
    if not isinstance(told, dict):
        raise DeclarationError("not a declaration: a JSON object is expected")
    if told.get("schema") != SCHEMA:
        raise DeclarationError(f"wrong version: its schema is {_shown(told.get('schema'))}, and this reads {SCHEMA!r}")
    try:
        found = msgspec.convert(told, Declaration)
    except msgspec.ValidationError as error:
        raise DeclarationError(f"against the schema: {_shown(str(error), quoted=False)}") from None
    _check_nulls(found, told)
    _check_times(found, now)
    ids = [service.id for service in found.services]
    if len(set(ids)) < len(ids):
        twice = next(each for each in ids if ids.count(each) > 1)
        raise DeclarationError(f"service {_shown(twice)} is in it twice")
    for service in found.services:
        _check_sums(service)
    return found


def _parsed(data: bytes) -> Any:
    if len(data) > MOST_BYTES:
        raise DeclarationError(f"larger than {MOST_BYTES // 1_000_000} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DeclarationError(f"not UTF-8 (byte {error.start})") from None
    try:
        told = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(told, ensure_ascii=False).encode()
    except DeclarationError:
        raise
    except UnicodeEncodeError:
        raise DeclarationError("not Unicode: half of a surrogate pair") from None
    except RecursionError:
        raise DeclarationError("not JSON that anybody would write: nested too deep") from None
    except ValueError as error:
        raise DeclarationError(f"not JSON: {_shown(str(error), quoted=False)}") from None
    return told


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise DeclarationError(f"the key {_shown(next(n for n in names if names.count(n) > 1))} is there twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise DeclarationError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DeclarationError(f"the number {_shown(text, quoted=False)} is larger than a number can be")
    return value


def _check_nulls(found: Declaration, told: Mapping[str, Any]) -> None:
    explained = [each.path for each in found.unknown]
    there = set(nulls({name: value for name, value in told.items() if name != "unknown"}))
    for path in there.difference(explained):
        raise DeclarationError(f"{path} is null, and nothing says why")
    for path in explained:
        if path not in there:
            raise DeclarationError(f"{_shown(path)} is said to be unknown and is no null")


def _check_times(found: Declaration, now: datetime) -> None:
    if found.declared_at > now + _CLOCKS_DIFFER:
        raise DeclarationError(f"declared in the future ({found.declared_at.date()})")
    if found.declared_at < found.period.end:
        raise DeclarationError("declared before its period had ended")
    if found.valid_until <= found.declared_at:
        raise DeclarationError("ends before it is declared")
    if found.valid_until <= now:
        raise DeclarationError(f"stale: it was valid until {found.valid_until.date()}")


def _check_sums(service: Service) -> None:
    said = f"service {_shown(service.id)}"
    if service.it_energy_kwh is not None and service.volume.requests is None:
        raise DeclarationError(f"{said}: energy without its number of requests")
    if (carbon := service.co2e) is not None:
        for name in ("low", "mid", "high"):
            parts = getattr(carbon.operational_kg, name) + getattr(carbon.embodied_kg, name)
            _agree(f"{said}: carbon is not the sum of its parts", getattr(carbon.total_kg, name), parts)
    count, each = service.unit.delivered, service.per_unit
    if each is None or count is None or count < _ENOUGH:
        return
    if service.it_energy_kwh is not None:
        _divided(f"{said}: energy per unit is not the energy divided", each.it_energy_j, service.it_energy_kwh, J_PER_KWH / count)
    if carbon is not None:
        _divided(f"{said}: carbon per unit is not the carbon divided", each.co2e_g, carbon.total_kg, 1000 / count)


def _divided(said: str, each: Bounds, whole: Bounds, factor: float) -> None:
    for name in ("low", "mid", "high"):
        _agree(said, getattr(each, name), getattr(whole, name) * factor)


def _agree(said: str, told: float, found: float) -> None:
    if abs(told - found) > _OFF * max(told, found):
        raise DeclarationError(f"{said}: {told:g} against {found:.3g}")


def _shown(value: Any, *, quoted: bool = True) -> str:
    """A stranger's text as one short printable line."""
    text = repr(value) if quoted else "".join(c if c.isprintable() else "�" for c in str(value))
    return text if len(text) <= 160 else f"{text[:160]}…"
