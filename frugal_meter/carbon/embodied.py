"""`Embodied`: what making the hardware emitted, spread over its life (SCI, ISO/IEC 21031:2024: M = TE · TiR/EL · RR/ToR)."""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from ..errors import ConfigurationError
from ..records import Interval

Covers = Literal["host", "vm"]

SECONDS_PER_YEAR: Final = 365 * 86_400
#: Cloud Carbon Footprint: 35,040 h (SERVER_EXPECTED_LIFESPAN, @cloud-carbon-footprint/aws 0.15.0). Low: EcoLogits 0.11.3
#: amortises servers over 3 years. High: 6 years, announced by the largest clouds (expert assumption elsewhere).
LIFESPAN_S: Final = Interval(3.0 * SECONDS_PER_YEAR, 4.0 * SECONDS_PER_YEAR, 6.0 * SECONDS_PER_YEAR)

#: kgCO2e, Cloud Carbon Footprint after B. Davy, *Building an AWS EC2 Carbon Emissions Dataset*, Teads 2021: a server with one
#: CPU and 16 GB of memory, each further CPU, each further GB (the package's EC2 rows solve to exactly these three)
BASELINE_KG: Final = 1_000.0
SOCKET_KG: Final = 100.0
MEMORY_KG_PER_GB: Final = 1.3869
BASELINE_MEMORY_GB: Final = 16.0
#: kgCO2e of one data-centre GPU: Cloud Carbon Footprint (150), EcoLogits 0.11.3 after NVIDIA's HGX H100 footprint (164),
#: boaviztapi 2.5.0 for an H100 SXM (575)
GPU_KG: Final = Interval(150.0, 164.0, 575.0)
#: kgCO2e per vCPU of an EC2 host of the fifth generation or later: 5 %, 50 % and 95 % of the 31 general families in the same
#: package (``benchmarks/build_grid_table.py`` prints them again)
VCPU_KG: Final = Interval(9.3, 20.8, 27.2)
#: spread of a server of known parts, as multiples: boaviztapi 2.5.0 gives 759–1,200–2,207 kg for two Xeon Gold 6134 and
#: 384 GB, the rule above 1,610: its low end over the rule (0.47), its high end over its own middle (1.84)
SPREAD: Final = (0.47, 1.84)
DEFAULT_FLAG: Final = "embodied:default"
_SOURCE: Final = "Cloud Carbon Footprint constants (Teads 2021), range after boaviztapi 2.5.0 and EcoLogits 0.11.3"


class Embodied(msgspec.Struct, frozen=True, kw_only=True):
    """Embodied carbon of the hardware a service runs on.

    ``te_kg`` (kgCO2e) and ``lifespan_s`` (seconds) are low–mid–high; ``covers`` says whether ``te_kg`` is the whole host's
    or already this virtual machine's part of it. Raises `ConfigurationError` for values that cannot be.
    """

    te_kg: Interval
    lifespan_s: Interval
    source: str
    covers: Covers = "host"
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("embodied te_kg", self.te_kg, "kgCO2e", 1e6)
        _check("embodied lifespan_s", self.lifespan_s, "seconds", 50 * SECONDS_PER_YEAR)
        # A life of hours is a number in the wrong unit: 4 meant years, 35,040 meant hours.
        if self.lifespan_s.low < SECONDS_PER_YEAR:
            raise ConfigurationError(
                f"embodied lifespan is {self.lifespan_s.low:g} s, less than a year: give it in seconds, or in years"
            )
        if not self.source.strip():
            raise ConfigurationError("embodied has no source: say where the figure comes from; it is printed with every report")

    @classmethod
    def declared(
        cls, te_kg: float | Interval, lifespan_years: float | Interval, *, source: str, covers: Covers = "host"
    ) -> Embodied:
        """The operator's own figure, such as the manufacturer's product carbon footprint; plain numbers are taken as exact."""
        lifespan_s = _interval(lifespan_years).times(SECONDS_PER_YEAR)
        return cls(te_kg=_interval(te_kg), lifespan_s=lifespan_s, source=source, covers=covers)

    @classmethod
    def host(cls, *, sockets: int, memory_gb: float, gpus: int = 0) -> Embodied:
        """A default for a physical server of known parts, wide and flagged ``embodied:default``."""
        if sockets < 1 or not memory_gb > 0 or gpus < 0:
            raise ConfigurationError(
                f"embodied host of {sockets} CPU, {memory_gb} GB and {gpus} GPU: give at least one CPU and some memory"
            )
        memory = MEMORY_KG_PER_GB * max(0.0, memory_gb - BASELINE_MEMORY_GB)
        server = BASELINE_KG + SOCKET_KG * (sockets - 1) + memory
        gpu = GPU_KG.times(gpus)
        te_kg = Interval(server * SPREAD[0] + gpu.low, server + gpu.mid, server * SPREAD[1] + gpu.high)
        return cls(te_kg=te_kg, lifespan_s=LIFESPAN_S, source=_SOURCE, flags=(DEFAULT_FLAG,))

    @classmethod
    def vm(cls, *, vcpus: float, gpus: int = 0) -> Embodied:
        """A default for a virtual machine on an unseen host: its vCPUs' part of a typical cloud server, wide and flagged."""
        if not vcpus > 0 or gpus < 0:
            raise ConfigurationError(f"embodied of {vcpus} vCPU and {gpus} GPU: give the vCPUs of the machine, more than zero")
        gpu = GPU_KG.times(gpus)
        low, high = VCPU_KG.low * SPREAD[0], VCPU_KG.high * SPREAD[1]
        te_kg = Interval(low * vcpus + gpu.low, VCPU_KG.mid * vcpus + gpu.mid, high * vcpus + gpu.high)
        return cls(te_kg=te_kg, lifespan_s=LIFESPAN_S, source=_SOURCE, covers="vm", flags=(DEFAULT_FLAG,))

    def grams(self, dt_s: float, share: float = 1.0) -> Interval:
        """gCO2e of ``dt_s`` seconds of ``share`` (0…1) of the hardware: TE · Δt/EL · share.

        A longer life makes each second lighter, so the low bound takes the long life and the high bound the short one.
        Raises ``ValueError`` for a negative time or a share outside 0…1.
        """
        if not (0.0 <= dt_s < math.inf and 0.0 <= share <= 1.0):
            raise ValueError(f"embodied carbon of {dt_s} s at a share of {share}: time must be >= 0 and the share within 0…1")
        te, life = self.te_kg.times(1_000.0), self.lifespan_s
        part = dt_s * share
        return Interval(te.low / life.high * part, te.mid / life.mid * part, te.high / life.low * part)


def _interval(value: float | Interval) -> Interval:
    return value if isinstance(value, Interval) else Interval(value, value, value)


def _check(name: str, interval: Interval, unit: str, most: float) -> None:
    for value in (interval.low, interval.mid, interval.high):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ConfigurationError(f"{name} is {value!r}: write a number of {unit} between 0 and {most:g}")
