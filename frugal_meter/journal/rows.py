"""How records lie in a journal: what repeats from one to the next is kept once, as a context; the rest is a short JSON array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ..budgets.stores import Entry
from ..periods import Pass
from ..records import Reading, Tick

#: fields of a reading that many readings share; what is not named here varies from one to the next
_SHARED: Final = frozenset(
    (
        *("service", "route", "method", "status", "outcome", "tenant", "model_requested", "model_served", "unit", "kind"),
        *("quality_metric", "tier", "boundary", "factor_ids", "method_id", "idle_source", "decision", "settled", "flags"),
        *("remote_tier", "carbon_tier", "pue", "grams_per_kwh"),
    )
)
_FIELDS: Final = tuple(name for name in Reading.__struct_fields__ if name not in ("id", "started_at"))
_REQUIRED: Final = tuple(f.name for f in msgspec.structs.fields(Reading) if f.required)
_ENCODER: Final = msgspec.json.Encoder()


class ReadingRow(NamedTuple):
    """A reading as it lies: ``context`` and ``body`` are JSON; ``settled_ns`` is the Unix time of the tick that settled it."""

    id: str
    started_s: float
    settled_ns: int
    context: str
    body: str


class Feedback(NamedTuple):
    """A score that came after its reading."""

    reading: str
    at_s: float
    score: float
    metric: str | None


class PassRow(NamedTuple):
    """A pass, and what each span drew in it: source → (dynamic nJ by span key, idle nJ by span key); empty where none did."""

    books: Pass
    spans: Mapping[str, tuple[Mapping[int, int], Mapping[int, int]]]


class Batch(NamedTuple):
    """What one tick brings: all of it is kept, or nothing."""

    passes: Sequence[PassRow]
    readings: Sequence[ReadingRow]
    decisions: Sequence[Entry]
    feedback: Sequence[Feedback]
    lost: tuple[int, int] = (0, 0)  # readings and ticks that were let go since the batch before
    number: int = 0  # rising for one journal object; 0 is none: what carries a number is never kept twice


def packed(value: Any) -> str:
    """Compact JSON, the same text for the same value."""
    return _ENCODER.encode(value).decode()


def reading_row(reading: Reading, settled_ns: int) -> ReadingRow:
    """A reading, taken apart. What is None, or as a reading is without being told, takes no room."""
    shared: dict[str, Any] = {}
    names, values = [], []
    for name in _FIELDS:
        value = getattr(reading, name)
        if value is None or value == ():
            continue
        if name in _SHARED:
            shared[name] = value
        else:
            names.append(name)
            values.append(value)
    return ReadingRow(reading.id, reading.started_at, settled_ns, packed({"shared": shared, "names": names}), packed(values))


def reading_of(id: str, started_s: float, context: str, body: str) -> Reading:
    """A reading, put together again; one of an older version has None for what that did not know."""
    told = msgspec.json.decode(context)
    fields = {**dict.fromkeys(_REQUIRED), **told["shared"], **dict(zip(told["names"], msgspec.json.decode(body), strict=True))}
    fields |= {name: fields[name] or () for name in ("boundary", "factor_ids")}
    return msgspec.convert({**fields, "id": id, "started_at": started_s}, Reading)


def spans_of(tick: Tick) -> tuple[dict[int, int], dict[int, int]]:
    """What each span drew in a tick: dynamic and idle nanojoules by its key, the low 34 bits of its reading's id."""
    return dict(tick.requests_nj), dict(tick.idle_requests_nj)
