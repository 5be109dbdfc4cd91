"""`meter.measure`: the decorator and the block. One lifecycle, five thin drivers."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from .attribution.bare import bare_task, follow, park_at_first_await, unfollow
from .attribution.clocks import Owner, call, drive, enter, here, leave
from .attribution.hooks import watch_running_loop
from .attribution.span import SPAN, Kind, Span
from .budgets.sizes import told as size_told
from .errors import BudgetRefused, ConfigurationError
from .records import label
from .refusal import refused
from .units import parse_quantity

P = ParamSpec("P")
R = TypeVar("R")
#: quantities that work will need, or a function of its arguments that tells them
Estimate = str | Sequence[str] | Callable[..., str | Sequence[str]] | None
Needs = Mapping[str, int] | None
#: how large the input is, or a function of its arguments that tells it
Size = float | Callable[..., float] | None
#: decisions at which a smaller model answers, if there is one
ASKS_SMALLER: Final = ("degrade", "throttle")


class Opener(Protocol):
    """The meter, as far as measured work needs it."""

    def open_span(self, kind: Kind, parent: Span | None = None) -> Span:
        """A running span."""

    def close_span(self, span: Span) -> None:
        """Its end."""

    def decide(self, span: Span, *, later: bool = False) -> None:
        """Ask the budgets that its keys concern."""

    async def decided(self, span: Span) -> None:
        """The outcome, when it came later."""

    def serve_smaller(self, span: Span, model: str) -> None:
        """Note that a smaller model answers."""

    def place(self, span: Span) -> None:
        """Read a request's route."""

    def may_serve(self, span: Span, model: str, min_quality: float | None) -> bool:
        """Whether ``model`` is good enough to stand in."""

    def declare(self, block: str, model: str | None, *, unit: str | None, smaller: str | None, elsewhere: bool) -> None:
        """Note what a measured function runs and delivers."""

    def note(self, span: Span, reply: Any) -> None:
        """Take what a model's reply tells of tokens."""

    def hang_up(self, span: Span) -> None:
        """Book what the call to a model elsewhere cost."""

    def fault(self, stage: str, error: BaseException) -> None:
        """Count a fault of the meter's own."""


class Measure:
    """A piece of work to meter: decorates a function, or wraps a ``with`` / ``async with`` block (re-entrant)."""

    def __init__(
        self,
        meter: Opener,
        name: str | None = None,
        *,
        model: str | None = None,
        fallback: Callable[..., Any] | None = None,
        unit: str | None = None,
        tenant: str | None = None,
        estimate: Estimate = None,
        size: Size = None,
        min_quality: float | None = None,
        call: Callable[[], Any] | None = None,
    ) -> None:
        self._call = call  # makes what hears a call to a model elsewhere: see `Meter.remote`
        if min_quality is not None and not (type(min_quality) in (int, float) and 0 <= min_quality <= 1):
            raise ConfigurationError(f"measure: min_quality is a score between 0 and 1, not {min_quality!r}")
        self._estimate = estimate if callable(estimate) else _quantities(estimate)
        self._size = size if size is None or callable(size) else size_told(size)
        self._meter, self._fallback, self._min_quality = meter, fallback, min_quality
        self._name, self._model, self._unit, self._tenant = label(name), label(model), label(unit), label(tenant)
        self._open: dict[int, _Block] = {}

    # -- as a block

    def __enter__(self) -> Span:
        block = self._begin()
        task = block.take_over()
        if task is not None:
            park_at_first_await(block.span, task, block.before)
        return block.span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        block = self._ended()
        block.hand_back()
        if error is None:
            block.delivered(None)
        block.end(error)

    async def __aenter__(self) -> Span:
        watch_running_loop()
        block = self._begin(later=True)
        if block.span.waiting is not None:
            await self._admitted(block)
        if block.take_over() is not None:
            block.pause()
            try:
                await asyncio.sleep(0)  # so that the block begins in a wake-up that is seen, as every later one is
            except BaseException as error:  # cancelled on the way in: nobody will call __aexit__
                await self.__aexit__(type(error), error, error.__traceback__)
                raise
        return block.span

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.__exit__(kind, error, tb)

    def _begin(self, *, later: bool = False) -> _Block:
        block = _Block(self._meter, self._name, self._model, self._unit, self._tenant)
        block.begin(None, self._needs(()), self._sized(()), later=later)
        if self._call is not None:
            block.span.call = self._call()
        self._open[block.span.key] = block
        return block

    async def _admitted(self, block: _Block) -> None:
        try:
            await block.admitted()
        except BaseException:
            self._open.pop(block.span.key)
            raise

    def _needs(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Needs:
        """What the caller says that this call will need; a function that fails says nothing."""
        estimate = self._estimate
        try:
            return _quantities(estimate(*args, **(kwargs or {}))) if callable(estimate) else estimate
        except Exception as error:
            self._meter.fault("estimate", error)
            return None

    def _sized(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> str | None:
        """The class of the size that the caller tells; a function that fails says nothing."""
        size = self._size
        try:
            return size_told(size(*args, **(kwargs or {}))) if callable(size) else size
        except Exception as error:
            self._meter.fault("size", error)
            return None

    def _ended(self) -> _Block:
        """The block that ends here: its context's own, not the last one entered, since tasks that share this interleave."""
        span = SPAN.get()
        if span is not None and span.key in self._open:
            return self._open.pop(span.key)
        # Ended in another context than it began in (a dependency's worker threads): the newest one of the same request.
        keys = [key for key, block in self._open.items() if block.span.parent is span] or list(self._open)
        return self._open.pop(keys[-1])

    # -- as a decorator

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        if isinstance(fn, staticmethod | classmethod):  # above the other decorator, where they are not functions yet
            return type(fn)(self(fn.__func__))
        if inspect.isasyncgenfunction(fn):
            driver: Any = self._async_generator(fn)
        elif inspect.iscoroutinefunction(fn):
            driver = self._coroutine(fn)
        elif inspect.isgeneratorfunction(fn):
            driver = self._generator(fn)
        else:
            driver = self._function(fn)
        wrapped = functools.wraps(fn)(driver)
        block = self._name or label(getattr(fn, "__qualname__", "function")) or "none"
        smaller = None if self._fallback is None else _model_of(self._fallback)
        self._meter.declare(block, self._model, unit=self._unit, smaller=smaller, elsewhere=self._call is not None)
        wrapped.__frugal_model__ = self._model  # type: ignore[attr-defined]
        return wrapped

    def _block(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, later: bool = False) -> _Block:
        block = _Block(
            self._meter, self._name or label(getattr(fn, "__qualname__", "function")), self._model, self._unit, self._tenant
        )
        block.floor = self._min_quality
        block.begin(self._fallback, self._needs(args, kwargs), self._sized(args, kwargs), later=later)
        if self._call is not None:
            block.span.call = self._call()
        return block

    def _function(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def metered(*args: Any, **kwargs: Any) -> Any:
            block = self._block(fn, args, kwargs)
            token, error = block.set(), None
            try:
                return block.delivered(call(block.span, block.chosen(fn), *args, **kwargs))
            except BaseException as caught:
                error = caught
                raise
            finally:
                block.reset(token)
                block.end(error)
                del error

        return metered

    def _coroutine(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        async def metered(*args: Any, **kwargs: Any) -> Any:
            watch_running_loop()
            block = self._block(fn, args, kwargs, later=True)
            if block.span.waiting is not None:
                await block.admitted()
            token, error = block.set(), None
            try:
                result = call(block.span, block.chosen(fn), *args, **kwargs)
                if inspect.iscoroutine(result):
                    result = await drive(result, block.span)
                elif inspect.isawaitable(result):
                    result = await result
                return block.delivered(result)
            except BaseException as caught:
                error = caught
                raise
            finally:
                block.reset(token)
                block.end(error)
                del error

        return metered

    def _generator(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def metered(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            block = self._block(fn, args, kwargs)
            error = None
            try:
                source = block.inside(block.chosen(fn), *args, **kwargs)
                if not isinstance(source, Generator):
                    source = iter(_pieces(source))
                return (yield from block.steps(source))
            except BaseException as caught:
                error = caught
                raise
            finally:
                block.end(error)
                del error

        return metered

    def _async_generator(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        async def metered(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            watch_running_loop()
            block = self._block(fn, args, kwargs, later=True)
            if block.span.waiting is not None:
                await block.admitted()
            error, source = None, None
            try:
                source = await block.opened(block.chosen(fn), *args, **kwargs)
                step: Callable[..., Any] = source.asend
                argument: Any = None
                while True:
                    try:
                        pending = step(argument)
                        argument = None  # a frame that keeps an exception is a reference cycle
                        item = await block.step(pending)
                    except StopAsyncIteration:
                        block.delivered(None)
                        return
                    block.notice(item)
                    try:
                        step, argument = source.asend, (yield item)
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        step, argument = source.athrow, thrown
            except BaseException as caught:
                error = caught
                raise
            finally:
                try:
                    if source is not None:
                        await block.step(source.aclose())
                finally:
                    block.end(error)
                    del error

        return metered


class _Block:
    """One run of measured work: its span, from admission to settlement. Only a budget's refusal leaves it."""

    __slots__ = ("_fallback", "_meter", "_model", "_name", "_owner", "_tenant", "_token", "_unit", "_wanted", "floor", "span")

    def __init__(self, meter: Opener, name: str | None, model: str | None, unit: str | None, tenant: str | None) -> None:
        self._meter, self._name, self._model, self._unit, self._tenant = meter, name, model, unit, tenant
        self._fallback: Callable[..., Any] | None = None
        self.floor: float | None = None  # of the quality of what may answer instead
        self._owner: Owner | None = None
        self._token: Token[Span | None] | None = None

    def begin(
        self, fallback: Callable[..., Any] | None = None, needs: Needs = None, size: str | None = None, *, later: bool = False
    ) -> None:
        """Open the span and ask the budgets that its keys concern; raises BudgetRefused.

        With ``later`` the outcome may have to be awaited, by `admitted`, while ``span.waiting`` is set.
        """
        meter, parent = self._meter, SPAN.get()
        if parent is not None and id(parent.desk) != id(meter):
            parent = None
        name = self._name
        if parent is not None and parent.t1_ns:
            # Work that outlives its request stands on its own: else no budget would ever be asked for it again.
            name, parent = parent.route or name, None
        span = self.span = meter.open_span("block", parent)
        span.model, span.tenant, span.unit, span.route = self._model, self._tenant, self._unit, name
        self._wanted = fallback
        try:
            span.estimates, span.size = needs, size
            if parent is not None:
                self._inherit(span, parent)
            if fallback is not None and meter.may_serve(span, _model_of(fallback), self.floor):
                span.smaller = _model_of(fallback)
            meter.decide(span, later=later)
        except Exception as error:
            meter.fault("admit", error)
        if span.waiting is None:
            self._decided()

    async def admitted(self) -> None:
        """Wait for the outcome; raises BudgetRefused. Who is cancelled meanwhile has used nothing."""
        try:
            await self._meter.decided(self.span)
        except Exception as error:
            self._meter.fault("admit", error)
        except BaseException as error:
            self.end(error)
            raise
        self._decided()

    def _decided(self) -> None:
        span, fallback = self.span, self._wanted
        parent = span.parent
        if span.refusal is not None:
            at = parent
            while at is not None:
                at.refusal = span.refusal
                at = at.parent
            span.outcome = "refused"
            self._meter.close_span(span)
            raise refused(span.refusal)
        if fallback is None:
            return
        asked = span.decision in ASKS_SMALLER or (parent is not None and parent.decision in ASKS_SMALLER)
        if span.smaller is not None and asked and self._meter.may_serve(span, span.smaller, self.floor):
            self._fallback = fallback
            span.decision = "degrade"
            self._meter.serve_smaller(span, span.smaller)
        elif span.decision == "degrade":
            span.decision = "warn"  # a floor forbids it: the ladder goes on without this rung

    def _inherit(self, span: Span, parent: Span) -> None:
        if parent.scope is not None:
            self._meter.place(parent)
        span.route = parent.route or self._name
        span.method, span.tenant = parent.method, self._tenant or parent.tenant
        span.size = span.size or parent.size

    def end(self, error: BaseException | None) -> None:
        """Close the span with the outcome that ``error`` tells."""
        span = self.span
        if error is not None and span.outcome == "ok":
            span.outcome = outcome_of(error)
        if span.call is not None:
            if self._fallback is None:
                self._meter.hang_up(span)
            span.call = None  # else somebody here answered instead
        self._meter.close_span(span)

    def chosen(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """``fn``, or the fallback when a budget has degraded."""
        return self._fallback or fn

    def delivered(self, result: Any) -> Any:
        """Note what a successful call brought: one functional unit, and the usage of an OpenAI-shaped answer."""
        span = self.span
        if self._unit is not None and span.units is None:
            span.units = 1
        self.notice(result)
        return result

    def notice(self, item: Any) -> None:
        """Take token counts from ``item`` when it looks like an answer with a ``usage``."""
        if item is None or isinstance(item, str | bytes):
            return
        try:
            self._meter.note(self.span, item)
        except Exception as error:
            self._meter.fault("usage", error)

    # -- drivers' pieces

    def set(self) -> Token[Span | None]:
        """Make the span current."""
        return SPAN.set(self.span)

    def reset(self, token: Token[Span | None]) -> None:
        """Make the former one current again; a generator finished elsewhere has lost its context, and leaves that one alone."""
        try:
            SPAN.reset(token)
        except ValueError:
            if SPAN.get() is self.span:
                SPAN.set(self.span.parent)

    def take_over(self) -> asyncio.Task[Any] | None:
        """Charge this thread to the span: the body of a ``with``. Returns the task when it is bare."""
        around = SPAN.get()
        self._token = self.set()
        self._owner = enter(self.span)
        task = bare_task(self._owner, around)
        if task is not None:
            if isinstance(self._owner, Span) and self._owner.bare_task not in (None, task):
                self._owner = None  # another task's block, suspended: not ours to put back
            follow(self.span, task)
        return task

    @property
    def before(self) -> Owner | None:
        """Who paid on this thread when the block began."""
        return self._owner

    def pause(self) -> None:
        """Stop paying until the task is woken."""
        leave(self._owner)

    def hand_back(self) -> None:
        """Charge whoever was charged before."""
        unfollow(self.span)
        # A block may end on another thread than it began on, or after it was parked: then there is nobody to put back.
        if here().owner is self.span:
            leave(self._owner)
        if self._token is not None:
            self.reset(self._token)

    def inside(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``fn`` run at the span's expense, with the span current for that long."""
        token = self.set()
        try:
            return call(self.span, fn, *args, **kwargs)
        finally:
            self.reset(token)

    async def step(self, awaitable: Any) -> Any:
        """One step of an async generator, driven at the span's expense."""
        token = self.set()
        try:
            return await drive(awaitable, self.span)
        finally:
            self.reset(token)

    async def opened(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        """The async generator to run; a fallback may answer in one piece, at once or awaited."""
        result = self.inside(fn, *args, **kwargs)
        if inspect.iscoroutine(result):
            result = await self.step(result)
        return result if inspect.isasyncgen(result) else _async_pieces(result)

    def steps(self, source: Any) -> Generator[Any, Any, Any]:
        """Drive a generator step by step at the span's expense."""
        sent: Any = None
        error: BaseException | None = None
        try:
            while True:
                token, previous = self.set(), enter(self.span)
                try:
                    if error is not None:
                        item = source.throw(error)
                    else:
                        item = next(source) if sent is None else source.send(sent)
                except StopIteration as stop:
                    self.delivered(None)
                    return stop.value
                finally:
                    error = None  # a frame that keeps its own exception is a reference cycle
                    leave(previous)
                    self.reset(token)
                self.notice(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:
                    error = thrown
        finally:
            if hasattr(source, "close"):
                # Before 3.12 the collector may do this in the middle of a `ContextVar.set`, where another one ends in a crash.
                call(self.span, source.close) if sys.version_info < (3, 12) else self.inside(source.close)


def _model_of(fallback: Callable[..., Any]) -> str:
    return str(getattr(fallback, "__frugal_model__", None) or getattr(fallback, "__name__", "fallback"))


def _quantities(estimate: str | Sequence[str] | None) -> Needs:
    """What an estimate says, by resource in the unit that is booked; raises UnitError for what is no quantity."""
    if estimate is None:
        return None
    quantities = [parse_quantity(each) for each in ([estimate] if isinstance(estimate, str) else estimate)]
    return {quantity.resource: quantity.amount for quantity in quantities}


def outcome_of(error: BaseException) -> Any:
    """The outcome that an exception tells."""
    if isinstance(error, BudgetRefused):
        return "refused"
    name = type(error).__name__
    if name in ("ClientDisconnect", "WebSocketDisconnect"):
        return "client_disconnect"
    return "cancelled" if name in ("CancelledError", "GeneratorExit") else "error"


def _pieces(answer: Any) -> Generator[Any, None, None]:
    if hasattr(answer, "__iter__") and not isinstance(answer, str | bytes | Mapping):
        yield from answer
    else:
        yield answer


async def _async_pieces(answer: Any) -> AsyncGenerator[Any, None]:
    for piece in _pieces(answer):
        yield piece
