"""Reverse mined functions: the prompt is the function, and the answer is the assertions of its doctests or of its project's tests."""

import ast
import doctest
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.answers.unit_tests import UnitTests
from tasks.core.records import Example, Message, Refusal, Tests, Unfit, content_id
from tasks.core.text import suites
from tasks.core.text.programs import program
from tasks.core.text.wording import block, request_tests, requested
from tasks.io.sandbox import Case, Verdict

MOST_ASSERTIONS = 8
"""Most assertions in an answer, the first ones. More would only repeat the same ideas."""


def as_suites(
    verified: Iterable[Example | Refusal], run: Callable[[Iterable[Case]], Iterator[Verdict]]
) -> Iterator[Example | Refusal]:
    """Yield, for each verified function, the example whose answer is its suite, or a refusal if it fails the suite. Refusals pass through."""
    turned = [_turned(record) if isinstance(record, Example) else record for record in verified]
    verdicts = run(_case(record) for record in turned if isinstance(record, Example))
    for record in turned:
        if not isinstance(record, Example) or (verdict := next(verdicts)).kind == "passed":
            yield record
        else:
            yield _refusal(record, Unfit("suite_fails", f"{verdict.kind}: {verdict.detail}"))


def _turned(example: Example) -> Example | Refusal:
    """Return the example that asks for the tests of a function."""
    asked = requested(example.prompt[-1].content)
    assert example.tests is not None, "functions without tests have no suite"
    assert asked is not None, "mined functions are asked for in our own words"
    code, suite = program(example.response), suite_of(example.tests)
    if fault := suites.read(suite, asked.name, code).fault:
        return _refusal(example, Unfit("no_suite", fault))
    messages = [Message("user", request_tests(asked.name, code, asked.context)), Message("assistant", block(suite))]
    values = {"program": code, "entry": asked.name, "prelude": example.tests.prelude}
    tests = registry.tests(UnitTests(), Row(messages[0].content, messages[1].content, values))
    if isinstance(tests, Unfit):
        return _refusal(example, tests)
    name = content_id("tests", *(message.content for message in messages))
    return replace(example, id=name, messages=messages, task="tests", tests=tests)


def suite_of(tests: Tests) -> str:
    """Return a docstring's examples as assertions, or a script unchanged. Examples that raise or print no literal are left out."""
    if tests.kind == "script":
        return tests.code.strip()
    lines: list[str] = []
    for example in doctest.DocTestParser().get_examples(tests.code):
        line = _line(example)
        if line and sum(line.startswith("assert ") for line in lines) < MOST_ASSERTIONS:
            lines.append(line)
    while lines and not lines[-1].startswith("assert "):
        lines.pop()
    return "\n".join(lines)


def _line(example: doctest.Example) -> str:
    """Return the statement that an example becomes; empty if the example is left out."""
    if example.exc_msg is not None or example.options.get(doctest.SKIP):
        return ""
    if not example.want:
        return example.source.strip()
    try:
        value = ast.parse(example.source.strip(), mode="eval").body
        ast.literal_eval(want := ast.parse(example.want.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return ""
    match value, want:
        case ast.Call(ast.Name("print" | "pprint" | "pp")), _:
            return ""  # the printed text is not the value of the call
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(ast.Not()), ast.Constant(bool(holds)):
            return ast.unparse(ast.Assert(value if holds else ast.UnaryOp(ast.Not(), value)))
    return ast.unparse(ast.Assert(ast.Compare(value, [ast.Eq()], [want])))


def _case(example: Example) -> Case:
    assert example.tests is not None
    _, right = registry.of(example.tests)
    suite = suites.read(program(example.response), right["entry"], right["program"])
    return Case(right["program"], Tests("script", suite.script, right["entry"], right["prelude"]))


def _refusal(example: Example, unfit: Unfit) -> Refusal:
    source, _, name = example.source.rpartition(":")
    return Refusal(source, name, unfit.reason, unfit.detail, program(example.response)[:200])
