"""Items of harness tasks are read from rows on disk: by templates, by columns, and without running what is code."""

import json

import pytest

from tasks.io import harness_tasks
from tasks.io.harness_tasks import Item

ROWS = [
    {"q": "One?", "options": ["a", "b"], "right": 1, "note": "hint"},
    {"q": "Two?", "options": ["c", "d"], "right": 0, "note": "x"},
]
DATA = "dataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl, train: none.jsonl}}\ntest_split: test\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "{\n")
    folder = tmp_path / "tasks"
    folder.mkdir()
    return folder


def read(folder, *names):
    return [item for item in harness_tasks.items(folder, names) if isinstance(item, Item)]


@pytest.mark.parametrize(
    ("settings", "question", "answer"),
    [
        ('doc_to_text: "Q: {{q.strip()}}"\ndoc_to_choice: options\ndoc_to_target: right', "Q: One?", "b"),
        ('doc_to_text: q\ndoc_to_target: "{{options[right]}}!"', "One?", "b!"),
        ('doc_to_text: q\ndoc_to_choice: ["yes", "no"]\ndoc_to_target: 0', "One?", "yes"),
        ("doc_to_text: !function code.text\ndoc_to_target: !function code.target", "One?\nhint", ""),
        ('doc_to_text: "{{q | regex_replace(1)}}"\ndoc_to_target: note', "One?\nhint", "hint"),
    ],
)
def test_question_and_answer(folder, settings, question, answer):
    (folder / "a.yaml").write_text(f"task: which\n{DATA}{settings}\n")
    assert read(folder)[0] == Item("which", "line 1", question, answer)
    *_, broken = harness_tasks.items(folder)
    assert (broken.where, broken.reason) == ("line 3", "not JSON")


def test_a_task_is_what_it_includes_and_a_group_is_none(folder):
    (folder / "base.yaml").write_text(f"{DATA}doc_to_text: q\ndoc_to_target: note\n")
    (folder / "a.yaml").write_text("include: base.yaml\ntask: mine\n")
    (folder / "b.yaml").write_text("group: both\ntask: [mine, other]\n")
    assert [(item.task, item.question) for item in read(folder)] == [("mine", "One?"), ("mine", "Two?")]
    with pytest.raises(ValueError, match=r"there is no task 'yours'\. There are: mine"):
        read(folder, "yours")


@pytest.mark.parametrize("data", ["dataset_path: ai2_arc\n", DATA.replace("rows.jsonl", "gone.jsonl")])
def test_a_task_whose_rows_are_elsewhere_is_named(folder, data):
    (folder / "a.yaml").write_text(f"task: far\n{data}doc_to_text: q\n")
    (folder / "b.yaml").write_text(f"task: near\n{DATA}doc_to_text: q\ndoc_to_target: note\n")
    with pytest.raises(ValueError, match=r"task far: its rows are not on this disk \((ai2_arc|gone\.jsonl)\)"):
        read(folder)
    assert len(read(folder, "near")) == 2


@pytest.mark.parametrize(
    ("text", "problem"), [("include: a.yaml\ntask: a\n", "includes itself"), ("task: [\n", "not the YAML of a task")]
)
def test_a_file_that_cannot_be_a_task_is_named(folder, text, problem):
    (folder / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"tasks/a\.yaml: .*{problem}"):
        read(folder)
