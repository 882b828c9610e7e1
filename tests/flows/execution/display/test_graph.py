"""The picture of a run's graph: every stage with its state, and no arrow that others imply."""

import re

from flows.execution.display import graph

UPSTREAM = {"fetch": (), "ingest": ("fetch",), "tune@r0": ("fetch", "ingest"), "report": ("ingest", "tune@r0")}
STATES = {"fetch": "unchanged", "ingest": "ran", "tune@r0": "failed", "report": "not begun"}


def test_an_arrow_that_others_imply_is_left_out():
    assert graph.direct(UPSTREAM) == {"fetch": [], "ingest": ["fetch"], "tune@r0": ["ingest"], "report": ["tune@r0"]}


def test_two_ways_to_a_stage_both_stay():
    assert graph.direct({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c", "a")})["d"] == ["b", "c"]


def test_each_stage_has_its_state_in_words_and_in_colour():
    text = graph.markdown(UPSTREAM, STATES)
    assert text.startswith("```mermaid\nflowchart TD\n")
    assert text.endswith(f"\n```\n\n{graph.HINT}")
    assert re.findall(r'(s\d)\["(.*)<br/>(.*)"\]:::(\w+)', text) == [
        ("s0", "fetch", "unchanged", "unchanged"),
        ("s1", "ingest", "ran", "ran"),
        ("s2", "tune@r0", "failed", "failed"),
        ("s3", "report", "not begun", "not_begun"),
    ]
    assert re.findall(r"classDef (\w+) ", text) == ["unchanged", "ran", "failed", "not_begun"]
    assert re.findall(r"(s\d) --> (s\d)", text) == [("s0", "s1"), ("s1", "s2"), ("s2", "s3")]


def test_a_name_with_quotes_ends_no_label():
    assert '["a#quot;b<br/>ran"]' in graph.markdown({'a"b': ()}, {'a"b': "ran"})
