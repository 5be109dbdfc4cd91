"""Whose a GPU was: by what the driver tells of each process, else by what services say that their requests held of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..attribution.split import Divider, split
from ..sources.processes import forebear, process
from .accounts import Account


def owners(users: Mapping[int, int] | None, accounts: Sequence[Account], proc: Path = Path("/proc")) -> dict[int, int] | None:
    """The place in ``accounts`` of each process that used a GPU and is one of theirs or descends from one; others are left out.

    None where nobody tells: no process has used it, or the numbers are those of another place (none of them is in ``proc``).
    """
    if not users or not any(users.values()):
        return None
    seats: dict[int, int] = {}
    for place, account in enumerate(accounts):
        for pid in account.pids:
            seats.setdefault(pid, place)
    found = {pid: seats[by] for pid in users if (by := forebear(pid, seats, proc)) is not None}
    if not found and all(process(proc, pid) is None for pid in users):
        return None
    return found


def divide(
    source: int,
    key: str,
    dynamic_nj: int,
    busy_ns: int,
    users: Mapping[int, int] | None,
    accounts: Sequence[Account],
    proc: Path = Path("/proc"),
) -> None:
    """Give ``accounts`` their parts of one pass of the GPU ``key``, the ``source``-th of the host: Σ parts ≤ the whole.

    First each gets what its own processes used. What then is left (other programs; everything where nobody tells) is divided
    over those that say that their requests held the GPU and of which the driver names no process: an engine apart, a container
    with process numbers of its own, MIG. They are told that this part is by their word.
    """
    known = owners(users, accounts, proc)
    total = sum(users.values()) if users and known is not None else 0
    energy, busy = Divider(dynamic_nj, total), Divider(busy_ns, total)
    used = [(pid, place, users[pid]) for pid, place in sorted(known.items())] if users and known else []
    weights = [weight for _, _, weight in used]
    for (pid, place, _), nj, ns in zip(used, energy.take(weights), busy.take(weights), strict=True):
        accounts[place].use(source, nj, ns, pid)
    told = {place for _, place, weight in used if weight}
    claims = [0 if place in told else account.claim(key) for place, account in enumerate(accounts)]
    for account, claim, nj, ns in zip(accounts, claims, split(energy.rest(), claims), split(busy.rest(), claims), strict=True):
        if claim:
            account.use(source, nj, ns, None)
