"""What a call to somebody else's model costs, by EcoLogits: tier ``sourced``, with bounds for what EcoLogits holds fixed."""

from __future__ import annotations

import logging
import math
from functools import cache, lru_cache
from importlib import metadata
from typing import Any, Final, NamedTuple

import msgspec

from ..errors import ConfigurationError, MissingExtraError
from ..records import Interval, RemoteCall
from ..units import J_PER_KWH

log = logging.getLogger("frugal_meter")
#: EcoLogits takes 64 requests served at once for every model and hour (``ecologits.impacts.llm.BATCH_SIZE``); its regression
#: is fitted on batches of up to 512. A quiet server batches fewer, a full one more: expert assumption, computed by its own
#: formulas at both ends
BATCHES: Final = (256, 16)
BATCH_FLAG: Final = "interval:batch-assumed"
UNKNOWN_FLAG: Final = "remote:unknown-model"
NO_OUTPUT_FLAG: Final = "remote:no-output-tokens"
#: tokens at which the spread over batches is computed; in the formulas it hardly depends on them
_REFERENCE_TOKENS: Final = 1000


class Estimator:
    """EcoLogits' figures for one model at one provider.

    ``zone`` is where it runs, ISO 3166-1 alpha-3; None takes EcoLogits' own guess for the provider. ``like`` is
    "provider/model" to estimate as, for a host that EcoLogits does not know. Made once, off the request path: importing
    EcoLogits takes most of a second. Raises MissingExtraError, and ConfigurationError for a zone that has no mix.
    """

    def __init__(self, provider: str, model: str, *, zone: str | None = None, like: str | None = None) -> None:
        self.provider, self.model = provider, model
        _library()
        known = _known(*(like.partition("/")[::2] if like else (provider, model)))
        self._flags: tuple[str, ...] = ()
        self._known = known
        if known is None:
            log.warning(
                "frugal_meter: EcoLogits knows no model %r of %r: its calls have no figure (like= names a kin)", model, provider
            )
            return
        if (known.provider, known.model) != (provider, model):
            self._flags = (f"remote:as={known.provider}/{known.model}",)
        self._mix = _mix(zone, known)

    def __call__(self, call: RemoteCall) -> RemoteCall:
        """``call`` with its figures; without them where the model or its output is unknown: never 0."""
        known = self._known
        if known is None:
            return _flagged(call, UNKNOWN_FLAG)
        if not call.tokens_out:  # EcoLogits counts output alone, and would say 0 for an embedding
            return _flagged(call, NO_OUTPUT_FLAG)
        found = _impacts(known, self._mix, call.tokens_out, call.wall_s or math.inf)
        pue = _range(known.pue)
        (low, high), (low_m, high_m) = _spread(known.provider, known.model, self._mix.zone)
        facility = _range(found.usage.energy.value).times(J_PER_KWH)
        energy = Interval(facility.low / pue.low * low, facility.mid / pue.mid, facility.high / pue.high * high)
        made = _range(found.embodied.gwp.value).times(1000)
        embodied = Interval(made.low * low_m, made.mid, made.high * high_m)
        grams_per_kwh = self._mix.gwp * 1000
        return msgspec.structs.replace(
            call,
            energy_j=energy,
            pue=pue,
            grams_per_kwh=grams_per_kwh,
            embodied_g=embodied,
            carbon_g=emitted(energy, pue, grams_per_kwh, embodied),
            tier="sourced",
            method_id=f"ecologits/{_version()}",
            factor_ids=(f"ecologits:{self._mix.zone}:{_version()}",),
            flags=(*call.flags, *self._flags, BATCH_FLAG),
        )


@lru_cache(maxsize=256)  # names may come from clients; one warning for each that is unknown
def estimator(provider: str, model: str, zone: str | None = None, like: str | None = None) -> Estimator:
    """The `Estimator` of these, made once."""
    return Estimator(provider, model, zone=zone, like=like)


@cache
def _version() -> str:
    return metadata.version("ecologits")


def emitted(energy_j: Interval, pue: Interval, grams_per_kwh: float, embodied_g: Interval) -> Interval:
    """gCO2e of IT joules: E × PUE × factor + embodied, low with low and high with high."""
    per_j = grams_per_kwh / J_PER_KWH
    ends = zip(*(msgspec.structs.astuple(each) for each in (energy_j, pue, embodied_g)), strict=True)
    return Interval(*(joules * over * per_j + made for joules, over, made in ends))


class _Known(NamedTuple):
    provider: str
    model: str
    active: Any
    total: Any
    tps: Any
    ttft: Any
    pue: Any
    wue: Any
    location: str | None


@cache
def _library() -> Any:
    try:
        from ecologits.tracers import utils
    except ImportError:
        raise MissingExtraError("llm", "estimating a remote model") from None
    return utils


@lru_cache(maxsize=1024)  # as above: names may come from clients
def _known(provider: str, model: str) -> _Known | None:
    """What EcoLogits knows of a model, or of its "-latest" alias where the bare name is none of its own."""
    utils = _library()
    for name in (model, f"{model}-latest"):
        found, place = utils.models.find_model(provider=provider, model_name=name), utils.PROVIDER_CONFIG_MAP.get(provider)
        if found is not None and place is not None:
            size = found.architecture.parameters
            active, total = (getattr(size, "active", size), getattr(size, "total", size))
            deployed = found.deployment
            tps, ttft = (deployed.tps, deployed.ttft) if deployed else (None, None)
            pue, wue, location = place.datacenter_pue, place.datacenter_wue, place.datacenter_location
            return _Known(provider, name, active, total, tps, ttft, pue, wue, location)
    return None


def _mix(zone: str | None, known: _Known) -> Any:
    utils = _library()
    asked = zone or known.location or "WOR"
    found = utils.electricity_mixes.find_electricity_mix(zone=asked)
    if found is None:
        raise ConfigurationError(
            f'remote: zone {asked!r} has no mix in EcoLogits; write an ISO 3166-1 alpha-3 code such as "FRA"'
        )
    return found


def _impacts(known: _Known, mix: Any, tokens: int, latency_s: float, **more: Any) -> Any:
    return _library().compute_llm_impacts(
        model_active_parameter_count=known.active,
        model_total_parameter_count=known.total,
        output_token_count=tokens,
        request_latency=latency_s,
        if_electricity_mix_adpe=mix.adpe,
        if_electricity_mix_pe=mix.pe,
        if_electricity_mix_gwp=mix.gwp,
        if_electricity_mix_wue=mix.wue,
        datacenter_pue=known.pue,
        datacenter_wue=known.wue,
        tps=known.tps,
        ttft=known.ttft,
        **more,
    )


@cache
def _spread(provider: str, model: str, zone: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Energy and embodied at either end of `BATCHES`, as multiples of EcoLogits' own at 64."""
    known = _known(provider, model)
    assert known is not None  # the names are of one that was found
    mix = _mix(zone, known)
    usual, *ends = (_impacts(known, mix, _REFERENCE_TOKENS, math.inf, **{"batch_size": b} if b else {}) for b in (0, *BATCHES))
    energy = _ends([each.usage.energy.value for each in ends], usual.usage.energy.value)
    return energy, _ends([each.embodied.gwp.value for each in ends], usual.embodied.gwp.value)


def _ends(values: list[Any], usual: Any) -> tuple[float, float]:
    """The lowest of all low ends as a multiple of the usual one's, and the highest of all high ends."""
    ranges, own = [_range(each) for each in values], _range(usual)
    return min(1.0, *(each.low / own.low for each in ranges)), max(1.0, *(each.high / own.high for each in ranges))


def _range(value: Any) -> Interval:
    """A number of EcoLogits', or its range with the mean that it publishes as the middle."""
    if isinstance(value, int | float):
        return Interval(value, value, value)
    return Interval(value.min, value.mean, value.max)


def _flagged(call: RemoteCall, flag: str) -> RemoteCall:
    return msgspec.structs.replace(call, flags=(*call.flags, flag))
