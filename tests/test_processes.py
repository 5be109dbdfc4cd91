"""Which processes work for this one."""

from __future__ import annotations

import os
import subprocess
import sys

from frugal_meter.sources.processes import Family


def listed(root, children):
    """A proc tree: pid → {thread id: children}."""
    for pid, threads in children.items():
        for thread, of in threads.items():
            folder = root / str(pid) / "task" / str(thread)
            folder.mkdir(parents=True)
            (folder / "children").write_text(" ".join(map(str, of)) + " ")


def test_descendants_are_found_through_every_thread_and_generation(tmp_path):
    me = os.getpid()
    listed(tmp_path, {me: {me: [11], me + 1: [12, 13]}, 11: {11: [21]}, 21: {21: [31]}, 99: {99: [98]}})
    assert Family(tmp_path).at(0) == {me, 11, 12, 13, 21, 31}


def test_a_tree_that_bites_its_tail_or_is_garbled_ends(tmp_path):
    me = os.getpid()
    listed(tmp_path, {me: {me: [11]}, 11: {11: [me, 12]}, 12: {12: ["?"]}})
    assert Family(tmp_path).at(0) == {me, 11, 12}


def test_a_kernel_that_lists_no_children_leaves_the_process_alone(tmp_path):
    assert Family(tmp_path).at(0) == {os.getpid()}


def test_a_family_is_asked_once_per_tick(tmp_path):
    family, me = Family(tmp_path), os.getpid()
    assert family.at(1) == {me}
    listed(tmp_path, {me: {me: [11]}})
    assert family.at(1) == {me}
    assert family.at(2) == {me, 11}


def test_a_real_child_is_of_the_family_for_as_long_as_it_lives():
    family = Family()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in family.at(1)
        child.communicate(b"\n")
    assert child.pid not in family.at(2)
