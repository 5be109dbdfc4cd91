"""``frugal-meter explain ID``: how one reading's joules and grams came about, step by step, to be done again on paper."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from ..attribution.shares import ORIGINS
from ..carbon.published import by_id
from ..records import MAX_CALLS, Interval, Reading, RemoteCall
from ..units import J_PER_KWH
from .texts import Words

#: significant digits of the workings; the figures above them show what their interval holds, and no more
DIGITS: Final = 6
#: where idle watts come from, as readings name it


def explain(r: Reading, words: Words) -> str:
    """The whole text; every line with "=" is an equation that holds to the digits printed."""
    return "\n".join(
        [*_head(r, words), "", *_energy(r, words), "", *_elsewhere(r, words), *_carbon(r, words), "", *_sources(r, words)]
    )


def _head(r: Reading, words: Words) -> Iterator[str]:
    when = datetime.fromtimestamp(r.started_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    what = " ".join(filter(None, (r.method, r.route, r.model_served)))
    yield f"{words('reading')} {r.id} · {r.service} · {what or r.kind} · {r.outcome} · {when}"
    yield words("x_settled" if r.settled else "x_provisional")
    energy, grams = (
        _bounds(r.energy_low_j, r.energy_full_j, r.energy_high_j),
        _bounds(r.carbon_low_g, r.carbon_g, r.carbon_high_g),
    )
    yield f"{words('energy')}{words.colon} {words.known(energy, 'J')}, {_tier(r.tier, words)} · {r.method_id}"
    if r.remote:
        away = _bounds(r.energy_remote_low_j, r.energy_remote_j, r.energy_remote_high_j)
        if away is None and r.inclusive_energy_remote_j is not None:  # paid by the request around it
            away = Interval(*(sum(getattr(c.energy_j, end) for c in r.remote) for end in ("low", "mid", "high")))
        yield f"{words('x_elsewhere')}{words.colon} {words.known(away, 'J')}, {_tier(r.remote_tier, words)}"
    carbon_tier = _tier(r.carbon_tier or r.tier, words)
    yield f"{words('x_carbon')}{words.colon} {words.known(grams, 'gCO2e')}, {carbon_tier} · {', '.join(r.factor_ids)}"


def _energy(r: Reading, words: Words) -> Iterator[str]:
    n = _numbers(words)
    yield words("x_energy_head")
    yield words("x_cpu", cpu=n(r.cpu_s), wall=n(r.wall_s))
    for part in r.parts:
        about = f"{part.source} ({part.component}, {words.tier(part.tier)}, {part.method})"
        whole = part.dynamic_j + part.idle_j
        used = f"{n(part.dynamic_j)} J {words('x_dynamic')} + {n(part.idle_j)} J {words('x_idle')}"
        yield f"  {about}{words.colon} {used} = {n(whole)} J"
    if r.energy_full_j is None:
        yield "  " + words("x_no_energy")
        return
    if r.parts:
        yield f"  {' + '.join(f'{n(p.dynamic_j + p.idle_j)} J' for p in r.parts)} = {n(r.energy_full_j)} J"
    else:
        yield "  " + words("x_pending", figure=f"{n(r.energy_full_j)} J")
    if r.host_share is not None and r.host_share > 0:
        yield f"  {n(r.energy_full_j)} J ÷ {n(r.host_share)} = {n(r.energy_full_j / r.host_share)} J {words('x_host')}"
    if r.energy_low_j is not None and r.energy_high_j is not None:
        yield "  " + words("x_bounds", low=n(r.energy_low_j), high=n(r.energy_high_j), method=r.method_id)
    origins = [words(f"x_idle_{o}") if o in ORIGINS else o or words("unknown") for o in (r.idle_source or "").split("+")]
    yield "  " + words("x_idle_source", source=", ".join(origins))


def _elsewhere(r: Reading, words: Words) -> Iterator[str]:
    if not r.remote:
        return
    n = _numbers(words)
    yield words("x_elsewhere_head")
    for call in r.remote:
        tokens = words("x_tokens", n=words("unknown") if call.tokens_out is None else call.tokens_out)
        name = f"  {call.provider}/{call.model}, {tokens}"
        if call.energy_j is None or call.carbon_g is None:
            yield f"{name}{words.colon} {words('unknown')} ({', '.join(call.flags)})"
            continue
        yield f"{name}{words.colon} {n(call.energy_j.mid)} J ({_tier(call.tier, words)}, {call.method_id})"
        yield from _call_carbon(call, words)
        yield "    " + words("x_call_bounds", low=n(call.energy_j.low), high=n(call.energy_j.high), flags=", ".join(call.flags))
    if r.energy_remote_j is not None and r.carbon_remote_g is not None:
        if len(r.remote) < MAX_CALLS:
            joules, grams = ([getattr(call, name).mid for call in r.remote] for name in ("energy_j", "carbon_g"))
            yield f"  {' + '.join(f'{n(each)} J' for each in joules)} = {n(r.energy_remote_j)} J"
            yield f"  {' + '.join(f'{n(each)} g' for each in grams)} = {n(r.carbon_remote_g)} g"
        else:
            yield "  " + words("x_elsewhere_sum", calls=len(r.remote), energy=n(r.energy_remote_j), grams=n(r.carbon_remote_g))
    elif r.inclusive_energy_remote_j is not None:
        yield "  " + words("x_paid_by", parent=r.parent)
    yield ""


def _call_carbon(call: RemoteCall, words: Words) -> Iterator[str]:
    if call.energy_j is None or call.carbon_g is None:
        return
    if call.pue is None or call.grams_per_kwh is None or call.embodied_g is None:
        yield f"    {words('x_told_by_callee', grams=_numbers(words)(call.carbon_g.mid))}"
        return
    yield "    " + _grams(call.energy_j.mid, call.pue.mid, call.grams_per_kwh, call.embodied_g.mid, words)


def _carbon(r: Reading, words: Words) -> Iterator[str]:
    n = _numbers(words)
    yield words("x_carbon_head")
    if r.energy_full_j is None or r.pue is None or r.grams_per_kwh is None or r.embodied_g is None:
        yield "  " + words("x_no_carbon")
        return
    ends = [("mid", r.energy_full_j), ("low", r.energy_low_j), ("high", r.energy_high_j)]
    for end, joules in ends:
        if joules is not None:
            made = getattr(r.embodied_g, end)
            yield f"  {words('x_' + end)}{words.colon} {_grams(joules, getattr(r.pue, end), r.grams_per_kwh, made, words)}"
    if r.carbon_g is None:
        yield "  " + words("x_carbon_unknown")
    elif r.carbon_remote_g is not None:
        if len(r.remote) < MAX_CALLS and r.carbon_low_g is not None and r.carbon_high_g is not None:
            yield from (_total(r, end, whole, words) for end, whole in (("low", r.carbon_low_g), ("high", r.carbon_high_g)))
        here = r.carbon_g - r.carbon_remote_g
        yield f"  {n(here)} g + {n(r.carbon_remote_g)} g {words('x_there')} = {n(r.carbon_g)} g"


def _total(r: Reading, end: str, whole: float, words: Words) -> str:
    n, there = _numbers(words), sum(getattr(call.carbon_g, end) for call in r.remote)
    return f"  {words('x_' + end)}{words.colon} {n(whole - there)} g + {n(there)} g {words('x_there')} = {n(whole)} g"


def _grams(joules: float, pue: float, grams_per_kwh: float, embodied_g: float, words: Words) -> str:
    n = _numbers(words)
    grams = joules * pue * grams_per_kwh / J_PER_KWH + embodied_g
    factors = f"{n(joules)} J × {n(pue)} × {n(grams_per_kwh)} g/kWh ÷ {J_PER_KWH} J/kWh"
    return f"{factors} + {n(embodied_g)} g {words('x_embodied')} = {n(grams)} g"


def _sources(r: Reading, words: Words) -> Iterator[str]:
    yield words("x_sources_head")
    for id in r.factor_ids:
        yield f"  {id}{words.colon} {_cited(id, words)}"
    default = words("pue_default") if "pue:default" in r.flags else words("x_declared")
    if r.pue is not None:
        yield f"  PUE {words.number(r.pue.mid)} ({default})"
    yield f"  {r.method_id}{words.colon} docs/method.md"
    if r.flags:
        yield f"  {words('x_flags')}{words.colon} {', '.join(r.flags)}"
    yield f"  {words('x_boundary')}{words.colon} {', '.join(r.boundary) or words('unknown')}"


def _cited(id: str, words: Words) -> str:
    if id.startswith("ecologits:"):
        _, zone, version = (*id.split(":"), "", "")[:3]
        return words("x_ecologits", zone=zone, version=version)
    found = by_id(id)  # None: the operator's own, or a live grid's
    return words("x_own_factor") if found is None else found.cite()


def _numbers(words: Words) -> _Number:
    return _Number(words.lang == "fr")


class _Number:
    """Plain decimals, six significant digits, the comma where French wants it."""

    def __init__(self, french: bool) -> None:
        self._french = french

    def __call__(self, value: float) -> str:
        text = f"{Decimal(f'{value:.{DIGITS}g}'):f}"
        return text.replace(".", ",") if self._french else text


def _tier(tier: object, words: Words) -> str:
    return words("unknown") if tier is None else words(f"tier_{tier}")


def _bounds(low: float | None, mid: float | None, high: float | None) -> Interval | None:
    return None if low is None or mid is None or high is None else Interval(low, mid, high)
