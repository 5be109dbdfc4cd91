"""What the joules weigh: emission factors with their provenance, PUE, embodied carbon, and the arithmetic that joins them."""

from __future__ import annotations

from .criteria import ImpactFactor, Wue, impact, impact_factor, water
from .embodied import Embodied
from .factors import Factor, check_compatible, combine
from .grid import DATASETS, alternatives, datasets, factor, zones
from .impacts import add, operational, per_unit, scenarios, total
from .packs import load_pack
from .published import published
from .pue import Pue
from .sci import sci
from .uncertainty import Part, bound, digits, ninety

__all__ = [
    "DATASETS",
    "Embodied",
    "Factor",
    "ImpactFactor",
    "Part",
    "Pue",
    "Wue",
    "add",
    "alternatives",
    "bound",
    "check_compatible",
    "combine",
    "datasets",
    "digits",
    "factor",
    "impact",
    "impact_factor",
    "load_pack",
    "ninety",
    "operational",
    "per_unit",
    "published",
    "scenarios",
    "sci",
    "total",
    "water",
    "zones",
]
