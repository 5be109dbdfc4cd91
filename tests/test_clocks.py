"""Own clock: a switch charges the old owner and installs the new; nothing is counted twice and nothing is changed."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import gc
import threading
import time
import weakref

import pytest
from support import burn

from frugal_meter.attribution import clocks
from frugal_meter.attribution.clocks import Cell, Cells, call, drive, enter, here, leave, open_ns, take_over, threads_ns


def seconds(owner):
    return owner.cpu_ns / 1e9


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def parted(begun_s, *shares):
    """Whether each owner was charged at least what was burned for it, and all together no more than this thread used.

    Holds on the most crowded machine: a thread's clock may count milliseconds between two lines, and then does so on both sides.
    """
    used_s = time.thread_time() - begun_s
    charged = [seconds(cell) for cell, _ in shares]
    return all(c >= burned for c, (_, burned) in zip(charged, shares, strict=True)) and sum(charged) <= used_s


def test_nested_owners_are_charged_exclusively():
    outer, inner = Cell(), Cell()
    begun_s = time.thread_time()
    first, its, last = call(outer, lambda: (burn(0.01), call(inner, burn, 0.02), burn(0.01)))
    assert parted(begun_s, (outer, first + last), (inner, its))
    assert here().owner is None


def test_a_coroutine_is_charged_for_its_steps_and_not_for_what_runs_between_them():
    one, two = Cell(), Cell()
    used = {id(one): 0.0, id(two): 0.0}

    async def work(cell, each):
        for _ in range(5):
            used[id(cell)] += burn(each)
            await asyncio.sleep(0)
        return each

    async def main():
        return await asyncio.gather(*(asyncio.ensure_future(wrap(c, e)) for c, e in ((one, 0.002), (two, 0.006))))

    async def wrap(cell, each):
        return await drive(work(cell, each), cell)

    begun_s = time.thread_time()
    assert asyncio.run(main()) == [0.002, 0.006]
    assert parted(begun_s, (one, used[id(one)]), (two, used[id(two)]))


def test_a_driven_coroutine_raises_closes_and_is_cancelled_as_itself():
    heard = []

    async def work():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError as error:
            heard.append(error.args)
            await asyncio.sleep(0)
            raise KeyError("own") from None
        finally:
            heard.append("finally")

    async def main():
        async def wrap():
            return await drive(work(), Cell())

        task = asyncio.create_task(wrap())
        await asyncio.sleep(0)
        task.cancel("because")
        with pytest.raises(KeyError, match="own"):
            await task
        running = wrap()
        running.send(None)
        running.close()

    asyncio.run(main())
    assert heard == [("because",), "finally", "finally"]
    assert here().owner is None


def test_an_owner_installed_inside_a_step_goes_on_paying_in_the_next():
    outer, inner = Cell(), Cell()
    its, own = [], []

    async def work():
        previous = enter(inner)
        its.append(burn(0.01))
        await asyncio.sleep(0)
        its.append(burn(0.01))
        leave(previous)
        own.append(burn(0.005))

    async def main():
        await drive(work(), outer)

    begun_s = time.thread_time()
    asyncio.run(main())
    assert parted(begun_s, (inner, sum(its)), (outer, sum(own)))


def test_a_step_keeps_no_exception_alive():
    class Trouble(Exception):
        pass

    class Pause:
        def __await__(self):
            yield

    async def work():
        with contextlib.suppress(Trouble):
            await Pause()
        await Pause()

    running = drive(work(), Cell())
    running.send(None)
    gc.collect()
    gc.disable()
    try:
        trouble = Trouble()
        seen = weakref.ref(trouble)
        running.throw(trouble)
        del trouble
        assert seen() is None
        running.close()
    finally:
        gc.enable()


def test_an_open_stretch_is_seen_from_another_thread_and_closed_ones_are_not():
    cell, seen, used = Cell(), [], []
    ready, go = threading.Event(), threading.Event()

    def work():
        previous = enter(cell)
        used.append(burn(0.02))
        ready.set()
        go.wait()
        leave(previous)

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    seen.append(open_ns().get(id(cell)))
    go.set()
    thread.join()
    assert used[0] - clocks._SWITCHING_NS / 1e9 <= seen[0] / 1e9 <= seconds(cell)
    assert id(cell) not in open_ns()


def test_who_takes_over_pays_for_what_little_its_thread_used_before_and_for_nothing_more(monkeypatch):
    monkeypatch.setattr(clocks, "_HANDING_OVER_NS", 50_000_000)  # wider than a crowded machine is slow
    paid, until_s = [], []

    def work():
        for used_s in (0.001, 0.001, 0.1):
            burn(used_s)
            until_s.append(time.thread_time())
            cell = Cell()
            leave(take_over(cell))
            paid.append(seconds(cell))
            until_s.append(time.thread_time())

    in_thread(work)
    started, handed_over, called_back = paid
    assert 0.001 <= started <= until_s[1]
    assert 0.001 <= handed_over <= until_s[3]
    assert started + handed_over <= until_s[3]
    assert called_back <= until_s[5] - until_s[4]


def test_a_thread_that_was_old_when_it_took_over_starts_from_then():
    cells = [Cell(), Cell()]
    taken_over_s = []

    def work():
        burn(0.1)
        begun_s = time.thread_time()
        leave(take_over(cells[0]))
        previous = enter(cells[1])
        burn(0.001)
        take_over(cells[0])
        leave(previous)
        taken_over_s.append(time.thread_time() - begun_s)

    before = threads_ns()
    in_thread(work)
    assert seconds(cells[1]) >= 0.001  # who was interrupted is charged as ever
    assert seconds(cells[0]) + seconds(cells[1]) <= taken_over_s[0]
    assert 0.001 <= (threads_ns() - before) / 1e9 < 0.1


def test_threads_that_have_ended_keep_their_cpu_and_are_forgotten():
    before, known = threads_ns(), len(clocks._segments)

    def work():
        call(Cell(), burn, 0.02)

    for _ in range(5):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert threads_ns() - before >= 0.1 * 1e9
    assert len(clocks._segments) <= known
    after = threads_ns()
    assert threads_ns() >= after


def test_two_ticks_that_see_a_thread_end_count_it_once():
    begun, own_s = threads_ns(), time.thread_time()
    used = []
    segments = []

    def work():
        call(Cell(), burn, 0.01)
        segments.append(here())
        used.append(time.thread_time())

    for _ in range(10):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    barrier = threading.Barrier(4)

    def look():
        barrier.wait()
        threads_ns()

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
    counted_s = (threads_ns() - begun) / 1e9
    assert sum(used) < counted_s < sum(used) * 1.5 + time.thread_time() - own_s


def test_the_clocks_of_a_crowd_of_threads_that_ended_together_are_left_alone():
    # asking the system for the clock of an exited thread whose stack is gone crashes the process
    barrier = threading.Barrier(65)

    def work():
        call(Cell(), int)
        barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    barrier.wait()
    for thread in threads:
        open_ns()
        threads_ns()
        thread.join()
    assert threads_ns() >= 0
    assert not {segment.thread() for segment in clocks._segments} & set(threads)


def test_a_thread_id_used_again_does_not_pay_for_the_thread_that_had_it():
    segments = []
    thread = threading.Thread(target=lambda: (call(Cell(), int), segments.append(here())))
    thread.start()
    thread.join()
    begun_s = time.thread_time()
    before = threads_ns()
    (ended,) = segments
    ended.clock_id = here().clock_id  # what the system does with the ids of threads that are over
    clocks._segments.append(ended)
    burn(0.01)
    grown = threads_ns() - before
    assert 0.01 * 1e9 <= grown <= (time.thread_time() - begun_s) * 1e9 + 1
    assert ended not in clocks._segments


def test_cells_are_lent_to_one_thread_at_a_time_and_used_again():
    cells = Cells()
    first = cells.borrow()
    second = cells.borrow()
    assert first is not second
    assert first.open
    cells.give_back(first)
    assert not first.open
    assert cells.borrow() is first
    assert first.open
    first.cpu_ns, second.cpu_ns = 3, 4
    assert cells.total_ns() == 7
    assert len(cells.all) == 2


def test_a_thread_that_ended_is_let_go_without_waiting_for_a_tick():
    def work():
        call(Cell(), int)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    seen = weakref.ref(thread)
    del thread
    gc.collect()
    assert seen() is None


def test_a_thread_that_python_did_not_start_is_followed_while_it_lives_and_forgotten_after():
    # what a callback from a native library's own thread is
    cell, done, whole_s = Cell(), threading.Event(), []
    known = len(clocks._segments)

    def work():
        call(cell, burn, 0.01)
        whole_s.append(time.thread_time())
        done.set()

    _thread.start_new_thread(work, ())
    done.wait()
    assert 0.01 <= seconds(cell) <= whole_s[0]
    deadline = time.monotonic() + 20
    while len(clocks._segments) > known and time.monotonic() < deadline:
        threads_ns()
    assert len(clocks._segments) <= known
