"""What follows from a block alone is kept for later runs: made where it is missing, the same bytes, and nothing that no run needs."""

from functools import partial

import numpy as np
import pytest

from tasks.core.text.texts import Chosen, InMemory, apply_here
from tasks.io.system import files, workers
from tasks.stages.ingest.shards import collection
from tasks.stages.ingest.shards.kept_results import KeptResults
from tests.stages.ingest.running import contents, write_rows


def name_of(kept):
    """The files that are kept, by their contents."""
    return {path.name: path.read_bytes() for path in sorted(kept.iterdir())}


def double(block):
    return np.array([2 * len(block.numbers)])


class Block:
    """A block whose words are never looked at."""

    @staticmethod
    def of(key, *numbers, start=0):
        words = collection.WordsOf((), "prompt")
        object.__setattr__(words, "shards", (Named(key),))
        return Chosen(slice(0, len(numbers)), words, np.array(numbers, np.int64), start)


class Named:
    """A shard as far as its name goes."""

    number, is_kept = 0, True

    def __init__(self, name):
        self.folder = type("Folder", (), {"name": name})
        self.is_kept = not name.startswith("made-")


def applied(calls):
    def apply(function, items, number):
        items = list(items)
        calls.append((len(items), number))
        return apply_here(function, items, number)

    return apply


def test_a_result_is_made_once_for_the_same_texts_wherever_they_stand(tmp_path):
    calls, first, second = [], Block.of("a", 0, 1, 4), Block.of("b", 10, 11, start=10)
    kept = KeptResults(tmp_path / "kept", applied(calls))
    assert [result.item() for result in kept(double, [first, second], 2)] == [6, 4]
    moved = Block.of("a", 7, 8, 11, start=7)
    assert [result.item() for result in kept(double, [second, moved], 2)] == [4, 6]
    assert calls == [(2, 2), (0, 0)]


@pytest.mark.parametrize(
    ("function", "block"),
    [
        (double, Block.of("a", 0, 1)),
        (double, Block.of("b", 0, 1, 4)),
        (partial(double), Block.of("a", 0, 1, 4)),
    ],
    ids=["others of its texts", "another shard", "another function"],
)
def test_a_result_of_other_texts_or_another_function_is_not_taken(tmp_path, function, block):
    calls = []
    kept = KeptResults(tmp_path / "kept", applied(calls))
    list(kept(double, [Block.of("a", 0, 1, 4)], 1))
    list(kept(function, [block], 1))
    assert calls == [(1, 1), (1, 1)]


def test_nor_one_of_other_code(tmp_path, monkeypatch):
    calls = []
    kept = KeptResults(tmp_path / "kept", applied(calls))
    for code in ("then", "now", "now"):
        monkeypatch.setattr(workers, "code_of", lambda module, code=code: f"{module} {code}")
        list(kept(double, [Block.of("a", 0)], 1))
    assert calls == [(1, 1), (1, 1), (0, 0)]


def test_equal_blocks_of_one_call_are_each_made(tmp_path):
    kept = KeptResults(tmp_path / "kept", apply_here)
    blocks = [Block.of("a", 0), Block.of("b", 0, 1), Block.of("a", 0)]
    assert [result.item() for result in kept(double, blocks, 3)] == [2, 4, 2]


def test_texts_in_memory_and_shards_of_this_run_alone_are_not_kept(tmp_path):
    kept = KeptResults(tmp_path / "kept", apply_here)
    in_memory = Chosen(slice(0, 1), InMemory(None), np.zeros(1, np.int64), 0)
    assert [result.item() for result in kept(double, [in_memory, Block.of("made-000001", 0)], 2)] == [2, 2]
    assert not (tmp_path / "kept").exists()


def test_a_damaged_result_is_made_anew_and_what_is_unused_goes(tmp_path):
    folder = tmp_path / "kept"
    kept = KeptResults(folder, apply_here)
    list(kept(double, [Block.of("a", 0), Block.of("b", 0, 1)], 2))
    whole = name_of(folder)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    again = KeptResults(folder, apply_here)
    assert [result.item() for result in again(double, [Block.of("b", 0, 1)], 1)] == [4]
    again.forget_unused()
    ((name, data),) = name_of(folder).items()
    assert data == whole[name]


def test_where_a_file_has_grown_the_other_blocks_are_not_compared_anew(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "LARGE_BLOCK", 20)
    made = []
    plain = KeptResults._keep
    monkeypatch.setattr(KeptResults, "_keep", lambda self, path, result: made.append(path) or plain(self, path, result))

    def run(name, **changes):
        made.clear()
        workspace(name, near_duplicates={"cosine": None, "min_words": 3}, **changes)
        return len(made)

    everything = run("first")
    assert everything > 20
    assert run("again") == 0
    with (tmp_path / "raw" / "c.jsonl").open("a") as file:
        file.write('{"prompt": "Is there one more of them?", "completion": "Yes, there is one more of them."}\n')
    assert 0 < run("grown") < everything / 4
    files.remove(tmp_path / "cache")
    assert run("grown at once") == everything
    assert contents(tmp_path / "grown") == contents(tmp_path / "grown at once")
    assert contents(tmp_path / "again") == contents(tmp_path / "first")


def test_results_go_with_the_shards_they_are_of(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "LARGE_BLOCK", 20)
    write_rows(tmp_path / "raw" / "d.jsonl", "d", 60)
    workspace("with")
    kept = tmp_path / "cache/ingest/blocks"
    (tmp_path / "raw" / "d.jsonl").unlink()
    before = set(kept.iterdir())
    workspace("without")
    files.remove(tmp_path / "cache")
    workspace("never there")
    assert contents(tmp_path / "without") == contents(tmp_path / "never there")
    assert len(set(kept.iterdir())) < len(before)
