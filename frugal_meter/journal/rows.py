"""How records lie in a journal: what repeats from one to the next is kept once, as a context; the rest is a short JSON array."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from ..budgets.stores import Entry
from ..periods import Pass, Weight, books_of
from ..records import Interval, Reading, Tick

if TYPE_CHECKING:
    from ..figures import Figures

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


def pass_of(
    figures: Figures,
    ticks: Sequence[Tick],
    *,
    pue: Interval,
    embodied_g: Callable[[float, float], float],
    embodied_spread: tuple[float, float],
    flags: Sequence[str],
) -> Pass:
    """The books of one tick of every source, with what they weigh.

    ``embodied_g(seconds, share)`` are gCO2e (mid) of that share of the host; its bounds are ``embodied_spread`` times that.
    """
    t0_ns, t1_ns = (ns + figures.unix_offset_ns for ns in (ticks[0].t0_ns, ticks[0].t1_ns))
    at, (low, high) = figures.in_force.over(t0_ns, t1_ns), embodied_spread
    weight = Weight(
        grams_per_joule=at.grams_per_joule,
        pue=pue,
        embodied_low=low,
        embodied_high=high,
        factor_ids=at.ids,
        method_id=figures.method_id,
        boundary=figures.boundary,
        flags=tuple(dict.fromkeys((*flags, *at.flags))),
    )
    return Pass(
        process=f"{figures.random:010x}",
        t0_ns=t0_ns,
        t1_ns=t1_ns,
        weight=weight,
        embodied_g=embodied_g((t1_ns - t0_ns) / 1e9, ticks[0].slice_share or 0.0),
        books=tuple(map(books_of, ticks)),
    )


def spans_of(tick: Tick) -> tuple[dict[int, int], dict[int, int]]:
    """What each span drew in a tick: dynamic and idle nanojoules by its key, the low 34 bits of its reading's id."""
    return dict(tick.requests_nj), dict(tick.idle_requests_nj)
