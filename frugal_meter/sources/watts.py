"""Watts of what has no sensor: CPU by load, memory by size, the rest of the server; each with its low, mid and high.

Pure functions and the constants they stand on; a sensor replaces them, and declared watts replace the table.

``P(load) = idle + (full − idle) × f(load)`` is the power of a **whole server**: that is what was measured, so its
interval (`server_power`) has statistics behind it, and is held against other servers by ``benchmarks/power_model.py``.
The parts are shares of it. Where the CPU *and* the rest are modelled, both carry the interval of the whole: what the
CPU has too much the rest has too little, and their sum is the server. A part that stands **apart**, beside a sensor
or declared watts, carries the doubt about its share as well. Shares and occupancy are *expert assumptions*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from ..errors import ConfigurationError
from ..records import Interval
from .cpu_table import CpuMatch, load_table
from .server_power import combined, server_watts

#: the CPU's part of a server's power at the plug. Full load. Mid: about 61 % in two-socket servers of 2017 (Barroso,
#: Hölzle & Ranganathan, The Datacenter as a Computer, 3rd ed. 2018). Low: the worst of 185 servers, RAPL beside the power
#: supply's own meter, were 87 of 166 W and 152 of 277 W (hubblo-org/scaphandre issue 201, 2022). High: the rated power of
#: the CPUs, which conversion and memory cannot leave them (`benchmarks/power_model.py` prints its median share).
CPU_SHARE_FULL: Final = Interval(0.52, 0.61, 0.85)
#: idle. The same 185: 3 to 15 W by RAPL, and 7 to 10 W more at the supply: from 3 of 13 to 15 of 22; mid lies halfway
CPU_SHARE_IDLE: Final = Interval(0.23, 0.45, 0.68)
#: memory's part of the servers that the table was fitted to (Barroso et al. 2018). What a machine really has is counted
#: by its size, so this part is left out of the rest of the server
MEMORY_SHARE: Final = 0.18
#: board, fans, power supply, disks and network, apart. High: of full-load watts, the 37 % that the 1st edition (2009)
#: gives to disks, network and the rest. Mid: of idle watts, what CPU and memory leave. Low: none of it
BOARD_SHARE_OF_IDLE: Final = 1 - CPU_SHARE_IDLE.mid - MEMORY_SHARE
BOARD_SHARE_OF_FULL: Final = 1 - CPU_SHARE_FULL.mid - MEMORY_SHARE
BOARD_SHARE_HIGH: Final = 0.37
#: W per GB of memory, busy or not. High: 0.392, the coefficient of Cloud Carbon Footprint (npm aws 0.15.0, 2021), no more
#: than a bound: a whole EPYC server of 768 GB (result 331 of the list behind the table) idles at 112 W, 0.15 W/GB. Mid: 5 W
#: a module (codecarbon 3.3, external/ram.py, 2025) of 32 GB. Low: 1.5 W for 64 GB more, measured at the plug, idle
#: (GreenAlgorithms/green-algorithms-tool issue 14)
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
            "en": "this CPU is not in the table: its nearest relative, with the spread between generations of its family",
            "fr": "ce processeur n'est pas dans la table : son plus proche parent, avec l'écart entre générations de sa famille",
        },
        "cpu:vendor": {
            "en": "this CPU is like none in the table: servers of its vendor, with their spread",
            "fr": "ce processeur ne ressemble à aucun de la table : serveurs de son fabricant, avec leur dispersion",
        },
        "cpu:unknown": {
            "en": "unknown CPU: all servers of the table, with their spread",
            "fr": "processeur inconnu : tous les serveurs de la table, avec leur dispersion",
        },
        "cpu:share-of-server": {
            "en": "watts of the CPU are its usual share of a server that was measured whole; the interval is that of the whole",
            "fr": "la puissance du processeur est sa part usuelle d'un serveur mesuré entier ; l'intervalle est celui du tout",
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

    All three are 0 at 0 and 1 at 1, straight between steps of 10 %: 5th, 50th and 95th percentile of the load curves
    published for the servers that the table was fitted to (`benchmarks/build_cpu_table.py`). Mid is 0.42 at half load,
    below a straight line: servers slow their clock when there is little to do. High holds what was measured by busy time
    at full clock: Teads Engineering 2021 (0.70 at half load) and Fan, Weber & Barroso 2007 (ISCA, eq. 2; 0.62).
    """
    curve = load_table().curve
    step, within = divmod(10 * min(1.0, max(0.0, load)), 1)
    at, to = int(step), min(10, int(step) + 1)
    return Interval(*(shape[at] + (shape[to] - shape[at]) * within for shape in (curve.low, curve.mid, curve.high)))


def cpu_power(watts: CpuWatts, load: float) -> Interval:
    """Watts drawn at ``load`` (0…1)."""
    parts = zip(ends(watts.idle), ends(watts.full), ends(load_curve(load)), strict=True)
    return Interval(*(idle + (full - idle) * share for idle, full, share in parts))


def table_cpu(match: CpuMatch, threads: int, *, virtual: bool, sockets: int | None = None, apart: bool = False) -> CpuWatts:
    """Watts of the CPU with ``threads`` hardware threads on ``sockets``, recognised as ``match``.

    On a virtual machine one vCPU is one hardware thread, what it says of sockets is not believed, and the idle power of
    the threads nobody rents is shared by those that somebody does (``OCCUPANCY``); what a thread draws above idle is
    its own. ``apart``: the rest of the server is not modelled beside it, so the doubt about the CPU's share counts.
    """
    idle, full = _server(match, threads, virtual=virtual, sockets=sockets)
    flags = ("interval:expert-assumption", *(() if match.relation == "exact" else (f"cpu:{match.relation}",)))
    if apart:
        idle, full = combined(idle, CPU_SHARE_IDLE), combined(full, CPU_SHARE_FULL)
    else:
        idle, full = idle.times(CPU_SHARE_IDLE.mid), full.times(CPU_SHARE_FULL.mid)
        flags += ("cpu:share-of-server",)
    if virtual:
        flags += ("vm:vcpu-is-one-thread", "vm:occupancy-unknown")
    label = load_table().rows[match.row].label if match.row else f"all rows of {match.vendor or 'the world'}"
    origin = f"{match.microarchitecture} by {label!r} of {load_table().provenance}; {threads} threads"
    return CpuWatts(idle, _at_least(idle, full), origin, flags)


def _server(match: CpuMatch, threads: int, *, virtual: bool, sockets: int | None) -> tuple[Interval, Interval]:
    """Idle and full-load W of the part of a server that belongs to ``threads``: at the plug, all components."""
    idle, full = server_watts(match, threads, sockets=None if virtual else sockets)
    if not virtual:
        return idle, full
    # the fuller the host, the smaller each tenant's part: high occupancy is the low end
    own, idle = idle, combined(idle, Interval(1 / OCCUPANCY.high, 1 / OCCUPANCY.mid, 1 / OCCUPANCY.low))
    more = (max(0.0, with_empty - alone) for with_empty, alone in zip(ends(idle), ends(own), strict=True))
    return idle, Interval(*(watts + idle_more for watts, idle_more in zip(ends(full), more, strict=True)))


def declared_cpu(*, idle_watts: float, full_watts: float) -> CpuWatts:
    """Watts of this machine's CPUs as its operator states them; raises ``ConfigurationError`` when they cannot be."""
    idle, full = checked("idle_watts", idle_watts), checked("full_watts", full_watts)
    return CpuWatts(Interval(idle, idle, idle), Interval(full, full, full), "declared by the operator", ("cpu:declared",))


def memory_watts(memory_bytes: int) -> Interval:
    """Watts of ``memory_bytes`` of memory (GB are 10⁹ bytes, as in the origin)."""
    return MEMORY_W_PER_GB.times(checked("memory_bytes", memory_bytes) / 1e9)


def board_part(match: CpuMatch, threads: int, *, virtual: bool, sockets: int | None = None) -> CpuWatts:
    """Watts of the rest of the server beside a CPU of `table_cpu`: what it and the memory leave, by the same load."""
    idle, full = _server(match, threads, virtual=virtual, sockets=sockets)
    rest = idle.times(BOARD_SHARE_OF_IDLE)
    origin = f"share of the server around {threads} threads of {match.microarchitecture}"
    return CpuWatts(rest, _at_least(rest, full.times(BOARD_SHARE_OF_FULL)), origin, ("interval:expert-assumption",))


def board_watts(match: CpuMatch, threads: int, *, virtual: bool, sockets: int | None = None) -> Interval:
    """Watts of the rest of the server apart, beside a CPU that was measured or declared: from nothing to a wide high."""
    idle, full = _server(match, threads, virtual=virtual, sockets=sockets)
    return Interval(0.0, idle.mid * BOARD_SHARE_OF_IDLE, max(full.high * BOARD_SHARE_HIGH, idle.mid * BOARD_SHARE_OF_IDLE))


def ends(interval: Interval) -> tuple[float, float, float]:
    """Low, mid and high."""
    return interval.low, interval.mid, interval.high


def _at_least(idle: Interval, full: Interval) -> Interval:
    return Interval(*(max(pair) for pair in zip(ends(idle), ends(full), strict=True)))


def checked(name: str, watts: float) -> float:
    """``watts`` as a float; raises ``ConfigurationError`` unless it is finite and not negative."""
    if isinstance(watts, bool) or not isinstance(watts, int | float) or not math.isfinite(watts):
        raise ConfigurationError(f"{name} is {watts!r}: give a finite number")
    if watts < 0:
        raise ConfigurationError(f"{name} is {watts:g}: it cannot be negative")
    return float(watts)
