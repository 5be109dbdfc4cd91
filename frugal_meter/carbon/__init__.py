"""What the joules weigh: emission factors with their provenance, PUE, embodied carbon, and the arithmetic that joins them."""

from __future__ import annotations

from .embodied import Embodied
from .factors import Factor, check_compatible, combine
from .grid import DATASETS, alternatives, datasets, factor, zones
from .impacts import add, operational, per_unit, scenarios, total
from .pue import Pue

__all__ = [
    "DATASETS",
    "Embodied",
    "Factor",
    "Pue",
    "add",
    "alternatives",
    "check_compatible",
    "combine",
    "datasets",
    "factor",
    "operational",
    "per_unit",
    "scenarios",
    "total",
    "zones",
]
