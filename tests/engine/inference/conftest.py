import pytest

from tests import tiny as small


@pytest.fixture(scope="module")
def pair(tiny):
    """A model whose answers depend on the prompt: random weights, drawn wide."""
    return small.decided(tiny)
