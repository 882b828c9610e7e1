"""The base of every section of `params.yaml`."""

import ast
import inspect
import math
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue


class Config(BaseModel):
    """A frozen section of settings. An unknown key is an error, and so is a number that JSON cannot represent (infinity, NaN).

    The docstring below a field is its description.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema with the description of each field."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in descriptions(cls).items():
            properties[cls.model_fields[name].alias or name]["description"] = text
        return schema


def share_of(count: int, share: float) -> int:
    """Return a share of `count`, rounded down. A share of 0.29 of 100 is 29, although the product of floats is 28.999999999999996."""
    return math.floor(share * count + 1e-9)


@cache
def descriptions(section: type[BaseModel]) -> Mapping[str, str]:
    """Map each field of a section that has a docstring below it to that docstring.

    They are read from the source on demand. Pydantic would read them at every import of a section (`use_attribute_docstrings`), which takes a
    third of the time to load the settings.
    """
    texts: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if issubclass(kind, Config) and (definition := _classes(kind.__module__).get(kind.__name__)):
            texts |= _docstrings(definition)
    return {name: texts[name] for name in section.model_fields if name in texts}


@cache
def _classes(module: str) -> Mapping[str, ast.ClassDef]:
    """Map the name of each class in a module's source to its definition. Classes that were created at run time are not in the source."""
    definitions = ast.parse(inspect.getsource(sys.modules[module])).body
    return {entry.name: entry for entry in definitions if isinstance(entry, ast.ClassDef)}


def _docstrings(definition: ast.ClassDef) -> dict[str, str]:
    """Map each field of a class that has a docstring below it to that docstring."""
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }  # fmt: skip
