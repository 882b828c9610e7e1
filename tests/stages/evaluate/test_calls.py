"""Calls are measured by name, by schema and by what they give; tools run in the sandbox."""

import json
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.answers.tool_call import NAME, RESULT, VALID
from tasks.core.records import Document, Example, Result
from tasks.io import provenance, sandbox, tables
from tasks.stages.evaluate import stage
from tasks.stages.evaluate.checks import calls
from tasks.stages.evaluate.config import StageConfig, ToolsConfig
from tests import tiny as small
from tests.support import NOTHING_DECIDED, ScratchRun

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOLS = json.dumps([{"type": "function", "function": {"name": name, "parameters": NUMBER}} for name in ("half", "hal")])
FUNCTIONS = "def half(n):\n    return n // 2\n\n\ndef hal(n):\n    return 1 / (n - 9)\n"


def call(name="half", **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


ANSWERS = {
    call(n=8): ("passed", "passed", "passed"),
    call(n=9): ("passed", "passed", "passed"),  # other arguments, and the same result
    call(n=2): ("passed", "passed", "assertion"),
    call(n="8"): ("passed", "arguments break the schema", "exception"),
    call(n=8, m=1): ("passed", "arguments break the schema", "exception"),
    call("hal", n=8): ("wrong tool", "passed", "assertion"),
    call("hal", n=9): ("wrong tool", "passed", "exception"),
    call("halve", n=8): ("wrong tool", "unknown tool", "exception"),
    "It is 4.": ("no tool call", "no tool call", "no tool call"),
}


@pytest.fixture
def measured():
    problem = replace(
        small.example(0, split="test"),
        tools=TOOLS,
        tests=registry.tests(registry.parse("tool_call"), Row("", call(n=8))),
    )
    results = [Result("tool_call accuracy", str(n), "g", None, 0.0, 1, 1, "", text) for n, text in enumerate(ANSWERS)]
    run_cases = partial(sandbox.run, minimum=2)
    return calls.measure([problem] * len(results), results, FUNCTIONS, run_cases)


def test_a_call_is_right_by_name_by_schema_and_by_what_it_gives(measured):
    found = {(row.measure, row.output): row.outcome for row in measured}
    for text, outcomes in ANSWERS.items():
        assert tuple(found[measure, text] for measure in (NAME, VALID, RESULT)) == outcomes, text
    assert all(row.value == (row.outcome == "passed") for row in measured)


@pytest.mark.parametrize(
    ("written", "outcome"),
    [
        ((9, 2, 4), "passed"),  # in another order, one by another argument
        ((2, 4, 2), "assertion"),
        ((2, 4), "assertion"),
        ((2, 4, 8, 8), "assertion"),
    ],
)
def test_several_calls_may_come_in_any_order(written, outcome):
    problem = replace(
        small.example(0),
        tests=registry.tests(registry.parse("tool_call"), Row("", "".join(call(n=n) for n in (2, 4, 8)))),
    )
    text = "".join(call(n=n) for n in written)
    result = Result("tool_call accuracy", "0", "g", None, 0.0, 1, 1, "", text)
    rows = calls.measure([problem], [result], FUNCTIONS, partial(sandbox.run, minimum=2))
    assert {row.measure: row.outcome for row in rows}[RESULT] == outcome


def test_without_tools_and_schemas_only_names_are_compared():
    problem = replace(small.example(0), tests=registry.tests(registry.parse("tool_call"), Row("", call(n=8))))
    rows = calls.measure([problem], [Result("tool_call accuracy", "0", "g", None, 1.0, 1, 1, "passed", call(n=8))])
    assert Counter(row.measure for row in rows) == {NAME: 1}


BOUND = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"]}
BOUNDED = json.dumps([{"type": "function", "function": {"name": "half", "parameters": BOUND}}])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A base of random weights with a template for tools, and held-out calls beside other answers."""
    folder = tmp_path_factory.mktemp("calls")
    base = small.fetch(folder, {"from": "config", "hidden": 32, "mlp": 64}, tools=True)["base"]
    tables.write(folder / "documents.parquet", [], Document)
    tables.write(folder / "test.parquet", [problem(n) for n in range(3)] + [problem(9, tests="exact")], Example)
    return {"base": base, "model": base, "decisions": NOTHING_DECIDED} | {
        name: folder / f"{name}.parquet" for name in ("test", "documents")
    }


def problem(number, answer=None, tests="tool_call"):
    answer = answer or call(n=number)
    checked = registry.tests(registry.parse(tests), Row("", answer))
    return small.example(
        number, prompt=f"Half of {number}?", response=answer, split="test", tools=BOUNDED, tests=checked
    )


def evaluated(inputs, folder, methods=(), **evaluate):
    files = {name: folder / f"{name}.out" for name in ("metrics", "results")}
    sections = {
        "compute": {"precision": "fp32", "threads": 1},
        "evaluate": {"max_new_tokens": 90, "max_tokens": 400} | evaluate,
        "methods": {"plain": {}, **dict(methods)},
    }
    stage.main(inputs, files, StageConfig.model_validate(sections), ScratchRun(folder, "r0"))
    rows = {(row.measure, row.item): row for row in tables.read(files["results"], Result)}
    return json.loads(files["metrics"].read_text()), rows


def test_constrained_calls_keep_their_schemas_and_nothing_else_changes(inputs, tmp_path):
    plain, free = evaluated(inputs, tmp_path, max_new_tokens=30)
    assert plain["answers"][VALID]["all"]["value"] == 0.0
    assert "constrained" not in plain["settings"]
    metrics, held = evaluated(inputs, tmp_path, constrained=True)
    assert metrics["answers"][VALID]["all"]["value"] == metrics["answers"][NAME]["all"]["value"] == 1.0
    assert metrics["settings"]["constrained"] is True
    ((other, row),) = [(key, row) for key, row in free.items() if key[0] == "exact accuracy"]
    assert held[other].output.startswith(row.output), "an answer with another check is written as before"
    again, kept = evaluated(inputs, tmp_path, max_new_tokens=30)
    assert (again, kept) == (plain, free), "kept answers are not those of the other setting"


def test_what_cannot_be_constrained_is_refused(inputs, tmp_path):
    with pytest.raises(ValueError, match="`server` writes whole texts: leave one out"):
        evaluated(inputs, tmp_path, constrained=True, server={"url": "http://127.0.0.1:9/v1", "model": "m"})
    steered = {"proxy_tuning": {"steers": str(inputs["base"]), "digest": "x"}}
    with pytest.raises(ValueError, match=r"evaluate\.decoder proxy_tuning writes by several models together"):
        evaluated(inputs, tmp_path, methods=steered, constrained=True, decoder="proxy_tuning")
    with pytest.raises(ValueError, match=r"example example-0001 is 2 calls at once"):
        calls.check_single([problem(0), problem(1, answer=call(n=1) + call(n=2))])


def test_a_changed_file_of_tools_is_a_changed_setting(tmp_path):
    path = tmp_path / "tools.py"
    with pytest.raises(ValueError, match=r"evaluate\.tools\.path: there is no file"):
        calls.source(ToolsConfig(path=path))
    path.write_text(FUNCTIONS)
    with pytest.raises(ValueError, match=r"write `digest: "):
        calls.source(ToolsConfig(path=path))
    assert calls.source(ToolsConfig(path=path, digest=provenance.digest(path))) == FUNCTIONS
