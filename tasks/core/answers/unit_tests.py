"""Check `unit_tests`: the answer is a test suite for a function; its score is the share of mutants that it detects.

Stage `evaluate` runs it in the sandbox (`tasks/stages/evaluate/suites/`), as `evaluate.tests` of params.yaml says.
"""

import ast
from typing import Any, ClassVar, Literal

from tasks.core.answers.base import AnswerCheck, Grade, Row
from tasks.core.records import SCORED, Unfit

NAME = "unit_tests"
PARSES, RIGHT, LINES, BRANCHES, OWN = (
    f"{NAME} parse",
    f"{NAME} right",
    f"{NAME} lines{SCORED}",
    f"{NAME} branches{SCORED}",
    f"{NAME} own{SCORED}",
)
"""The measures beside the share of mistakes that are noticed: whether a suite parses, whether it is right about the right program, the
shares of lines and of branches that it reaches, and the share of mistakes that the data's own suites notice."""


class UnitTests(AnswerCheck):
    """The share of mistakes in the function that the suite notices; 0 if it is not right about the function as it is."""

    graded: ClassVar[bool] = True
    beside: ClassVar[tuple[str, ...]] = (PARSES, RIGHT, LINES, BRANCHES, OWN)
    kind: Literal["unit_tests"] = "unit_tests"
    program: str = "program"
    """The column with the program under test: Python that defines the function. The standard library is there, nothing else is."""
    entry: str = "entry"
    """The column with the name of the function. Where the row has none, it is the last one that the program defines."""

    prelude: str = "prelude"
    """The column with source that runs before the program, such as helpers; rows need not have it."""

    def expect(self, row: Row) -> dict[str, str] | Unfit:
        program = row.values.get(self.program)
        if not isinstance(program, str) or not program.strip():
            return Unfit("no program", f"the column {self.program!r} has no text")
        try:
            defined = [node.name for node in ast.parse(program).body if isinstance(node, ast.FunctionDef)]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return Unfit("no program", f"the column {self.program!r} is no Python: {error}")
        entry = row.values.get(self.entry) or next(reversed(defined), None)
        if entry not in defined:
            return Unfit("no function", f"the program defines {', '.join(defined) or 'none'}, not {entry!r}")
        return {"program": program, "entry": entry, "prelude": row.values.get(self.prelude) or ""}

    def grade(self, answer: str, expected: Any) -> Grade:
        raise ValueError("Suites run in a sandbox: stage evaluate grades them, as `evaluate.tests` says.")

    def shown(self, expected: Any) -> str:
        return str(expected["program"])
