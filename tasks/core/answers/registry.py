"""All kinds of checks: the setting of a source, and the check that the tests of an example hold."""

import json
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, TypeAdapter

from tasks.core.answers.base import AnswerCheck, Row
from tasks.core.answers.choice import Choice
from tasks.core.answers.contains import Contains
from tasks.core.answers.exact import Exact
from tasks.core.answers.json import Json, written
from tasks.core.answers.judge import Judge
from tasks.core.answers.labels import Labels
from tasks.core.answers.number import Number
from tasks.core.answers.overlap import Chrf, Rouge
from tasks.core.answers.regex import Regex
from tasks.core.answers.tool_call import ToolCall
from tasks.core.answers.tool_choice import ToolChoice
from tasks.core.answers.unit_tests import UnitTests
from tasks.core.records import Tests, Unfit

AnyKind = (
    Exact
    | Number
    | Choice
    | Regex
    | Json
    | Labels
    | Contains
    | ToolCall
    | ToolChoice
    | Rouge
    | Chrf
    | Judge
    | UnitTests
)


def _spelt_out(value: Any) -> Any:
    """Return the mapping for a bare name: `{kind: number}` for `number`."""
    return {"kind": value} if isinstance(value, str) else value


Check = Annotated[AnyKind, Field(discriminator="kind"), BeforeValidator(_spelt_out)]
"""The setting `check` of a source: the name of a kind, or a mapping with its options."""
_CHECK: TypeAdapter[AnyKind] = TypeAdapter(Check)


def parse(value: Any) -> AnyKind:
    """Return the check that a setting names. Raises ValueError if there is no such check."""
    return _CHECK.validate_python(value)


def measures() -> list[str]:
    """Return the measures of all kinds, with their further measures, in the order of the report."""
    kinds = sorted(get_args(AnyKind), key=lambda kind: str(kind.model_fields["kind"].default))
    named = [(kind.model_construct(kind=kind.model_fields["kind"].default).measure, *kind.beside) for kind in kinds]
    return [name for names in named for name in names]


def tests(check: AnswerCheck, row: Row) -> Tests | Unfit:
    """Return the tests of an example (the check and the expected answer), or the reason why the check does not fit the row."""
    expected = check.expect(row)
    if isinstance(expected, Unfit):
        return expected
    options = check.model_dump(exclude_defaults=True) | {"kind": check.kind}
    return Tests("check", written(options), written(expected))


def of(tests: Tests) -> tuple[AnyKind, Any]:
    """Return the check of an example and its expected answer."""
    return _CHECK.validate_json(tests.code), json.loads(tests.entry)
