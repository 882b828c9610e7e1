"""KTO is TRL's on the same answers, of pairs and of single judgements."""

from dataclasses import replace

import pytest

from tasks.engine.encode import ExampleEncoder
from tasks.engine.sequences import listed
from tasks.engine.tokenized import linked
from tests import tiny as small
from tests.methods import preferences
from tests.methods.contract import part
from tests.methods.official import frozen


def link(sequences, pack_tokens, context=None):
    encoder = ExampleEncoder(None, pack_tokens, objective=part("objectives", "kto"), context=context)
    return linked(listed(sequences), encoder)


def judged(*, pairs):
    """The answers of the pairs, the better ones desirable, as pairs or as judgements of examples of their own."""
    return link(
        [
            replace(
                preferences.sequence(prompt, answer, columns={"desirable": [good] * (len(prompt) + len(answer))}),
                id=f"{number}" if pairs else f"{number}/{good}",
            )
            for number, (prompt, *sides) in enumerate(preferences.PAIRS)
            for answer, good in zip(sides, (1, 0), strict=True)
        ],
        32,
    )


@pytest.mark.parametrize(("numbers", "phases"), [("kto", (0.0, 0.5)), ("flipped", (0.5, 0.0))])
def test_it_is_trls_on_the_same_answers(tmp_path, numbers, phases):
    trl = frozen("kto")[numbers]
    preferences.same(
        preferences.loss("kto", judged(pairs=False), tmp_path, trl["settings"], phases=phases), trl["loss"]
    )


def test_of_single_judgements_the_foreign_answer_is_that_of_the_sequence_before():
    last_prompt, *_, last_answer = preferences.PAIRS[-1]
    first_prompt, *_ = preferences.PAIRS[0]
    first, *_, last = judged(pairs=False)
    assert first.auxiliary[0].ids == [*first_prompt, *last_answer]
    assert last.auxiliary[0].ids == [*last_prompt, *preferences.PAIRS[-1][1]]


def test_of_pairs_the_foreign_answers_are_both_of_the_pair_before():
    found = [sequence.auxiliary[0].ids for sequence in judged(pairs=True)]
    before = [preferences.PAIRS[-1], *preferences.PAIRS[:-1]]
    assert found == [
        [*prompt, *answer]
        for (prompt, *_), (_, better, worse) in zip(preferences.PAIRS, before, strict=True)
        for answer in (worse, better)
    ]


def test_where_the_links_wrap_around_the_foreign_answer_is_still_one_of_another_example():
    alone, *pair = (
        replace(preferences.sequence([n], [n + 10]), id=name) for n, name in ((1, "alone"), (2, "pair"), (3, "pair"))
    )
    assert [sequence.auxiliary[0].ids for sequence in link([alone, *pair], 32)] == [[1, 13], [2, 11], [3, 11]]


def test_a_lone_pair_has_no_foreign_answer():
    assert [sequence.auxiliary for sequence in link([preferences.sequence([1], [2])] * 2, 32)] == [(), ()]


def test_a_lone_answer_has_no_foreign_one_and_a_long_one_is_cut_at_the_pack_or_the_context():
    (alone,) = link([preferences.sequence([1], [2])], 8)
    assert alone.auxiliary == ()
    long = [preferences.sequence([1, 2], [3] * 6), replace(preferences.sequence([4] * 6, [5]), id="other")]
    assert [len(s.auxiliary[0]) for s in link(long, 7)] == [3, 7]
    assert [len(s.auxiliary[0]) for s in link(long, 40, context=7)] == [3, 7]


@pytest.mark.parametrize(
    ("fields", "labels"),
    [({"rejected": "bad"}, [1, 0]), ({"desirable": True}, [1]), ({"desirable": False}, [0]), ({}, [])],
)
def test_pairs_and_labels_are_judgements(fields, labels):
    sequences = preferences.encoded("kto", small.example(**fields))
    assert [sequence.columns["desirable"][0] for sequence in sequences] == labels
