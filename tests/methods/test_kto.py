"""KTO is TRL's on the same answers, of pairs and of single judgements."""

import pytest

from tasks.engine.encode import ExampleEncoder
from tasks.engine.sequences import listed
from tasks.engine.tokenized import linked
from tests import tiny as small
from tests.methods import preferences
from tests.methods.contract import part
from tests.methods.official import frozen


def link(sequences, pack_tokens):
    return linked(listed(sequences), ExampleEncoder(None, pack_tokens, objective=part("objectives", "kto")))


def judged():
    """The answers of the pairs, the better ones desirable."""
    single = [
        preferences.sequence(prompt, answer, columns={"desirable": [good] * (len(prompt) + len(answer))})
        for prompt, *sides in preferences.PAIRS
        for answer, good in zip(sides, (1, 0), strict=True)
    ]
    return link(single, 32)


@pytest.mark.parametrize(("numbers", "phases"), [("kto", (0.0, 0.5)), ("flipped", (0.5, 0.0))])
def test_it_is_trls_on_the_same_answers(tmp_path, numbers, phases):
    trl = frozen("kto")[numbers]
    preferences.same(preferences.loss("kto", judged(), tmp_path, trl["settings"], phases=phases), trl["loss"])


def test_an_answer_before_another_prompt_is_that_of_the_sequence_before():
    last_prompt, *_, last_answer = preferences.PAIRS[-1]
    first_prompt, *_ = preferences.PAIRS[0]
    first, *_, last = judged()
    assert first.auxiliary[0].ids == [*first_prompt, *last_answer]
    assert last.auxiliary[0].ids == [*last_prompt, *preferences.PAIRS[-1][1]]


def test_a_lone_answer_has_no_foreign_one_and_a_long_one_is_cut():
    (alone,) = link([preferences.sequence([1], [2])], 8)
    assert alone.auxiliary == ()
    long = [preferences.sequence([1, 2], [3] * 6), preferences.sequence([4] * 6, [5])]
    assert [len(s.auxiliary[0]) for s in link(long, 7)] == [3, 7]


@pytest.mark.parametrize(
    ("fields", "labels"),
    [({"rejected": "bad"}, [1, 0]), ({"desirable": True}, [1]), ({"desirable": False}, [0]), ({}, [])],
)
def test_pairs_and_labels_are_judgements(fields, labels):
    sequences = preferences.encoded("kto", small.example(**fields))
    assert [sequence.columns["desirable"][0] for sequence in sequences] == labels
