"""Functions are applied in this process or in others: the same results, in the order of the items."""

import os
import time
from functools import partial
from importlib import metadata

import pytest

from tasks.io.system import workers
from tasks.io.system.workers import OnNode, Workers, identity_of


def slow_at_first(item):
    """The square of a number and the process that made it, 0 later than the others."""
    time.sleep(0.3 if item == 0 else 0)
    return item * item, os.getpid()


def fails_at_three(item):
    if item == 3:
        raise ValueError("three is refused")
    return item


@pytest.mark.parametrize(("processes", "number"), [(1, 40), (2, 40), (2, 15), (2, 0)])
def test_results_come_in_the_order_of_the_items(processes, number):
    with Workers(processes) as some:
        results = list(some.apply(slow_at_first, range(number), number))
    assert [square for square, _ in results] == [item * item for item in range(number)]
    is_worth_it = processes > 1 and number >= 2 * workers.WORTH
    assert (os.getpid() in {pid for _, pid in results}) == (number > 0 and not is_worth_it)


def test_no_more_items_are_taken_than_are_on_their_way():
    taken = []
    with Workers(2) as some:
        results = some.apply(fails_at_three, (taken.append(item) or item for item in [7] * 100), 100)
        next(results)
        assert len(taken) == 2 * workers.AHEAD
        next(results)
        assert len(taken) == 2 * workers.AHEAD + 1


def test_an_error_is_raised_as_it_is_and_the_processes_go_on():
    with Workers(2) as some:
        with pytest.raises(ValueError, match="three is refused"):
            list(some.apply(fails_at_three, range(40), 40))
        assert list(some.apply(fails_at_three, [7] * 16, 16)) == [7] * 16


def test_a_node_without_the_workspace_or_with_other_code_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    identity = partial(identity_of, "builtins")
    with pytest.raises(FileNotFoundError, match=r"has no folder .*nowhere: every node .* at this path"):
        OnNode(abs, tmp_path / "nowhere", identity, identity())(-1)
    with pytest.raises(
        ValueError, match=r"has other code, polars \S+ in place of 0\.1\. Install the same commit on every node"
    ):
        OnNode(abs, tmp_path, identity, identity() | {"code": "another digest", "polars": "0.1"})(-1)
    assert OnNode(abs, tmp_path, identity, identity())(-1) == 1


def test_a_node_with_another_reader_is_named_and_no_cache_turns_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    identity = partial(workers.node_identity, "builtins")
    here = identity()
    assert here["pypdf"] == metadata.version("pypdf")
    with pytest.raises(ValueError, match=r"has pypdf \S+ in place of 0\.1\. Install the same commit"):
        OnNode(abs, tmp_path, identity, here | {"pypdf": "0.1"})(-1)
    before = workers.code_of("builtins")
    workers.code_of.cache_clear()
    monkeypatch.setattr(workers, "_version", lambda name: "0.1")
    assert identity()["pypdf"] == "0.1"
    assert workers.code_of("builtins") == before
