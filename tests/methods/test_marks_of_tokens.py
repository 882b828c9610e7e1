"""Marks of characters reach the right tokens: through the chat template, whatever the tokenizer, and in the packs that train."""

import inspect
import statistics
import textwrap
from itertools import islice

import pytest

from tasks.core.records import FaultPair
from tasks.core.text.mutations import OPERATORS, mutants
from tasks.core.text.programs import program
from tasks.engine.encode import encoder
from tasks.engine.packing import collate, schedule
from tasks.methods.objectives.fait import marks
from tasks.methods.objectives.fait.column import CHAR, CODE, LINE
from tasks.methods.objectives.fait.config import SPEC
from tasks.methods.objectives.fait.encode import encode_example, encode_pairs
from tasks.methods.objectives.fait.marks import Marking
from tasks.stages.fetch.random_init import byte_tokenizer
from tests import tiny


def tokenizer_of_merges(*, trim):
    """A byte-level BPE tokenizer whose tokens span many characters, learnt from source code."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator([inspect.getsource(statistics)], trainer)
    core.add_special_tokens([AddedToken("<|im_end|>", special=True), AddedToken("<|im_start|>", special=True)])
    if trim:  # as GPT-2's and RoBERTa's do: a token's own white space is no part of its offsets
        core.post_processor = processors.ByteLevel(trim_offsets=True)
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = byte_tokenizer().chat_template
    return fast


TOKENIZERS = {
    "bytes": byte_tokenizer(),
    "merges": tokenizer_of_merges(trim=False),
    "trimmed offsets": tokenizer_of_merges(trim=True),
}


def fault(example, incorrect):
    """A pair as stage `faults` writes it."""
    correct = program(example.response)
    found = marks.compare(incorrect, correct)
    return FaultPair(
        "pair", example.id, correct, incorrect, "mutation", "comparison", True, "assertion", 1.0, 1, 0.1,
        list(found.good_lines), [list(span) for span in found.good_chars],
        list(found.bad_lines), [list(span) for span in found.bad_chars], list(found.anchors),
    )  # fmt: skip


def pairs():
    """Fifty examples with a fault each: functions of the standard library, mutated."""
    made = []
    for name, function in inspect.getmembers(textwrap, inspect.isfunction) + inspect.getmembers(
        statistics, inspect.isfunction
    ):
        code = textwrap.dedent(inspect.getsource(function))
        for operator, mutant in islice(mutants(code, name, list(OPERATORS)), 3):
            example = tiny.example(len(made), response=f"Here it is:\n\n```python\n{code}\n```\nDone. é𝔘")
            made.append((operator, example, fault(example, mutant)))
    assert len(made) >= 50
    return made[:50]


PAIRS = pairs()


def encoded(example, tokenizer, pairs, marking=marks.DEFAULT):
    """An example with its pairs, as one sequence."""
    return encode_example(example, pairs, encoder(tokenizer), marking)


def sequences_of(example, tokenizer, pairs, max_tokens, marking=marks.DEFAULT):
    """An example with its pairs, as many sequences as the marking asks for."""
    return encode_pairs(example, pairs, encoder(tokenizer), max_tokens, marking).sequences


def offsets(tokenizer, text):
    """The characters of each token, by what the text so far decodes to."""
    places, start = [], 0
    untrimmed = tokenizer if tokenizer is not TOKENIZERS["trimmed offsets"] else TOKENIZERS["merges"]
    for _, end in untrimmed(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]:
        places.append((min(start, _), end))
        start = end
    return places


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_marked_tokens_of_fifty_rows_hold_the_marked_text_and_nothing_else(name):
    tokenizer = TOKENIZERS[name]
    for _, example, pair in PAIRS:
        for sequence, code, lines, chars in (
            (encoded(example, tokenizer, [pair]), pair.correct, pair.good_lines, pair.good_chars),
            (encoded(example, tokenizer, [pair]).auxiliary[0], pair.incorrect, pair.bad_lines, pair.bad_chars),
        ):
            text = example.response.replace(pair.correct, code) + tokenizer.eos_token
            start = text.index(code)
            places = offsets(tokenizer, text)
            flags = list(sequence.columns["marks"])[-len(places) :]
            assert not any(list(sequence.columns["marks"])[: -len(places)])  # nothing of the prompt
            anchors = [[at, at + 1] for at in pair.anchors] if code == pair.correct else []
            line_spans = [list(span) for span in marks.of_lines(code, lines)]
            for flag, wanted in ((CHAR, [*chars, *anchors]), (LINE, line_spans), (CODE, [[0, len(code)]])):
                covered = {
                    at
                    for (first, last), mark in zip(places, flags, strict=True)
                    if mark & flag
                    for at in range(first, last)
                }
                asked = {at + start for first, last in wanted for at in range(first, last)}
                assert asked <= covered, (flag, pair)
                if name == "trimmed offsets":
                    continue  # whose space it was, nobody can tell: both neighbours may be marked
                for (first, last), mark in zip(places, flags, strict=True):
                    assert bool(mark & flag) == any(at in asked for at in range(first, last))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_differing_tokens_stand_on_differing_lines_but_for_anchors(name):
    for _, example, pair in PAIRS:
        sequence = encoded(example, TOKENIZERS[name], [pair])
        if not pair.anchors:
            assert all(mark & LINE for mark in sequence.columns["marks"] if mark & CHAR)


def test_an_end_that_lacks_what_was_taken_away_is_anchored_at_the_token_after_the_program():
    tokenizer = TOKENIZERS["bytes"]
    for response, after in (("x = 1\n", tokenizer.eos_token), ("```python\nx = 1\n```", "\n")):
        example = tiny.example(response=response)
        pair = fault(example, program(response) + ("y = 2\n" if response == "x = 1\n" else "\ny = 2"))
        sequence = encoded(example, tokenizer, [pair])
        marked = [token for token, mark in zip(sequence.ids, sequence.columns["marks"], strict=True) if mark & CHAR]
        assert tokenizer.decode(marked).startswith(after)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_without_anchors_text_that_was_taken_away_marks_its_line_alone(name):
    tokenizer, code = TOKENIZERS[name], "values = range(len(xs))\nprint(values)\n"
    example = tiny.example(response=f"```python\n{code}```")
    pair = fault(example, program(example.response).replace("(xs))", "(xs) - 1)"))
    usual, without = (encoded(example, tokenizer, [pair], Marking(anchors=anchors)) for anchors in (True, False))
    marked = [token for token, mark in zip(usual.ids, usual.columns["marks"], strict=True) if mark & CHAR]
    assert tokenizer.decode(marked).endswith(")")
    assert list(without.columns["marks"]) == [mark & ~CHAR for mark in usual.columns["marks"]]
    assert any(mark & LINE for mark in without.columns["marks"])
    assert without.auxiliary == usual.auxiliary


@pytest.mark.parametrize("anchors", [True, False])
def test_of_tokens_of_one_character_their_ids_say_what_characters_do(anchors):
    for _, example, pair in PAIRS:
        by_chars, by_ids = (
            encoded(example, TOKENIZERS["bytes"], [pair], Marking(granularity, anchors))
            for granularity in ("char", "token_id")
        )
        assert by_ids == by_chars


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_that_differ_by_their_ids_stand_on_lines_that_do(name):
    for _, example, pair in PAIRS:
        sequence = encoded(example, TOKENIZERS[name], [pair], Marking("token_id", anchors=False))
        for side in (sequence, sequence.auxiliary[0]):
            assert all(mark & LINE for mark in side.columns["marks"] if mark & CHAR)
        assert any(mark & CHAR for mark in (*sequence.columns["marks"], *sequence.auxiliary[0].columns["marks"]))


def test_a_token_that_lost_a_character_differs_by_its_id_and_needs_no_anchor():
    tokenizer = TOKENIZERS["merges"]
    example = tiny.example(response="def f(value):\n    return value\n")
    pair = fault(example, example.response.replace("return value", "return values"))

    def marked(granularity):
        sequence = encoded(example, tokenizer, [pair], Marking(granularity))
        places = [place for place, mark in enumerate(sequence.columns["marks"]) if mark & CHAR]
        return [tokenizer.decode([sequence.ids[place]]) for place in places]

    assert marked("char") == ["\n"]
    assert marked("token_id") == [" value"]


def test_packs_hold_every_mark_beside_its_own_token():
    tokenizer = TOKENIZERS["merges"]
    sequences = [encoded(example, tokenizer, [pair]) for _, example, pair in PAIRS]
    for pack in schedule(sequences, 4096, 10**6, 1, seed=0):
        row = collate([pack], columns=SPEC.columns)
        labels, flags = row["labels"][0].tolist(), row["column_marks"][0].tolist()
        found = [(token, mark) for token, mark in zip(labels, flags, strict=True) if mark]
        asked = [(i, m) for s in pack.sequences for i, m in zip(s.ids, s.columns["marks"], strict=True) if m]
        assert found == asked


@pytest.mark.parametrize("room", [-1, 0, 1])
def test_no_marked_program_is_cut(room):
    """It is encoded whole, with all its marks, or not at all: stages count what was too long."""
    _, example, pair = PAIRS[0]
    whole = encoded(example, TOKENIZERS["bytes"], [pair])
    found = list(sequences_of(example, TOKENIZERS["bytes"], [pair], len(whole) + room))
    assert found == ([whole] if room >= 0 else [None])


def test_a_fault_that_no_pack_can_hold_leaves_its_example_without_marks():
    _, example, pair = PAIRS[0]
    longer = fault(example, pair.correct + "\n# " + "x" * 500)
    right = encoded(example, TOKENIZERS["bytes"], [])
    assert list(sequences_of(example, TOKENIZERS["bytes"], [longer], len(right) + 10)) == [right]
    assert len(sequences_of(example, TOKENIZERS["bytes"], [longer, pair], 10_000)) == 2


@pytest.mark.parametrize("granularity", ["char", "token_id"])
def test_several_faults_of_a_program_are_a_sequence_each_or_one_with_the_marks_of_all(granularity):
    tokenizer, code = TOKENIZERS["merges"], "def f(xs):\n    total = sum(xs)\n    return total / len(xs)\n"
    example = tiny.example(response=f"```python\n{code}```")
    pairs = [fault(example, program(example.response).replace(*change)) for change in (("sum", "min"), ("/", "*"))]

    def sequences(union, max_tokens=10_000, extra=()):
        return list(sequences_of(example, tokenizer, [*pairs, *extra], max_tokens, Marking(granularity, union=union)))

    apart, (together,) = sequences(union=False), sequences(union=True)
    assert [sequence.auxiliary for sequence in apart] == [(contrast,) for contrast in together.auxiliary]
    assert list(together.columns["marks"]) == [
        a | b for a, b in zip(*(sequence.columns["marks"] for sequence in apart), strict=True)
    ]
    assert sum(mark & CHAR > 0 for mark in together.columns["marks"]) > max(
        sum(mark & CHAR > 0 for mark in sequence.columns["marks"]) for sequence in apart
    )
    longer = fault(example, pairs[0].correct + "# " + "x" * 500)
    assert sequences(union=True, max_tokens=len(together) + 10, extra=[longer]) == [together]


def test_a_wrong_program_that_spells_a_control_token_is_left_out():
    example = PAIRS[0][1]
    assert encoded(example, TOKENIZERS["bytes"], [fault(example, "x = '<|im_end|>'")]) is None
