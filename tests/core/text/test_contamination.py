"""A training text that holds an evaluation text, or a part of one, is found."""

import numpy as np
import pytest

from tasks.core.records import Tests
from tasks.core.text.contamination import overlaps, sides
from tasks.core.text.contamination_config import Contamination
from tasks.core.text.words import normalised
from tests import tiny

PARAMS = Contamination()
WORDS = [f"word{number}" for number in range(5000)]


def passage(seed, length):
    return " ".join(np.random.default_rng(seed).choice(WORDS, length))


def test_an_evaluation_text_inside_a_training_text_is_found():
    held_out = passage(0, 60)
    training = [passage(1, 200), f"{passage(2, 200)}\n# {held_out.upper()}\n{passage(3, 200)}"]
    assert overlaps(training, [passage(4, 60), held_out], PARAMS) == {1: 1}


def test_a_piece_of_an_evaluation_text_is_found():
    held_out = passage(0, 400).split()
    assert overlaps([" ".join(held_out[100:160])], [" ".join(held_out)], PARAMS) == {0: 0}


COPIES = {
    "zero-width spaces": lambda text: text.replace("or", "o\u200br"),
    "joiners": lambda text: text.replace("or", "o\u200c\u2060r"),
    "soft hyphens": lambda text: text.replace("or", "o\u00adr"),
    "full-width letters": lambda text: "".join(chr(ord(char) + 0xFEE0) if char.isalnum() else char for char in text),
    "ligatures": lambda text: text.replace("fi", "\ufb01"),
    "words broken at the ends of lines": lambda text: text.replace("or", "o-\n  r"),
    "broken by soft hyphens": lambda text: text.replace("or", "o\u00ad\nr"),
    "tags": lambda text: text.replace("word", "w<b>ord</b>").replace(" ", "<br>"),
    "entities": lambda text: text.replace(" ", "&nbsp;").replace("or", "&#111;r").replace("fi", "f&shy;i"),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "ellipses": lambda text: text.replace(" ", "… "),
    "an accent for the apostrophe": lambda text: text.replace("'", "´"),
    "selectors": lambda text: text.replace(" ", "\u2764\ufe0f "),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_from_a_page_or_another_keyboard_is_found(copied):
    held_out = " ".join(f"fi{word}'s" for word in passage(0, 60).split())
    assert copied(held_out) != held_out
    assert overlaps([passage(1, 60), copied(held_out)], [passage(4, 60), held_out], PARAMS) == {1: 1}
    assert overlaps([held_out], [copied(held_out)], PARAMS) == {0: 0}


def test_a_hyphen_after_a_number_and_comparisons_part_words():
    assert normalised("1-\n2 a<b and b>c x -\ny") == "1-\n2 a<b and b>c x -\ny"


def test_a_short_evaluation_text_is_found_by_shorter_runs():
    held_out = passage(0, 12)
    assert overlaps([f"{passage(1, 100)} {held_out} {passage(2, 100)}"], [held_out], PARAMS) == {0: 0}


def test_a_shared_sentence_is_no_overlap():
    sentence = passage(0, 20)
    assert overlaps([f"{sentence} {passage(1, 100)}"], [f"{sentence} {passage(2, 100)}"], PARAMS) == {}


def test_a_phrase_that_many_training_texts_hold_is_no_leak():
    notice = passage(0, 40)
    training = [f"{notice} {passage(seed, 20)}" for seed in range(1, 20)]
    assert overlaps(training, [f"{notice} {passage(99, 20)}"], PARAMS) == {}


@pytest.mark.parametrize("holders", [10, 11, 40])
def test_a_long_evaluation_text_that_training_texts_hold_as_a_whole_is_a_leak_however_many_they_are(holders):
    held_out = passage(0, 60)
    piece = " ".join(held_out.split()[:50])
    whole = [f"{passage(seed, 50)} {held_out} {passage(1000 + seed, 50)}" for seed in range(1, holders + 1)]
    parts = [f"{piece} {passage(seed, 50)}" for seed in range(2000, 2020)]
    others = [passage(seed, 50) for seed in range(3000, 3500)]
    assert overlaps([*whole, *parts, *others], [held_out], PARAMS) == dict.fromkeys(range(holders), 0)


def test_a_template_that_a_tenth_of_all_training_texts_are_is_no_leak():
    held_out = passage(0, 60)
    training = [held_out] * 20 + [passage(seed, 60) for seed in range(1, 100)]
    assert overlaps(training, [held_out], PARAMS) == {}


def test_texts_of_a_few_words_are_not_judged():
    assert overlaps(["return the sum", ""], ["return the sum", ""], PARAMS) == {}


def test_two_runs_in_common_are_chance_and_three_are_a_leak():
    """Of a text of nine words, which has four runs of six."""
    held_out = passage(0, 9).split()
    for num_words, leaks in ((7, {}), (8, {0: 0})):
        copied = " ".join(held_out[:num_words])
        assert overlaps([f"{passage(1, 100)} {copied} {passage(2, 100)}"], [" ".join(held_out)], PARAMS) == leaks


def test_a_run_that_a_training_text_repeats_is_one_in_common():
    held_out = passage(0, 9)
    copied = " ".join(held_out.split()[:6])
    assert overlaps([" ".join(f"{copied} {passage(seed, 20)}" for seed in range(1, 5))], [held_out], PARAMS) == {}


def test_phrases_are_not_counted_as_runs_of_the_training_text():
    """Of the text's 78 runs of 13 words 48 are of the notice; 18 of the other 30 are of the evaluation text."""
    notice, copied = passage(0, 60), passage(1, 30)
    held_out = f"{notice} {passage(2, 100)} {copied} {passage(3, 100)}"
    others = [f"{notice} {passage(seed, 40)}" for seed in range(10, 30)]
    assert overlaps([f"{notice} {copied}", *others], [held_out], PARAMS) == {0: 0}


@pytest.mark.parametrize("length", [6, 7, 12])
def test_a_short_evaluation_text_is_a_leak_where_a_training_text_holds_all_of_it(length):
    held_out = passage(0, length).split()
    whole, cut = " ".join(held_out), " ".join(held_out[: min(length - 1, 7)])
    training = [f"{passage(1, 100)} {whole.upper()}, {passage(2, 100)}", f"{passage(3, 100)} {cut} {passage(4, 100)}"]
    assert overlaps(training, [whole], PARAMS) == {0: 0}
    assert overlaps(training[:1] * (PARAMS.common + 1), [whole], PARAMS) == {}  # a phrase


def test_a_short_training_text_is_no_leak_because_a_long_one_holds_it():
    held_out = passage(0, 100)
    assert overlaps([" ".join(held_out.split()[40:47])], [held_out], PARAMS) == {}


@pytest.mark.parametrize(("common", "found"), [(30, {0: 0}), (29, {})])
def test_half_of_the_runs_is_the_share_from_which_on_it_is_a_leak(common, found):
    """A text of 72 words has 60 runs of 13; the first `common` + 12 words hold `common` of them."""
    held_out = passage(0, 72).split()
    copied = " ".join(held_out[: common + PARAMS.ngram - 1])
    assert overlaps([f"{copied} {passage(1, 200)}"], [" ".join(held_out)], PARAMS) == found


def test_the_text_that_most_is_shared_with_is_named():
    held_out = [passage(number, 60) for number in range(3)]
    parts = (held_out[0].split()[:45], held_out[1].split(), held_out[2].split()[:50])
    trained = " ".join(f"{' '.join(part)} {passage(10 + number, 60)}" for number, part in enumerate(parts))
    assert overlaps([trained], held_out, PARAMS) == {0: 1}


def test_the_sides_of_examples_are_their_prompts_and_then_their_responses():
    sum_of_two = tiny.example(2, prompt="1 + 1?", response="2", tests=Tests("answer", "sum", "{}"))
    rows = [tiny.example(1, prompt="Why?", response="Because."), sum_of_two]
    assert sides(rows) == ["Why?", "", "Because.", ""]  # generated tasks share a wording
