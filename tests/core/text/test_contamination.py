"""A training text that holds an evaluation text, or a part of one, is found."""

import numpy as np

from tasks.core.text.contamination import overlaps
from tasks.core.text.contamination_config import Contamination

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


def test_texts_of_a_few_words_are_not_judged():
    assert overlaps(["return the sum", ""], ["return the sum", ""], PARAMS) == {}
