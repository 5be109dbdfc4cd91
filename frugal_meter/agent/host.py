"""One pass over the host: every sensor, the host's CPU and that of every account, and each nanojoule divided once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from ..attribution.idle import Baseline
from ..attribution.shares import whole_of
from ..attribution.split import Divider, idle_and_dynamic
from ..ring.peers import Peers
from ..sources import Source, Window
from ..sources.agent_protocol import FINEST_NS, Part, Told
from ..sources.procfs import HostCpu, boot_offset_ns, slept_ns
from .accounts import Account, Named
from .gpus import divide

#: shares of the host are weighed in billionths
_WHOLE: Final = 1_000_000_000
#: components that services are told of as one, whatever number of packages there is; GPUs one by one
HANDED: Final = ("cpu", "dram")


def handed(source: Source) -> str | None:
    """By what name services are told of ``source``: its component, or what a GPU covers ("gpu:GPU-3f…"); None: not at all."""
    if source.component == "gpu":
        return source.covers[0]
    return source.component if source.component in HANDED else None


class Totals(NamedTuple):
    """A source since the agent began, nJ: ``energy == idle + gap + dynamic``. ``reason`` is that of its last gap, ``gaps`` and
    ``silent`` count passes; ``origin`` is where idle comes from.
    """

    energy_nj: int = 0
    low_nj: int = 0
    high_nj: int = 0
    idle_nj: int = 0
    gap_nj: int = 0
    gaps: int = 0
    silent: int = 0
    reason: str | None = None
    origin: str = "none"


class Snapshot(NamedTuple):
    """The host at the end of a pass: totals by source, and CPU of all its processes, ns (None: unseen)."""

    totals: tuple[Totals, ...]
    host_ns: int | None


class Host:
    """The books of a host. One thread calls `read`; ``clock`` is monotonic, ns."""

    def __init__(
        self,
        sources: Sequence[Source],
        baselines: Sequence[Baseline],
        probe: HostCpu,
        *,
        fault: Callable[[str, BaseException], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.sources, self.baselines, self.accounts = tuple(sources), tuple(baselines), dict[str, Account]()
        self.totals = [Totals() for _ in sources]
        self.watts: list[float | None] = [None] * len(sources)
        self.up: list[bool] = [False] * len(sources)
        self._probe, self._fault, self.clock, self._peers = probe, fault, clock, Peers()
        self._owed_ns = 0
        self._begin()

    def _begin(self) -> None:
        self.t_ns, self._boot_ns, self._host_ns = self.clock(), boot_offset_ns(), self._probe.busy_ns()
        self._cpus, self._scope = self._probe.cpus(), self._probe.scope()
        window = Window(self.t_ns, self.t_ns, 0, self._cpus, 0, 0, self._scope)
        for i, source in enumerate(self.sources):
            self.up[i] = source.read(window) is not None
        self.snapshot = Snapshot(tuple(self.totals), self._host_ns)

    def resume(self, totals: Mapping[str, Totals], marks: Mapping[str, int], at_ns: int) -> None:
        """Go on from what an agent before this one had counted at ``at_ns`` of this boot. What was drawn since then nobody can
        attribute: it is the gap "agent-restart" (0 where a counter does not tell).
        """
        window = Window(at_ns, self.clock(), 0, self._cpus, 0, 0, self._scope)
        for i, source in enumerate(self.sources):
            if (before := totals.get(source.name)) is None:
                continue
            self.totals[i] = before
            if (mark := marks.get(source.name)) is not None and hasattr(source, "resume"):
                source.resume(mark, at_ns)
                if (sample := source.read(window)) is not None:
                    nj = sample.energy_nj
                    self.totals[i] = _add(before, (nj, sample.low_nj, sample.high_nj, 0, nj), sample.gap or "agent-restart")
        self.snapshot = Snapshot(tuple(self.totals), self._host_ns)

    @property
    def due_ns(self) -> int:
        """When the next pass may be: no two are closer than `FINEST_NS`."""
        return self.t_ns + FINEST_NS

    def read(self) -> None:
        """A pass; to be called no earlier than ``due_ns``."""
        t_ns, host_ns, boot_ns = self.clock(), self._probe.busy_ns(), boot_offset_ns()
        cpus = self._probe.cpus()
        if cpus != self._cpus:
            self._cpus, self._scope = cpus, self._probe.scope()
        slept = slept_ns(self._boot_ns, boot_ns)
        busy_ns = None if host_ns is None or self._host_ns is None else max(0, host_ns - self._host_ns)
        window = Window(self.t_ns, t_ns, busy_ns, cpus, 0, slept, self._scope)
        accounts = list(self.accounts.values())
        used = [account.used_ns(self._peers, (t_ns - self.t_ns) * cpus) for account in accounts]
        whole, self._owed_ns = whole_of(busy_ns, sum(used), self._owed_ns, cpus)
        shares = _slices([account.share for account in accounts], used, whole)
        for i in range(len(self.sources)):
            try:
                self._book(i, window, accounts, used, whole, shares)
            except Exception as error:
                self._fault("source", error)
        self.t_ns, self._host_ns, self._boot_ns = t_ns, host_ns, boot_ns
        self.snapshot = Snapshot(tuple(self.totals), host_ns)

    def _book(self, i: int, window: Window, accounts: Sequence[Account], used: list[int], whole: int, shares: list[int]) -> None:
        source, baseline, before = self.sources[i], self.baselines[i], self.totals[i]
        self.watts[i], self.up[i] = None, False
        sample = source.read(window)
        if sample is None:
            self.totals[i] = before._replace(silent=before.silent + 1)
            return
        self.up[i], energy = True, sample.energy_nj
        if sample.gap is not None:
            self.totals[i] = _add(before, (energy, sample.low_nj, sample.high_nj, 0, energy), sample.gap)
            return
        self.watts[i] = energy / (window.t1_ns - window.t0_ns) if window.t1_ns > window.t0_ns else None
        baseline.observe(window, sample, on_gpu=source.component == "gpu", name=source.name)
        known, origin = baseline.idle_nj(window, sample)
        idle, dynamic = idle_and_dynamic(energy, known)
        if not whole and source.component in HANDED:  # nobody ran: whatever the baseline missed is idle too
            idle, dynamic = energy, 0
        self.totals[i] = _add(before, (energy, sample.low_nj, sample.high_nj, idle, 0), None)._replace(origin=origin)
        if (key := handed(source)) is None:
            return
        for account, held_nj in zip(accounts, Divider(idle, max(_WHOLE, sum(shares))).take(shares), strict=True):
            account.held_nj[i] += held_nj
        if source.component == "gpu":
            divide(i, key, dynamic, sample.busy_ns or 0, sample.users, accounts)
            return
        for account, used_nj in zip(accounts, Divider(dynamic, whole).take(used), strict=True):
            account.mine_nj[i] += used_nj

    def account(self, key: str) -> Account:
        """The account of ``key``, made if it is not there; it begins at the last pass."""
        return self.accounts.setdefault(key, Account(len(self.sources)))

    def tell(self, account: Account, since_ns: int) -> Told:
        """What there was for ``account`` since the record that ended at ``since_ns``, to the last pass."""
        known = account.told.get(since_ns)
        if self.t_ns not in account.told:
            account.name(self.t_ns, self.snapshot)
        if known is None:
            return Told(0, self.t_ns, None, 0, {})
        before = known.host
        assert isinstance(before, Snapshot)
        parts: dict[str, Part] = {}
        for i, source in enumerate(self.sources):
            if (key := handed(source)) is not None:
                parts[key] = _plus(parts.get(key), _part(self.totals[i], before.totals[i], account, known, i))
        now = self.snapshot.host_ns
        host_ns = None if now is None or before.host_ns is None else max(0, now - before.host_ns)
        return Told(since_ns, self.t_ns, host_ns, account.cpu_ns - known.cpu_ns, parts)

    def close(self) -> None:
        """Let sensors and processes go."""
        for source in self.sources:
            source.close()
        self._peers.close()


def _slices(declared: Sequence[float | None], used: Sequence[int], whole_ns: int) -> list[int]:
    """Each account's part of the host, in billionths: as declared, else by use. Their sum may be more than all of it."""
    by_use = [ns * _WHOLE // whole_ns if whole_ns else 0 for ns in used]
    return [by if share is None else round(share * _WHOLE) for share, by in zip(declared, by_use, strict=True)]


def _add(before: Totals, more: tuple[int, int, int, int, int], gap: str | None) -> Totals:
    energy, low, high, idle, gap_nj = (now + nj for now, nj in zip(before[:5], more, strict=True))
    gaps, reason = (before.gaps + 1, gap) if gap is not None else (before.gaps, before.reason)
    return Totals(energy, low, high, idle, gap_nj, gaps, before.silent, reason, before.origin)


def _part(now: Totals, before: Totals, account: Account, since: Named, source: int) -> Part:
    energy, low, high, idle, gap_nj = (one - other for one, other in zip(now[:5], before[:5], strict=True))
    gap = now.reason if now.gaps != before.gaps else None
    silent = now.silent != before.silent
    mine_nj, held_nj = account.mine_nj[source] - since.mine_nj[source], account.held_nj[source] - since.held_nj[source]
    users = {pid: nj - since.users_nj[source].get(pid, 0) for pid, nj in account.users_nj[source].items()}
    return Part(
        *(energy, low, high, idle, gap_nj, mine_nj, held_nj, gap, now.origin, silent),
        busy_ns=account.busy_ns[source] - since.busy_ns[source],
        untold=account.untold[source] != since.untold[source],
        users={pid: nj for pid, nj in users.items() if nj > 0},
    )


def _plus(one: Part | None, other: Part) -> Part:
    """Two packages as one; silent as soon as one of them is."""
    if one is None:
        return other
    return Part(
        one.energy_nj + other.energy_nj,
        one.low_nj + other.low_nj,
        one.high_nj + other.high_nj,
        one.idle_nj + other.idle_nj,
        one.gap_nj + other.gap_nj,
        one.mine_nj + other.mine_nj,
        one.held_nj + other.held_nj,
        one.gap or other.gap,
        one.origin if one.origin == other.origin else "none" if "none" in (one.origin, other.origin) else "modelled",
        one.silent or other.silent,
    )
