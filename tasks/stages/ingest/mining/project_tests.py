"""Find the pytest tests of a project, and map each to the functions of the project that it uses.

A test is used if it can be called without pytest: a function, or a method of a class without set-up, whose only parameters are those of one
`parametrize` with literal values. Tests that need fixtures, or features of pytest other than `raises` and `approx`, are refused.
"""

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.core.records import Refusal
from tasks.io.sources.package import Module
from tasks.stages.ingest.mining import pytest_stand_in
from tasks.stages.ingest.mining.extraction import extract
from tasks.stages.ingest.mining.name_resolution import Library, Meaning, OwnDefinition, Scope, Unusable, refusal

LEFT = "test_left_out"
"""The reason of refusal for a test that cannot run here."""
MAX_TESTS = 12
"""Most tests of one function that are kept, the first ones."""
PYTEST = Module("pytest", "pytest.py", inspect.getsource(pytest_stand_in), "pytest", "", "MIT")
"""The stand-in for pytest, as a module of the project."""
SET_UPS = frozenset(("__init__", "setup_method", "setup_class", "setUp", "setUpClass", "setup"))


@dataclass(frozen=True)
class ProjectTest:
    """A test function or class, cut out of its module."""

    text: str
    calls: tuple[str, ...]
    """Statements that run the test."""
    needs: Mapping[str, Meaning]


@dataclass(frozen=True)
class ProjectTests:
    """The tests of a project."""

    by_function: Mapping[OwnDefinition, Sequence[ProjectTest]]
    """The tests that use each function of the project."""
    refused: Sequence[Refusal]
    """The tests that cannot be taken out of the project, or that cannot run without pytest."""


def collect(library: Library, test_modules: Sequence[Module]) -> ProjectTests:
    """Return the tests in `test_modules`. `library` must contain these modules too."""
    test_names = {module.name for module in test_modules} | {PYTEST.name}
    by_function: defaultdict[OwnDefinition, list[ProjectTest]] = defaultdict(list)
    refused = []
    for module in test_modules:
        for test in _tests_of(library, module):
            if isinstance(test, Refusal):
                refused.append(test)
                continue
            for meaning in dict.fromkeys(test.needs.values()):
                if isinstance(meaning, OwnDefinition) and meaning.module not in test_names:
                    by_function[meaning].append(test)
    return ProjectTests(by_function, refused)


def script(tests: Sequence[ProjectTest]) -> str:
    """Return a script that runs the first tests. Their names may be equal."""
    parts = [part for test in tests[:MAX_TESTS] for part in (test.text, *test.calls)]
    return "\n\n".join(parts) + "\n"


def needs(tests: Sequence[ProjectTest]) -> dict[str, Meaning]:
    """Return the names that the first tests need. Raises Unusable if one name has different meanings in them."""
    merged: dict[str, Meaning] = {}
    for test in tests[:MAX_TESTS]:
        for name, meaning in test.needs.items():
            if merged.setdefault(name, meaning) != meaning:
                raise Unusable("name_clash", f"{name} has two meanings in tests")
    return merged


def _tests_of(library: Library, module: Module) -> Iterator[ProjectTest | Refusal]:
    try:
        scope = library.scope(module.name)
    except Unusable as unusable:
        yield refusal(module, "", unusable, module.text)
        return
    for node in scope.statements:
        calls: list[str] = []
        for name, function in _functions(node):
            try:
                calls += _calls(node, name, function)
            except Unusable as unusable:
                yield refusal(module, name, unusable, ast.unparse(function))
        if calls:
            try:
                yield _free(library, scope, node, tuple(calls))
            except Unusable as unusable:
                yield refusal(module, getattr(node, "name", ""), unusable, ast.unparse(node))


def _free(library: Library, scope: Scope, node: ast.stmt, calls: tuple[str, ...]) -> ProjectTest:
    piece = extract(library, scope, node)
    return ProjectTest(piece.text, calls, piece.needs)


def _functions(node: ast.stmt) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the test functions in a statement with the expressions that call them; none if it holds no test."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
        yield node.name, node
    elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
        for method in node.body:
            if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name.startswith("test"):
                yield f"{node.name}().{method.name}", method


def _calls(node: ast.stmt, name: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the statements that run a test function. Raises Unusable if it needs pytest, or more than a call."""
    parameters = [parameter.arg for parameter in function.args.args]
    if isinstance(node, ast.ClassDef):
        others = {statement.name for statement in node.body if isinstance(statement, ast.FunctionDef)}
        if node.bases or others & SET_UPS or not parameters:
            raise Unusable(LEFT, "its class has a base, a set-up, or methods without `self`")
        parameters = parameters[1:]
    if isinstance(function, ast.AsyncFunctionDef):
        raise Unusable(LEFT, "it is asynchronous")
    marks = [mark for mark in function.decorator_list if "parametrize" in ast.unparse(mark)]
    if len(marks) != len(function.decorator_list) or len(marks) > 1:
        raise Unusable(LEFT, f"it is decorated by {', '.join(map(ast.unparse, function.decorator_list))[:100]}")
    if function.args.kwonlyargs or function.args.vararg or function.args.kwarg or (parameters and not marks):
        raise Unusable(LEFT, f"it takes fixtures: {ast.unparse(function.args)}")
    if not marks:
        return [f"{name}()"]
    if rows := list(_parameter_sets(marks[0], parameters)):
        return [f"{name}({arguments})" for arguments in rows]
    raise Unusable(LEFT, "its parameters are not literals, or it has fixtures too")


def _parameter_sets(mark: ast.expr, names: Sequence[str]) -> Iterator[str]:
    """Yield the arguments of each call that `pytest.mark.parametrize` makes; none if they are not literals."""
    if not isinstance(mark, ast.Call):
        return
    try:
        given, values = (ast.literal_eval(argument) for argument in mark.args)
    except (ValueError, TypeError):
        return
    given = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    rows = [[value] if len(given) == 1 else value for value in values]
    if sorted(given) == sorted(names) and all(isinstance(row, list | tuple) and len(row) == len(given) for row in rows):
        for row in rows:
            yield ", ".join(f"{name}={argument!r}" for name, argument in zip(given, row, strict=True))
