"""The CPU model of codecarbon 3 as a source: its table of rated power, its curve, our own arithmetic.

For operators who must compare with figures that codecarbon gave. Only its table is read, once, at construction: its
tracker is never started, so nothing is paid per request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..errors import ConfigurationError, MissingExtraError
from ..records import Interval
from .power_model import ModelSource
from .watts import checked, load_curve

#: codecarbon 3.3, external/hardware.py, machine mode under load (2025): P = TDP × (0.1 + 0.9 × load³)
IDLE_SHARE: Final = 0.1
LOAD_EXPONENT: Final = 3
#: what a brand string says beyond the model: trade marks, clock, core count
_NOISE: Final = re.compile(r"\((?:r|tm|c)\)|@.*$|\bcpu\b|\bprocessor\b|\b\d+-core\b", re.I)


class CodecarbonCpuModelSource(ModelSource):
    """The machine's CPUs as codecarbon's load mode models a whole machine.

    ``tdp_watts`` is the rated power of one socket; without it, codecarbon's table is asked for ``cpu_name``. Raises
    ``MissingExtraError`` without the ``[codecarbon]`` extra, ``ConfigurationError`` for a CPU its table does not hold
    (codecarbon itself then goes on with 4 W per thread). Mid is codecarbon's figure. It states no interval: low is mid,
    since its cube is the lowest shape published, and high is the same TDP along the highest (`load_curve`); what the
    TDP itself is worth stays outside. On a virtual machine it bills the guest for the whole chip.
    """

    method = "codecarbon-load/3"

    def __init__(self, tdp_watts: float | None = None, *, cpu_name: str | None = None, sockets: int = 1) -> None:
        if tdp_watts is None:
            tdp_watts, dataset = _table_tdp(cpu_name)
        else:
            dataset = "declared TDP"
        self.tdp_watts = checked("tdp_watts", tdp_watts) * sockets
        origin = f"codecarbon load model, {self.tdp_watts:g} W TDP ({dataset})"
        super().__init__("model:codecarbon-cpu", "cpu", ("package:*",), origin, ("interval:expert-assumption",))

    def watts(self, load: float) -> Interval:
        """Watts at a busy share of 0…1."""
        u = min(1.0, max(0.0, load))
        mid = IDLE_SHARE + (1 - IDLE_SHARE) * u**LOAD_EXPONENT
        high = IDLE_SHARE + (1 - IDLE_SHARE) * load_curve(u).high
        return Interval(mid, mid, high).times(self.tdp_watts)


def _table_tdp(cpu_name: str | None) -> tuple[float, str]:
    """TDP in watts of ``cpu_name`` and the dataset it comes from."""
    if not cpu_name:
        raise ConfigurationError("the name of this CPU is not known: give codecarbon's model tdp_watts")
    try:
        from codecarbon._version import __version__ as version
        from codecarbon.input import DataSource
    except ImportError:
        raise MissingExtraError("codecarbon", "codecarbon's table of CPUs") from None
    table = DataSource().get_cpu_power_data()  # type: ignore[no-untyped-call]
    tdp = match_tdp(cpu_name, zip(table["Name"], table["TDP"], strict=True))
    if tdp is None:
        raise ConfigurationError(f"codecarbon {version} knows no TDP of {cpu_name!r}: give tdp_watts")
    return tdp, f"codecarbon {version} cpu_power.csv, MIT"


def match_tdp(cpu_name: str, table: Iterable[tuple[str, float]]) -> float | None:
    """The TDP whose name is ``cpu_name`` once trade marks, clock and core count are dropped; None without an equal.

    Equality, not likeness: a near name can be a chip of twice the power.
    """
    wanted = _plain(cpu_name)
    return next((float(tdp) for name, tdp in table if _plain(str(name)) == wanted), None)


def _plain(name: str) -> str:
    return " ".join(_NOISE.sub(" ", name).casefold().split())
