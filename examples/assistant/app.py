"""The service: a plain Starlette application, and the few lines that meter it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import msgspec
from anyio import to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from frugal_meter import Meter, MeterMiddleware

from .language_model import Generation
from .tiers import COUNTER, RETRIEVAL, Answer, Tiers


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /ask, /letters and /reports; ``model`` asks for the retrieval tier by its name."""

    question: str
    model: str | None = None


def create_app(meter: Meter, tiers: Tiers) -> Starlette:
    """The metered service; ``tiers`` are shared between requests, ``meter`` is started by the middleware."""

    @meter.measure(model=RETRIEVAL, unit="answer")
    def answer_from_faq(question: str) -> Answer:
        return tiers.retrieve(question)

    @meter.measure(model=COUNTER)
    def send_to_counter(question: str) -> Answer:
        return Answer(tiers.corpus.counter, COUNTER, None)

    # There is always something cheaper, and at the end of the ladder a person.
    cheaper = answer_from_faq if tiers.language_model is not None else send_to_counter

    @meter.measure(model=tiers.dearest, fallback=cheaper, unit="answer")
    def answer(question: str) -> Answer:
        given = tiers.generate(question)
        _tell(meter, given)
        return given

    @meter.measure(model=tiers.dearest, unit="answer")
    async def answer_in_pieces(question: str) -> AsyncIterator[str]:
        generation, plain = await run_in_threadpool(tiers.stream, question)
        if generation is None:
            _tell(meter, plain)
            yield plain.text
            return
        try:
            while (piece := await to_thread.run_sync(_next_piece, generation)) is not None:
                yield piece
        finally:
            # A citizen who hangs up stops the model between two tokens and pays for those already written.
            generation.close()
            _tell(meter, generation)

    async def ask(request: Request) -> Response:
        asked = _parse(await request.body())
        if isinstance(asked, Response):
            return asked
        chosen = answer_from_faq if asked.model == RETRIEVAL else answer
        return JSONResponse(msgspec.to_builtins(await run_in_threadpool(chosen, asked.question)))

    async def faq(request: Request) -> Response:
        given = await run_in_threadpool(answer_from_faq, request.query_params.get("q", ""))
        return JSONResponse(msgspec.to_builtins(given))

    async def stream(request: Request) -> Response:
        events = _events(answer_in_pieces(request.query_params.get("q", "")))
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    app = Starlette(
        routes=[
            Route("/ask", ask, methods=["POST"]),
            Route("/ask/stream", stream),
            Route("/faq", faq),
            # The same answer behind two more doors, each with a budget of its own (demo.py).
            Route("/letters", _twin(ask), methods=["POST"]),
            Route("/reports", _twin(ask), methods=["POST"]),
            Mount("/frugal", app=meter.ops_app()),
        ]
    )
    app.add_middleware(MeterMiddleware, meter=meter)
    return app


def _twin(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def same(request: Request) -> Response:
        return await endpoint(request)

    return same


def _parse(body: bytes) -> Question | Response:
    try:
        return msgspec.json.decode(body, type=Question)
    except msgspec.DecodeError as error:
        return JSONResponse({"error": f'{error}; send {{"question": "…"}}'}, status_code=422)


def _tell(meter: Meter, given: Answer | Generation) -> None:
    """Report the tokens, and the model where it is not the one that was asked for."""
    span = meter.current()
    if span is None:
        return
    span.add_tokens(input=given.tokens_in, output=given.tokens_out, cached=given.tokens_cached)
    if isinstance(given, Answer) and given.model == RETRIEVAL:
        span.identify(model=RETRIEVAL)


def _next_piece(generation: Generation) -> str | None:
    # StopIteration cannot cross a future.
    return next(generation, None)


async def _events(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async with aclosing(pieces) as open_pieces:  # type: ignore[type-var]
        async for piece in open_pieces:
            yield f"data: {json.dumps({'text': piece}, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"
