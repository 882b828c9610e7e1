import json

import pytest

from flows.experiments.recipes import Recipe

TWO = {"compositions": {"lora": {"adapter": "lora"}, "full": {"adapter": "none"}}}
"""A recipe's compositions."""


@pytest.fixture
def lines(tmp_path):
    """A function that writes rows to a file of JSON Lines of that name."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def recipe() -> Recipe:
    """A comparison of two compositions with two seeds."""
    return Recipe.model_validate(TWO | {"seeds": 2, "tokens": 1000})
