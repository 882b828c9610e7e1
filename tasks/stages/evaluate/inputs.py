"""Generate inputs for a function from the inputs of its tests, with the outputs of its solution.

Type-aware mutation of arguments as in EvalPlus (Liu et al. 2023, https://arxiv.org/abs/2305.01210, §2.2): numbers change a little; texts and
containers lose, repeat or reverse parts. EvalPlus also asks a language model for inputs; that is left out here.
"""

import ast
import contextlib
import doctest
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from tasks.core.records import Example, Tests
from tasks.core.text.programs import program
from tasks.io.sandbox import Case, Outputs, Verdict

LONGEST = 200
"""Most characters of a call or an output that is kept."""
TRIES = 20
"""Attempts for each input that is asked for."""
DRAWN = 2
"""Inputs drawn for each one that is needed, since some raise, print nothing, or give an output that is not a literal."""

Call = str
Added = tuple[Call, str]
"""A call of the function, and the output of the solution."""


def generate(
    problems: Sequence[Example], count: int, observe: Callable[[Iterable[Case]], Iterator[Outputs | Verdict]]
) -> Iterator[list[Added]]:
    """Yield up to `count` calls with outputs for each problem; none for a solution that is not pure. `observe` is `sandbox.outputs`.

    A solution counts as pure if every call has the same output when all are made in the opposite order, in another process.
    """
    calls = [_calls(problem, DRAWN * count) for problem in problems]
    cases = [
        Case(program(problem.response), _asking(problem, order))
        for problem, drawn in zip(problems, calls, strict=True)
        if drawn
        for order in (drawn, drawn[::-1])
    ]
    observed = observe(cases)
    for drawn in calls:
        forth, back = (next(observed), next(observed)) if drawn else ([], [])
        yield list(islice(_agreed(drawn, forth, back), count))


def extended(tests: Tests, added: Sequence[Added]) -> Tests:
    """Return the tests with these examples appended."""
    if tests.kind == "doctest":
        lines = "".join(f">>> {call}\n{output}\n" for call, output in added)
        return replace(tests, code=f"{tests.code.rstrip()}\n\n{lines}")
    lines = "".join(f"assert {call} == {output}\n" for call, output in added)
    return replace(tests, code=f"{tests.code.rstrip()}\n{lines}")


def is_literal(text: str) -> bool:
    """Return True if a text is a Python literal that equals the `repr` of its value."""
    try:
        return repr(ast.literal_eval(text)) == text
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return False


def _agreed(calls: Sequence[Call], forth: Outputs | Verdict, back: Outputs | Verdict) -> Iterator[Added]:
    if isinstance(forth, Verdict) or isinstance(back, Verdict) or forth != back[::-1]:
        return
    for call, output in zip(calls, forth, strict=True):
        text = (output or "").strip()
        if len(text) <= LONGEST and is_literal(text):
            yield call, text


def _asking(problem: Example, calls: Sequence[Call]) -> Tests:
    """Return tests as a docstring that makes these calls and expects no output."""
    assert problem.tests is not None
    return replace(problem.tests, kind="doctest", code="".join(f">>> {call}\n" for call in calls))


def _calls(problem: Example, count: int) -> list[Call]:
    """Return different calls of the function that its tests do not make, drawn from the problem's id."""
    assert problem.tests is not None
    entry = problem.tests.entry
    seeds = list(_arguments(problem.tests))
    known = {_written(entry, arguments) for arguments in seeds}
    draw, calls = random.Random(problem.id), dict[Call, None]()
    for _ in range(TRIES * count if seeds else 0):
        arguments = list(draw.choice(seeds))
        if arguments:
            place = draw.randrange(len(arguments))
            arguments[place] = _changed(arguments[place], draw)
        call = _written(entry, arguments)
        if call not in known and len(call) <= LONGEST:
            known.add(call)
            calls[call] = None
            seeds.append(arguments)  # a later change of it differs more from the tests' inputs
        if len(calls) == count:
            break
    return list(calls)


def _arguments(tests: Tests) -> Iterator[list[Any]]:
    """Yield the positional arguments of each call of the function whose arguments are all literals, in a docstring or a script.

    In a script the function may be called by the name of a parameter, as in HumanEval's `check(candidate)`.
    """
    trees = (
        [_parsed(example.source) for example in _examples(tests)] if tests.kind == "doctest" else [_parsed(tests.code)]
    )
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {tests.entry} | {arg.arg for node in nodes if isinstance(node, ast.FunctionDef) for arg in node.args.args}
    for node in nodes:
        match node:
            case ast.Call(ast.Name(name), arguments, []) if name in names:
                with contextlib.suppress(ValueError):  # an argument that is not a literal
                    yield [ast.literal_eval(argument) for argument in arguments]


def _examples(tests: Tests) -> list[doctest.Example]:
    try:
        return doctest.DocTestParser().get_examples(tests.code)
    except ValueError:
        return []


def _parsed(source: str) -> ast.AST:
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def _written(entry: str, arguments: Sequence[Any]) -> Call:
    return f"{entry}({', '.join(map(repr, arguments))})"


def _changed(value: Any, draw: random.Random) -> Any:
    """Return a value of the same type, changed a little."""
    match value:
        case bool():
            return not value
        case int():
            return draw.choice([value + 1, value - 1, -value, 0, 2 * value])
        case float():
            return draw.choice([value + 1.0, value - 1.0, -value, 0.0, value / 2])
        case str():
            return "".join(_rearranged(list(value), draw)) if draw.random() < 0.7 else value.swapcase()
        case list() | tuple():
            parts = list(value)
            if parts and draw.random() < 0.5:
                place = draw.randrange(len(parts))
                parts[place] = _changed(parts[place], draw)
            else:
                parts = _rearranged(parts, draw)
            return type(value)(parts)
        case dict():
            return dict(_rearranged(list(value.items()), draw))
        case set():
            return set(_rearranged(sorted(value, key=repr), draw)) or {0}
    return value


def _rearranged(parts: list[Any], draw: random.Random) -> list[Any]:
    """Return the parts without one, with one twice, in the opposite order, or none of them."""
    if not parts:
        return parts
    place = draw.randrange(len(parts))
    return draw.choice(
        [parts[:place] + parts[place + 1 :], [*parts[: place + 1], *parts[place:]], parts[::-1], parts[:place]]
    )
