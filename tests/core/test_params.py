"""Every section of params.yaml is frozen and knows its keys."""

import pytest
from pydantic import Field, ValidationError, create_model

from tasks.core.compute import Compute
from tasks.core.config import Config, descriptions, share_of


class Section(Config):
    """A section."""

    rank: int = 1
    """Width."""


@pytest.mark.parametrize(("count", "share", "expected"), [(100, 0.29, 29), (70, 0.1, 7), (10, 0.39, 3), (5, 1.0, 5)])
def test_a_share_is_of_a_decimal_number_and_rounded_down(count, share, expected):
    assert share_of(count, share) == expected


def test_an_unknown_key_is_an_error():
    with pytest.raises(ValidationError, match="rnak"):
        Section(rnak=2)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_json_does_not_hold_is_an_error(number):
    with pytest.raises(ValidationError, match="finite number"):
        Wider(alpha=number)


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Section().rank = 2


class Wider(Section):
    """A section with more."""

    alpha: float = 2.0
    """Scale of the update.

    Divided by the rank.
    """
    seed: int = 0
    from_: str = Field(default="", alias="from")
    """Origin."""


def test_the_docstring_below_a_field_describes_it_in_sections_that_inherit_it_too():
    assert descriptions(Section) == {"rank": "Width."}
    scale = "Scale of the update.\n\nDivided by the rank."
    assert descriptions(Wider) == {"rank": "Width.", "alpha": scale, "from_": "Origin."}


def test_a_section_that_is_made_while_the_program_runs_has_the_descriptions_of_its_bases():
    assert descriptions(create_model("Made", __base__=Section, depth=(int, 1))) == {"rank": "Width."}


def test_the_json_schema_has_the_descriptions():
    properties = create_model("Whole", __base__=Config, part=(Wider, ...)).model_json_schema()["$defs"]["Wider"][
        "properties"
    ]
    assert {name: entry.get("description") for name, entry in properties.items()} == {
        "rank": "Width.",
        "alpha": "Scale of the update.\n\nDivided by the rank.",
        "seed": None,
        "from": "Origin.",
    }


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"precision": "fp16"}, {"threads": 0}])
def test_compute_takes_only_what_exists(wrong):
    with pytest.raises(ValidationError):
        Compute(**wrong)
