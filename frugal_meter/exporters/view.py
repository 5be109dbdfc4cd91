"""What an exporter may look at of a running meter; `Meter` answers it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ..attribution.ledger import Ledger
from ..attribution.sampler import Clock, Sampler
from ..attribution.span import Span
from ..budgets.admission import Admission
from ..figures import Figures
from ..records import Tick
from .aggregates import Aggregates
from .snapshot import Snapshots


class MeterView(Protocol):
    """A meter's parts, for reading only."""

    service: str
    clock: Clock
    ledger: Ledger
    sampler: Sampler
    figures: Figures
    aggregates: Aggregates
    admission: Admission
    recent: deque[Span]
    last_ticks: Sequence[Tick]
    errors: dict[str, int]
    #: (block, model) of what the application declared
    declared: set[tuple[str, str]]
    since_ns: int
    cut_nj: int
    disabled: bool

    @property
    def dropped(self) -> int:
        """Readings that a slow exporter lost."""

    @property
    def snapshots(self) -> Snapshots:
        """The service's sums."""

    def fault(self, stage: str, error: BaseException) -> None:
        """Count a fault of the meter's own."""
