"""Watts of what has no sensor: CPU by load, memory by size, the rest of the server; each with its low, mid and high.

Pure functions and the constants they stand on. All bounds are *expert assumptions* informed by the sources
named beside them, not confidence intervals; a sensor replaces them, and declared watts replace the table.

CPU: ``P(load) = idle + (full − idle) × f(load)``, with three shapes for f (see `load_curve`) and the idle and full
watts of the CPU's microarchitecture (`cpu_table`), of which the CPU's part is taken (``CPU_SHARE_*``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from ..errors import ConfigurationError
from ..records import Interval
from .cpu_table import CpuMatch, load_table, server_watts

#: exponent of Fan, Weber & Barroso 2007, "Power provisioning for a warehouse-sized computer", ISCA, eq. 2
FAN_EXPONENT: Final = 1.4
#: the high shape passes 0.95 at half load: 1 − (1 − ½)^k = 0.95
HIGH_EXPONENT: Final = math.log(0.05) / math.log(0.5)
#: the low shape, a cube: the one that codecarbon 3.3 applies to a machine's load (external/hardware.py, 2025)
LOW_EXPONENT: Final = 3

#: the CPU's part of a server's power at the plug. Full load: about 61 % in two-socket servers of 2017, about a third in
#: those of 2007 (Barroso, Hölzle & Ranganathan, The Datacenter as a Computer, 3rd ed. 2018; 1st ed. 2009). Never more
#: than all of it. Idle: assumption; fans and power supplies weigh more there, while deep sleep varies most.
CPU_SHARE_FULL: Final = Interval(0.33, 0.61, 1.0)
CPU_SHARE_IDLE: Final = Interval(0.25, 0.50, 1.0)
#: board, fans, power supply, disks and network. Mid: of idle watts, what CPU and memory (18 % in the 3rd edition) leave;
#: high: of full-load watts, the 37 % that the 1st edition gives to disks, network and the rest. Low: none of it
BOARD_SHARE_OF_IDLE: Final = 0.32
BOARD_SHARE_OF_FULL: Final = 0.37
#: W per GB of memory, busy or not. High: 0.392, the coefficient of the table's own origin. It cannot be more than a
#: bound: at 129.78 GB per chip it gives 51 W, of the 60 W (0.47 × 128 threads) that such a whole EPYC 7742 server draws
#: per chip when idle. Mid: 5 W a module (codecarbon 3.3, external/ram.py, 2025) of 32 GB. Low: 1.5 W for 64 GB more,
#: measured at the plug, idle (GreenAlgorithms/green-algorithms-tool issue 14)
MEMORY_W_PER_GB: Final = Interval(1.5 / 64, 5 / 32, 0.392)
#: how much of a virtual machine's host is let: all of it at low, 30 % at high, halfway at mid. Nobody tells a guest
OCCUPANCY: Final = Interval(0.3, 0.65, 1.0)

#: what a modelled figure assumes, by the code that stands in ``CpuWatts.flags``, in English and French
ASSUMPTIONS: Final[Mapping[str, Mapping[Literal["en", "fr"], str]]] = MappingProxyType(
    {
        "interval:expert-assumption": {
            "en": "the interval is an expert assumption, not a confidence interval",
            "fr": "l'intervalle est une hypothèse d'expert, pas un intervalle de confiance",
        },
        "cpu:relative": {
            "en": "this CPU is not in the table: watts of its nearest relative, × 0.4 to 1.7",
            "fr": "ce processeur n'est pas dans la table : puissance du plus proche parent, × 0,4 à 1,7",
        },
        "cpu:unknown": {
            "en": "unknown CPU: lowest, median and highest watts of the whole table",
            "fr": "processeur inconnu : puissances minimale, médiane et maximale de toute la table",
        },
        "cpu:declared": {
            "en": "idle and full-load watts were declared by the operator",
            "fr": "puissances à vide et à pleine charge déclarées par l'exploitant",
        },
        "vm:vcpu-is-one-thread": {
            "en": "virtual machine: one vCPU is taken as one hardware thread",
            "fr": "machine virtuelle : un vCPU est compté comme un fil d'exécution matériel",
        },
        "vm:occupancy-unknown": {
            "en": "virtual machine: the host is taken to be let at 65 % (100 % at low, 30 % at high); "
            "its idle power is shared accordingly",
            "fr": "machine virtuelle : l'hôte est supposé loué à 65 % (100 % en bas, 30 % en haut) ; "
            "sa puissance à vide est partagée d'autant",
        },
    }
)


class CpuWatts(msgspec.Struct, frozen=True):
    """Watts of all the CPU threads this machine sees, idle and at full load.

    ``origin`` is one line of provenance; ``flags`` are keys of ``ASSUMPTIONS``. Raises ``ConfigurationError`` when a
    figure is negative or not finite, or when an end of ``full`` lies under the same end of ``idle``.
    """

    idle: Interval
    full: Interval
    origin: str
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, idle, full in zip(("low", "mid", "high"), ends(self.idle), ends(self.full), strict=True):
            checked(f"idle watts ({name})", idle)
            if checked(f"full-load watts ({name})", full) < idle:
                raise ConfigurationError(f"full-load watts ({full:g} W) are below idle watts ({idle:g} W): exchange them")


def load_curve(load: float) -> Interval:
    """f(load), the share of ``full − idle`` drawn at a busy share of 0…1: low, mid and high shape.

    All three are 0 at 0 and 1 at 1, where the spread is the table's alone. Mid: ``2u − u^1.4`` (Fan et al. 2007),
    concave, 0.62 at half load; it lies between the straight line of Cloud Carbon Footprint's methodology and the four
    points of Teads Engineering 2021 (RAPL on bare-metal EC2: 12, 32, 75, 102 % of TDP at 0, 10, 50, 100 % load; 0.70).
    Barroso & Hölzle 2007 (IEEE Computer 40(12)) show why it is concave: half the power at almost no work. High
    ``1 − (1 − u)^4.32`` and low ``u³`` bound what was published of single machines: at half load between 30 and 95 %
    of full power, with an idle power of up to a fifth of it.
    """
    u = min(1.0, max(0.0, load))
    return Interval(u**LOW_EXPONENT, 2 * u - u**FAN_EXPONENT, 1 - (1 - u) ** HIGH_EXPONENT)


def cpu_power(watts: CpuWatts, load: float) -> Interval:
    """Watts drawn at ``load`` (0…1)."""
    parts = zip(ends(watts.idle), ends(watts.full), ends(load_curve(load)), strict=True)
    return Interval(*(idle + (full - idle) * share for idle, full, share in parts))


def table_cpu(match: CpuMatch, threads: int, *, virtual: bool) -> CpuWatts:
    """Watts of ``threads`` hardware threads of the CPU that ``match`` recognised.

    On a virtual machine one vCPU is one hardware thread, and the idle power of the threads nobody rents is shared
    by those that somebody does (``OCCUPANCY``); what a thread draws above idle is its own.
    """
    server_idle, server_full = server_watts(match)
    idle, full = _product(server_idle, CPU_SHARE_IDLE), _product(server_full, CPU_SHARE_FULL)
    flags = ("interval:expert-assumption", *(() if match.relation == "exact" else (f"cpu:{match.relation}",)))
    if virtual:
        own = idle
        idle = _per_occupancy(own)
        full = Interval(*(f + i - o for f, i, o in zip(ends(full), ends(idle), ends(own), strict=True)))
        flags += ("vm:vcpu-is-one-thread", "vm:occupancy-unknown")
    label = load_table().rows[match.row].label if match.row else "all rows"
    origin = f"{match.microarchitecture} by row {label!r} of {load_table().provenance}; {threads} threads"
    return CpuWatts(idle.times(threads), full.times(threads), origin, flags)


def declared_cpu(*, idle_watts: float, full_watts: float) -> CpuWatts:
    """Watts of this machine's CPUs as its operator states them; raises ``ConfigurationError`` when they cannot be."""
    idle, full = checked("idle_watts", idle_watts), checked("full_watts", full_watts)
    return CpuWatts(Interval(idle, idle, idle), Interval(full, full, full), "declared by the operator", ("cpu:declared",))


def memory_watts(memory_bytes: int) -> Interval:
    """Watts of ``memory_bytes`` of memory (GB are 10⁹ bytes, as in the origin)."""
    return MEMORY_W_PER_GB.times(checked("memory_bytes", memory_bytes) / 1e9)


def board_watts(match: CpuMatch, threads: int, *, virtual: bool) -> Interval:
    """Watts of the rest of the server for ``threads`` of its hardware threads: from nothing to a wide high."""
    idle, full = server_watts(match)
    board = Interval(0.0, idle.mid * BOARD_SHARE_OF_IDLE, full.high * BOARD_SHARE_OF_FULL)
    return (_per_occupancy(board) if virtual else board).times(threads)


def ends(interval: Interval) -> tuple[float, float, float]:
    """Low, mid and high."""
    return interval.low, interval.mid, interval.high


def _product(first: Interval, second: Interval) -> Interval:
    return Interval(first.low * second.low, first.mid * second.mid, first.high * second.high)


def _per_occupancy(idle: Interval) -> Interval:
    # the fuller the host, the smaller each tenant's part: high occupancy is the low end
    return Interval(idle.low / OCCUPANCY.high, idle.mid / OCCUPANCY.mid, idle.high / OCCUPANCY.low)


def checked(name: str, watts: float) -> float:
    """``watts`` as a float; raises ``ConfigurationError`` unless it is finite and not negative."""
    if isinstance(watts, bool) or not isinstance(watts, int | float) or not math.isfinite(watts):
        raise ConfigurationError(f"{name} is {watts!r}: give a finite number")
    if watts < 0:
        raise ConfigurationError(f"{name} is {watts:g}: it cannot be negative")
    return float(watts)
