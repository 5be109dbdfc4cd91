"""`Statement`: what only people know of a service (who answers, what for, a human alternative), from ``[declaration]``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints
from zoneinfo import ZoneInfo

import msgspec

from ..errors import ConfigurationError
from ..tables import only
from .calendar import Span
from .document import PATTERNS, Legal, Line, Model, Objective, Record, Said, Siret, Supplier, Url

#: tables of a statement, with what their keys are
_PARTS: Final[dict[str, type[Record]]] = {"legal": Legal, "models": Model, "suppliers": Supplier, "objective": Objective}
#: what is an answer although it says little: that nobody has set a goal or published a study needs no line
_MAY_BE_ABSENT: Final = frozenset(
    {"siret", "objective", "human_alternative_url", "impact_study_url", "rgesn_url", "not_counted", "parameters", "figure"}
)


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``[declaration]``; None is not said. Texts are French, or ``{ fr = "…", en = "…" }``."""

    organisation: Line | None = None
    siret: Siret | None = None
    contact: Line | None = None
    answerable: Said | None = None
    name: Said | None = None
    purpose: Said | None = None
    status: Literal["pilot", "in_service", "stopped"] | None = None
    users: Literal["agents", "public", "both"] | None = None
    necessity: Said | None = None
    contribution: Literal["none", "partial", "full"] | None = None
    human_oversight: Said | None = None
    human_alternative: Said | None = None
    human_alternative_url: Url | None = None
    legal: Legal | None = None
    models: tuple[Model, ...] | None = None
    suppliers: tuple[Supplier, ...] | None = None
    objective: Objective | None = None
    impact_study_url: Url | None = None
    rgesn_url: Url | None = None
    not_counted: tuple[Line, ...] = ()
    licence: Literal["etalab-2.0", "CC-BY-4.0", "CC0-1.0", "ODbL-1.0"] = "etalab-2.0"
    #: where these pages are public, "https://ville.example/frugal"
    url: Url | None = None
    #: whether the declaration, the notice and carbon.txt answer beyond this machine; the other ops pages do not
    public: bool = False
    period: Span = "month"
    timezone: str = "Europe/Paris"
    unit: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = "request"

    def missing(self) -> tuple[str, ...]:
        """What people still have to say, as keys: "purpose", "legal.ai_act_class", "models[0].licence"."""
        return tuple(self._missing())

    def _missing(self) -> Iterator[str]:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None and name not in _MAY_BE_ABSENT:
                yield name
            elif name in ("legal", "models", "suppliers") and value is not None:
                several = isinstance(value, tuple)
                for place, part in enumerate(value if several else (value,)):
                    where = f"{name}[{place}]" if several else name
                    unsaid = (key for key in part.__struct_fields__ if getattr(part, key) is None and key not in _MAY_BE_ABSENT)
                    yield from (f"{where}.{key}" for key in unsaid)
        if self.models == ():
            yield "models"

    @property
    def zone(self) -> ZoneInfo:
        """The clock by which periods begin and end."""
        return ZoneInfo(self.timezone)


def statement_of(told: Any) -> Statement:
    """The statement of a ``[declaration]`` table; an empty one where there is none. Raises ConfigurationError in one line."""
    if told is None or isinstance(told, Statement):
        return told or Statement()
    if not isinstance(told, Mapping):
        raise ConfigurationError(f"declaration is a table of what only people know, not {told!r}")
    filled = _filled("[declaration]", told, Statement)
    try:
        statement = msgspec.convert(filled, Statement)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise ConfigurationError(f"[declaration] {where.strip('`.')}: {_plainly(message)}") from None
    _check_zone(statement.timezone)
    return statement


def _plainly(message: str) -> str:
    return next((f"write {words}" for pattern, words in PATTERNS.items() if repr(pattern) in message), message)


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigurationError(f'[declaration] timezone: {name!r} is none; write one such as "Europe/Paris"') from None


def _filled(where: str, table: Mapping[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The table with its texts in a language, and with None for what a part does not say. Raises ConfigurationError."""
    known = kind.__struct_fields__
    only(where, table, known)
    filled = dict.fromkeys(known) if kind is not Statement else {}
    return filled | {key: _value(f"{where} {key}", key, value, kind) for key, value in table.items()}


def _value(where: str, key: str, value: Any, kind: type[msgspec.Struct]) -> Any:
    part = _PARTS.get(key) if kind is Statement else None
    if part is not None and isinstance(value, Mapping):
        return _filled(where, value, part)
    if part is not None and isinstance(value, list | tuple):
        return [_filled(f"{where}[{n}]", each, part) if isinstance(each, Mapping) else each for n, each in enumerate(value)]
    return {"fr": value} if isinstance(value, str) and key in _texts(kind) else value


def _texts(kind: type[msgspec.Struct]) -> frozenset[str]:
    hints = get_type_hints(kind, include_extras=True)
    return frozenset(name for name, hint in hints.items() if Said in get_args(hint))
