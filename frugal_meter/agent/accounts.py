"""Who asks: the processes that bill together, their CPU as the kernel tells it, and what they were told of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..ring.peers import Peers

#: records that an account may ask "since when" of; one of them is named by every question
KEPT: Final = 64
#: what a member says that its requests held of a GPU, in billionths of the time
WHOLE: Final = 1_000_000_000
#: processes of one service whose use of a GPU is kept apart; more have come and gone
_PIDS: Final = 1024


class Member:
    """One connection: a process that the kernel named (``pid``, ``start``), or one that is only known by what it says.

    ``said_ns`` is its own CPU by its own word, ``more_ns`` that of its companions, ``holds`` how much of the time its requests
    held each GPU (billionths) between its last two questions.
    """

    __slots__ = ("asked_ns", "holds", "more_last_ns", "more_ns", "pid", "said_last_ns", "said_ns", "share", "start")

    def __init__(self, pid: int | None, start: int | None, share: float | None) -> None:
        self.pid, self.start, self.share = pid, start, share
        self.said_ns: int | None = None
        self.said_last_ns: int | None = None
        self.more_ns = self.more_last_ns = 0
        self.holds: dict[str, int] = {}
        self.asked_ns: int | None = None

    def say(self, own_ns: int, more_ns: int) -> None:
        """What it tells of itself; a count that goes back is a new beginning."""
        if self.said_ns is None or own_ns < self.said_ns:
            self.said_last_ns = own_ns
        self.said_ns = own_ns
        self.more_last_ns = min(self.more_last_ns, more_ns)
        self.more_ns = more_ns

    def hold(self, held_ns: Mapping[str, int], now_ns: int) -> None:
        """What its requests held of each GPU since it said so last; more than all of the time is all of it."""
        since_ns, self.asked_ns = self.asked_ns, now_ns
        over_ns = max(1, now_ns - since_ns) if since_ns is not None else 0
        self.holds = {key: min(WHOLE, ns * WHOLE // over_ns) if over_ns else WHOLE for key, ns in held_ns.items() if ns > 0}


class Named(NamedTuple):
    """The totals of an account at a record: of the host, and its own by source."""

    host: object
    mine_nj: tuple[int, ...]
    held_nj: tuple[int, ...]
    cpu_ns: int
    busy_ns: tuple[int, ...]
    untold: tuple[int, ...]
    users_nj: tuple[dict[int, int], ...]


class Account:
    """Processes of one service that bill from the same records, and their part of every source since the account began, nJ.

    Of GPUs also its busy time, what each of its processes used (``users_nj``), and passes in which energy was by its word
    (``untold``). ``told`` keeps the totals at the records that were named to it: of the host (shared by all) and its own.
    """

    def __init__(self, sources: int) -> None:
        self.members: set[Member] = set()
        self.mine_nj, self.held_nj, self.cpu_ns = [0] * sources, [0] * sources, 0
        self.busy_ns, self.untold = [0] * sources, [0] * sources
        self.users_nj: list[dict[int, int]] = [{} for _ in range(sources)]
        self.told: dict[int, Named] = {}
        self._seen_ns: dict[tuple[int, int], int] = {}

    @property
    def share(self) -> float | None:
        """The service's part of the host, where one of its processes declares it."""
        return max((member.share for member in self.members if member.share is not None), default=None)

    @property
    def pids(self) -> set[int]:
        """Processes of it that the kernel named."""
        return {member.pid for member in list(self.members) if member.pid is not None}

    def claim(self, key: str) -> int:
        """How much of the time its requests held the GPU ``key``, by their word, in billionths."""
        return min(WHOLE, sum(member.holds.get(key, 0) for member in list(self.members)))

    def use(self, source: int, nj: int, ns: int, pid: int | None) -> None:
        """Add what it used of a GPU: by the process ``pid``, or by its word (None)."""
        self.mine_nj[source] += nj
        self.busy_ns[source] += ns
        if pid is None:
            self.untold[source] += nj > 0
            return
        users = self.users_nj[source]
        users[pid] = users.get(pid, 0) + nj
        while len(users) > _PIDS:
            del users[next(iter(users))]

    def used_ns(self, peers: Peers, most_ns: int) -> int:
        """CPU of its processes since the last call; ``most_ns`` is what the whole host can have used meanwhile.

        A process that has just come counts from now on. One that ended is not counted to its end: nobody can bill that.
        """
        used, seen = 0, {}
        for member in list(self.members):
            used += self._said(member, most_ns)
            if member.pid is None or member.start is None or (member.pid, member.start) in seen:
                continue
            now_ns = peers.cpu_ns(member.pid, member.start)
            if now_ns is not None:
                used += max(0, now_ns - self._seen_ns.get((member.pid, member.start), now_ns))
                seen[member.pid, member.start] = now_ns
        self._seen_ns = seen
        used = min(used, most_ns)
        self.cpu_ns += used
        return used

    @staticmethod
    def _said(member: Member, most_ns: int) -> int:
        used = max(0, member.more_ns - member.more_last_ns)
        member.more_last_ns = member.more_ns
        if member.pid is None and member.said_ns is not None:
            used += max(0, member.said_ns - (member.said_last_ns or 0))
            member.said_last_ns = member.said_ns
        return min(used, most_ns)

    def name(self, t_ns: int, host: object) -> None:
        """Keep the totals at the record that ended at ``t_ns``: it is being told of."""
        users = tuple(dict(each) for each in self.users_nj)
        self.told[t_ns] = Named(
            host, tuple(self.mine_nj), tuple(self.held_nj), self.cpu_ns, tuple(self.busy_ns), tuple(self.untold), users
        )
        while len(self.told) > KEPT:
            del self.told[next(iter(self.told))]
