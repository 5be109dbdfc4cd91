"""A span: one metered piece of work, a request or a `measure` block."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Literal, Protocol

import msgspec

from ..errors import ConfigurationError
from ..records import Decision, Outcome, Reading, label
from .clocks import Cell, Cells, Segment, here
from .elsewhere import Elsewhere
from .pools import NATIVE, Section, Sections, check_weight

_MOST = 2**53  # counts beyond this are no counts, and no float holds them exactly
Kind = Literal["http", "websocket", "block"]


class Desk(Protocol):
    """What a span asks of the meter that opened it."""

    sections: Sections

    def reading(self, span: Span) -> Reading:
        """The span's figures now: provisional until settled."""

    def identify(self, span: Span) -> None:
        """Decide over the budgets that the keys learnt since admission concern."""

    def late(self, span: Span) -> Late:
        """Where work that outlives the span is booked."""

    def note(self, span: Span, reply: Any) -> None:
        """Take what a model's reply, or a piece of it, tells of tokens."""

    def fault(self, stage: str, error: BaseException) -> None:
        """Count a fault of the meter's own."""


class Late(Cells):
    """Work of one route that went on after its spans had ended."""

    __slots__ = ("by_thread", "route")

    def __init__(self, route: str) -> None:
        super().__init__()
        self.route = route
        self.by_thread: dict[int, Cell] = {}

    def cell_here(self) -> Cell:
        """The calling thread's cell: for tasks, whose end nobody tells."""
        key = id(here())
        cell = self.by_thread.get(key)
        if cell is None:
            cell = self.by_thread[key] = self.borrow()
        return cell


class Account(msgspec.Struct, eq=False, gc=False):  # numbers only: nothing for the garbage collector to follow
    """What the tick has billed to a span so far; written by the tick thread alone.

    ``sources_nj`` and ``idle_nj`` hold dynamic and idle energy per source, in the meter's order of sources; ``low_nj``
    and ``high_nj`` bound dynamic + idle; ``host_nj`` is the energy of the host over the ticks in which the span lived.
    """

    sources_nj: tuple[int, ...]
    idle_nj: tuple[int, ...]
    billed_ns: int = 0  # CPU already billed, cells included
    own_billed_ns: int = 0  # of it, the span's own thread
    cpu_ns: int = 0  # own CPU and share of the native pool
    gpu_ns: int = 0
    gpu_notes: int = 0  # bits: see attribution.gpu.FLAGS
    ticks: int = 0
    low_nj: float = 0.0
    high_nj: float = 0.0
    host_nj: int = 0
    embodied_g: float = 0.0
    idle_unknown: bool = False
    gap: bool = False


class Folded:
    """What settled spans nested in a span used, summed; ``low_nj … high_nj`` bound dynamic and idle together."""

    __slots__ = ("cpu_ns", "dynamic_nj", "embodied_g", "gpu_ns", "high_nj", "idle_nj", "low_nj", "tokens_in", "tokens_out")

    def __init__(self) -> None:
        self.cpu_ns = self.gpu_ns = self.dynamic_nj = self.idle_nj = self.tokens_in = self.tokens_out = 0
        self.low_nj = self.high_nj = self.embodied_g = 0.0

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.tokens_in + self.tokens_out

    def add(self, span: Span) -> None:
        """Add a settled span with all that is folded into it."""
        account = span.account
        if account is not None:
            self.dynamic_nj += sum(account.sources_nj)
            self.idle_nj += sum(account.idle_nj)
            self._add(account)
        self.tokens_in += span.tokens_in or 0
        self.tokens_out += span.tokens_out or 0
        inner = span.folded
        if inner is not None:
            self.dynamic_nj += inner.dynamic_nj
            self.idle_nj += inner.idle_nj
            self.tokens_in += inner.tokens_in
            self.tokens_out += inner.tokens_out
            self._add(inner)

    def _add(self, other: Account | Folded) -> None:
        self.cpu_ns += other.cpu_ns
        self.gpu_ns += other.gpu_ns
        self.low_nj += other.low_nj
        self.high_nj += other.high_nj
        self.embodied_g += other.embodied_g


class Span(msgspec.Struct, eq=False, weakref=True):
    """One metered piece of work. Applications use the methods; the fields belong to the meter."""

    desk: Desk
    key: int
    t0_ns: int
    kind: Kind
    parent: Span | None = None
    segment: Segment | None = None
    scope: Any = None  # of a request, until its route is read
    root_before: str = ""
    cpu_ns: int = 0  # on the span's own thread; others write cells
    cells: Cells | None = None
    t1_ns: int = 0  # 0 while running
    route: str | None = None
    method: str | None = None
    status: int | None = None
    outcome: Outcome = "ok"
    tenant: str | None = None
    model: str | None = None
    model_served: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    unit: str | None = None
    units: float | None = None
    quality_sum: float | None = None
    quality_metric: str | None = None
    decision: Decision | None = None
    leases: Any = None
    refusal: Mapping[str, Any] | None = None
    cut: Mapping[str, Any] | None = None  # by a hard budget, while it ran: the members of a refusal
    smaller: str | None = None  # the model that could answer instead
    waiting: Any = None  # for its turn, or for a shared store's answer
    estimates: Mapping[str, int] | None = None  # its caller's own, by resource, in the unit that is booked
    size: str | None = None  # the class of its input's size
    looked_ns: int = 0  # when its leases were last compared with what it used
    renewed: tuple[int, int] | None = None  # CPU and time when it was last seen to use any
    first_byte_ns: int = 0
    account: Account | None = None
    bare_task: Any = None  # the task of a block that nobody steps
    partial: bool = False  # such a block lost its first stretch: see bare.park_at_first_await
    trace_id: str | None = None  # of the trace that recorded it, 32 hex digits
    ops: bool = False  # a look at the meter's own pages: metered like any request, not shown as one
    settled: bool = False
    nested: dict[int, Span] | None = None  # not settled yet
    folded: Folded | None = None  # settled
    settled_reading: Reading | None = None
    call: Any = None  # to a model elsewhere, while it runs
    is_call: bool = False
    elsewhere: Elsewhere | None = None  # what calls made from here or from inside cost
    pays: Elsewhere | None = None  # of it, what no span around this one pays for
    declared: set[Section] | None = None  # open sections of the native pool, by the application's own word

    @property
    def total_cpu_ns(self) -> int:
        """CPU charged so far on every thread; open segments not included."""
        return self.cpu_ns + (self.cells.total_ns() if self.cells is not None else 0)

    def owner(self) -> Span | Cell:
        """Who pays on the calling thread: the span itself on its own thread, a cell anywhere else."""
        if here() is self.segment:
            return self
        cell = self.home().borrow()
        cell.open = False  # a task's end is not told; after the span's it pays into late work
        return cell

    def lendable(self) -> Cells:
        """The span's cells, made on first use: asked on a thread that runs the span, before others may."""
        cells = self.cells
        if cells is None:
            cells = self.cells = Cells()
        return cells

    def home(self) -> Cells:
        """Where a worker thread's cell comes from: late work's cells once the span is over."""
        return self.desk.late(self) if self.t1_ns else self.lendable()

    def adopt(self, child: Span) -> None:
        """Note a span opened inside this one."""
        if self.nested is None:
            self.nested = {}
        self.nested[child.key] = child

    def fold(self, child: Span) -> None:
        """Keep a settled child as sums only, so that an hour-long socket does not keep every block it ran."""
        if self.folded is None:
            self.folded = Folded()
        self.folded.add(child)
        if self.nested is not None:
            self.nested.pop(child.key, None)

    @property
    def dynamic_nj(self) -> int:
        """Dynamic energy billed so far, what has been folded into the span included."""
        own = 0 if self.account is None else sum(self.account.sources_nj)
        return own + (0 if self.folded is None else self.folded.dynamic_nj)

    @property
    def has_nested_tokens(self) -> bool:
        """Whether a block inside has counted tokens: then the same ``usage`` is not counted again."""
        if self.folded is not None and self.folded.tokens:
            return True
        return any(child.tokens_in or child.tokens_out for child in list((self.nested or {}).values()))

    # -- what applications call

    @property
    def reading(self) -> Reading:
        """The figures now: provisional at once, settled after the next tick (``.settled`` says which)."""
        return self.desk.reading(self)

    def add_tokens(self, *, input: int | None = None, output: int | None = None, cached: int | None = None) -> None:
        """Add tokens read and written by a model; ``cached`` are those of ``input`` that were not computed again.

        Counts that are not whole, non-negative numbers are left out: unknown is better than wrong.
        """
        for name, count in (("tokens_in", input), ("tokens_out", output), ("tokens_cached", cached)):
            if type(count) is int and 0 <= count <= _MOST:
                setattr(self, name, (getattr(self, name) or 0) + count)

    def note(self, reply: Any) -> None:
        """Take the ``usage`` of a model's reply (a mapping or an object), or of one piece of its stream.

        A stream that tells no usage is counted by its pieces, and flagged. What is malformed is left out, never guessed.
        """
        self.desk.note(self, reply)

    def add_units(self, count: float = 1, unit: str | None = None) -> None:
        """Add ``count`` functional units delivered (answers, letters, audio seconds), named by ``unit``."""
        if isinstance(count, int | float) and not isinstance(count, bool) and 0 <= count <= _MOST:
            self.units = (self.units or 0) + count
        if unit is not None:
            self.unit = label(unit)

    def quality(self, score: float, *, metric: str | None = None) -> None:
        """Record a quality score in 0…1 (the last one stands) and how it was obtained."""
        if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1:
            self.quality_sum, self.quality_metric = float(score), label(metric)

    def section(self, pool: str = "native", *, weight: float = 1) -> Section:
        """A share of a pool, ``with span.section("gpu", weight=48):``; "native", "gpu" or a companion's name.

        "gpu" is all GPUs, "gpu:0" or "gpu:<UUID>" one. A GPU's section of weight 1 is weighed by the span's tokens once
        they are told.
        """
        section = Section(self.desk.sections, pool, self.key, weight)
        if pool == NATIVE:
            if self.declared is None:
                self.declared = set()
            section.among = self.declared
        return section

    def identify(self, *, model: str | None = None, tenant: str | None = None, route: str | None = None) -> None:
        """Name what was not known at admission; budgets on these keys are asked now.

        Raises `BudgetRefused` when one of them refuses.
        """
        self.model = label(model) or self.model
        self.tenant = label(tenant) or self.tenant
        self.route = label(route) or self.route
        self.desk.identify(self)


SPAN: ContextVar[Span | None] = ContextVar("frugal_meter_span", default=None)


def carry(fn: Callable[..., Any], span: Span | None = None) -> Callable[..., Any]:
    """``fn``, run wherever and whenever at the expense of the span that is current now (or ``span``)."""
    from .hooks import carried

    return carried(fn, span if span is not None else SPAN.get())


def holding(fn: Callable[..., Any], pool: str, weight: float) -> Callable[..., Any]:
    """``fn`` in a section of ``pool`` of the span that is current when it is called; raises ConfigurationError."""
    check_weight(weight)
    if not callable(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(f"holding takes a function or coroutine function, not {fn!r}; use span.section inside")
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def held(*args: Any, **kwargs: Any) -> Any:
            span = SPAN.get()
            if span is None:
                return await fn(*args, **kwargs)
            with span.section(pool, weight=weight):
                return await fn(*args, **kwargs)

        return held

    @functools.wraps(fn)
    def held_here(*args: Any, **kwargs: Any) -> Any:
        span = SPAN.get()
        if span is None:
            return fn(*args, **kwargs)
        with span.section(pool, weight=weight):
            return fn(*args, **kwargs)

    return held_here
