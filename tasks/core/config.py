"""The base of every section of `params.yaml`."""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue


class Config(BaseModel):
    """A frozen section of settings in which an unknown key is an error. The docstring below a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema with the description of each field."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in descriptions(cls).items():
            properties[name]["description"] = text
        return schema


@cache
def descriptions(section: type[BaseModel]) -> Mapping[str, str]:
    """Map each field of a section that has a docstring below it to that docstring.

    They are read from the source when somebody asks. Pydantic would read them whenever a section is imported
    (`use_attribute_docstrings`), which is a third of what it costs to load the settings.
    """
    texts: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if issubclass(kind, BaseModel):
            texts |= _docstrings(kind)
    return {name: texts[name] for name in section.model_fields if name in texts}


def _docstrings(kind: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below the fields that a class itself has; none of a class that is made while the program runs."""
    try:
        source = inspect.getsource(kind)
    except OSError:
        return {}
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }  # fmt: skip
