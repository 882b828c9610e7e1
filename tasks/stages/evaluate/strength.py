"""Measure the strength of a problem's tests: the share of small mistakes in its solution that they notice, and a constant that passes.

A mistake is one of `tasks.core.text.mutations`. Some change nothing that a test could see, so that not even perfect tests notice all
(equivalent mutants: DeMillo, Lipton & Sayward 1978, Hints on Test Data Selection). The constant is the value that the first expectation
asks for: whatever is asked, it is returned.

Where tests are weak and the solution gives the same output for the same arguments, inputs made from the tests' own, with the
solution's outputs, may be added (`inputs.py`). They are ours, not the data's, and judge answers alone: nothing is trained on them.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from doctest import DocTestParser
from itertools import islice, tee

from tasks.core.records import Example, Tests
from tasks.core.text import mutations
from tasks.core.text.programs import program
from tasks.io.sandbox import Case, Limits, Verdict
from tasks.stages.evaluate import inputs
from tasks.stages.evaluate.config import StrengthConfig

LIMITS = Limits(cpu_s=2.0)
"""Limits of mutants, which fail within milliseconds or loop for ever. One that runs out of time is noticed."""
RunCases = Callable[[Iterable[Case]], Iterator[Verdict]]
"""`sandbox.run`."""
Measure = Callable[[Sequence[Example]], Iterable["Strength"]]
Generate = Callable[[Sequence[Example]], Iterable[list[inputs.Added]]]
"""Return the strength of each problem's tests, and examples of ours for each."""


@dataclass(frozen=True)
class Strength:
    """The number of mistakes that the tests of one problem notice, and a constant that passes them."""

    mutants: int
    killed: int
    """Mutants that fail the tests."""
    constant: str
    """The body of a constant function that passes them, such as `return True`; empty if there is none."""
    passes: bool = True
    """True if the solution itself passes."""
    inputs: int = 0
    """Examples among the tests that are ours."""

    @property
    def share(self) -> float:
        """Return the share of mutants that are killed; 0 where nothing shows it: without mutants, or if the solution fails too."""
        return self.killed / self.mutants if self.mutants and self.passes else 0.0

    def is_weak(self, least: float) -> bool:
        """Return True if a constant passes, or a smaller share than `least` is killed."""
        return bool(self.constant) or self.share < least

    def record(self, least: float) -> dict[str, float | int | str | bool]:
        """Return the strength for JSON."""
        return {
            "share": round(self.share, 6),
            "mutants": self.mutants,
            "constant": self.constant,
            "passes": self.passes,
            "inputs": self.inputs,
            "weak": self.is_weak(least),
        }


def measure(problems: Sequence[Example], config: StrengthConfig, run: RunCases) -> Iterator[Strength]:
    """Yield the strength of the tests of each problem, whose response is its solution, as soon as its verdicts are in."""
    attempts, judged = tee(_attempts(problem, config.mutants) for problem in problems)
    verdicts = run(case for groups in judged for group in groups for case in group)
    for solution, constants, mutants in attempts:
        passes = all(next(verdicts).kind == "passed" for _ in solution)
        passing = [case for case in constants if next(verdicts).kind == "passed"]
        killed = sum(next(verdicts).kind != "passed" for _ in mutants)
        body = passing[0].program.splitlines()[-1].strip() if passing else ""
        yield Strength(len(mutants), killed, body, passes)


def strengthen(
    problems: Sequence[Example], strengths: Sequence[Strength], least: float, measure: Measure, generate: Generate
) -> tuple[list[Example], list[Strength]]:
    """Return the problems, those with weak tests with examples of ours added, and the strengths of what is then tested."""
    weak = [place for place, strength in enumerate(strengths) if strength.is_weak(least)]
    added = list(generate([problems[place] for place in weak]))
    longer = {
        place: replace(problems[place], tests=inputs.extended(_tests(problems[place]), examples))
        for place, examples in zip(weak, added, strict=True)
        if examples
    }
    anew = dict(zip(longer, measure(list(longer.values())), strict=True))
    counts = {place: len(examples) for place, examples in zip(weak, added, strict=True)}
    return (
        [longer.get(place, problem) for place, problem in enumerate(problems)],
        [
            replace(anew[place], inputs=counts[place]) if place in anew else strength
            for place, strength in enumerate(strengths)
        ],
    )


def _attempts(problem: Example, count: int) -> tuple[list[Case], list[Case], list[Case]]:
    """Return the cases of the solution, of constant functions, and of mutants of the solution."""
    tests, solution = _tests(problem), program(problem.response)
    constants = [Case(code, tests) for code in _constants(tests)]
    try:
        texts = (text for _, text in mutations.mutants(solution, problem.id, list(mutations.OPERATORS)))
        mutants = list(islice(dict.fromkeys(texts), count))
    except SyntaxError:  # of a solution that another version of Python wrote
        mutants = []
    return [Case(solution, tests)], constants, [Case(code, tests) for code in mutants]


def _constants(tests: Tests) -> list[str]:
    """Return functions that return what the first expectation asks for; none where that is no literal."""
    wanted = _first_of_examples(tests.code) if tests.kind == "doctest" else _first_of_script(tests.code)
    return [] if wanted is None else [f"def {tests.entry}(*args, **kwargs):\n    return {wanted}\n"]


def _first_of_examples(code: str) -> str | None:
    """Return the literal that the first expected output shows, and where it is printed text, that text."""
    try:
        examples = DocTestParser().get_examples(code)
    except ValueError:  # the examples cannot be read
        return None
    first = next((example for example in examples if example.want), None)
    if first is None:
        return None
    if (value := _literal(first.want.strip())) is not None:
        return value
    return repr(first.want.rstrip("\n")) if first.source.startswith("print(") else None


def _first_of_script(code: str) -> str | None:
    """Return the literal that the first assertion about a call compares it with, or that is true for it."""
    try:
        nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert | ast.Call)]
    except SyntaxError:
        return None
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        match node:
            case ast.Assert(test) if any(isinstance(part, ast.Call) for part in ast.walk(test)):
                return _wanted(test)
            case ast.Call(ast.Attribute(attr="assertEqual"), [first, second, *_]):
                return _other_side(first, second)
            case ast.Call(ast.Attribute(attr="assertTrue" | "assertFalse" as name)):
                return str(name == "assertTrue")
    return None


def _wanted(test: ast.expr) -> str | None:
    """Return the literal for which an asserted expression is true."""
    match test:
        case ast.Compare(ast.Call(ast.Name("abs"), [ast.BinOp(first, ast.Sub(), second)]), [ast.Lt() | ast.LtE()], _):
            return _other_side(first, second)
        case ast.Compare(first, [ast.Eq() | ast.Is()], [second]):
            return _other_side(first, second)
        case ast.Compare():
            return None
        case ast.UnaryOp(ast.Not(), _):
            return "False"
    return "True"


def _other_side(*sides: ast.expr) -> str | None:
    """Return the one of two sides that is a literal."""
    return next((value for side in sides if (value := _literal(ast.unparse(side))) is not None), None)


def _literal(text: str) -> str | None:
    """Return the literal that a text has, on one line; None where it has none."""
    try:
        return repr(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _tests(problem: Example) -> Tests:
    assert problem.tests is not None, "only problems with tests are measured"
    return problem.tests
