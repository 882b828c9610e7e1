"""Words are letters and digits of any script, in lower case."""

import pytest

from tasks.core.text.ngrams import words
from tasks.core.text.shingles import hash_words


def test_words_ignore_case_punctuation_and_underscores():
    assert words("Merge_sorted(a, B2) != None") == ["merge", "sorted", "a", "b2", "none"]


def test_scripts_without_spaces_give_a_word_for_each_character():
    assert words("機械学習 rocks") == ["機", "械", "学", "習", "rocks"]


@pytest.mark.parametrize("text", ["สวัสดีครับ", "ສະບາຍດີ", "မင်္ဂလာပါ", "សួស្តី", "ｶﾀｶﾅ"])
def test_thai_lao_burmese_khmer_and_narrow_kana_are_such_scripts_for_many_texts_too(text):
    assert words(text) == list(text)
    assert hash_words([text]).counts.tolist() == [len(text)]
