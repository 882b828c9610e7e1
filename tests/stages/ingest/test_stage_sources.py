"""Sources of examples other than tables: functions of a folder, packages, generated tasks, and those that are not there."""

import json
from pathlib import Path

import pytest

from tasks.core.records import Document
from tasks.io import tables
from tasks.io.sources import gym
from tests.stages.ingest.running import examples_of, ingest


def function(name, value):
    return f'def {name}(text):\n    """The text, {name} times.\n\n    >>> {name}("a")\n    {"a" * value!r}\n    """\n    return text * {value}\n'


@pytest.fixture
def code(tmp_path) -> Path:
    """Eight modules of two functions; what one of them promises is not so."""
    folder = tmp_path / "raw" / "code"
    folder.mkdir(parents=True)
    for number in range(8):
        twice, more = function(f"twice_{number}", 2 + number), function(f"more_{number}", 12 + number)
        (folder / f"module_{number}.py").write_text(f"{twice}\n\n{more}")
    broken = function("broken", 3).replace("text * 3", "text * 4")
    (folder / "module_9.py").write_text(broken)
    return folder


def test_functions_of_a_folder_are_kept_where_their_doctests_hold(tmp_path, code):
    source = {"from": "folder", "path": code, "license": "MIT"}
    run, report = ingest(
        tmp_path, [source], near_duplicates={"jaccard": None, "cosine": None}, corpora={"domain": [source]}
    )
    line = report["sources"][f"folder {code.name}"]
    assert (line["read"], line["kept"], line["refused"]) == (17, 16, {"fails_alone": 1})
    assert run.notes["sandbox_level"] >= 1

    splits = {example.group: split for split, examples in examples_of(tmp_path).items() for example in examples}
    for split in ("train", "valid", "test"):
        documents = tables.read(tmp_path / "out" / "ingested" / f"{split}_documents.parquet", Document)
        assert documents
        assert {splits.get(document.group, split) for document in documents} == {split}


def test_functions_of_two_folders_of_one_name_are_kept(tmp_path):
    folders = [tmp_path / "raw" / project / "code" for project in ("one", "two")]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for module in range(3):
            value = 2 + 3 * number + module
            (folder / f"module_{value}.py").write_text(function(f"times_{value}", value))
    _, report = ingest(
        tmp_path,
        [{"from": "folder", "path": folder} for folder in folders],
        near_duplicates={"jaccard": None, "cosine": None},
    )
    kept = {example.response for examples in examples_of(tmp_path).values() for example in examples}
    assert all(any(f"times_{value}" in response for response in kept) for value in range(2, 8))
    assert [counts["kept"] for counts in report["sources"].values()] == [3, 3]


def test_functions_that_nothing_checks_are_counted_aloud(tmp_path, code):
    (code / "plain.py").write_text(
        'def halve(number):\n    """Return half of a number."""\n    return number / 2\n\n\n'
        'def shout(text):\n    """Return the text in capitals."""\n    return text.upper()\n\n\n'
        'def drop_last(items):\n    """Return all items but the last one."""\n    return items[:-1]\n'
    )
    sources = [{"from": "folder", "path": code, "functions": "documented"}]
    run, report = ingest(tmp_path, sources, near_duplicates={"jaccard": None, "cosine": None})
    assert "folder code: 3 functions have neither doctests nor tests; nothing checks their answers." in run.said
    kept = [example for examples in examples_of(tmp_path).values() for example in examples]
    assert sum(example.tests is None for example in kept) == 3
    assert report["sources"]["folder code"] == {"read": 20, "kept": 19, "merged": 0, "refused": {"fails_alone": 1}}


def test_generated_tasks_carry_what_their_verifier_needs(tmp_path):
    import reasoning_gym

    source = {"from": "reasoning-gym", "size": 20, "tasks": {"chain_sum": {"max_terms": 2}, "spell_backward": {}}}
    ingest(tmp_path, [source])
    kept = [example for examples in examples_of(tmp_path).values() for example in examples]
    assert {example.task for example in kept} == {"chain_sum", "spell_backward"}
    for example in kept:
        judge = reasoning_gym.get_score_answer_fn(example.tests.code)
        assert judge(example.response, json.loads(example.tests.entry)) == 1
        assert judge("none of it", json.loads(example.tests.entry)) < 1
    kinds = gym.read_kinds(tmp_path / "out/ingested/generated.json")
    assert [(kind.name, kind.config) for kind in kinds] == [("chain_sum", {"max_terms": 2}), ("spell_backward", {})]


def test_no_task_is_kept_whose_verifier_takes_wrong_answers(tmp_path, monkeypatch):
    judged = gym.score
    monkeypatch.setattr(gym, "score", lambda tests, text: 1.0 if tests.code == "chain_sum" else judged(tests, text))
    source = {"from": "reasoning-gym", "size": 20, "tasks": {"chain_sum": {"max_terms": 2}, "spell_backward": {}}}
    _, report = ingest(tmp_path, [source])
    kept = [example for examples in examples_of(tmp_path).values() for example in examples]
    assert {example.task for example in kept} == {"spell_backward"}
    assert [counts["refused"] for counts in report["sources"].values()] == [{"untrusted verifier": 20}]


def test_an_installed_package_of_another_version_is_refused_with_what_would_do(tmp_path):
    with pytest.raises(
        ValueError, match=r"package toolz: .* asks for version 0\.0\.1, installed is .*pip install toolz==0\.0\.1"
    ):
        ingest(tmp_path, [{"from": "package", "name": "toolz", "version": "0.0.1"}])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"from": "file", "path": "nowhere.jsonl"}, "there is no nowhere.jsonl"),
        ({"from": "package", "name": "no-such-package"}, "'no-such-package' is not installed.*pip install"),
        ({"from": "folder", "path": "nowhere"}, "there is no nowhere"),
        ({"from": "datasets", "path": "nowhere"}, "there is no nowhere"),
        ({"from": "reasoning-gym", "tasks": {"chain_sun": {}}}, "chain_sun.*Did you mean chain_sum"),
        ({"from": "reasoning-gym", "tasks": {"chain_sum": {"terms": 2}}}, "chain_sum does not take"),
    ],
)
def test_a_source_that_is_not_there_ends_in_one_message(tmp_path, source, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ingest(tmp_path, [source])


def test_a_missing_embedder_is_told_with_the_key_that_would_do(tmp_path, rows):
    with pytest.raises(ValueError, match=r"embedder holds no .*ingest.near_duplicates.cosine.*null"):
        ingest(tmp_path, [{"from": "file", "path": rows}], near_duplicates={"cosine": 0.95})
