"""The origin of an example is told from lineage: who wrote it, and what it was made of."""

import pytest

from tasks.core import origins
from tasks.core.records import Lineage


def line(new, parents, operator="improve", generator="tuned", prompt="hash", *, accepted=True):
    return Lineage(new, parents, operator, generator, prompt, accepted, "", "", "")


@pytest.mark.parametrize(
    ("made", "origin"),
    [
        (line("b", ["a"]), "self"),
        (line("b", ["a"], generator="pretrained"), "self"),
        (line("b", ["a"], generator="a-larger-model"), "distilled"),
        (line("b", ["a"], generator="../models/other"), "distilled"),
        (line("b", ["a"], generator="rename variables", prompt=""), "expert"),
        (line("b", ["a"], "edit", "Ada", ""), "expert"),
        (line("b", ["a"], generator="tuned, Ada"), "mixed"),
        (line("b", [], "add", "reasoning-gym", ""), "expert"),
        (line("b", [], "add", "tuned", ""), "self"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.generator,
)
def test_an_origin_is_its_authors(made, origin):
    assert origins.trace(["a"], [[made]])["b"] == origin


@pytest.mark.parametrize(
    ("second", "origin"),
    [
        (line("c", ["b"]), "self"),
        (line("c", ["b"], generator="a-larger-model"), "mixed"),
        (line("c", ["b"], "edit", "Ada", ""), "mixed"),
        (line("c", ["b"], generator="rename variables", prompt=""), "self"),
        (line("c", ["a", "b"], "extend", "rename variables", ""), "mixed"),
    ],
    ids=["the model again", "another model", "a person", "a rule", "a rule, of two"],
)
def test_what_several_wrote_over_turns_is_mixed_and_a_rule_changes_no_origin(second, origin):
    assert origins.trace(["a"], [[line("b", ["a"])], [second]])["c"] == origin


def test_what_was_refused_or_left_makes_nothing_and_what_lineage_does_not_tell_is_counted_as_such():
    lines = [line("b", ["a"], accepted=False), line("a", ["a"], "drop", "", ""), line("d", ["lost"])]
    known = origins.trace(["a"], [lines])
    assert known == {"a": "expert"}
    assert origins.count(["a", "b", "d"], known) == {"expert": 1, origins.UNTOLD: 2}
    assert list(origins.count(["x", "y"], {"x": "self", "y": "expert"})) == ["expert", "self"], "in order"
