"""Embeddings of texts, from a model small enough to make here."""

import numpy as np
import pytest

from tasks.io.weights import embedders
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.embedder(tmp_path_factory.mktemp("embedder"), ["one", "two", "three", "four"])


def test_equal_texts_have_equal_unit_vectors_in_the_order_of_the_texts(folder):
    vectors = embedders.embed(folder, ["one two three", "four", "three two one"])
    np.testing.assert_allclose(vectors @ vectors.T, [[1, 0, 1], [0, 1, 0], [1, 0, 1]], atol=1e-6)
    assert vectors.dtype == np.float32


def test_a_folder_without_a_model_is_told_with_the_key_that_would_do(tmp_path):
    with pytest.raises(ValueError, match=r"ingest.near_duplicates.cosine.*set cosine to null"):
        embedders.embed(tmp_path, ["one"])
