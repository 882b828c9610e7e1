"""The base of every section of `params.yaml`."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen section of settings in which an unknown key is an error. A field's docstring is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
