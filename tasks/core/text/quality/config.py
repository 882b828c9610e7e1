"""Limits of the quality rules. A rule without a limit is off."""

from pydantic import Field, field_validator

from tasks.core.config import Config

Share = float | None


class Quality(Config):
    """Limits for texts. Each rule states the value of its paper, which is meant for English web pages.

    Gopher: Rae et al. 2021, https://arxiv.org/abs/2112.11446, appendix A.1.1 and table A1. C4: Raffel et al. 2020,
    https://arxiv.org/abs/1910.10683, section 2.2.
    """

    min_words: int | None = Field(None, ge=1)
    """Gopher: 50."""
    max_words: int | None = Field(None, ge=1)
    """Gopher: 100,000."""
    min_word_length: float | None = Field(None, gt=0)
    """The mean length of a word in characters. Gopher: 3."""
    max_word_length: float | None = Field(None, gt=0)
    """Gopher: 10."""
    symbols_per_word: float | None = Field(None, ge=0)
    """Number signs, or ellipses, per word. Gopher: 0.1."""
    bullet_lines: Share = Field(None, ge=0, le=1)
    """The share of lines that begin with a bullet. Gopher: 0.9."""
    ellipsis_lines: Share = Field(None, ge=0, le=1)
    """The share of lines that end with an ellipsis. Gopher: 0.3."""
    alphabetic_words: Share = Field(None, ge=0, le=1)
    """The smallest share of words with a letter. Gopher: 0.8."""
    stop_words: int | None = Field(None, ge=1)
    """The smallest number of these words that occur: the, be, to, of, and, that, have, with. Gopher: 2."""
    duplicate_lines: Share = Field(None, ge=0, le=1)
    """The share of lines that repeat an earlier line. Gopher: 0.3."""
    duplicate_line_chars: Share = Field(None, ge=0, le=1)
    """The share of characters in lines that repeat an earlier line. Gopher: 0.2."""
    duplicate_paragraphs: Share = Field(None, ge=0, le=1)
    """The share of paragraphs that repeat an earlier one. Gopher: 0.3."""
    duplicate_paragraph_chars: Share = Field(None, ge=0, le=1)
    """Gopher: 0.2."""
    top_ngrams: dict[int, float] = Field(default_factory=dict)
    """n → the share of characters in the most frequent sequence of n words. Gopher: {2: 0.2, 3: 0.18, 4: 0.16}."""
    duplicate_ngrams: dict[int, float] = Field(default_factory=dict)
    """n → the share of characters in sequences of n words that repeat an earlier one. Gopher: {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}."""
    boilerplate_lines: Share = Field(None, ge=0, le=1)
    """The share of lines with a phrase of a web page's notices (cookies, terms of use, privacy policy, JavaScript). C4 removes such lines."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the allowed languages, detected by py3langid (extra `language`). Without any, all are allowed."""
    language_letters: int = Field(60, ge=1)
    """Texts with fewer letters are kept, because their language cannot be detected."""

    @field_validator("top_ngrams", "duplicate_ngrams")
    @classmethod
    def _are_shares(cls, limits: dict[int, float]) -> dict[int, float]:
        for length, share in limits.items():
            if length < 1 or not 0 <= share <= 1:
                raise ValueError(
                    f"{{{length}: {share:g}}}: expected a number of words from 1 on, and a share between 0 and 1"
                )
        return limits

    @property
    def is_on(self) -> bool:
        """Return True if a rule has a limit."""
        return self != Quality(language_letters=self.language_letters)


class QualityLimits(Config):
    """Limits of the quality rules, for the last answers of examples and for the documents of a corpus."""

    examples: Quality = Quality()
    domain: Quality = Quality()
    general: Quality = Quality()
