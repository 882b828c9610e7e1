"""Every section of params.yaml is frozen and knows its keys."""

import pytest
from pydantic import ValidationError

from tasks.core.compute import Compute
from tasks.core.config import Config


class Section(Config):
    """A section."""

    rank: int = 1
    """Width."""


def test_an_unknown_key_is_an_error():
    with pytest.raises(ValidationError, match="rnak"):
        Section(rnak=2)


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Section().rank = 2


def test_the_docstring_under_a_field_describes_it():
    assert Section.model_fields["rank"].description == "Width."


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"precision": "fp16"}, {"threads": 0}])
def test_compute_takes_only_what_exists(wrong):
    with pytest.raises(ValidationError):
        Compute(**wrong)
