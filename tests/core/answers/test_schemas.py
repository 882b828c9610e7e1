"""Schemas of data are read as they stand: what they refer to lies within them, and none breaks a run off."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tasks.core.answers import registry, schemas
from tasks.core.answers.base import Row
from tasks.core.records import Result, Unfit
from tasks.io import tables
from tests.core.answers.grading import graded


@pytest.fixture(params=["http", "file"])
def elsewhere(request, tmp_path):
    """A schema elsewhere: its address, and a list that gets an entry when a server is asked for it."""
    if request.param == "file":
        (tmp_path / "schema.json").write_text('{"required": ["b"]}')
        yield (tmp_path / "schema.json").as_uri(), []
        return
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"required": ["b"]}')

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/schema", asked
        server.shutdown()


def tools(parameters):
    return json.dumps([{"type": "function", "function": {"name": "f", "parameters": parameters}}])


def test_nothing_is_fetched_because_a_schema_says_so(elsewhere):
    address, asked = elsewhere
    assert "cannot be validated" in schemas.broken({"a": 1}, {"$ref": address})
    refused = schemas.of_tools(tools({"properties": {"a": {"$ref": address}}}))
    assert isinstance(refused, Unfit)
    assert refused.reason == "broken tools"
    assert f"{address!r} leads to no place within it" in refused.detail
    with pytest.raises(ValueError, match="leads to no place within it"):
        registry.parse({"kind": "json", "json_schema": {"$ref": address}})
    assert asked == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"$ref": "#/components/schemas/A"},
        {"properties": {"a": {"items": {"$ref": "#/$defs/A"}}}},
        {"$dynamicRef": "#a"},
        {"$ref": "#/anyOf/x", "anyOf": [{}]},
        {"$ref": "#/x", "x": [1]},
        {"$ref": "#/x", "x": {"type": "no type"}},
        {"$ref": "#/x", "x": {"properties": {"a": {"$ref": "#/y"}}}},
        {"$schema": 5},
        [1],
        True,
    ],
    ids=json.dumps,
)
def test_parameters_that_lead_nowhere_are_broken(parameters):
    refused = schemas.of_tools(tools(parameters))
    assert isinstance(refused, Unfit)
    assert refused.reason == "broken tools"


def test_a_schema_may_refer_to_itself_and_to_a_draft():
    nested = {
        "$defs": {"T": {"properties": {"t": {"$ref": "#/$defs/T"}, "n": {"type": "integer"}}}},
        "$ref": "#/$defs/T",
    }
    assert schemas.misfit(nested) == ""
    assert schemas.broken({"t": {"t": {"n": 1}}}, nested) == ""
    assert schemas.broken({"t": {"t": {"n": "1"}}}, nested).startswith("$.t.t.n: ")
    draft = {"properties": {"a": {"$ref": "http://json-schema.org/draft-07/schema#"}}}
    assert schemas.misfit(draft) == schemas.broken({"a": {"type": "object"}}, draft) == ""
    assert schemas.broken({"a": {"type": "no type"}}, draft) != ""
    assert schemas.misfit({"const": {"$ref": "http://x"}, "properties": {"$ref": {"type": "string"}}}) == ""


def test_what_cannot_be_validated_is_said_and_ends_nothing():
    assert schemas.broken(1, {"$ref": "#"}) == "$: it cannot be validated: RecursionError"
    assert schemas.broken(10**400, {"multipleOf": 0.5}) == "$: it cannot be validated: OverflowError"
    deep = {}
    for _ in range(500):
        deep = {"not": deep}
    assert schemas.misfit(deep) == "$: it is nested too deeply"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('[{"a": "x"}, {"a": "y"', "no JSON"),
        ('{"draft": {"a": "x"}, "a": "y', "no JSON"),
        ('{\'draft\': {"a": "x"}}', "no JSON"),
        ('{"draft": {"a": "x"},}\nRather: {"a": "y"}', "wrong"),
        ('{"draft: }": {"a": "x"},} {"a": "x"}', "passed"),
        ('Of [the set {b, c}] it is {"a": "x"}.', "passed"),
        ('{b: c} is no JSON: {"a": "x"}', "passed"),
        ('As [1] says: {"a": "x"}', "passed"),
        ("[1]", "wrong"),
    ],
)
def test_a_part_of_what_is_broken_is_no_answer(answer, verdict):
    assert graded("json", '{"a": "x"}', answer).verdict == verdict


@pytest.mark.parametrize(
    ("check", "call"), [("json", '{"a": "\\ud83d"}'), ("tool_call", '{"name": "f", "arguments": {"a": "\\ud83d"}}')]
)
def test_half_of_a_character_can_be_stored(check, call, tmp_path):
    tests = registry.tests(registry.parse(check), Row("", call))
    read, expected = registry.of(tests)
    grade = read.grade(call, expected)
    row = Result("m", "i", "g", None, grade.score, 1, 1, grade.verdict, call, False, grade.parsed, read.shown(expected))
    tables.write(tmp_path / "results.parquet", [row], Result)
    assert tables.read(tmp_path / "results.parquet", Result) == [row]
    assert grade.score == 1
    assert tests.entry.encode()


def test_a_text_may_be_composed_or_not():
    assert graded("json", '{"city": "Orl\u00e9ans"}', '{"city": "Orle\u0301ans"}').score == 1
