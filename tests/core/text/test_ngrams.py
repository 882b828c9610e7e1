"""Words are letters and digits of any script, in lower case."""

from tasks.core.text.ngrams import words


def test_words_ignore_case_punctuation_and_underscores():
    assert words("Merge_sorted(a, B2) != None") == ["merge", "sorted", "a", "b2", "none"]


def test_scripts_without_spaces_give_a_word_for_each_character():
    assert words("機械学習 rocks") == ["機", "械", "学", "習", "rocks"]
