"""Check `unit_tests`: the answer is a test suite for a function; its score is the share of mutants that it detects.

Stage `evaluate` runs it in the sandbox (`tasks/stages/evaluate/suites/`), with the settings `evaluate.tests` of params.yaml.
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
"""The measures beside the share of detected mutants: the suite parses; it passes on the right program; the shares of lines and of branches
that it covers; and the share of mutants that the suites of the data detect."""


class UnitTests(AnswerCheck):
    """The share of the function's mutants that the suite detects; 0 if it fails on the function itself."""

    graded: ClassVar[bool] = True
    beside: ClassVar[tuple[str, ...]] = (PARSES, RIGHT, LINES, BRANCHES, OWN)
    kind: Literal["unit_tests"] = "unit_tests"
    program: str = "program"
    """The column with the program under test: Python code that defines the function and imports nothing but the standard library."""
    entry: str = "entry"
    """The column with the name of the function. If the row has none, it is the last function that the program defines."""

    prelude: str = "prelude"
    """The column with code that runs before the program, such as helpers. Rows may lack it."""

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
