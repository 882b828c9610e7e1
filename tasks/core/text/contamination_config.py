"""The limits of contamination, apart from its detection, which imports NumPy and polars: settings are read without them."""

from pydantic import Field

from tasks.core.config import Config


class Contamination(Config):
    """Limits from which on a training text counts as contaminated by an evaluation text."""

    ngram: int = Field(default=13, ge=4)
    """Words in a row that must agree; half as many for texts shorter than twice this. An evaluation text of one or two such runs must be
    held as a whole, and one with fewer words is not judged."""
    share: float = Field(default=0.5, gt=0, le=1)
    """The share of the shorter text's n-grams that the other must hold."""
    common: int = Field(default=10, ge=1)
    """An n-gram that more than so many training texts hold is a phrase, not a leak. An evaluation text of twice `ngram` words or more that
    they hold as a whole is a leak all the same, up to a tenth of all training texts."""
