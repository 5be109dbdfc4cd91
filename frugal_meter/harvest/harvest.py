"""`Harvest`: the declarations that were taken and those that were refused, and the groups whose figures may be compared."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from ..declaration.document import Declaration, Service
from ..declaration.reading import declaration_of
from ..errors import DeclarationError
from .gathering import Found


class Taken(NamedTuple):
    """A declaration that holds, and where it is from."""

    source: str
    origin: str
    declaration: Declaration


class Refused(NamedTuple):
    """A declaration that was not taken, and why, in one line."""

    source: str
    why: str


class Entry(NamedTuple):
    """A service of a declaration."""

    taken: Taken
    service: Service

    @property
    def name(self) -> str:
        """Whose it is and what it is called, for sorting."""
        return f"{self.taken.declaration.organisation.name or ''} {self.service.id}".casefold()


class Harvest(NamedTuple):
    """Taken and refused, each in the order of their sources."""

    taken: tuple[Taken, ...]
    refused: tuple[Refused, ...]

    @property
    def entries(self) -> list[Entry]:
        """Every service, by organisation and name."""
        found = [Entry(taken, service) for taken in self.taken for service in taken.declaration.services]
        return sorted(found, key=lambda entry: entry.name)


#: what must be the same before figures are compared: functional unit, methods, what is counted, and the kind of factor
Likeness = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def likeness(service: Service) -> Likeness:
    """The group that a service's figures belong to."""
    factors = sorted({f"{each.scope or '?'}/{each.basis or '?'}" for each in service.method.factors})
    return service.unit.name, tuple(sorted(service.method.ids)), tuple(sorted(service.boundary.included)), tuple(factors)


def groups(entries: Iterable[Entry]) -> dict[Likeness, list[Entry]]:
    """Services with figures per unit, by what they may be compared with; the largest groups first."""
    found: dict[Likeness, list[Entry]] = {}
    for entry in entries:
        if entry.service.per_unit is not None:
            found.setdefault(likeness(entry.service), []).append(entry)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def harvest(found: Iterable[Found], *, now: datetime) -> Harvest:
    """Check what was found at ``now``. A service is taken once: of one origin the newest declaration, of several the first."""
    taken: list[Taken] = []
    refused: list[Refused] = []
    for each in found:
        if each.data is None:
            refused.append(Refused(each.source, each.why))
            continue
        try:
            taken.append(Taken(each.source, each.origin, declaration_of(each.data, now=now)))
        except DeclarationError as error:
            refused.append(Refused(each.source, str(error)))
    kept = _once(taken, refused)
    return Harvest(tuple(kept), tuple(refused))


def _once(taken: list[Taken], refused: list[Refused]) -> list[Taken]:
    held: dict[tuple[str, str], Taken] = {}
    out: dict[int, Taken] = {}
    for each in taken:
        out[id(each)] = each
        for service in each.declaration.services:
            key = (_identity(each), service.id.casefold())
            other = held.get(key)
            if other is None or id(other) not in out:
                held[key] = each
                continue
            newer = other.origin == each.origin and each.declaration.declared_at > other.declaration.declared_at
            loser, winner = (other, each) if newer else (each, other)
            out.pop(id(loser), None)
            why = f"service {service.id[:100]!r} is declared by {winner.source[:200]} as well, "
            why += "more recently" if newer or _is_older(each, other) else "and that came first"
            refused.append(Refused(loser.source, why))
            held[key] = winner
            if loser is each:
                break
    return list(out.values())


def _is_older(each: Taken, other: Taken) -> bool:
    return each.origin == other.origin and each.declaration.declared_at < other.declaration.declared_at


def _identity(of: Taken) -> str:
    """Whose services these are; who does not say is taken for whoever published them."""
    organisation = of.declaration.organisation
    return organisation.siret or (organisation.name or of.origin).casefold().strip()
