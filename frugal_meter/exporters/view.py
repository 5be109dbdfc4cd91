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
    since_ns: int
    cut_nj: int
    disabled: bool

    @property
    def dropped(self) -> int:
        """Readings that a slow exporter lost."""

    def fault(self, stage: str, error: BaseException) -> None:
        """Count a fault of the meter's own."""
