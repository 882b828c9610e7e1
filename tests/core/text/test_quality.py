"""Quality rules: each measure on texts that can be counted by hand, and the limits of the papers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.core.text.quality import language, rules
from tasks.core.text.quality.config import Quality

GOPHER = Quality(
    min_words=50, max_words=100_000, min_word_length=3, max_word_length=10, symbols_per_word=0.1, bullet_lines=0.9,
    ellipsis_lines=0.3, alphabetic_words=0.8, stop_words=2, duplicate_lines=0.3, duplicate_line_chars=0.2,
    duplicate_paragraphs=0.3, duplicate_paragraph_chars=0.2, top_ngrams={2: 0.2, 3: 0.18, 4: 0.16},
    duplicate_ngrams={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}, boilerplate_lines=0.2,
)  # fmt: skip
PROSE = (
    "When the first trains of the new line left the station, nobody on the platform believed that they would be back before "
    "dusk.\nA guard with a lantern walked along the rails and counted sleepers aloud, as his father had taught him.\n\n"
    "Later that week a letter arrived from the coast; it spoke of storms, of broken masts, and of a harbour that had to be "
    "dug out by hand.\nThe mayor read it twice before he folded it away."
)


def test_prose_keeps_all_limits_of_the_papers():
    assert rules.check(PROSE, GOPHER) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("min_words", "too few words"),
        ("min_word_length", "a b c d " * 20),
        ("max_word_length", "incomprehensibilities antidisestablishment " * 40),
        ("symbols_per_word", PROSE + " #" * 30),
        ("bullet_lines", "\n".join(f"- {line}" for line in rules.lines_of(PROSE))),
        ("ellipsis_lines", "\n".join(f"{part} …" for part in PROSE.split(","))),
        ("alphabetic_words", PROSE + " 12345" * 60),
        ("stop_words", " ".join(f"wort{number}" for number in range(60))),
        ("duplicate_lines", PROSE + "\nyes, that line" * 5),
        ("duplicate_line_chars", PROSE + f"\n{PROSE.splitlines()[0]} {PROSE.splitlines()[1]}" * 2),
        ("duplicate_paragraphs", PROSE + "\n\nof that" * 3),
        ("boilerplate_lines", PROSE + "\nWe use cookies to improve that.\nRead our Privacy Policy."),
        ("top_ngrams", PROSE + " ".join(f"x{n} the longest-winded-words of-the-time" for n in range(8))),
        ("duplicate_ngrams", f"{PROSE} {' '.join(PROSE.split()[:25])}"),
    ],
)
def test_each_rule_refuses_what_breaks_it_alone(name, text):
    limit = {name: getattr(GOPHER, name)}
    unfit = rules.check(text, Quality(**limit))
    assert unfit is not None
    assert unfit.reason == f"quality: {name}"
    assert unfit.detail.endswith(("are required", "are allowed"))
    assert rules.check(PROSE, Quality(**limit)) is None


def test_measures_by_hand():
    words = ["to", "be", "or", "not", "to", "be"]
    assert rules.mean_word_length(words) == 13 / 6
    assert rules.count_stop_words(words) == 2
    assert rules.symbols_per_word("a # b # … c", ["a", "#", "b", "#", "…", "c"]) == 2 / 6
    assert rules.alphabetic_word_share(["a1", "22", "ß", "—"]) == 0.5
    assert rules.duplicate_share(["a", "b", "a", "a"]) == 0.5
    assert rules.duplicate_char_share(["aaaa", "bb", "aaaa"]) == pytest.approx(0.4)
    assert rules.top_ngram_char_share(words, 2) == 8 / 13  # "to be", twice
    assert rules.duplicate_ngram_char_share(words, 2) == 4 / 13  # the second "to be"
    assert rules.duplicate_ngram_char_share(["a", "b", "a", "b", "a", "b"], 2) == 4 / 6  # overlaps count once
    assert rules.top_ngram_char_share(["a", "b"], 2) == 0
    assert rules.bullet_line_share(["- a", "• b", "c"]) == pytest.approx(2 / 3)
    assert rules.ellipsis_line_share(["a...", "b…", "c."]) == pytest.approx(2 / 3)
    assert rules.paragraphs_of("a\nb\n \n\nc") == ["a\nb", "c"]


@given(st.text(max_size=200), st.integers(1, 6))
def test_shares_are_shares_of_any_text(text, length):
    words, lines = text.split(), rules.lines_of(text)
    for share in (
        rules.top_ngram_char_share(words, length), rules.duplicate_ngram_char_share(words, length), rules.duplicate_share(lines),
        rules.duplicate_char_share(lines), rules.bullet_line_share(lines), rules.alphabetic_word_share(words),
    ):  # fmt: skip
        assert 0 <= share <= 1
    rules.check(text, GOPHER)


def test_no_rule_is_on_by_itself():
    assert not Quality().is_on
    assert Quality(min_words=1).is_on
    assert Quality(languages=("en",)).is_on
    assert rules.check("", Quality()) is None


def test_limits_that_are_none_are_refused():
    with pytest.raises(ValidationError, match="a share between 0 and 1"):
        Quality(top_ngrams={2: 1.5})


def test_languages():
    limits = Quality(languages=("en", "fr"))
    german = "Als die ersten Züge den Bahnhof verließen, glaubte niemand, dass sie vor dem Abend zurück wären."
    assert language.check(PROSE, limits) is None
    unfit = language.check(german, limits)
    assert unfit is not None
    assert (unfit.reason, unfit.detail) == ("language", "de; allowed are en, fr")
    assert language.check(german[:20], limits) is None  # too short to tell
    assert language.check(german, Quality()) is None
