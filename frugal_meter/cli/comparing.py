"""``frugal-meter compare A B``: two readings or two exports side by side, or why they cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from ..carbon.published import by_id
from ..errors import ConfigurationError
from ..records import Interval, Reading
from .readings import Book, File, Kept, found, is_journal
from .texts import Words

_ZERO = Interval(0.0, 0.0, 0.0)


class Side(msgspec.Struct):
    """What one side is, and its sums; sets hold what must be one and the same on both."""

    name: str
    requests: int = 0
    units: float = 0.0
    energy_j: Interval | None = _ZERO
    carbon_g: Interval | None = _ZERO
    dynamic_j: float | None = 0.0
    methods: set[str] = msgspec.field(default_factory=set)
    boundaries: set[str] = msgspec.field(default_factory=set)
    tiers: set[str] = msgspec.field(default_factory=set)
    remote_methods: set[str] = msgspec.field(default_factory=set)
    unit_names: set[str] = msgspec.field(default_factory=set)
    factor_kinds: set[str] = msgspec.field(default_factory=set)
    factor_ids: set[str] = msgspec.field(default_factory=set)

    def add(self, r: Reading) -> None:
        """Add one reading: a nested one adds what it used, and is no request."""
        self.requests += r.parent is None
        self.methods.add(r.method_id)
        self.boundaries.add(" ".join(sorted(r.boundary)) or "–")
        self.tiers.add(r.tier or "–")
        self.remote_methods |= {call.method_id or "–" for call in r.remote}
        self.factor_kinds |= {_kind(id) for id in r.factor_ids}
        self.factor_ids.update(r.factor_ids)
        if r.units:
            self.unit_names.add(r.unit or "unit")
            self.units += r.units
        self.energy_j = _plus(self.energy_j, r.energy_low_j, r.energy_full_j, r.energy_high_j)
        self.carbon_g = _plus(self.carbon_g, r.carbon_low_g, r.carbon_g, r.carbon_high_g)
        dynamic = r.energy_dynamic_j
        self.dynamic_j = None if dynamic is None or self.dynamic_j is None else self.dynamic_j + dynamic

    @property
    def basis(self) -> set[str]:
        """What its joules hold: without an idle baseline dynamic and full are one."""
        return {"full" if self.dynamic_j is not None else "no-baseline"}

    @property
    def per(self) -> float:
        """What its sums are divided by: functional units, or requests where none were counted."""
        return self.units or self.requests or 1


def side(name: str, book: Book) -> Side:
    """A journal or a file of readings, all of it, or one reading of ``book``. Raises ConfigurationError."""
    out = Side(name.partition("://")[0] + "://…" if "://" in name else name)  # an address may carry a password
    readings: Iterable[Reading]
    if is_journal(name):
        readings = Kept(name).readings()
    elif Path(name).is_file():
        readings = File(Path(name)).readings()
    elif "/" in name or Path(name).suffix:  # no id of a reading has either
        raise ConfigurationError(f"{out.name}: there is no such file")
    else:
        readings = [found(name, book)]
    for each in readings:
        out.add(each)
    if not out.methods:
        raise ConfigurationError(f"{out.name}: holds no reading")
    return out


def obstacles(a: Side, b: Side, words: Words) -> list[str]:
    """Why ``a`` and ``b`` cannot be compared, a line each; empty where they can."""
    lines = []
    for what in ("methods", "boundaries", "tiers", "basis", "unit_names", "remote_methods"):
        ours, theirs = getattr(a, what), getattr(b, what)
        if ours != theirs:
            lines.append(words(f"c_{what}", a=_listed(ours), b=_listed(theirs)))
        elif what in ("methods", "boundaries", "unit_names") and len(ours) > 1:
            lines.append(words("c_mixed", what=_listed(ours)))
    return lines


def compared(a: Side, b: Side, words: Words) -> tuple[str, dict[str, Any]]:
    """Both per unit with their bounds and ratio, as text and as a record."""
    record: dict[str, Any] = {"a": a.name, "b": b.name, "methods": sorted(a.methods), "boundary": sorted(a.boundaries)}
    record |= {"tiers": sorted(a.tiers), "factor_ids": {"a": sorted(a.factor_ids), "b": sorted(b.factor_ids)}}
    per = next(iter(a.unit_names), None) or words("c_request")
    lines = [words("c_head", a=a.name, b=b.name, per=per, n=a.per, m=b.per)]
    same_factors = a.factor_kinds == b.factor_kinds and len(a.factor_kinds) <= 1 + bool(a.remote_methods)
    for what, unit in (("energy_j", "J"), ("carbon_g", "gCO2e")):
        ours, theirs = getattr(a, what), getattr(b, what)
        if what == "carbon_g" and not same_factors:
            lines.append(f"  {words('c_factors', a=_listed(a.factor_kinds), b=_listed(b.factor_kinds))}")
            continue
        if ours is None or theirs is None:
            lines.append(f"  {unit}{words.colon} {words('unknown')}")
            continue
        ours, theirs = ours.times(1 / a.per), theirs.times(1 / b.per)
        apart = ours.high < theirs.low or theirs.high < ours.low
        ratio = theirs.mid / ours.mid if ours.mid else None
        record[what] = {"a": msgspec.to_builtins(ours), "b": msgspec.to_builtins(theirs), "ratio": ratio, "apart": apart}
        shown = "–" if ratio is None else words.number(ratio)
        told = words("c_apart" if apart else "c_overlap")
        lines.append(f"  A {words.known(ours, unit)} · B {words.known(theirs, unit)} · B ÷ A = {shown} · {told}")
    tiers = ", ".join(words.tier(each) if each != "–" else each for each in sorted(a.tiers))  # type: ignore[arg-type]
    factors = f"{_listed(a.factor_kinds)} ({_listed(a.factor_ids | b.factor_ids)})"
    lines.append(f"  {tiers} · {_listed(a.methods)} · {_listed(a.boundaries)} · {factors}")
    return "\n".join(lines), record


def _kind(id: str) -> str:
    """Scope and basis of a factor; its own id where nobody here knows it, so that it equals only itself."""
    found = by_id(id)
    return id if found is None else f"{found.scope}, {found.basis}"


def _plus(one: Interval | None, low: float | None, mid: float | None, high: float | None) -> Interval | None:
    if one is None or low is None or mid is None or high is None:
        return None
    return Interval(one.low + low, one.mid + mid, one.high + high)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "–"
