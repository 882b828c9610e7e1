"""The thresholds above which two texts are near-duplicates."""

from pydantic import Field

from tasks.core.config import Config


class NearDuplicates(Config):
    """Thresholds above which two texts are near-duplicates. Prompts are compared with prompts, responses with responses."""

    jaccard: float | None = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of the three-word shingles; none switches the comparison off."""
    cosine: float | None = Field(default=0.95, gt=0, le=1)
    """Cosine of the embeddings of two responses; none switches it off, and no embedder is needed."""
    min_words: int = Field(default=8, ge=3)
    """Texts with fewer words of their own are only compared for equality: of equal prompts in two splits, one is kept; equal responses say
    nothing."""
    template: float = Field(default=0.05, gt=0, le=1)
    """Three words in a row that more than this share of the texts hold (and more than ten texts) are a template's."""
