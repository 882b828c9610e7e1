"""JSON schemas: of values, and of the arguments of tools."""

import json
from collections.abc import Mapping
from typing import Any

from tasks.core.records import Unfit

OPEN = ("additionalProperties", "patternProperties", "unevaluatedProperties")
"""Keywords by which a schema itself says what becomes of names that it does not list."""


def misfit(schema: Mapping[str, Any]) -> str:
    """Return the reason why a mapping is no JSON schema (draft 2020-12, or what its `$schema` names); empty if it is one."""
    from jsonschema import exceptions, validators

    try:
        validators.validator_for(schema).check_schema(schema)
    except exceptions.SchemaError as error:
        return f"{error.json_path}: {error.message}"
    return ""


def broken(value: Any, schema: Mapping[str, Any]) -> str:
    """Return where the value breaks the schema; empty if it keeps it."""
    from jsonschema import validators

    validator = validators.validator_for(schema)(schema)
    error = next(iter(sorted(validator.iter_errors(value), key=lambda error: error.json_path)), None)
    return f"{error.json_path}: {error.message}"[:200] if error else ""


def of_tools(tools: str | None) -> dict[str, Mapping[str, Any]] | Unfit:
    """Return the schema of each tool's arguments by its name, from a JSON list in OpenAI's form, or the reason why they are none."""
    schemas: dict[str, Mapping[str, Any]] = {}
    for tool in json.loads(tools or "[]"):
        name, parameters = tool["function"]["name"], tool["function"].get("parameters") or {}
        if name in schemas:
            return Unfit("two tools of one name", f"{name!r} is in the list of tools twice")
        if reason := misfit(parameters):
            return Unfit("broken tools", f"the parameters of {name!r} are no JSON schema: {reason}")
        schemas[name] = parameters
    return schemas


def broken_call(name: str, arguments: Any, schemas: Mapping[str, Mapping[str, Any]]) -> Unfit | None:
    """Return what is wrong with a call; None if its tool is known and its arguments keep the schema.

    A schema that lists its properties and says nothing of others allows no others: what a tool does not know it cannot use.
    """
    if name not in schemas:
        return Unfit("unknown tool", f"{name!r} is in no schema; known are {', '.join(schemas) or 'none'}")
    schema = schemas[name]
    listed = schema.get("properties")
    unknown = (
        sorted(set(arguments) - set(listed)) if listed is not None and not any(key in schema for key in OPEN) else []
    )
    if unknown:
        return Unfit("arguments break the schema", f"{name!r} takes no {', '.join(map(repr, unknown))}")
    reason = broken(arguments, schema)
    return Unfit("arguments break the schema", f"{name!r}: {reason}") if reason else None
