"""A fork: the parent keeps what it finished, the child begins anew, and neither charges the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PRELUDE = """
import asyncio, json, os, sys, threading
sys.path.insert(0, sys.argv[1])
from support import burn, metered, ask, answer, assert_books_close
from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.testing import RecordingExporter, SyntheticSource

def tell(out, **more):
    assert_books_close(out.ticks)
    rows = [[r.id, r.route, r.cpu_s, r.settled, r.outcome] for r in out.readings]
    sys.stdout.write(json.dumps({"pid": os.getpid(), "readings": rows, **more}) + "\\n")
    sys.stdout.flush()

def wait():
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""


def forked(body):
    """Run ``body`` in a fresh interpreter (its own process tree); what the child told, and what the parent told."""
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    code = PRELUDE + textwrap.dedent(body)
    # From 3.12 on Python itself warns of every fork beside a thread, which is what is tried here.
    quiet = ["-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, "-X", "faulthandler", *quiet, "-c", code, str(HERE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    child, parent = sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda told: told.pop("who") == "parent")
    return child, parent


def test_the_child_starts_its_own_thread_and_settles_its_own_spans():
    child, parent = forked("""
        with metered() as (meter, out):
            with meter.measure("before"):
                burn(0.01)
            if os.fork() == 0:
                assert not meter.sampler.running
                with meter.measure("child"):
                    burn(0.02)
                assert meter.settle() and meter.sampler.running
                tell(out, who="child", errors=meter.errors)
                os._exit(0)
            with meter.measure("parent"):
                burn(0.01)
            assert meter.settle()
            wait()
            tell(out, who="parent", errors=meter.errors)
    """)
    assert [row[1] for row in child["readings"]] == ["child"]
    assert 0.02 <= child["readings"][0][2] < 0.04
    assert [row[1] for row in parent["readings"]] == ["before", "parent"]
    assert child["errors"] == parent["errors"] == {}
    ids = {row[0] for row in child["readings"] + parent["readings"]}
    assert len(ids) == 3
    assert len({id[14:] for id in ids}) == 3  # not only by the moment they began


def test_finished_and_half_exported_spans_stay_with_the_parent():
    child, parent = forked("""
        reached, go = threading.Event(), threading.Event()
        with metered() as (meter, out):
            settled = meter.sampler._on_chunk
            def hold_between_settlement_and_export(spans):
                settled(spans)
                reached.set()
                assert go.wait(20)
            meter.sampler._on_chunk = hold_between_settlement_and_export
            with meter.measure("before"):
                pass
            asking = threading.Thread(target=meter.settle)
            asking.start()
            assert reached.wait(20)
            with meter.measure("waits for the next tick"):
                pass
            pid = os.fork()
            go.set()
            if pid == 0:
                with meter.measure("child"):
                    pass
                assert meter.settle()
                tell(out, who="child")
                os._exit(0)
            asking.join()
            meter.settle()
            wait()
            tell(out, who="parent")
    """)
    assert [row[1] for row in parent["readings"]] == ["before", "waits for the next tick"]
    assert [row[1] for row in child["readings"]] == ["child"]


def test_a_request_that_forks_is_the_parents_and_the_child_inherits_no_span():
    child, parent = forked("""
        with metered() as (meter, out):
            pids = []

            async def app(scope, receive, send):
                burn(0.02)
                pid = os.fork()
                pids.append(pid)
                if pid == 0:
                    current = meter.current()
                    burn(0.03)
                    with meter.measure("child"):
                        burn(0.01)
                    meter.settle()
                    tell(out, who="child", current=current is None, live=len(meter.sampler.live))
                    os._exit(0)
                wait()
                await answer(send)

            asyncio.run(ask(MeterMiddleware(app, meter=meter)))
            meter.settle()
            tell(out, who="parent", live=len(meter.sampler.live))
    """)
    assert (child["current"], child["live"]) == (True, 0)
    assert [row[1] for row in child["readings"]] == ["child"]
    assert 0.01 <= child["readings"][0][2] < 0.025
    [request] = parent["readings"]
    assert 0.02 <= request[2] < 0.04
    assert request[4] == "ok"


def test_a_block_that_is_left_in_the_child_too_is_settled_by_the_parent_alone():
    child, parent = forked("""
        with metered() as (meter, out):
            with meter.measure("shared"):
                pid = os.fork()
            if pid == 0:
                with meter.measure("child"):
                    pass
                meter.settle()
                tell(out, who="child", current=meter.current() is None)
                os._exit(0)
            meter.settle()
            wait()
            tell(out, who="parent")
    """)
    assert [row[1] for row in parent["readings"]] == ["shared"]
    assert [row[1] for row in child["readings"]] == ["child"]
    assert child["current"]


def test_a_fork_while_the_tick_runs_leaves_the_child_no_held_lock():
    child, parent = forked("""
        class Stuck(SyntheticSource):
            hold = False
            def __init__(self):
                super().__init__(1, 10)
                self.reached, self.go = threading.Event(), threading.Event()
            def read(self, window):
                if self.hold:
                    self.reached.set()
                    self.go.wait(20)
                return super().read(window)

        source = Stuck()
        with metered(sources=source, budgets=[Budget("b", "10 requests", per="day")]) as (meter, out):
            source.hold = True
            asking = threading.Thread(target=meter.settle)
            asking.start()
            assert source.reached.wait(20)
            if os.fork() == 0:
                source.hold = False
                with meter.measure("child"):
                    burn(0.01)
                assert meter.settle(20)
                meter.stop()
                tell(out, who="child")
                os._exit(0)
            source.hold = False
            source.go.set()
            asking.join()
            wait()
            tell(out, who="parent")
    """)
    assert [row[1] for row in child["readings"]] == ["child"]
    assert parent["readings"] == []


def test_a_child_that_leaves_without_a_word_exports_nothing_of_the_parents():
    child, parent = forked("""
        import multiprocessing
        context = multiprocessing.get_context("fork")

        def work(queue):
            burn(0.01)
            queue.put(1)

        with metered() as (meter, out):
            with meter.measure("f"):
                queue = context.SimpleQueue()
                process = context.Process(target=work, args=(queue,))
                process.start()
                assert queue.get() == 1
                process.join()
            meter.settle()
            tell(out, who="parent", code=process.exitcode)
            tell(RecordingExporter(), who="child")
    """)
    assert parent["code"] == 0
    assert [row[1] for row in parent["readings"]] == ["f"]
    assert child["readings"] == []


def test_the_child_of_a_worker_takes_a_seat_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path))
    child, parent = forked("""
        from frugal_meter.sources.power_model import CpuModelSource
        from frugal_meter.sources.watts import declared_cpu

        model = CpuModelSource(declared_cpu(idle_watts=10, full_watts=90))
        with metered(sources=model, workers="shared") as (meter, out):
            workers = meter.sampler._workers
            if os.fork() == 0:
                assert not workers.sharing
                with meter.measure("child"):
                    burn(0.01)
                assert meter.settle() and workers.sharing
                tell(out, who="child", errors=meter.errors, seat=workers._seat)
                meter.stop()
                os._exit(0)
            with meter.measure("parent"):
                burn(0.01)
            wait()
            assert meter.settle() and workers.sharing
            tell(out, who="parent", errors=meter.errors, seat=workers._seat)
    """)
    assert (parent["seat"], child["seat"]) == (0, 1)
    assert parent["errors"] == child["errors"] == {}
    assert [[row[1] for row in each["readings"]] for each in (parent, child)] == [["parent"], ["child"]]
    assert list(tmp_path.iterdir()) == []
