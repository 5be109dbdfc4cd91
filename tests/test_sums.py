"""Sums of several processes: exact to the nanojoule, whatever the order, and capped without a counter that falls."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.exporters.aggregates import BUCKETS, Distribution, Row
from frugal_meter.exporters.sums import NOTHING, Books, Point, Seat, Service, Sums, Total, service_of

BORN = 7


def a_row(born_ns: int, nj: int, requests: int) -> Row:
    return Row(born_ns, [nj], {("200", "ok"): requests}, cpu_ns=nj)


def a_point(seq: int, mine: dict[int, int], *, idle: int, gap: int, other: int, pids: dict[int, int]) -> Point:
    """The ring after a record: it closes by itself."""
    seats = [mine.get(seat, 0) for seat in range(8)]
    energy = idle + gap + other + sum(seats)
    return Point(seq, [pids.get(seat, 0) for seat in range(8)], [energy], [idle], [gap], [other], [seats])


def alone(rows: dict[Any, Row], **buckets: int) -> Sums:
    """A process that bills by itself: what it told is what it booked."""
    booked = {**dict.fromkeys(BUCKETS, 0), **buckets}
    return sums(rows, Books({"told": sum(booked.values()), **booked}, booked["late"], booked["overhead"], True))


def sums(rows: dict[Any, Row], books: Books, *, pid: int = 1, at_ns: int = 0, seat: Seat | None = None) -> Sums:
    kinds = {labels[:2]: Distribution.new() for labels in rows}
    return Sums(pid, at_ns, rows, kinds, {}, {}, [books], [0], 0, 0, 0, {}, {}, in_progress=0, coverage=None, seat=seat)


def seated(pid: int, place: int, base: Point, last: Point, *, settled: int, late: int = 0, overhead: int = 0) -> Sums:
    """A worker on the ring that has booked so much."""
    row = {("r", "none", "none"): a_row(1, settled, 1)}
    books = Books(dict(NOTHING), late, overhead, True)
    return sums(row, books, pid=pid, at_ns=last.seq, seat=Seat(BORN, place, base, last))


def booked(service: Service) -> int:
    """Everything that a source's energy is in."""
    settled = sum(row.sources_nj[0] for row in service.total.rows.values())
    return settled + sum(service.sources[0].unattributed_nj.values()) + service.running_nj


class TestTheRing:
    """Two workers on one ring: 10 nJ idle, 3 gap and 40 other while they used 100 and 60."""

    base = a_point(1, {0: 5}, idle=1, gap=0, other=2, pids={0: 11, 1: 22})
    middle = a_point(5, {0: 75, 1: 40}, idle=7, gap=3, other=22, pids={0: 11, 1: 22})
    last = a_point(6, {0: 105, 1: 60}, idle=11, gap=3, other=42, pids={0: 11, 1: 22})

    def worker(self, pid: int, last: Point, settled: int) -> Sums:
        return seated(pid, 0 if pid == 11 else 1, self.base, last, settled=settled, late=2, overhead=3)

    def test_the_host_is_told_once_and_every_nanojoule_of_it_is_somewhere(self) -> None:
        told = service_of(Total(), [self.worker(11, self.middle, 60), self.worker(22, self.last, 55)])
        assert told.sources[0].energy_nj == 213 == booked(told)
        assert told.sources[0].unattributed_nj == {"late": 4, "overhead": 6, "other": 40, "idle": 10, "gap": 3}
        assert told.running_nj == 100 - 65  # of the first by the newest record, the second has settled all
        assert (told.difference_nj, told.workers) == (0, 2)

    def test_what_a_killed_worker_had_not_settled_is_other_and_no_counter_falls(self) -> None:
        before = service_of(Total(), [self.worker(11, self.middle, 60), self.worker(22, self.last, 55)])
        ended = Total()
        ended.add(self.worker(11, self.middle, 60), lost=2)
        after = service_of(ended, [self.worker(22, self.last, 55)])
        assert after.sources[0].energy_nj == booked(after) == 213
        assert after.sources[0].unattributed_nj["other"] == 40 + 35
        assert after.total.rows["none", "none", "none"].outcomes == {("none", "lost"): 2}
        for reason, nj in before.sources[0].unattributed_nj.items():
            assert after.sources[0].unattributed_nj[reason] >= nj

    def test_a_worker_that_took_a_dead_ones_seat_is_not_billed_for_it(self) -> None:
        entered = self.middle
        later = a_point(9, {0: 90, 1: 60}, idle=20, gap=3, other=60, pids={0: 33, 1: 22})
        ended = Total()
        ended.add(self.worker(11, self.middle, 60))
        told = service_of(ended, [seated(33, 0, entered, later, settled=15)])
        assert told.running_nj == 0
        assert told.sources[0].energy_nj == booked(told)

    def test_totals_of_the_ring_may_wrap(self) -> None:
        wrap = 2**64
        base = a_point(1, {0: wrap - 10}, idle=0, gap=0, other=0, pids={0: 11})
        last = a_point(2, {0: 30}, idle=0, gap=0, other=0, pids={0: 11})
        told = service_of(Total(), [seated(11, 0, base, last, settled=40)])
        assert told.sources[0].energy_nj == booked(told) == 40

    def test_a_second_ring_of_the_service_adds_to_the_first(self) -> None:
        ended = Total()
        ended.add(self.worker(11, self.last, 95))
        new = seated(44, 0, self.base, self.last, settled=95, late=2, overhead=3)
        assert new.seat is not None
        new.seat = msgspec.structs.replace(new.seat, born=8)
        told = service_of(ended, [new])
        assert told.sources[0].energy_nj == booked(told) == 426


def test_what_a_process_that_bills_alone_had_not_settled_when_it_died_is_other() -> None:
    total = Total()
    total.add(alone({("r", "m", "t"): a_row(1, 70, 3)}, requests=100, idle=5))
    told = service_of(total, [])
    assert told.sources[0].energy_nj == booked(told) == 105
    assert told.sources[0].unattributed_nj["other"] == 30


LABELS = st.tuples(st.sampled_from("abcdef"), st.sampled_from("mn"), st.just("t"))
ROWS = st.dictionaries(LABELS, st.tuples(st.integers(0, 99), st.integers(0, 99)))


@given(st.lists(ROWS, min_size=1, max_size=4), st.randoms())
def test_a_sum_does_not_depend_on_who_has_ended_nor_on_the_order(parts: list[Any], random: Any) -> None:
    def made() -> list[Sums]:
        out = []
        for part in parts:
            rows = {key: a_row(1, nj, n) for key, (nj, n) in part.items()}
            out.append(alone(rows, requests=sum(nj for nj, _ in part.values()), late=1))
            out[-1].kinds = {}  # histograms are many integers, and slow to make
        return out

    one, shuffled, total = made(), made(), Total()
    random.shuffle(shuffled)
    cut = random.randint(0, len(shuffled))
    for each in shuffled[:cut]:
        total.add(each)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(total), type=Total)  # as it lies in its file
    told, again = service_of(Total(), one), service_of(kept, shuffled[cut:])
    assert {k: (r.sources_nj, r.outcomes) for k, r in told.total.rows.items()} == {
        k: (r.sources_nj, r.outcomes) for k, r in again.total.rows.items()
    }
    assert [s.energy_nj for s in told.sources] == [s.energy_nj for s in again.sources]
    for each in (told, again):
        assert each.sources[0].energy_nj == booked(each)


def test_the_cap_holds_over_all_workers_and_who_is_in_stays_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugal_meter.exporters.aggregates.MAX_LABEL_SETS", 3)
    monkeypatch.setattr("frugal_meter.exporters.aggregates.MAX_DISTRIBUTIONS", 3)

    def worker(*born: int) -> Sums:
        return alone({(f"r{at}", "m", "t"): a_row(at, 10, 2) for at in born}, requests=10 * len(born))

    def told(*workers: Sums, ended: tuple[Sums, ...] = ()) -> dict[str, int]:
        total = Total()
        for each in ended:
            total.add(each)
            total.cap()
        service = service_of(total, list(workers))
        assert sum(row.sources_nj[0] for row in service.total.rows.values()) == service.sources[0].energy_nj
        assert len(service.total.kinds) <= 4
        return {key[0]: sum(row.outcomes.values()) for key, row in service.total.rows.items()} | dict(service.total.overflow)

    first = told(worker(1, 4, 6), worker(2, 4))
    assert first == {"r1": 2, "r2": 2, "r4": 4, "other": 2, "requests": 2, "histograms": 0}
    # One dies and others come with more: the oldest three are the same ones.
    later = told(worker(2, 4), worker(5, 7), ended=(worker(1, 4, 6),))
    assert later == {"r1": 2, "r2": 2, "r4": 4, "other": 6, "requests": 6, "histograms": 0}


def test_the_last_observation_of_a_bucket_is_the_one_that_ended_last() -> None:
    one, other = (alone({("r", "m", "t"): a_row(1, 1, 1)}, requests=1) for _ in range(2))
    for each, ended_ns in ((one, 500), (other, 900)):
        each.kinds["r", "m"].cpu_s.observe(2, 0.003, (10, 3, 1, ended_ns, 0, 1, 1, None))
    histogram = service_of(Total(), [other, one]).total.kinds["r", "m"].cpu_s
    assert histogram.counts[2] == 2
    mark = histogram.marks[2]
    assert mark is not None
    assert mark[3] == 900


def test_what_a_worker_billed_before_the_ring_and_at_a_seat_it_left_stays_in_the_sum() -> None:
    first = Seat(BORN, 0, a_point(1, {}, idle=0, gap=0, other=0, pids={}), TestTheRing.middle)
    again = Seat(BORN + 1, 0, TestTheRing.base, TestTheRing.last)
    books = Books({**NOTHING, "told": 30, "requests": 20, "idle": 10}, 0, 0, True)
    before = sums({("r", "m", "t"): a_row(1, 95, 2)}, books, pid=11, seat=first)
    told = service_of(Total(), [before])
    assert told.sources[0].energy_nj == booked(told) == 30 + 147
    assert told.running_nj == 0

    after = sums({("r", "m", "t"): a_row(1, 195, 4)}, books, pid=11, seat=again)
    after.left = [first]
    for service in (service_of(Total(), [after]), ended_with(after)):
        assert service.sources[0].energy_nj == booked(service) == 30 + 147 + 213
        assert service.difference_nj == 0
        for reason, nj in told.sources[0].unattributed_nj.items():
            assert service.sources[0].unattributed_nj[reason] >= nj


def ended_with(*workers: Sums) -> Service:
    total = Total()
    for each in workers:
        total.add(each)
    return service_of(total, [])


def test_rings_that_nobody_sits_at_any_more_are_kept_as_one_sum() -> None:
    def worker(born: int) -> Sums:
        one = seated(11, 0, TestTheRing.base, TestTheRing.last, settled=100)
        assert one.seat is not None
        one.seat = msgspec.structs.replace(one.seat, born=born)
        return one

    total = Total()
    for born in range(1, 9):
        total.add(worker(born))
    apart = service_of(msgspec.convert(msgspec.to_builtins(total), Total), [])
    total.close_rings([worker(3)])
    assert sorted(total.rings) == [3, 8]
    together = service_of(total, [])
    assert together.sources == apart.sources
    assert together.sources[0].energy_nj == 8 * 213 == booked(together)
    assert together.difference_nj == apart.difference_nj == 0
