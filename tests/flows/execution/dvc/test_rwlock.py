"""Claims in DVC's table are those of the living, and what a torn lock file has lost is told from what was taken out of it."""

import json
import os
import subprocess

import psutil
import pytest

from flows.execution.dvc import lock_file, rwlock

MINE = {"pid": os.getpid(), "cmd": "dvc repro"}


@pytest.fixture
def table(tmp_path):
    """The place of the table in this folder."""
    path = tmp_path / rwlock.PATH
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def process():
    """A process that runs until the test ends."""
    with subprocess.Popen(["sleep", "60"]) as running:
        yield running
        running.kill()


def test_a_process_that_was_given_a_dead_ones_number_owns_nothing(table, process):
    theirs = {"pid": process.pid, "cmd": "dvc repro"}
    table.write_text(json.dumps({"write": {"/a": theirs}, "read": {"/b": [theirs]}}))
    written = psutil.Process(process.pid).create_time() - 2  # before the process began
    os.utime(table, (written, written))
    assert rwlock.dead() == [process.pid]


def test_claims_of_the_dead_are_dropped_and_those_of_the_living_stay(table):
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    theirs = {"pid": ended.pid, "cmd": "dvc repro"}
    table.write_text(json.dumps({"write": {"/a": theirs, "/c": MINE}, "read": {"/b": [theirs, MINE], "/d": [theirs]}}))
    assert rwlock.dead() == [ended.pid]
    rwlock.drop(rwlock.dead())
    assert json.loads(table.read_text()) == {"write": {"/c": MINE}, "read": {"/b": [MINE]}}


def test_a_process_that_a_person_started_counts_until_it_ends(table, process):
    table.write_text(json.dumps({"write": {"/a": {"pid": process.pid, "cmd": "dvc repro"}}}))
    started_by_hand = rwlock.StartedByHand()
    assert started_by_hand.running() == {process.pid: "dvc repro"}
    table.write_text("{}")  # between two of its stages
    assert started_by_hand.running() == {process.pid: "dvc repro"}
    process.kill()
    process.wait()
    assert started_by_hand.running() == {}


def entry(name, **parts):
    return {"cmd": name, "outs": [{"path": f"{name}.txt", "md5": "0" * 32}]} | parts


NAMES = ("one", "two", "three")
GOOD = {name: entry(name, params={"params.yaml": {"a": 1, "b": 2}}) for name in NAMES}


@pytest.mark.parametrize(
    ("entries", "lost"),
    [
        (GOOD, []),
        ({"one": GOOD["one"], "two": GOOD["two"]}, ["three"]),
        ({"one": GOOD["one"], "two": {"cmd": "two"}}, ["two", "three"]),  # the write was cut within an entry
        ({"one": GOOD["one"], "two": {"cmd": "two", "outs": []}}, ["two", "three"]),
        ({}, ["one", "two", "three"]),
        ({"one": GOOD["one"], "three": GOOD["three"]}, []),  # a person took it out from among others
        ({"one": GOOD["one"], "two": GOOD["two"], "three": entry("another", outs=GOOD["three"]["outs"])}, []),
        ({"one": GOOD["one"], "two": GOOD["two"], "three": entry("three", params={"params.yaml": {"a": 1}})}, []),
    ],
)
def test_what_a_cut_has_lost_stands_at_the_end(entries, lost):
    assert lock_file._lost(entries, GOOD, {name: {f"{name}.txt"} for name in NAMES}) == lost


def test_a_file_that_dvc_yaml_no_longer_names_was_not_lost():
    good = {"one": entry("one", deps=[{"path": "a", "md5": "0" * 32}, {"path": "b", "md5": "1" * 32}])}
    entries = {"one": entry("one", deps=good["one"]["deps"][:1])}
    assert lock_file._lost(entries, good, {"one": {"a", "one.txt"}}) == []
    assert lock_file._lost(entries, good, {"one": {"a", "b", "one.txt"}}) == ["one"]


def test_a_file_that_is_no_longer_executable_was_not_lost():
    good = {"one": entry("one", outs=[{"path": "one.sh", "md5": "0" * 32, "isexec": True}])}
    entries = {"one": entry("one", outs=[{"path": "one.sh", "md5": "0" * 32}])}
    assert lock_file._lost(entries, good, {"one": {"one.sh"}}) == []
