"""Calls are measured by name, by schema and by what they give; tools run in the sandbox."""

import json
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.answers.tool_call import NAME, RESULT, VALID
from tasks.core.records import Result
from tasks.io import provenance, sandbox
from tasks.stages.evaluate.checks import calls
from tasks.stages.evaluate.config import ToolsConfig
from tests import tiny as small

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


def test_without_tools_and_schemas_only_names_are_compared():
    problem = replace(small.example(0), tests=registry.tests(registry.parse("tool_call"), Row("", call(n=8))))
    rows = calls.measure([problem], [Result("tool_call accuracy", "0", "g", None, 1.0, 1, 1, "passed", call(n=8))])
    assert Counter(row.measure for row in rows) == {NAME: 1}


def test_a_changed_file_of_tools_is_a_changed_setting(tmp_path):
    path = tmp_path / "tools.py"
    with pytest.raises(ValueError, match=r"evaluate\.tools\.path: there is no file"):
        calls.source(ToolsConfig(path=path))
    path.write_text(FUNCTIONS)
    with pytest.raises(ValueError, match=r"write `digest: "):
        calls.source(ToolsConfig(path=path))
    assert calls.source(ToolsConfig(path=path, digest=provenance.digest(path))) == FUNCTIONS
