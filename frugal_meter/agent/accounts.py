"""Who asks: the processes that bill together, their CPU as the kernel tells it, and what they were told of."""

from __future__ import annotations

from typing import Final

from ..ring.peers import Peers

#: records that an account may ask "since when" of; one of them is named by every question
KEPT: Final = 64


class Member:
    """One connection: a process that the kernel named (``pid``, ``start``), or one that is only known by what it says.

    ``said_ns`` is its own CPU by its own word, ``more_ns`` that of its companions.
    """

    __slots__ = ("more_last_ns", "more_ns", "pid", "said_last_ns", "said_ns", "share", "start")

    def __init__(self, pid: int | None, start: int | None, share: float | None) -> None:
        self.pid, self.start, self.share = pid, start, share
        self.said_ns: int | None = None
        self.said_last_ns: int | None = None
        self.more_ns = self.more_last_ns = 0

    def say(self, own_ns: int, more_ns: int) -> None:
        """What it tells of itself; a count that goes back is a new beginning."""
        if self.said_ns is None or own_ns < self.said_ns:
            self.said_last_ns = own_ns
        self.said_ns = own_ns
        self.more_last_ns = min(self.more_last_ns, more_ns)
        self.more_ns = more_ns


class Account:
    """Processes of one service that bill from the same records, and their part of every source since the account began, nJ.

    ``told`` keeps the totals at the records that were named to it: of the host (shared by all accounts) and its own.
    """

    def __init__(self, sources: int) -> None:
        self.members: set[Member] = set()
        self.mine_nj, self.held_nj, self.cpu_ns = [0] * sources, [0] * sources, 0
        self.told: dict[int, tuple[object, tuple[int, ...], tuple[int, ...], int]] = {}
        self._seen_ns: dict[tuple[int, int], int] = {}

    @property
    def share(self) -> float | None:
        """The service's part of the host, where one of its processes declares it."""
        return max((member.share for member in self.members if member.share is not None), default=None)

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
        self.told[t_ns] = (host, tuple(self.mine_nj), tuple(self.held_nj), self.cpu_ns)
        while len(self.told) > KEPT:
            del self.told[next(iter(self.told))]
