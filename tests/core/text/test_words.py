"""Words are letters and digits of any script, in lower case."""

import pytest

from tasks.core.text.shingles import hash_words


def test_words_ignore_case_punctuation_and_underscores():
    assert (hash_words(["Merge_sorted(a, B2) != None"]).hashes == hash_words(["merge sorted a b2 none"]).hashes).all()


@pytest.mark.parametrize("text", ["機械学習", "สวัสดีครับ", "ສະບາຍດີ", "မင်္ဂလာပါ", "សួស្តី", "ｶﾀｶﾅ"])
def test_scripts_without_spaces_give_a_word_for_each_character(text):
    assert hash_words([f"{text} rocks"]).counts.tolist() == [len(text) + 1]
