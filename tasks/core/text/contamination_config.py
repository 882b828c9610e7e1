"""The limits of contamination. They are separate from its detection, which imports NumPy and polars, so that settings load without these."""

from pydantic import Field

from tasks.core.config import Config


class Contamination(Config):
    """Limits above which a training text counts as contaminated by an evaluation text."""

    ngram: int = Field(default=13, ge=4)
    """Number of consecutive words that must agree; half as many for texts shorter than twice this. An evaluation text of one or two such runs
    must be contained as a whole, and one with fewer words is not judged."""
    share: float = Field(default=0.5, gt=0, le=1)
    """The share of the shorter text's n-grams that the other text must contain."""
    common: int = Field(default=10, ge=1)
    """An n-gram in more training texts than this is a phrase, not a leak. An evaluation text of at least twice `ngram` words that they
    contain as a whole is still a leak, in up to a tenth of all training texts."""
