"""Limits of the quality rules. A rule without a limit is off."""

from pydantic import Field, field_validator

from tasks.core.config import Config

Share = float | None


class Quality(Config):
    """Limits that texts have to keep. The values of the papers, which are meant for English web pages, stand beside each rule.

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
    """Number signs and ellipses to each word. Gopher: 0.1."""
    bullet_lines: Share = Field(None, ge=0, le=1)
    """The share of lines that begin with a bullet. Gopher: 0.9."""
    ellipsis_lines: Share = Field(None, ge=0, le=1)
    """The share of lines that end with an ellipsis. Gopher: 0.3."""
    alphabetic_words: Share = Field(None, ge=0, le=1)
    """At least this share of words holds a letter. Gopher: 0.8."""
    stop_words: int | None = Field(None, ge=1)
    """At least so many of: the, be, to, of, and, that, have, with. Gopher: 2."""
    duplicate_lines: Share = Field(None, ge=0, le=1)
    """The share of lines that stood earlier in the text. Gopher: 0.3."""
    duplicate_line_chars: Share = Field(None, ge=0, le=1)
    """The share of characters in such lines. Gopher: 0.2."""
    duplicate_paragraphs: Share = Field(None, ge=0, le=1)
    """The same of paragraphs. Gopher: 0.3."""
    duplicate_paragraph_chars: Share = Field(None, ge=0, le=1)
    """Gopher: 0.2."""
    top_ngrams: dict[int, float] = Field(default_factory=dict)
    """n → the share of characters in the most frequent n words in a row. Gopher: {2: 0.2, 3: 0.18, 4: 0.16}."""
    duplicate_ngrams: dict[int, float] = Field(default_factory=dict)
    """n → the share of characters in n words in a row that stood earlier. Gopher: {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}."""
    boilerplate_lines: Share = Field(None, ge=0, le=1)
    """The share of lines with a phrase of web pages' notices (cookies, terms of use, privacy policy, JavaScript). C4 removes them."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes. A text in another language is refused, by py3langid (extra `language`); none allows all."""
    language_letters: int = Field(60, ge=1)
    """Texts with fewer letters are of no language that could be told, and are kept."""

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
    """Limits of the quality rules, by what they are held against: the last answer of an example, or a document of a corpus."""

    examples: Quality = Quality()
    domain: Quality = Quality()
    general: Quality = Quality()
