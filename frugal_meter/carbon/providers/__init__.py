"""Live grid providers: one file each, all of them a request to send and a reply to read; `live` does the sending.

=========================  ==================  =====================================  ==============================
name                       zones               nature of the figure                   token in ``FRUGAL_GRID_TOKEN``
=========================  ==================  =====================================  ==============================
``rte``                    FR                  lifecycle, production (mix × fuels)    no
``rte-direct``             FR                  **direct**, production, no imports     no
``electricity-maps``       theirs              lifecycle, consumption                 yes
``uk-carbon-intensity``    GB                  **direct**, consumption                no
``entsoe``                 10 European ones    lifecycle, production (mix × fuels)    yes
=========================  ==================  =====================================  ==============================
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from ...errors import ConfigurationError
from ..zones import canonical
from .base import Asked, Provider, Unanswered
from .electricity_maps import ElectricityMaps
from .entsoe import Entsoe
from .rte import Rte
from .uk import UkCarbonIntensity

__all__ = ["Asked", "ElectricityMaps", "Entsoe", "Provider", "Rte", "UkCarbonIntensity", "Unanswered", "provider"]

TOKEN_VARIABLE: Final = "FRUGAL_GRID_TOKEN"
PROVIDERS: Final[Mapping[str, Callable[[str, str], Provider]]] = {
    "rte": lambda zone, token: Rte(zone),
    "rte-direct": lambda zone, token: Rte(zone, scope="direct"),
    "electricity-maps": lambda zone, token: ElectricityMaps(zone, token=token),
    "uk-carbon-intensity": lambda zone, token: UkCarbonIntensity(zone),
    "entsoe": lambda zone, token: Entsoe(zone, token=token),
}


def provider(name: str, zone: str) -> Provider:
    """The provider called ``name`` for ``zone``; its token, if it needs one, comes from ``$FRUGAL_GRID_TOKEN``.

    Raises `ConfigurationError` for an unknown name, a zone it does not serve, or a token that is not set.
    """
    if name not in PROVIDERS:
        raise ConfigurationError(f"unknown live grid {name!r}: use {', '.join(PROVIDERS)}")
    return PROVIDERS[name](canonical(zone), os.environ.get(TOKEN_VARIABLE, ""))
