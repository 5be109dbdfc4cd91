"""What cannot mean anything, from an operator, an application, a model server or a client: one clear line, or left out."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import pytest
from exchange import a_meter, account, an_app, ask, samples
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from frugal_meter import Budget, Meter
from frugal_meter.errors import ConfigurationError, FrugalMeterError, UnknownZoneError
from frugal_meter.testing import SyntheticSource
from frugal_meter.usage import MAX_BYTES


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"service": ""}, "service is the name of what is metered"),
        ({"service": None}, "service is the name of what is metered"),
        ({"zone": None}, "zone is required"),
        ({"zone": "FRX"}, "Did you mean FR"),
        ({"zone": ""}, "unknown zone ''"),
        ({"zone": 5}, "unknown zone 5"),
        ({"zone": ["FR"]}, "unknown zone ['FR']"),
        ({"sources": "rapll"}, "unknown sources 'rapll': use auto, model, rapl"),
        ({"sources": 5}, "5"),
        ({"sources": None}, "None"),
        ({"sources": [object()]}, "object"),
        ({"sources": [SyntheticSource(name="a"), SyntheticSource(name="a")]}, "a"),
        ({"budgets": ["chat"]}, "budgets holds 'chat'; write Budget("),
        ({"budgets": Budget("chat", "5 J", per="day")}, "budgets"),
        ({"budgets": 5}, "budgets"),
        ({"budgets": [Budget("chat", "5 J", per="day"), Budget("chat", "6 J", per="day")]}, "two budgets are called 'chat'"),
        ({"exporters": 5}, "exporters"),
        ({"exporters": [5]}, "exporters"),
        ({"tick": 0}, "tick=0 cannot be"),
        ({"tick": "0.5"}, "tick='0.5' cannot be"),
        ({"tick": float("nan")}, "tick=nan cannot be"),
        ({"tick": True}, "tick=True cannot be"),
        ({"pue": 0.5}, "pue is 0.5"),
        ({"pue": "1.3"}, "pue is '1.3'"),
        ({"pue": float("nan")}, "pue is nan"),
        ({"host_share": 1.5}, "host_share=1.5 cannot be"),
        ({"host_share": "half"}, "host_share='half' cannot be"),
        ({"idle_watts": 5}, "idle_watts"),
        ({"idle_watts": {"cpu": -1}}, "idle_watts['cpu']=-1 cannot be"),
        ({"idle_watts": {"cpuu": 5}}, "cpuu"),
        ({"declared": 5}, "declared is a mapping"),
        ({"declared": {"cpu_idel": 5}}, "cpu_idel not known; use cpu_idle"),
        ({"declared": {"cpu_idle": "5"}}, "declared watts"),
        ({"declared": {"cpu_idle": 5}, "sources": "model"}, "need both cpu_idle and cpu_full"),
        ({"tenant": 5}, "tenant"),
        ({"factor": 31.0}, "factor is a Factor"),
        ({"embodied": 5}, "embodied is an Embodied"),
        ({"journal": "readings.db"}, 'journal is "sqlite:///path/to/journal.db", "postgresql://user@host/database" or a Journal'),
    ],
)
def test_a_setting_that_cannot_mean_anything_is_refused_at_once_in_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        a_meter(**settings)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_zone_carries_the_nearest_ones() -> None:
    with pytest.raises(UnknownZoneError) as refused:
        a_meter(zone="FR-CRO")
    assert any(near.startswith("FR") for near in refused.value.nearest)


def test_every_error_on_purpose_can_be_caught_as_one() -> None:
    for settings in ({"zone": "FRX"}, {"sources": [], "budgets": [Budget("chat", "5 J", per="day")]}, {"pue": 0}):
        with pytest.raises(FrugalMeterError):
            a_meter(**settings)


def usage_seen(meter: Meter, body: bytes | list[bytes], kind: str = "application/json") -> tuple[int | None, int | None]:
    """The token counts that the meter takes from an answer."""

    async def answer(request: Request) -> Response:
        if isinstance(body, bytes):
            return Response(body, media_type=kind)

        async def pieces() -> Any:
            for piece in body:
                yield piece

        return StreamingResponse(pieces(), media_type=kind)

    assert ask(an_app(meter, Route("/chat", answer)), "/chat")[0].status_code == 200
    meter.settle()
    assert meter.errors == {}
    reading = meter.recent[-1].reading
    meter.metrics()
    return reading.tokens_in, reading.tokens_out


def usage(**counts: Any) -> bytes:
    return json.dumps({"choices": [], "usage": counts}).encode()


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (usage(prompt_tokens=12, completion_tokens=7, total_tokens=19), (12, 7)),
        (usage(input_tokens=12, output_tokens=7), (12, 7)),
        (usage(prompt_tokens=12), (12, None)),
        (usage(prompt_tokens=0, completion_tokens=0), (0, 0)),
        (usage(prompt_tokens="12", completion_tokens="7"), (None, None)),
        (usage(prompt_tokens=-12, completion_tokens=7), (None, 7)),
        (usage(prompt_tokens=1.5, completion_tokens=True), (None, None)),
        (usage(prompt_tokens=10**400, completion_tokens=7), (None, 7)),
        (usage(prompt_tokens=[12], completion_tokens={"n": 7}), (None, None)),
        (usage(prompt_tokens=12, completion_tokens=7, prompt_tokens_details="all of it"), (12, 7)),
        (usage(prompt_tokens=12, completion_tokens=7, prompt_tokens_details={"cached_tokens": "x"}), (12, 7)),
        (b'{"usage": null}', (None, None)),
        (b'{"usage": [12, 7]}', (None, None)),
        (b'{"usage": "12"}', (None, None)),
        (b'{"usage": {"prompt_tokens": NaN, "completion_tokens": Infinity}}', (None, None)),
        (b'{"usage": {"prompt_tokens": 12', (None, None)),
        (b'["usage"]', (None, None)),
        (b'"usage"', (None, None)),
        (b'\xff\xfe"usage"', (None, None)),
        (b'{"usage": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", (None, None)),
        (b'{"a": {"usage": {"prompt_tokens": 12, "completion_tokens": 7}}}', (None, None)),
    ],
    ids=lambda value: value[:40].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_token_counts_are_taken_from_a_sound_usage_and_are_unknown_otherwise(body: bytes, tokens: Any) -> None:
    with a_meter() as meter:
        assert usage_seen(meter, body) == tokens


def events(*bodies: bytes) -> bytes:
    return b"".join(b"data: " + body + b"\n\n" for body in bodies)


def test_the_last_usage_of_a_stream_counts_wherever_its_chunks_end() -> None:
    parts = [usage(prompt_tokens=10, completion_tokens=n) for n in (1, 2, 3)]
    for chunks in (
        [events(*parts)],
        [events(part) for part in parts],
        [events(*parts[:2]), events(parts[2]), b"data: [DONE]\n\n"],
    ):
        with a_meter() as meter:
            assert usage_seen(meter, chunks, "text/event-stream") == (10, 3)


@pytest.mark.parametrize("cut", [1, 5, 20, 40, 60, -5, -1])
def test_a_usage_cut_by_a_chunk_is_whole_or_unknown_and_harms_nothing(cut: int) -> None:
    whole = events(usage(prompt_tokens=12, completion_tokens=7))
    with a_meter() as meter:
        assert usage_seen(meter, [whole[:cut], whole[cut:]], "text/event-stream") in {(None, None), (12, 7)}


def test_a_line_of_ten_megabytes_is_passed_on_whole_and_not_searched() -> None:
    line = b'data: {"choices": "' + b"x" * 10_000_000 + b'", "usage": {"prompt_tokens": 12, "completion_tokens": 7}}\n\n'
    assert len(line) > MAX_BYTES
    with a_meter() as meter:
        begun = time.process_time()
        assert usage_seen(meter, [line], "text/event-stream") == (None, None)
        assert time.process_time() - begun < 2, "ten megabytes are searched for one word, never parsed"


def test_a_compressed_body_is_left_alone() -> None:
    packed = gzip.compress(usage(prompt_tokens=12, completion_tokens=7))
    with a_meter() as meter:

        async def answer(request: Request) -> Response:
            return Response(packed, headers={"content-encoding": "gzip"})

        (got,) = ask(an_app(meter, Route("/chat", answer)), "/chat")
        assert got.json()["usage"]["prompt_tokens"] == 12
        meter.settle()
        assert meter.recent[-1].reading.tokens_in is None


def test_capture_can_be_switched_off() -> None:
    with a_meter(capture_usage=False) as meter:
        assert usage_seen(meter, usage(prompt_tokens=12, completion_tokens=7)) == (None, None)


def test_a_usage_that_measured_work_has_counted_is_not_counted_again_from_the_answer() -> None:
    with a_meter(budgets=[Budget("tokens", "1000 tokens", per="day")]) as meter:

        @meter.measure(model="large")
        async def ask_the_model() -> dict[str, Any]:
            return {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}

        async def chat(request: Request) -> JSONResponse:
            return JSONResponse(await ask_the_model())

        ask(an_app(meter, Route("/chat", chat)), "/chat")
        meter.settle()
        assert sum(samples(meter, "frugal_tokens_total").values()) == 7
        assert account(meter, "tokens").settled == 7


def test_an_answer_whose_usage_cannot_even_be_looked_at_reaches_its_caller() -> None:
    class Awkward:
        @property
        def usage(self) -> Any:
            raise RuntimeError("not before the stream has ended")

    with a_meter() as meter:

        @meter.measure
        def answer() -> Awkward:
            return Awkward()

        assert isinstance(answer(), Awkward)


def test_switched_off_the_meter_counts_keeps_and_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_DISABLED", "1")
    meter = a_meter(budgets=[Budget("one", "1 requests", per="day")])

    @meter.measure
    def answer() -> str:
        return "answer"

    assert [answer() for _ in range(3)] == ["answer"] * 3
    with meter.measure("block") as span:
        span.add_tokens(output=1)
    assert [a.status_code for a in ask(an_app(meter), *["/hello"] * 3)] == [200, 200, 200]
    assert (len(meter.sampler.live), len(meter.sampler.finished)) == (0, 0)
