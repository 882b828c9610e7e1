"""Measure the strength of a problem's tests: the share of small mistakes in its solution that they detect, and whether a constant passes.

A mistake is one of `tasks.core.text.mutations`. Some mistakes change nothing that a test could detect, so even perfect tests do not detect
all (equivalent mutants: DeMillo, Lipton & Sayward 1978, Hints on Test Data Selection). The constant function returns the value of the first
expectation for all arguments.

If tests are weak and the solution is pure, generated inputs with the solution's outputs may be added (`inputs.py`). They are no part of the
data: they only judge answers, and nothing is trained on them.
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
"""Limits of mutants, which fail within milliseconds or loop endlessly. A mutant that runs out of time counts as detected."""
RunCases = Callable[[Iterable[Case]], Iterator[Verdict]]
"""`sandbox.run`."""
Measure = Callable[[Sequence[Example]], Iterable["Strength"]]
Generate = Callable[[Sequence[Example]], Iterable[list[inputs.Added]]]
"""`Measure` returns the strength of each problem's tests, `Generate` examples to add to each problem's tests."""


@dataclass(frozen=True)
class Strength:
    """The number of mistakes that the tests of one problem detect, and a constant that passes them."""

    mutants: int
    killed: int
    """Mutants that fail the tests."""
    constant: str
    """The body of a constant function that passes the tests, such as `return True`; empty if there is none."""
    passes: bool = True
    """True if the solution itself passes."""
    inputs: int = 0
    """Number of generated examples among the tests."""

    @property
    def share(self) -> float:
        """Return the share of mutants that are killed; 0 if it is unknown: without mutants, or if the solution fails too."""
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
    """Yield the strength of each problem's tests as soon as its verdicts are in. A problem's response is its solution."""
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
    """Return the problems, with generated examples added to weak tests, and the strengths of the resulting tests."""
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
    except SyntaxError:  # a solution for another version of Python
        mutants = []
    return [Case(solution, tests)], constants, [Case(code, tests) for code in mutants]


def _constants(tests: Tests) -> list[str]:
    """Return the program of a constant function with the first expected value; none if that is not a literal."""
    wanted = _first_of_examples(tests.code) if tests.kind == "doctest" else _first_of_script(tests.code)
    return [] if wanted is None else [f"def {tests.entry}(*args, **kwargs):\n    return {wanted}\n"]


def _first_of_examples(code: str) -> str | None:
    """Return the literal in the first expected output; for printed text, the text as a literal."""
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
    """Return the literal that would satisfy the first assertion about a call."""
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
    """Return the first side that is a literal; None if neither is."""
    return next((value for side in sides if (value := _literal(ast.unparse(side))) is not None), None)


def _literal(text: str) -> str | None:
    """Return a text that is a literal in the form of `repr`; None if it is no literal."""
    try:
        return repr(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _tests(problem: Example) -> Tests:
    assert problem.tests is not None, "only problems with tests are measured"
    return problem.tests
