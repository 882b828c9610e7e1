"""Sentence embeddings from a sentence-transformers folder on disk."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH = 16
TOKENS = 128
"""Largest number of tokens of a text, whose rest is ignored. It takes a third less time than the model's 256 and finds copies equally well."""


def check(folder: Path, asking: str = "ingest.near_duplicates.cosine", instead: str = "set cosine to null") -> None:
    """Raise ValueError if the folder holds no model. The message names the setting (`asking`) that needs one, and the alternative (`instead`)."""
    if not (folder / "modules.json").is_file():
        raise ValueError(
            f"{folder} holds no sentence-transformers model, and `{asking}` asks for one. "
            f"Name one in `fetch` in params.yaml, or {instead}."
        )


def embed(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return one unit vector per text, in order, in fp32. Raises ValueError if the folder holds no model."""
    check(folder)
    # The library sorts batches by length to save padding, and returns the vectors in the order of the texts.
    return _model(folder).encode(
        list(texts), batch_size=BATCH, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    )


@lru_cache(maxsize=1)
def _model(folder: Path) -> "SentenceTransformer":
    """Return the model in a folder. The last one stays in memory, because texts may come in blocks."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False).float()
    model.max_seq_length = min(TOKENS, model.max_seq_length or TOKENS)
    return model
