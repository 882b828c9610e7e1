"""Stage `faults` on answers that are no programs: a verifier tells the model's wrong answers from right ones."""

import json
from collections import Counter

import pytest

from tasks.core.records import Tests
from tasks.engine.inference import generation
from tests import tiny as small
from tests.stages.faults import test_faults

SAMPLED = {"from": "sampled", "samples": 2}
WRONG = test_faults.BINARY.replace("low = middle + 1", "low = middle + 2")
WORDS = "The words in order: apple, bread, cloud, drum, eagle, flute"


def example(number, response, check, expected):
    tests = Tests("check", json.dumps(check), json.dumps(expected))
    return small.example(number, prompt=f"Task {number}.", response=response, tests=tests, task="words")


def sorted_words(number=0, response=WORDS):
    return example(number, response, {"kind": "contains"}, ["apple, bread, cloud, drum, eagle, flute"])


def reasons(refused):
    return Counter(refusal.reason for refusal in refused)


def test_answers_that_the_verifier_refuses_are_pairs_with_marks_where_they_differ(faults, speaks):
    wrong = WORDS.replace("cloud, drum", "drum, cloud")
    speaks(WORDS.replace(": ", ":  ") + " .", wrong)
    (pair,), refused, _ = faults([sorted_words()], SAMPLED)
    assert (pair.source, pair.verified, pair.outcome) == ("sampled", True, "wrong")
    assert (pair.correct, pair.incorrect) == (WORDS, wrong)
    assert 0 < pair.marked < 0.5
    assert pair.commented == 0
    assert reasons(refused) == {"passed": 1}


def test_an_answer_that_differs_in_spaces_alone_is_equal(faults, speaks):
    speaks(f" {WORDS}\n")
    pairs, refused, _ = faults([sorted_words()], SAMPLED)
    assert (pairs, reasons(refused)) == ([], {"equal": 2})


def test_a_code_block_in_such_an_answer_is_text_as_the_rest(faults, speaks):
    right = "It is 12, see:\n```\n12\n```\nso the answer to all of this is the number 12"
    wrong = right.replace("the number 12", "the number 13")
    speaks(wrong)
    (pair,), _, _ = faults([example(0, right, {"kind": "number"}, "12")], {"from": "sampled", "samples": 1})
    assert (pair.correct, pair.incorrect) == (right, wrong)


def test_a_right_side_that_its_verifier_refuses_gives_no_pair(faults, speaks):
    requests = speaks("anything")
    pairs, refused, _ = faults([sorted_words(response="The words: none of them")], SAMPLED)
    assert (pairs, requests) == ([], [])
    assert [(row.reason, row.detail) for row in refused] == [("correct side fails", "wrong by the example's verifier")]


@pytest.mark.parametrize("check", [{"kind": "judge"}, {"kind": "rouge"}])
def test_a_score_of_likeness_tells_no_right_answer_from_a_wrong_one(faults, speaks, check):
    requests = speaks("anything")
    pairs, refused, _ = faults([example(0, WORDS, check, WORDS)], SAMPLED)
    assert (pairs, requests, reasons(refused)) == ([], [], {"no tests": 1})


@pytest.mark.parametrize("source", ["mutation", "teacher"])
def test_mistakes_are_made_in_programs_alone(faults, speaks, source):
    pairs, refused, _ = faults([sorted_words()], {"from": source})
    assert (pairs, reasons(refused)) == ([], {"no program": 1})


def test_an_answer_that_was_cut_off_is_no_mistake(faults, monkeypatch):
    texts = iter(
        [WORDS[:44], f"```python\n{WRONG.partition('    return')[0]}", f"```python\n{WRONG}```\nThis fails since"]
    )

    def write(model, prompts, tokenizer, **_):
        return [generation.Response(next(texts), False) for _ in prompts]

    monkeypatch.setattr(generation, "respond", write)
    pairs, refused, _ = faults([sorted_words()], {"from": "sampled", "samples": 1}, name="words")
    assert (pairs, reasons(refused)) == ([], {"cut off": 1})
    program = test_faults.example(1, test_faults.BINARY, test_faults.FIND)
    pairs, refused, _ = faults([program], {"from": "teacher", "samples": 2, "batch_size": 1}, name="programs")
    assert [pair.incorrect for pair in pairs] == [WRONG.rstrip()]
    assert reasons(refused) == {"cut off": 1}


def test_such_pairs_train(faults, speaks, tiny):
    """The marks lie on the tokens of the answer that differ, and the wrong answer is encoded beside it."""
    from tasks.engine.encode import encoder
    from tasks.io.weights import checkpoints
    from tasks.methods.objectives.fait.column import CHAR, MARKS
    from tasks.methods.objectives.fait.encode import encode_pairs

    speaks(WORDS.replace("cloud", "crowd"))
    row = sorted_words()
    pairs, _, _ = faults([row], {"from": "sampled", "samples": 1})
    tools = encoder(checkpoints.load_tokenizer(tiny))
    (sequence,) = encode_pairs(row, pairs, tools, 512).sequences
    marked = [place for place, flag in enumerate(sequence.columns[MARKS]) if int(flag) & CHAR]
    assert marked
    (wrong,) = sequence.auxiliary
    assert len(wrong)


def test_answers_end_with_their_program_where_programs_are_all_that_is_asked_for(faults, monkeypatch):
    asked = []

    def write(model, prompts, tokenizer, *, programs, **_):
        asked.append(programs)
        return [generation.Response("nothing", True)] * len(prompts)

    monkeypatch.setattr(generation, "respond", write)
    program = test_faults.example(0, test_faults.BINARY, test_faults.FIND)
    faults([program], SAMPLED, {"from": "teacher"}, name="programs")
    faults([program, sorted_words(1)], SAMPLED, {"from": "teacher"}, name="both")
    assert set(asked[:2]) == {True}
    assert asked[2:] == [False, True], "a teacher is asked for programs alone"
