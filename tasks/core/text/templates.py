"""Templates of settings over the columns of a row: Jinja in its sandbox, which reaches no attribute of Python and changes nothing."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

EXPRESSION = ("{{", "{%")


def is_template(value: str) -> bool:
    """Return True if a setting is a template, and not the name of a column."""
    return any(mark in value for mark in EXPRESSION)


def check_template(value: str) -> None:
    """Raise ValueError if the setting is a template that cannot be parsed."""
    if is_template(value):
        _parsed(value)


def columns_of(value: str) -> frozenset[str]:
    """Return the columns that a setting needs: itself, or the variables of the template."""
    return _parsed(value)[1] if is_template(value) else frozenset({value})


def rendered(value: str, row: Mapping[str, Any]) -> Any:
    """Return the column that the setting names, or its template filled in. Raises ValueError if the row does not fit the template."""
    if not is_template(value):
        return row[value]
    import jinja2

    try:
        return _parsed(value)[0].render({**row, "row": row})
    except (
        jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise ValueError(f"the template {value!r} does not fit the row: {error}") from None


def _written(value: Any) -> Any:
    """Return what a template writes. Raises ValueError for null, which Jinja would write as the word `None`."""
    if value is None:
        raise ValueError("a column that it writes is null; `{% if COLUMN %}` leaves it out")
    return value


@lru_cache
def _parsed(value: str) -> tuple[Any, frozenset[str]]:
    """Return the compiled template and its variables."""
    import jinja2.meta
    import jinja2.sandbox

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_written
    )
    try:
        tree = environment.parse(value)
        template = environment.from_string(value)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"the template {value!r} cannot be parsed: {error.message}") from None
    return template, frozenset(jinja2.meta.find_undeclared_variables(tree) - {"row"} - set(environment.globals))
