"""From what a tick billed to a span to the figures that people read: energy, carbon, tier, interval."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import msgspec

from .attribution.elsewhere import plus, remote_fields
from .attribution.gpu import notes_as_flags
from .attribution.ids import reading_id
from .attribution.ledger import Ledger
from .attribution.span import Account, Folded, Span
from .attribution.workings import TIER_SHARE, method_of, part_of, weakest
from .carbon.factors import Factor
from .carbon.in_force import InForce, Weight
from .carbon.pue import Pue
from .records import TIERS, Interval, Part, Reading, Tier
from .units import J_PER_KWH, NJ_PER_J, Resource

#: a GPU's counter moves every 20–100 ms, so what a span used may be booked to the tick after: over this many ticks that is little
LAG_TICKS: Final = 5
_CLOCK_SET_NS: Final = 1_000_000_000


class Energy:
    """Energy of one span, nJ: dynamic, its part of idle, and bounds of their sum, which hold what is booked in whole ones."""

    __slots__ = ("dynamic_nj", "high_nj", "idle_nj", "low_nj")

    def __init__(self, dynamic_nj: float, idle_nj: float, low_nj: float, high_nj: float) -> None:
        self.dynamic_nj, self.idle_nj = dynamic_nj, idle_nj
        self.low_nj, self.high_nj = min(low_nj, dynamic_nj + idle_nj), max(high_nj, dynamic_nj + idle_nj)

    @property
    def full_nj(self) -> float:
        """Dynamic and idle together."""
        return self.dynamic_nj + self.idle_nj


def _sum(one: Energy | None, other: Energy | None) -> Energy | None:
    """Both together; unknown with anything is unknown. Lows add to lows, highs to highs."""
    if one is None or other is None:
        return None
    return Energy(
        one.dynamic_nj + other.dynamic_nj, one.idle_nj + other.idle_nj, one.low_nj + other.low_nj, one.high_nj + other.high_nj
    )


class Figures:
    """Everything that turns a span's account into a `Reading` or an amount that a budget counts."""

    def __init__(
        self,
        service: str,
        ledger: Ledger,
        in_force: InForce,
        pue: Pue,
        *,
        boundary: tuple[str, ...],
        embodied_spread: tuple[float, float],
        method_flags: tuple[str, ...],
        now_ns: Callable[[], int],
        unix_offset_ns: int,
    ) -> None:
        self.service, self.ledger, self.in_force, self.pue = service, ledger, in_force, pue
        self.now_ns, self.unix_offset_ns = now_ns, unix_offset_ns
        self._first_offset_ns = unix_offset_ns
        sources = [books.source for books in ledger.books]
        self.tiers: list[Tier] = [s.tier for s in sources]
        self._gpus = [place for place, source in enumerate(sources) if source.component == "gpu"]
        self._stand_ins = [place for place, source in enumerate(sources) if getattr(source, "stands_in", False)]
        self.boundary, self.embodied_spread = boundary, embodied_spread
        self.weakest_tier: Tier | None = max(self.tiers, key=TIERS.index) if self.tiers else None
        self.method_id = method_of(sources)
        self.flags = tuple(dict.fromkeys([*method_flags, *pue.flags]))
        self.random = int.from_bytes(os.urandom(5), "big")

    def after_fork_in_child(self) -> None:
        """New random bits: two processes must not give out the same ids."""
        self.random = int.from_bytes(os.urandom(5), "big")

    @property
    def factor(self) -> Factor:
        """The emission factor in force now."""
        return self.in_force.now

    def weight(self, span: Span) -> Weight:
        """What a joule of ``span`` weighs, before PUE: at the factor in force while it ran."""
        offset_ns = self.unix_offset_ns
        return self.in_force.over(span.t0_ns + offset_ns, (span.t1_ns or self.now_ns()) + offset_ns)

    # -- energy

    def energy(self, span: Span) -> Energy | None:
        """The span's own energy: what ticks have billed, and before that its CPU at the last joules per CPU-second."""
        account = span.account
        if not self.tiers:
            return None
        billed = None
        if account is not None and (account.host_nj or not account.gap):
            billed = Energy(sum(account.sources_nj), sum(account.idle_nj), account.low_nj, account.high_nj)
        pending_ns = 0 if span.settled else max(0, span.total_cpu_ns - (account.billed_ns if account is not None else 0))
        pending = self._pending(pending_ns) if pending_ns or billed is None else None
        if billed is None or pending is None:
            return billed or pending
        return Energy(
            billed.dynamic_nj + pending.dynamic_nj,
            billed.idle_nj,
            billed.low_nj + pending.low_nj,
            billed.high_nj + pending.high_nj,
        )

    def _pending(self, cpu_ns: int) -> Energy | None:
        ledger = self.ledger
        if ledger.lam is None:  # nothing has told joules per CPU-second yet: unknown, not 0
            return None
        return Energy(cpu_ns * ledger.lam, 0, cpu_ns * ledger.lam_low, cpu_ns * ledger.lam_high)

    def tier(self, span: Span) -> tuple[Tier | None, float | None]:
        """The weakest tier that holds 5 % of the span's energy (a call's elsewhere too), and the measured share of it."""
        by = self._by_tier(span, elsewhere=span.is_call)
        if not (whole := sum(by.values())):
            return self.weakest_tier, None
        return weakest(by), by.get("measured", 0) / whole

    def _by_tier(self, span: Span, *, elsewhere: bool) -> dict[Tier, float]:
        account, by = span.account, dict[Tier, float]()
        if account is not None:
            for tier, dynamic, idle in zip(self.tiers, account.sources_nj, account.idle_nj, strict=True):
                by[tier] = by.get(tier, 0) + dynamic + idle
        if elsewhere and span.elsewhere is not None:
            for tier, joules in span.elsewhere.joules.items():
                by[tier] = by.get(tier, 0) + joules * NJ_PER_J
        return by

    def _carbon_tier(self, span: Span, tier: Tier | None) -> Tier | None:
        """The weakest tier behind the grams, which follow all joules, those spent elsewhere too."""
        return tier if span.pays is None else weakest(self._by_tier(span, elsewhere=True)) or tier

    def grams(self, span: Span, energy: Energy | None) -> Interval | None:
        """gCO2e: full energy × PUE × factor, plus the span's part of embodied."""
        return None if energy is None else self._grams(span, energy, span.account.embodied_g if span.account is not None else 0.0)

    def _grams(self, span: Span, energy: Energy, embodied_g: float) -> Interval:
        per_j = self.weight(span).grams_per_joule / NJ_PER_J
        pue, (low, high) = self.pue.interval, self.embodied_spread
        return Interval(
            energy.low_nj * per_j * pue.low + embodied_g * low,
            energy.full_nj * per_j * pue.mid + embodied_g,
            energy.high_nj * per_j * pue.high + embodied_g * high,
        )

    # -- what budgets count

    def amount(self, resource: Resource, basis: str) -> Callable[[Span], int | None]:
        """A function that tells what a span used of ``resource``, in thousandths of the budget's unit: see `milli`."""
        milli, ledger = self.milli, self.ledger
        if resource == "requests":
            return lambda span: 1000
        if resource == "energy" and basis == "dynamic":

            def joules(span: Span) -> int | None:
                if (
                    span.account is None
                    and span.cells is None
                    and span.nested is None
                    and span.folded is None
                    and span.elsewhere is None
                ):
                    # A plain request at its end, before any tick: the path that every request takes.
                    lam = ledger.lam
                    return None if lam is None else int(span.cpu_ns * lam)
                return milli(span, resource, basis)

            return joules
        return lambda span: milli(span, resource, basis)

    def milli(self, span: Span, resource: Resource, basis: str) -> int | None:
        """What the span and everything nested in it used, in thousandths of the budget's unit; None when unknown."""
        account = span.account
        if (
            resource == "energy"
            and span.settled
            and span.folded is None
            and span.elsewhere is None
            and account is not None
            and not account.gap
        ):
            return sum(account.sources_nj) + (sum(account.idle_nj) if basis == "full" else 0)
        inside = self._inside_milli(span, resource, basis)
        if inside is None or span.elsewhere is None or resource not in ("energy", "carbon"):
            return inside
        return inside + span.elsewhere.milli(resource)

    def _inside_milli(self, span: Span, resource: Resource, basis: str) -> int | None:
        own = self._own_milli(span, resource, basis)
        if own is None or resource == "requests":
            return own
        if span.folded is not None:
            own += self._folded_milli(span, span.folded, resource, basis)
        for child in list((span.nested or {}).values()):
            part = self._inside_milli(child, resource, basis)
            if part is None:
                return None
            own += part
        return own

    def _folded_milli(self, span: Span, folded: Folded, resource: Resource, basis: str) -> int:
        if resource == "cpu":
            return folded.cpu_ns
        if resource == "gpu":
            return folded.gpu_ns
        if resource == "tokens":
            return 1000 * folded.tokens
        return self._energy_milli(span, folded.dynamic_nj + (folded.idle_nj if basis == "full" else 0), resource)

    def _energy_milli(self, span: Span, nj: float, resource: Resource) -> int:
        """Thousandths of a µJ, or of a nanogram of CO2e at the factor in force while the span ran, and the PUE."""
        if resource == "energy":
            return int(nj)
        return int(nj / NJ_PER_J * self.weight(span).grams_per_joule * self.pue.value * 1e12)

    def _own_milli(self, span: Span, resource: Resource, basis: str) -> int | None:
        if resource == "requests":
            return 1000
        if resource == "cpu":
            return max(span.total_cpu_ns, span.account.cpu_ns if span.account is not None else 0)
        if resource == "gpu":
            return span.account.gpu_ns if span.account is not None else 0
        if resource == "tokens":
            return 1000 * ((span.tokens_in or 0) + (span.tokens_out or 0))
        energy = self.energy(span)
        if energy is None:
            return None
        return self._energy_milli(span, energy.full_nj if basis == "full" else energy.dynamic_nj, resource)

    # -- the reading

    def reading(self, span: Span) -> Reading:
        """The span's figures now; the same object again once settled."""
        reading = span.settled_reading or self._build(span)
        if span.settled:
            span.settled_reading = reading
        return reading

    def _build(self, span: Span) -> Reading:
        energy = self.energy(span)
        grams, pays = self.grams(span, energy), span.pays
        if pays is not None:
            grams = plus(grams, pays.carbon_g)
        tier, measured = self.tier(span) if energy is not None or span.elsewhere is not None else (None, None)
        weight = self.weight(span)
        account = span.account
        end_ns = span.t1_ns or self.now_ns()
        cpu_ns = span.total_cpu_ns
        if account is not None:  # a thread may go on after the span: once settled, that is late work
            cpu_ns = account.cpu_ns if span.settled else max(cpu_ns, account.cpu_ns)
        idle_unknown = account is not None and account.idle_unknown
        return Reading(
            id=self.uuid(span),
            service=self.service,
            started_at=(span.t0_ns + self.unix_offset_ns) / 1e9,
            route=span.route,
            method=span.method,
            status=span.status,
            outcome=span.outcome,
            tenant=span.tenant,
            model_requested=span.model,
            model_served=span.model_served or span.model,
            wall_s=(end_ns - span.t0_ns) / 1e9,
            cpu_s=cpu_ns / 1e9,
            gpu_s=account.gpu_ns / 1e9 if account is not None and account.gpu_ns else None,
            tokens_in=span.tokens_in,
            tokens_out=span.tokens_out,
            unit=span.unit,
            units=span.units,
            quality=span.quality_sum,
            quality_metric=span.quality_metric,
            energy_dynamic_j=None if energy is None or idle_unknown else energy.dynamic_nj / NJ_PER_J,
            energy_full_j=None if energy is None else energy.full_nj / NJ_PER_J,
            energy_low_j=None if energy is None else energy.low_nj / NJ_PER_J,
            energy_high_j=None if energy is None else energy.high_nj / NJ_PER_J,
            tier=tier,
            measured_share=measured,
            boundary=self.boundary,
            carbon_g=None if grams is None else grams.mid,
            carbon_low_g=None if grams is None else grams.low,
            carbon_high_g=None if grams is None else grams.high,
            factor_ids=(*weight.ids, *(pays.factor_ids if pays is not None else ())),
            method_id=self.method_id,
            idle_source=self._idle_source(),
            decision=span.decision,
            settled=span.settled,
            host_share=energy.full_nj / account.host_nj if energy is not None and account and account.host_nj else None,
            parent=self.uuid(span.parent) if span.parent is not None else None,
            kind=span.kind,
            flags=self._flags(span),
            carbon_tier=None if grams is None else self._carbon_tier(span, tier),
            parts=self._parts(span),
            pue=self.pue.interval,
            grams_per_kwh=weight.grams_per_joule * J_PER_KWH,
            embodied_g=self._embodied(account.embodied_g if account is not None else 0.0),
            **self._inclusive(span, cpu_ns, energy),
            **remote_fields(span.pays, span.elsewhere),
        )

    def _parts(self, span: Span) -> tuple[Part, ...]:
        if (account := span.account) is None:
            return ()
        billed = zip(self.ledger.books, self.tiers, account.sources_nj, account.idle_nj, strict=True)
        return tuple(part_of(books.source, tier, dynamic, idle) for books, tier, dynamic, idle in billed)

    def _embodied(self, grams: float) -> Interval:
        low, high = self.embodied_spread
        return Interval(grams * low, grams, grams * high)

    def _inclusive(self, span: Span, cpu_ns: int, energy: Energy | None) -> dict[str, Any]:
        embodied_g = span.account.embodied_g if span.account is not None else 0.0
        if span.folded is not None or span.nested:
            cpu_ns, energy, embodied_g = self._whole(span, cpu_ns, energy)
        grams = self._grams_of_all(span, energy, embodied_g)
        return {
            "inclusive_cpu_s": cpu_ns / 1e9,
            "inclusive_energy_full_j": None if energy is None else energy.full_nj / NJ_PER_J,
            "inclusive_carbon_g": None if grams is None else grams.mid,
        }

    def _grams_of_all(self, span: Span, energy: Energy | None, embodied_g: float) -> Interval | None:
        """Grams of ``energy``, and of every call to a model elsewhere that was made from ``span`` or from inside it."""
        grams = None if energy is None else self._grams(span, energy, embodied_g)
        return grams if span.elsewhere is None else plus(grams, span.elsewhere.carbon_g)

    def _whole(self, span: Span, cpu_ns: int, energy: Energy | None) -> tuple[int, Energy | None, float]:
        """CPU, energy and embodied carbon of ``span`` and all that is nested in it, settled or not."""
        embodied_g = span.account.embodied_g if span.account is not None else 0.0
        if (folded := span.folded) is not None:
            cpu_ns += folded.cpu_ns
            embodied_g += folded.embodied_g
            energy = _sum(energy, Energy(folded.dynamic_nj, folded.idle_nj, folded.low_nj, folded.high_nj))
        for child in list((span.nested or {}).values()):
            more = self._whole(child, child.total_cpu_ns, self.energy(child))
            cpu_ns, embodied_g = cpu_ns + more[0], embodied_g + more[2]
            energy = _sum(energy, more[1])
        return cpu_ns, energy, embodied_g

    def whole(self, span: Span) -> Reading:
        """The reading of ``span`` with everything nested in it, for showing one line per request. Never sum these with
        readings of the blocks inside.
        """
        reading = self.reading(span)
        if span.folded is None and not span.nested:
            return reading
        cpu_ns, energy, embodied_g = self._whole(span, round(reading.cpu_s * 1e9), self.energy(span))
        changes: dict[str, Any] = {"cpu_s": cpu_ns / 1e9, "tier": reading.tier or self.weakest_tier}
        if span.folded is not None and span.folded.gpu_ns:
            changes["gpu_s"] = (reading.gpu_s or 0.0) + span.folded.gpu_ns / 1e9
        if energy is not None:
            grams = self._grams_of_all(span, energy, embodied_g)
            changes |= {
                "energy_dynamic_j": None if reading.energy_dynamic_j is None else energy.dynamic_nj / NJ_PER_J,
                "energy_full_j": energy.full_nj / NJ_PER_J,
                "energy_low_j": energy.low_nj / NJ_PER_J,
                "energy_high_j": energy.high_nj / NJ_PER_J,
                "carbon_g": None if grams is None else grams.mid,
                "carbon_low_g": None if grams is None else grams.low,
                "carbon_high_g": None if grams is None else grams.high,
                "embodied_g": self._embodied(embodied_g),
                "parts": (),  # they are those of the span alone
            }
        if (folded := span.folded) is not None and folded.tokens:
            changes["tokens_in"] = (reading.tokens_in or 0) + folded.tokens_in
            changes["tokens_out"] = (reading.tokens_out or 0) + folded.tokens_out
        return msgspec.structs.replace(reading, **changes)

    def _flags(self, span: Span) -> tuple[str, ...]:
        flags = self.flags
        if not self.in_force.constant:
            flags = (*flags, *self.weight(span).flags)
        if span.account is not None and span.account.gap:
            flags = (*flags, "energy:incomplete")
        if span.account is not None and any(span.account.sources_nj[i] or span.account.idle_nj[i] for i in self._stand_ins):
            flags = (*flags, "energy:agent-away")
        if any(books.baseline.above for books in self.ledger.books):
            flags = (*flags, "idle:above-observed")
        if span.account is not None and self._gpus:
            flags = (*flags, *notes_as_flags(span.account.gpu_notes), *self._lag(span.account))
        if span.leases and any(lease.blind for lease in span.leases):
            flags = (*flags, "budget:reserved")
        if self.ledger.unaligned:
            flags = (*flags, "alignment:tick")
        if span.elsewhere is not None:
            flags = tuple(dict.fromkeys((*flags, *span.elsewhere.flags)))
        return (*flags, "cpu:from-first-await") if span.partial else flags

    def _lag(self, account: Account) -> tuple[str, ...]:
        gpu_nj = sum(account.sources_nj[place] for place in self._gpus)
        whole_nj = sum(account.sources_nj) + sum(account.idle_nj)
        return ("gpu:counter-lag",) if gpu_nj and account.ticks < LAG_TICKS and gpu_nj >= TIER_SHARE * whole_nj else ()

    def _idle_source(self) -> str | None:
        origins = {b.idle_origin for b in self.ledger.books if b.sample is not None}
        return "+".join(sorted(origins)) if origins else None

    def look_at_clock(self, unix_ns: int, monotonic_ns: int) -> None:
        """Notice that the wall clock was set, or that the host slept; what is no more than a wait between two looks is not."""
        offset_ns = unix_ns - monotonic_ns
        if abs(offset_ns - self.unix_offset_ns) > _CLOCK_SET_NS:
            self.unix_offset_ns = offset_ns

    def stamp_ns(self, monotonic_ns: int) -> int:
        """Unix time by the clock as it stood when the meter was made, ns: for what must not change, ids and a sum's begin."""
        return monotonic_ns + self._first_offset_ns

    def uuid(self, span: Span) -> str:
        """The id of the span's reading."""
        return reading_id(self.stamp_ns(span.t0_ns), span.key, self.random)
