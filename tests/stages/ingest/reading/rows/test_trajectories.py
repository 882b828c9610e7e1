"""A trajectory becomes choices of tools and calls of tools apart, all of one split; what cannot be one is refused by name."""

import json
from collections import Counter, defaultdict

import polars as pl
import pytest
from pydantic import ValidationError

from tasks.core.answers import registry
from tasks.core.answers.tool_choice import written
from tasks.core.records import Example, Refusal
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import Checked, examples_from_records
from tests.stages.ingest.running import examples_of, ingest

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOLS = [
    {"type": "function", "function": {"name": "half", "parameters": NUMBER}},
    {"type": "function", "function": {"name": "half_up", "parameters": NUMBER}},
]
OPTIONS = {"from": "file", "path": "x.jsonl", "calls": "decoupled"}


def call(name, arguments='{"n": 8}'):
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def said(role, content):
    return {"role": role, "content": content}


def trajectory(question="Half of 8, rounded up?", tools=TOOLS, turns=None):
    turns = turns or [
        call("half"),
        said("tool", "4.0"),
        call("half_up", '{"n": 4}'),
        said("tool", "4"),
        said("assistant", "It is 4."),
    ]
    return {"messages": [said("user", question), *turns], "tools": tools}


def read(row, **options):
    source = File.model_validate(OPTIONS | options)
    return [item.record for item in examples_from_records([("file x", Row("line 1", row))], source, "d", Checked())]


def test_a_turn_of_weight_0_is_no_example():
    turns = trajectory()["messages"][1:]
    turns[0] |= {"weight": 0}
    made = read(trajectory(turns=turns))
    assert [view.task for view in made] == ["select", "call:half_up", "select", "answer"]
    assert made[0].prompt[1].tool_calls[0].name == "half"


def test_each_turn_is_a_choice_and_what_is_written_then():
    made = read(trajectory())
    assert [view.task for view in made] == ["select", "call:half", "select", "call:half_up", "select", "answer"]
    assert [view.response for view in made[::2]] == [written("half"), written("half_up"), written(None)]
    assert [json.loads(view.messages[-1].tool_calls[0].arguments) for view in made[1:4:2]] == [{"n": 8}, {"n": 4}]
    for choice, answer in zip(made[::2], made[1::2], strict=True):
        assert choice.prompt == answer.prompt, "one prompt serves both adapters"
        assert choice.tools == answer.tools
        assert "n" not in json.loads(choice.response.split("\n")[1]), "a choice holds no argument"
    assert [len(view.messages) for view in made] == [2, 2, 4, 4, 6, 6]
    assert len({view.id for view in made}) == 6
    assert len({view.group for view in made}) == 1
    assert {view.source for view in made} == {f"file x: line 1: turn {n}" for n in (2, 4, 6)}


def test_views_are_measured_by_name_and_by_arguments():
    choice, calling, *_, answer = read(trajectory())
    check, expected = registry.of(choice.tests)
    assert (check.kind, expected) == ("tool_choice", "half")
    assert check.grade(written("half_up"), expected).verdict == "wrong tool", "one name begins another"
    check, expected = registry.of(calling.tests)
    assert check.grade('<tool_call>{"name": "half", "arguments": {"n": 8}}</tool_call>', expected).score == 1
    assert check.grade('<tool_call>{"name": "half", "arguments": {"n": 9}}</tool_call>', expected).score == 0
    assert answer.tests is None


def test_answers_to_one_question_are_one_group_and_those_of_the_data_stay():
    other = trajectory(turns=[call("half_up"), said("tool", "4"), said("assistant", "4.")])
    assert len({view.group for row in (trajectory(), other) for view in read(row)}) == 1
    assert read(trajectory("Half of 9?"))[0].group != read(trajectory())[0].group
    assert {view.group for view in read({**trajectory(), "user": "ann"}, group="user")} == {"file x.jsonl: ann"}


BROKEN = {"type": "object", "properties": {"n": {"type": "no type"}}}
BAD = {
    "unknown tool": (trajectory(turns=[call("halve")]), "turn 2: 'halve' is in no schema; known are half, half_up"),
    "broken tool call": (trajectory(turns=[call("half", "n = 8")]), "turn 2: the arguments of half are no JSON object"),
    "two tools of one name": (trajectory(tools=[*TOOLS, TOOLS[0]]), "'half' is in the list of tools twice"),
    "no answer": (trajectory(turns=[call("half"), said("tool", "4")]), "the last must be the assistant's"),
    "several calls at once": (trajectory(turns=[{"role": "assistant", "tool_calls": [*call("half")["tool_calls"], *call("half_up")["tool_calls"]]}]), "turn 2: it calls half, half_up"),
    "no tools": (trajectory(tools=[], turns=[said("assistant", "4.")]), "it lists no tool"),
    "broken tools": (trajectory(tools=[{"function": {"name": "half", "parameters": BROKEN}}]), "the parameters of 'half' are no JSON schema"),
    "judged trajectory": ({"prompt": "Half of 8?", "chosen": "4.", "rejected": "5.", "tools": TOOLS}, "judged good or bad"),
}  # fmt: skip
ARGUMENTS = {
    "'half' takes no 'm'": {"n": 8, "m": 1},
    "is not of type 'integer'": {"n": "8"},
    "is a required property": {},
}


@pytest.mark.parametrize("reason", BAD)
def test_what_is_no_trajectory_is_refused_by_name(reason):
    row, detail = BAD[reason]
    (refused,) = read(row)
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.where) == (reason, "line 1")
    assert detail in refused.detail


@pytest.mark.parametrize("detail", ARGUMENTS)
def test_arguments_that_the_schema_does_not_allow_are_refused(detail):
    (refused,) = read(trajectory(turns=[call("half", json.dumps(ARGUMENTS[detail]))]))
    assert refused.reason == "arguments break the schema"
    assert detail in refused.detail


def test_a_tool_may_take_what_its_schema_leaves_open():
    tools = [{"function": {"name": "half", "parameters": {"type": "object"}}}]
    assert [view.task for view in read(trajectory(tools=tools, turns=[call("half")]))] == ["select", "call:half"]


@pytest.mark.parametrize("option", [{"check": "tool_call"}, {"weights": "w"}])
def test_options_of_one_answer_are_refused(option):
    with pytest.raises(ValidationError, match=f"`{next(iter(option))}` is of a row's last answer"):
        File.model_validate(OPTIONS | option)


def test_no_split_cuts_a_trajectory_and_its_views_are_no_duplicates_of_each_other(tmp_path):
    path = tmp_path / "t.jsonl"
    words = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "isle", "jetty"]
    asked = [f"{word} " * 9 + f"and then half of {n} twice, the {word} way?" for n, word in enumerate(words)]
    rows = [trajectory(question) for question in asked] + [BAD["unknown tool"][0], BAD["no answer"][0]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"from": "file", "path": str(path), "calls": "decoupled", "license": "MIT"}
    _, report = ingest(tmp_path, [source])
    splits = defaultdict(set)
    examples: list[tuple[str, Example]] = [(split, e) for split, rows in examples_of(tmp_path).items() for e in rows]
    for split, example in examples:
        splits[example.prompt[0].content].add(split)
    assert len(splits) == len(words)
    assert all(len(found) == 1 for found in splits.values()), splits
    assert Counter(example.task for _, example in examples) == Counter(
        {"select": 30, "call:half": 10, "call:half_up": 10, "answer": 10}
    )
    (balance,) = report["sources"].values()
    assert balance == {"read": 62, "kept": 60, "merged": 0, "refused": {"no answer": 1, "unknown tool": 1}}
    refused = pl.read_parquet(tmp_path / "out/ingested/quarantine.parquet")
    assert set(zip(refused["where"], refused["reason"], strict=True)) == {
        ("line 11", "unknown tool"),
        ("line 12", "no answer"),
    }
