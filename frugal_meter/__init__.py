"""Compute, energy and carbon of each request of an AI service, and budgets that hold.

>>> from frugal_meter import Budget, Meter, MeterMiddleware
"""

from typing import TYPE_CHECKING, Any

from .errors import FrugalMeterError
from .records import Exporter, Reading, Tick

if TYPE_CHECKING:
    from .budgets.budget import Budget
    from .carbon.factors import Factor
    from .carbon.pue import Pue
    from .meter import Meter
    from .middleware import MeterMiddleware

__all__ = ["Budget", "Exporter", "Factor", "FrugalMeterError", "Meter", "MeterMiddleware", "Pue", "Reading", "Tick"]

_HOME = {
    "Budget": ".budgets.budget",
    "Factor": ".carbon.factors",
    "Meter": ".meter",
    "MeterMiddleware": ".middleware",
    "Pue": ".carbon.pue",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("frugal-meter")
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name], __name__), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
