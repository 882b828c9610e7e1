"""Templates in settings over the columns of a row: Jinja in its sandbox, which can read no attribute of Python objects and change nothing."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

EXPRESSION = ("{{", "{%")
WRITTEN_NULL = "a column that it writes is null; `{% if COLUMN %}` leaves it out"


def is_template(value: str) -> bool:
    """Return True if a setting is a template, False if it is the name of a column."""
    return any(mark in value for mark in EXPRESSION)


def check_template(value: str) -> None:
    """Raise ValueError if the setting is a template that cannot be parsed."""
    if is_template(value):
        _parsed(value)


def columns_of(value: str) -> frozenset[str]:
    """Return the columns that a setting needs: the column that it names, or the variables of the template."""
    return _parsed(value)[1] if is_template(value) else frozenset({value})


def rendered(value: str, row: Mapping[str, Any]) -> Any:
    """Return the value of the column that the setting names, or the rendered template. Raises ValueError if the row does not fit the template."""
    if not is_template(value):
        return row[value]
    import jinja2

    columns = _without_none(row)
    try:
        return _parsed(value)[0].render({**columns, "row": columns})
    except (
        jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
    ) as error:  # fmt: skip
        told = str(error).replace(f"{__name__}.{_Null.__name__} object", "null").replace(_Null.__name__, "null")
        raise ValueError(f"the template {value!r} does not fit the row: {told}") from None


class _Null:
    """A null of a row. It equals `none` in comparisons and raises an error if it becomes text, which would be the word `None`."""

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return _is_none(other)

    def __hash__(self) -> int:
        return hash(None)

    def __repr__(self) -> str:
        raise ValueError(WRITTEN_NULL)


def _is_none(value: object) -> bool:
    return value is None or isinstance(value, _Null)


def _as_json(value: Any) -> None:
    """Return the JSON value of a null. Raises TypeError for any other type that JSON lacks."""
    if not isinstance(value, _Null):
        raise TypeError(f"JSON has no {type(value).__name__}")


class _Object(dict[Any, Any]):
    """A dictionary whose missing keys are null too."""

    def get(self, key: Any, default: Any = _Null()) -> Any:  # noqa: B008 (all nulls are one)
        return super().get(key, default)


def _without_none(value: Any) -> Any:
    """Return a value in which nulls at any depth are replaced by `_Null`."""
    if isinstance(value, Mapping):
        return _Object((key, _without_none(item)) for key, item in value.items())
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return _Null() if value is None else value


def _written(value: Any) -> Any:
    """Return the text of a value that a template writes. Raises ValueError for a null that the template itself created."""
    if value is None:
        raise ValueError(WRITTEN_NULL)
    return value


@lru_cache
def _parsed(value: str) -> tuple[Any, frozenset[str]]:
    """Return the compiled template and its variables."""
    import jinja2.meta
    import jinja2.sandbox

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_written
    )
    environment.tests["none"] = _is_none
    environment.tests["sameas"] = lambda one, other: one is other or (_is_none(one) and _is_none(other))
    environment.filters["fromjson"] = lambda text: _without_none(json.loads(text))
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": _as_json}
    try:
        tree = environment.parse(value)
        template = environment.from_string(value)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"the template {value!r} cannot be parsed: {error.message}") from None
    return template, frozenset(jinja2.meta.find_undeclared_variables(tree) - {"row"} - set(environment.globals))
