"""The thresholds above which two texts are near-duplicates."""

from pydantic import Field

from tasks.core.config import Config


class NearDuplicates(Config):
    """Thresholds above which two texts are near-duplicates. Prompts are compared with prompts, responses with responses."""

    jaccard: float | None = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of the three-word shingles; null switches the comparison off."""
    cosine: float | None = Field(default=0.95, gt=0, le=1)
    """Cosine of the embeddings of two responses; null switches the comparison off, and no embedder is needed."""
    min_words: int = Field(default=8, ge=3)
    """Texts with fewer words outside of templates are compared only for equality: of equal prompts in two splits, one is kept; equal
    responses are ignored."""
    template: float = Field(default=0.05, gt=0, le=1)
    """Three consecutive words that occur in more than this share of the texts (and in more than ten texts) belong to a template."""
