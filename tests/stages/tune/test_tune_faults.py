"""Faults weigh the tokens at which they differ, in the stage."""

import json

import pytest

from tasks.core.records import Example, FaultPair
from tasks.io import tables
from tasks.methods.objectives.fait import marks
from tests.stages.tune.conftest import METHODS, examples


def fault(example, incorrect):
    """Return the pair that stage `faults` writes for a wrong answer to an example."""
    diff = marks.compare(incorrect, example.response)
    return FaultPair(
        f"of {example.id}", example.id, example.response, incorrect, "given", "by hand", False, "", 0.9, 1, 0.2,
        list(diff.good_lines), [list(span) for span in diff.good_chars],
        list(diff.bad_lines), [list(span) for span in diff.bad_chars], list(diff.anchors),
    )  # fmt: skip


FAIT = {**METHODS, "fait": {"tokens": 4.0}}


def test_faults_weigh_the_tokens_at_which_they_differ(tune, inputs):
    tables.write(inputs["faults"], [fault(row, "yes, in need") for row in examples(20)], FaultPair)
    plain, _ = tune("plain", FAIT)
    weighed, _ = tune("weighed", FAIT, objective="fait")
    assert first_loss(weighed) > first_loss(plain)  # the same model, the same tokens, and some count more


def first_loss(folder):
    return json.loads((folder / "training.json").read_text())["loss"][0][2]


@pytest.mark.parametrize(("anchors", "more"), [(True, True), (False, False)])
def test_what_was_taken_away_weighs_by_its_anchor_alone(tune, inputs, anchors, more):
    tables.write(inputs["faults"], [fault(row, "yes, indeed not") for row in examples(20)], FaultPair)
    fait = {"tokens": 4.0, "lines": 0.0, "anchor_deletions": anchors}
    plain, weighed = (tune(o, {**METHODS, "fait": fait}, objective=o)[0] for o in ("cross_entropy", "fait"))
    assert (first_loss(weighed) > first_loss(plain)) == more
    assert more or first_loss(weighed) == first_loss(plain)


def test_ids_of_tokens_mark_fewer_bytes_than_a_character_has(tune, inputs):
    rows = examples(20, response="naïf")
    tables.write(inputs["examples"], rows, Example)
    tables.write(inputs["faults"], [fault(row, "naîf") for row in rows], FaultPair)  # the second byte of ï is another
    fait = {"weighting": "constant", "tokens": 4.0, "lines": 0.0}
    plain, ids, chars = (
        first_loss(tune(f"{n}", {**METHODS, "fait": {**fait, **changes}}, objective="fait")[0])
        for n, changes in enumerate([{"weighting": "none"}, {"granularity": "token_id"}, {"granularity": "char"}])
    )
    assert plain < ids < chars


def test_an_objective_of_marks_without_marks_says_what_would_do(tune):
    with pytest.raises(ValueError, match=r"objective 'fait' weighs the marks of faults.*`faults.sources`"):
        tune("none", FAIT, objective="fait")


def test_an_example_trains_once_with_each_of_its_faults_or_once_with_all(tune, inputs):
    rows = examples(20)
    pairs = [fault(row, wrong) for row in rows for wrong in ("yes, in need", "no, indeed")]
    tables.write(inputs["faults"], pairs, FaultPair)
    plain, _ = tune("plain", FAIT, epochs=1)  # an objective that does not look at marks
    twice, _ = tune("twice", FAIT, epochs=1, objective="fait")
    union = {**METHODS, "fait": {"tokens": 4.0, "union": True}}
    once, _ = tune("once", union, epochs=1, objective="fait")
    tokens = [json.loads((folder / "training.json").read_text())["tokens"] for folder in (plain, twice, once)]
    assert tokens[1] == 2 * tokens[0]
    assert tokens[2] == tokens[0]
    assert first_loss(once) > first_loss(plain)


@pytest.mark.parametrize("union", [False, True])
def test_faults_that_no_pack_can_hold_are_counted(tune, inputs, union):
    pairs = [fault(row, wrong) for row in examples(20) for wrong in ("yes, in need", "no" * 100)]
    tables.write(inputs["faults"], pairs, FaultPair)
    _, run = tune(methods={**METHODS, "fait": {"union": union}}, objective="fait", max_tokens=300)
    assert run.said[0] == "tune first: 20 faults are longer than a pack, and their examples train without these marks"
