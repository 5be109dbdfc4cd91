"""Sections that open by themselves: onnxruntime for real, and a library of the test's own that calls back."""

from __future__ import annotations

import inspect
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy
import onnxruntime
import pytest
from native_burner import burn_native
from onnxruntime.capi.onnxruntime_inference_collection import Session
from support import PATIENCE_S, WATTS_PER_CPU, about, assert_books_close, metered

from frugal_meter import Meter
from frugal_meter.attribution import libraries
from frugal_meter.attribution.span import SPAN, Span
from frugal_meter.errors import ConfigurationError

SIDE = 256
PRODUCTS = 40


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protobuf message; bytes and text may be of any length, numbers are below 128 or lengths."""
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def products_model() -> bytes:
    """An ONNX model (onnx.proto, IR 8, operators 13): a square matrix of floats, multiplied by itself again and again."""
    shape = field(1, field(1, SIDE)) + field(1, field(1, SIDE))
    tensor = field(2, field(1, field(1, 1) + field(2, shape)))  # element type 1: float
    nodes = b"".join(
        field(1, field(1, f"x{i}") + field(1, "x0") + field(2, f"x{i + 1}") + field(4, "MatMul")) for i in range(PRODUCTS)
    )
    graph = nodes + field(2, "products") + field(11, field(1, "x0") + tensor) + field(12, field(1, f"x{PRODUCTS}") + tensor)
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(products_model(), options, providers=["CPUExecutionProvider"])


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """A library of a known name that is imported; its ``decode`` calls what it is given."""
    module = ModuleType("llama_cpp._internals")

    class LlamaContext:
        def decode(self, batch: Callable[[], object]) -> object:
            """Compute."""
            return batch()

    module.LlamaContext = LlamaContext
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield LlamaContext
    libraries.uninstall()
    monkeypatch.undo()
    libraries.install()


def run_for(session: onnxruntime.InferenceSession, seconds: float) -> tuple[float, float]:
    """Run until so much CPU was used by all threads; that CPU, and the part of the calling thread."""
    identity = {"x0": numpy.eye(SIDE, dtype=numpy.float32)}
    begun, own = time.process_time(), time.thread_time()
    while time.process_time() - begun < seconds:
        assert (session.run(None, identity)[0] == identity["x0"]).all()
    return time.process_time() - begun, time.thread_time() - own


def opened(meter: Meter) -> int:
    """Sections of the native pool that were opened since the last tick."""
    return sum(1 for note in meter.sections.native._notes if note.weight)


def test_a_span_pays_for_onnxruntimes_own_threads_without_a_word(session):
    with metered() as (meter, out):
        with meter.measure("classify") as span:
            used, own = run_for(session, 0.15)
        meter.settle()
        assert used - own > 0.2 * used  # its threads did much of it
        assert about(span.reading.cpu_s, used)
        assert span.reading.energy_dynamic_j == pytest.approx(used * WATTS_PER_CPU, rel=0.3)
        assert_books_close(out.ticks)


def test_turned_off_its_threads_are_overhead(session):
    with metered(native_sections="off") as (meter, out):
        with meter.measure("classify") as span:
            used, own = run_for(session, 0.15)
        meter.settle()
        assert about(span.reading.cpu_s, own)
        assert out.ticks[-1].overhead_parts["native_spin"] >= 0.8 * (used - own) * WATTS_PER_CPU * 1e9


def test_without_a_span_nothing_is_opened(session):
    with metered() as (meter, _):
        run_for(session, 0.01)
        assert opened(meter) == 0


def test_every_way_to_run_a_session_is_held(session):
    with metered() as (meter, _), meter.measure("ways"):
        matrix = numpy.eye(SIDE, dtype=numpy.float32)
        binding = session.io_binding()
        binding.bind_cpu_input("x0", matrix)
        binding.bind_output(f"x{PRODUCTS}")
        session.run_with_iobinding(binding)
        assert opened(meter) == 1
        value = onnxruntime.OrtValue.ortvalue_from_numpy(matrix)
        out = session.run_with_ort_values(None, {"x0": value})
        assert opened(meter) == 2
        assert (out[0].numpy() == matrix).all()
        assert (binding.copy_outputs_to_cpu()[0] == matrix).all()
        named = [method.name for method in libraries.METHODS if method.module == Session.__module__]
        assert all(getattr(Session, name).__wrapped__.__module__ == Session.__module__ for name in named)


def test_the_methods_look_as_they_did(session):
    with metered():
        method, original = session.run, Session.run.__wrapped__
        assert inspect.ismethod(method)
        assert (method.__self__, method.__func__, method) == (session, Session.run, session.run)
        assert inspect.signature(method) == inspect.signature(original.__get__(session))
        assert (method.__name__, Session.run.__qualname__, method.__doc__) == ("run", "Session.run", original.__doc__)
        assert inspect.getsource(Session.run) == inspect.getsource(original)
        assert pickle.loads(pickle.dumps(Session.run)) is Session.run
        with pytest.raises(TypeError, match=r"Session\.run\(\) missing 2 required positional arguments"):
            session.run()


def test_an_error_is_the_librarys_own_with_one_frame_more(library):
    def fail() -> None:
        raise LookupError("mine")

    with metered() as (meter, _):
        for around in (SPAN, meter.measure("f")):
            with pytest.raises(LookupError, match="mine") as caught:
                if around is SPAN:
                    library().decode(fail)
                with meter.measure("f"):
                    library().decode(fail)
            names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
            assert names[1:] == ["held", "decode", "fail"]
            assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        meter.settle()
        assert not meter.sections.native.held


def test_a_span_that_holds_the_pool_is_left_alone(library):
    with metered() as (meter, _), meter.measure("f") as span:
        with span.section("native", weight=2):
            assert library().decode(lambda: opened(meter)) == 1
            with meter.measure("inside"):
                assert library().decode(lambda: opened(meter)) == 1
        assert library().decode(lambda: opened(meter)) == 2


def test_a_call_made_from_a_call_does_not_hold_twice(library):
    with metered() as (meter, _), meter.measure("f"):
        assert library().decode(lambda: library().decode(lambda: opened(meter))) == 1


def test_calls_on_two_threads_hold_a_share_each_and_the_one_that_lasts_stays_held(library):
    with metered() as (meter, _):
        inside, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            inside.set()
            assert go_on.wait(PATIENCE_S)

        with meter.measure("f") as span:
            thread = threading.Thread(target=meter.carry(lambda: library().decode(wait)))
            thread.start()
            assert inside.wait(PATIENCE_S)
            assert library().decode(lambda: opened(meter)) == 2
            true = burn_native(2, 0.03)
            go_on.set()
            thread.join()
        meter.settle()
        assert about(span.reading.cpu_s, true)


def test_work_after_its_span_opens_nothing(library):
    with metered() as (meter, _):
        with meter.measure("f"):
            late = meter.carry(lambda: library().decode(lambda: opened(meter)))
        assert late() == 0


def test_a_library_that_is_imported_later_is_found_by_a_tick(library, monkeypatch):
    module = sys.modules.pop("llama_cpp._internals")
    original = library.decode
    with metered() as (meter, _):
        half = ModuleType(module.__name__)
        half.__getattr__ = lambda name: pytest.fail(f"{name} was asked for")
        sys.modules[module.__name__] = half
        meter.settle()
        half.LlamaContext = library
        assert library.decode is original
        meter.settle()
        assert library.decode.__wrapped__ is original
        assert meter.errors == {}


@pytest.mark.parametrize("method", [staticmethod(len), property(len), len, None])
def test_what_is_no_plain_method_is_left_as_it_is(library, method):
    library.decode = method
    with metered() as (meter, _):
        assert vars(library)["decode"] is method
        assert meter.errors == {}


def test_what_does_not_block_is_left_as_it_is(library):
    async def decode(self, batch):
        return batch

    library.decode = decode
    with metered():
        assert library.decode is decode


def test_turned_off_it_is_passed_through_and_put_back_only_when_outermost(library):
    original = library.decode
    with metered() as (meter, _), meter.measure("f"):
        libraries.uninstall()
        assert library.decode is original
        libraries.look()
        assert library.decode is original
        libraries.install()
        ours = library.decode
        library.decode = theirs = lambda self, batch: ours(self, batch)
        libraries.uninstall()
        assert library.decode is theirs
        assert library().decode(lambda: opened(meter)) == 0
        libraries.install()
        assert library.decode is theirs
        assert library().decode(lambda: opened(meter)) == 1
        library.decode = ours


def test_a_meter_that_is_off_is_left_alone_beside_one_that_is_not(library):
    with metered() as (_, _), metered(native_sections="off") as (meter, _), meter.measure("f"):
        assert hasattr(library.decode, "__wrapped__")
        assert library().decode(lambda: opened(meter)) == 0


def test_a_fault_of_ours_is_counted_and_the_call_goes_on(library):
    with metered() as (meter, _):
        native = meter.sections.native
        with meter.measure("f"):
            meter.sections.native = None
            assert library().decode(lambda: 5) == 5
            meter.sections.native = native
            assert library().decode(lambda: setattr(meter.sections, "native", None)) is None
            meter.sections.native = native
        assert meter.errors == {"section": 2}


def test_a_setting_that_means_nothing_is_refused_in_one_line():
    with pytest.raises(ConfigurationError, match=r'^native_sections is "auto" or "off", not True$'):
        Meter("s", zone="FR", native_sections=True)


def test_a_span_forgets_the_sections_it_declared():
    with metered() as (meter, _), meter.measure("f") as span:
        with span.section("native"), span.section("native", weight=2):
            assert isinstance(span, Span)
            assert len(span.declared) == 2
        assert not span.declared
