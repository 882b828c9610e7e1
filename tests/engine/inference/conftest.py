import pytest

from tests import tiny as small


@pytest.fixture(scope="module")
def pair(tiny):
    """A model whose answers depend on the prompt, because its random weights have a large variance."""
    return small.decided(tiny)
