"""Words of many texts are found and hashed at once as they are one by one, in ASCII and beyond."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.text.shingles import hash_words
from tests.core.text.reference import words

PARTS = st.sampled_from(
    [
        "word",
        "Words",
        "a_b",
        "x1",
        "0",
        "-",
        "\n",
        " ",
        "  ",
        "\x00",
        "longer" * 4,
        "ähnlich",
        "日本",
        "é",
        "ß",
        "twelveletter",
        "ﬁ",
        "\u200b",
        "´",
        "</b>",
        "&amp;",
    ]
)
TEXTS = st.lists(st.lists(PARTS, max_size=8).map("".join), max_size=8)


@given(TEXTS)
def test_words_are_those_of_each_text_and_equal_ones_have_equal_hashes(texts):
    hashed, expected = hash_words(texts), [words(text) for text in texts]
    assert hashed.counts.tolist() == list(map(len, expected))
    hash_of = dict(zip([word for text in expected for word in text], hashed.hashes.tolist(), strict=True))
    assert [hash_of[word] for text in expected for word in text] == hashed.hashes.tolist()
    assert len(set(hash_of.values())) == len(hash_of)


def test_a_word_has_one_hash_in_ascii_and_beyond():
    plain, other = hash_words(["one two threescore"]), hash_words(["ein one zwö two threescore"])
    assert set(plain.hashes.tolist()) < set(other.hashes.tolist())


def test_words_that_differ_in_length_or_in_any_byte_differ():
    given_words = [
        "a",
        "aa",
        "aaaaaaaa",
        "aaaaaaaaa",
        "aaaaaaab",
        "baaaaaaa",
        "aaaaaaaab",
        "a0",
        "0a",
        *(f"{n:09d}" for n in range(5_000)),
    ]
    assert len(set(hash_words([" ".join(given_words)]).hashes.tolist())) == len(given_words)
