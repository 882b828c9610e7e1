"""Measure tool calls beyond equality with the reference: the right tool, arguments that its schema allows, and the result of the call."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tasks.core.answers import registry, schemas
from tasks.core.answers.base import PASSED
from tasks.core.answers.tool_call import NAME, NONE, RESULT, VALID, ToolCall, calls
from tasks.core.records import Example, Result, Tests, Unfit
from tasks.io import pinned, provenance
from tasks.io.sandbox import Case, Verdict
from tasks.stages.evaluate.config import ToolsConfig

RunCases = Callable[[Iterable[Case]], Iterator[Verdict]]
BY_NAME = ToolCall(compare="name")
COMPARED = """import json
made, expected = json.loads({calls!r})
made, expected = ([globals()[call["name"]](**call["arguments"]) for call in side] for side in (made, expected))
rest = list(made)
for result in expected:
    assert result in rest, f"{{made}} is not {{expected}}"
    rest.remove(result)
assert not rest, f"{{made}} is not {{expected}}"
"""
"""Runs in the sandbox after the file with the tools. Calls may come in any order, as in the check. Their results may be unhashable, so they
are compared as lists."""


def source(config: ToolsConfig) -> str:
    """Return the program that defines the tools. Raises ValueError if it is not the file that the settings name."""
    if not config.path.is_file():
        raise ValueError(f"evaluate.tools.path: there is no file {config.path}.")
    pinned.check(config.path, provenance.digest(config.path), config.digest, "evaluate.tools.digest")
    return config.path.read_text(encoding="utf-8")


def check_single(problems: Sequence[Example]) -> None:
    """Raise ValueError for a problem whose answer has several calls: constrained decoding writes one."""
    for problem in problems:
        if (several := len(_expected(problem))) > 1:
            raise ValueError(
                f"evaluate.constrained: the right answer to example {problem.id} is {several} calls at once, and constrained decoding writes one. "
                "Leave the example or the setting out."
            )


def measure(
    problems: Sequence[Example], results: Sequence[Result], program: str = "", run_cases: RunCases | None = None
) -> list[Result]:
    """Return the results of `NAME`, of `VALID` for problems that list tools, and of `RESULT` if `run_cases` can run the tools."""
    pairs = list(zip(problems, results, strict=True))
    rows = [_named(problem, result) for problem, result in pairs]
    rows += [_allowed(problem, result) for problem, result in pairs if problem.tools]
    return rows + (list(_executed(pairs, program, run_cases)) if run_cases else [])


def _expected(problem: Example) -> list[dict[str, Any]]:
    assert problem.tests is not None, "only examples with tests are solved"
    _, expected = registry.of(problem.tests)
    return list(expected)


def _judged(result: Result, measure: str, outcome: str) -> Result:
    return replace(result, measure=measure, value=float(outcome == PASSED), outcome=outcome)


def _named(problem: Example, result: Result) -> Result:
    return _judged(result, NAME, BY_NAME.grade(result.output, _expected(problem)).verdict)


def _allowed(problem: Example, result: Result) -> Result:
    """Return the result that says whether the schemas of the problem's tools allow the model's calls."""
    known, made = schemas.of_tools(problem.tools), list(calls(result.output))
    if isinstance(known, Unfit):
        return _judged(result, VALID, known.reason)
    wrong = [unfit for call in made if (unfit := schemas.broken_call(call["name"], call["arguments"], known))]
    return _judged(result, VALID, wrong[0].reason if wrong else PASSED if made else NONE)


def _executed(pairs: Sequence[tuple[Example, Result]], program: str, run_cases: RunCases) -> Iterator[Result]:
    """Yield the results that say whether the model's calls return the same as the right calls."""
    written = [(problem, result, list(calls(result.output))) for problem, result in pairs]
    cases = [_case(program, made, _expected(problem)) for problem, _, made in written if made]
    verdicts = run_cases(cases)
    for _, result, made in written:
        yield _judged(result, RESULT, next(verdicts).kind if made else NONE)


def _case(program: str, made: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> Case:
    return Case(program, Tests("script", COMPARED.format(calls=json.dumps([made, expected])), ""))
