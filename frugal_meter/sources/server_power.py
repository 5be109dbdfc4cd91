"""Watts of a whole server at the plug, idle and at full load, as the bundled table knows them: low, mid and high.

Of a CPU in the table, the interval is where nine servers in ten of that microarchitecture lie: a prediction interval of
the logarithm, normal, with the standard deviation fitted to published results (``benchmarks/build_cpu_table.py``). For
one that is not, the step to its nearest relative comes on top; else the line through its vendor's rows, else through all
rows stands for it. ``benchmarks/power_model.py`` holds this against servers of other makers than the fitted ones.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from ..records import Interval
from .cpu_table import CpuMatch, CpuTable, Estimate, load_table

#: quantile of the normal distribution: nine in ten lie within
NINETY_PERCENT: Final = 1.645


def server_watts(
    match: CpuMatch, threads: float, *, sockets: int | None, table: CpuTable | None = None
) -> tuple[Interval, Interval]:
    """Idle and full-load W of the servers that ``threads`` hardware threads of the CPU ``match`` belong to.

    ``sockets`` is None when they cannot be seen, as from a guest: the threads are then a part of a server of the usual
    size, and the spread of sizes is inside the interval. No end of full load lies below the same end of idle.
    """
    found = estimate(match, table or load_table())
    per_socket = found.threads_per_socket if sockets is None else threads / sockets
    size, count = per_socket / found.threads_per_socket, threads / per_socket
    unseen = (found.thread_sd or 0.0) if sockets is None else 0.0
    idle = _around(
        count * found.idle_w * size**found.idle_exponent, math.hypot(found.idle_sd, (1 - found.idle_exponent) * unseen)
    )
    full = _around(
        count * found.full_w * size**found.full_exponent, math.hypot(found.full_sd, (1 - found.full_exponent) * unseen)
    )
    return idle, Interval(max(full.low, idle.low), max(full.mid, idle.mid), max(full.high, idle.high))


def estimate(match: CpuMatch, table: CpuTable) -> Estimate:
    """What stands for ``match`` in ``table``: its row, its relative's with a wider spread, or a pool."""
    world = table.pools["world"]
    if match.row is None:
        return table.pools.get(match.vendor or "", world)
    row = table.rows[match.row]
    if match.relation == "exact":
        return msgspec.structs.replace(row, thread_sd=table.thread_sd)
    # a family of one has no steps: how far the rows of the world lie from their line stands for them
    step = table.families[row.family]
    return msgspec.structs.replace(
        row,
        thread_sd=table.thread_sd,
        idle_sd=math.hypot(row.idle_sd, step.idle_sd or world.idle_sd),
        full_sd=math.hypot(row.full_sd, step.full_sd or world.full_sd),
    )


def combined(first: Interval, second: Interval) -> Interval:
    """The product of two intervals that err independently: the logarithms of their errors add as squares do."""
    mid = first.mid * second.mid
    low = math.hypot(math.log(first.mid / first.low), math.log(second.mid / second.low))
    high = math.hypot(math.log(first.high / first.mid), math.log(second.high / second.mid))
    return Interval(mid * math.exp(-low), mid, mid * math.exp(high))


def _around(mid: float, sd: float) -> Interval:
    factor = math.exp(NINETY_PERCENT * sd)
    return Interval(mid / factor, mid, mid * factor)
