"""JSON schemas of values and of the arguments of tools."""

import json
from collections.abc import Mapping
from typing import Any

from tasks.core.records import Unfit

OPEN = ("additionalProperties", "patternProperties", "unevaluatedProperties")
"""Keywords by which a schema itself decides about properties that it does not list."""


REFERENCES = ("$ref", "$dynamicRef")


def misfit(schema: Any) -> str:
    """Return the reason why a value is not a JSON schema (draft 2020-12, or the draft in `$schema`); empty if it is one.

    Its references may refer only to places within it and to the schemas of the drafts, so that data cannot cause a download or the reading of a file.
    """
    from jsonschema import exceptions, validators
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    if not isinstance(schema, Mapping) or not isinstance(schema.get("$schema", ""), str):
        return "$: it is not an object, or its $schema is not a text"
    validator, specification, visited = validators.validator_for(schema), DRAFT202012.detect(schema), set[int]()

    def follow(part: Any, resolver: Any) -> None:
        if not isinstance(part, Mapping) or id(part) in visited:
            return
        visited.add(id(part))
        for reference in (part[keyword] for keyword in REFERENCES if keyword in part):
            try:
                target = resolver.lookup(reference)
            except (Unresolvable, ValueError, TypeError):  # the last two if a pointer leads into a list or a number
                raise exceptions.SchemaError(f"{reference!r} leads to no place within it") from None
            validator.check_schema(target.contents)
            follow(target.contents, target.resolver)
        for inner in specification.create_resource(part).subresources():
            follow(inner.contents, resolver.in_subresource(inner))

    try:
        validator.check_schema(schema)
        follow(schema, REGISTRY.resolver_with_root(specification.create_resource(schema)))
    except exceptions.SchemaError as error:
        return f"{error.json_path}: {error.message}"
    except RecursionError:
        return "$: it is nested too deeply"
    return ""


def broken(value: Any, schema: Mapping[str, Any]) -> str:
    """Return the place where the value violates the schema; empty if it fits."""
    from jsonschema import validators
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable

    # The default registry would fetch the addresses in a schema.
    validator = validators.validator_for(schema)(schema, registry=REGISTRY)
    try:
        first = min(validator.iter_errors(value), key=lambda error: error.json_path, default=None)
    except (Unresolvable, RecursionError, OverflowError) as error:  # also circular references, and huge numbers
        return f"$: it cannot be validated: {type(error).__name__}"
    return f"{first.json_path}: {first.message}"[:200] if first else ""


def of_tools(tools: str | None) -> dict[str, Mapping[str, Any]] | Unfit:
    """Return the schema of each tool's arguments by its name, from a JSON list in OpenAI's form, or the reason why it is not such a list."""
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
    """Return the error in a call; None if its tool is known and its arguments fit the schema.

    If a schema lists properties and does not mention others, it allows no others, because the tool could not use them.
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
