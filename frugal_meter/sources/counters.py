"""Cumulative energy counters, from their raw readings to the energy of a window. Pure: nothing is read here.

A counter may wrap, start again, jump, be silent for a while, or count while the machine sleeps. Of each step it
is decided once whether its energy is known; what is not known is a gap of 0, never a guess and never ``abs()``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from . import Sample, Window

#: a counter is read somewhere inside its tick, and NVML's moves every 20-100 ms: its bound is this much wider
JITTER_NS: Final = 100_000_000
#: how far two views of one counter may lag each other, as time at full power. RAPL counters move about every
#: 1 ms (Khan et al. 2018, "RAPL in Action", ACM TOMPECS 3(2)); twice that is granted
LAG_NS: Final = 2_000_000


class Step(NamedTuple):
    """How far a counter moved: energy in nanojoules, and why it cannot be attributed (None when it can)."""

    energy_nj: int
    gap: str | None = None


class EnergyCounter:
    """One counter: ``unit_nj`` nanojoules per count, starting again after ``range_units`` counts (None: never).

    ``max_watts`` is more than its hardware can draw. A step above it is "implausible"; a decrease is a wrap only if
    the unwrapped step stays below it, else "reset"; over a window in which it allows a whole range the step cannot
    be known: "wrap-ambiguous". Each of these three carries 0 and starts anew from the value read.
    """

    def __init__(self, *, unit_nj: int, range_units: int | None, max_watts: float) -> None:
        self._unit_nj, self._range, self._nj_per_ns = unit_nj, range_units, max_watts
        self._raw: int | None = None
        self._at_ns = 0
        self._slept_ns = 0
        self._away = False
        #: energy known since the first reading, unwrapped
        self.total_nj = 0

    def advance(self, raw: int | None, window: Window) -> Step | None:
        """The step to ``raw``, read at the end of ``window``; None while there is no reading.

        The first reading primes and is a step of 0. The step after an absence covers all of it and is the gap
        "vanished"; one over a suspend is the gap "suspend" (a sleeping machine served nobody).
        """
        self._slept_ns += window.suspended_ns
        if raw is None:
            self._away = self._raw is not None
            return None
        step = self._step(raw, window.t1_ns) if self._raw is not None else Step(0)
        self._raw, self._at_ns, self._slept_ns, self._away = raw, window.t1_ns, 0, False
        self.total_nj += step.energy_nj
        return step

    @property
    def raw(self) -> int | None:
        """The last good reading, in counts."""
        return self._raw

    def resume(self, raw: int, at_ns: int) -> None:
        """Go on from a reading that another process took at ``at_ns`` of the same boot's monotonic clock."""
        self._raw, self._at_ns, self._slept_ns, self._away = raw, at_ns, 0, False

    def since(self, raw: int) -> int | None:
        """Nanojoules from the last reading to ``raw``, read in the same tick; None when it went back."""
        counts = raw - (self._raw or 0)
        if counts < 0 and self._range:
            counts += self._range
        energy_nj = counts * self._unit_nj
        return energy_nj if 0 <= energy_nj <= self._nj_per_ns * JITTER_NS else None

    def _step(self, raw: int, at_ns: int) -> Step:
        assert self._raw is not None
        counts, awake_ns = raw - self._raw, at_ns - self._at_ns + JITTER_NS
        # asleep, a processor runs no instruction: it is granted full power as a bound, not as a reason to doubt
        bound_nj = self._nj_per_ns * (awake_ns + self._slept_ns)
        if self._range and self._nj_per_ns * awake_ns >= self._range * self._unit_nj:
            return Step(0, "wrap-ambiguous")
        if counts < 0:
            # a suspend to memory clears the counter: over one, a decrease is no wrap
            counts = counts + self._range if self._range and not self._slept_ns else -1
            if not 0 <= counts * self._unit_nj <= bound_nj:
                return Step(0, "reset")
        energy_nj = counts * self._unit_nj
        if energy_nj > bound_nj:
            return Step(0, "implausible")
        return Step(energy_nj, "suspend" if self._slept_ns else "vanished" if self._away else None)


def sample(step: Step, error_percent: int, resolution_nj: int, unsure_nj: int = 0) -> Sample:
    """The step with its bounds: ± ``error_percent`` and ± one count; ``unsure_nj`` more may belong to it."""
    energy_nj = step.energy_nj
    margin_nj = -(-energy_nj * error_percent // 100) + resolution_nj if energy_nj or not step.gap else 0
    return Sample(energy_nj, max(0, energy_nj - margin_nj), energy_nj + margin_nj + unsure_nj, gap=step.gap)


class Siblings:
    """Counters of one package: which of them are one counter shown twice?

    AMD processors of several dies list each die though all of them read the counter of the package; Intel's dies
    have one each. Names do not tell, readings do: two counters are one as long as *one constant offset* between
    their totals explains every pair of readings. Each counter is read before and after its followers, so a follower
    that mirrors it lies between the two; the lag of the hardware is the only tolerance.

    A follower not yet told apart is *held*: its energy is kept aside, not counted. If it is ever told apart it is
    counted from then on, and what was held is released in that same step, as the gap "held" (those joules were
    spent in earlier windows and must not be billed to this one). So nothing is counted twice or lost. Two real
    dies that draw a watt apart are told apart in seconds; a mirror is watched for ever.
    """

    #: windows of agreement after which the interval no longer allows for the held energy being real
    PROOF: Final = 60

    def __init__(self, count: int) -> None:
        self._offsets: dict[tuple[int, int], tuple[int, int]] = {}
        self._apart: set[tuple[int, int]] = set()
        self._held_nj = [0] * count
        self._counted = [i == 0 for i in range(count)]
        self._agreed = 0

    def observe(self, first: int, second: int, low_nj: int, high_nj: int) -> None:
        """Totals of ``second`` − ``first`` lay within ``low_nj … high_nj`` at one instant (first < second)."""
        pair = (first, second)
        low, high = self._offsets.get(pair, (low_nj, high_nj))
        low, high = max(low, low_nj), min(high, high_nj)
        self._offsets[pair] = (low, high)
        if low > high:
            self._apart.add(pair)

    def forget(self, index: int) -> None:
        """The total of ``index`` lost its base (a reset): its offsets are learnt anew, what was told apart stays."""
        self._offsets = {pair: bounds for pair, bounds in self._offsets.items() if index not in pair}

    def settle(self, steps: list[Step | None]) -> tuple[Step | None, int]:
        """The step of the package out of those of its counters, and the energy newly held (0 once proved)."""
        energy_nj, held_nj = 0, 0
        gaps: list[str] = []
        for i, step in enumerate(steps):
            if not self._counted[i] and all((j, i) in self._apart for j in range(i)):
                self._counted[i] = True
                energy_nj += self._held_nj[i]
                gaps += ["held"] if self._held_nj[i] else []
                self._held_nj[i] = 0
            if step and self._counted[i]:
                energy_nj += step.energy_nj
                gaps += [step.gap] if step.gap else []
            elif step:
                held_nj += step.energy_nj
                self._held_nj[i] += step.energy_nj
        self._agreed += held_nj > 0
        here = any(step is not None for step, counted in zip(steps, self._counted, strict=True) if counted)
        unsure_nj = held_nj if self._agreed < self.PROOF else 0
        return (Step(energy_nj, gaps[0] if gaps else None) if here else None), unsure_nj
