"""Find the tests of a project, written for pytest, and map each to the functions of the project that it calls.

A test is taken if it can be called as it stands: a function, or a method of a class without a set-up, whose only parameters are those of
one `parametrize` with literal values. Tests with fixtures, and what pytest offers beyond `raises` and `approx`, are left.
"""

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.io.sources.package import Module
from tasks.stages.ingest.mining import pytest_stand_in
from tasks.stages.ingest.mining.extraction import extract
from tasks.stages.ingest.mining.name_resolution import Library, Meaning, OwnDefinition, Scope, Unusable

MAX_TESTS = 12
"""Tests of one function that are kept, in their order."""
PYTEST = Module("pytest", "pytest.py", inspect.getsource(pytest_stand_in), "pytest", "", "MIT")
"""The stand-in, as a module of the project."""
SET_UPS = frozenset(("__init__", "setup_method", "setup_class", "setUp", "setUpClass", "setup"))


@dataclass(frozen=True)
class ProjectTest:
    """A test function or class, free of its module."""

    text: str
    calls: tuple[str, ...]
    """Statements that run it."""
    needs: Mapping[str, Meaning]


def tests_by_function(library: Library, test_modules: Sequence[Module]) -> dict[OwnDefinition, list[ProjectTest]]:
    """Return the tests that mention each function of the project. `library` holds the test modules too."""
    test_names = {module.name for module in test_modules} | {PYTEST.name}
    tests: defaultdict[OwnDefinition, list[ProjectTest]] = defaultdict(list)
    for module in test_modules:
        for test in _tests_of(library, module):
            for meaning in dict.fromkeys(test.needs.values()):
                if isinstance(meaning, OwnDefinition) and meaning.module not in test_names:
                    tests[meaning].append(test)
    return tests


def script(tests: Sequence[ProjectTest]) -> str:
    """Return a script that runs the first tests, which need not have different names."""
    parts = [part for test in tests[:MAX_TESTS] for part in (test.text, *test.calls)]
    return "\n\n".join(parts) + "\n"


def needs(tests: Sequence[ProjectTest]) -> dict[str, Meaning]:
    """Return what the first tests need. Raises Unusable if they mean different things by one name."""
    merged: dict[str, Meaning] = {}
    for test in tests[:MAX_TESTS]:
        for name, meaning in test.needs.items():
            if merged.setdefault(name, meaning) != meaning:
                raise Unusable("name_clash", f"{name} has two meanings in tests")
    return merged


def _tests_of(library: Library, module: Module) -> Iterator[ProjectTest]:
    try:
        scope = library.scope(module.name)
    except Unusable:
        return
    for node in scope.statements:
        if calls := tuple(_calls(node)):
            try:
                yield _free(library, scope, node, calls)
            except Unusable:
                continue


def _free(library: Library, scope: Scope, node: ast.stmt, calls: tuple[str, ...]) -> ProjectTest:
    piece = extract(library, scope, node)
    return ProjectTest(piece.text, calls, piece.needs)


def _calls(node: ast.stmt) -> Iterator[str]:
    """Yield the statements that run a test function, or the test methods of a class; none for what is no test."""
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
        yield from _calls_of(node, node.name, node.args.args)
    elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
        methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
        if node.bases or any(method.name in SET_UPS for method in methods):
            return
        for method in methods:
            if method.name.startswith("test") and method.args.args:
                yield from _calls_of(method, f"{node.name}().{method.name}", method.args.args[1:])


def _calls_of(node: ast.FunctionDef, name: str, parameters: Sequence[ast.arg]) -> Iterator[str]:
    names = [parameter.arg for parameter in parameters]
    marks = [mark for mark in node.decorator_list if "parametrize" in ast.unparse(mark)]
    if len(marks) != len(node.decorator_list) or node.args.kwonlyargs or node.args.vararg or node.args.kwarg:
        return
    if not marks and not names:
        yield f"{name}()"
    elif len(marks) == 1 and isinstance(marks[0], ast.Call):
        yield from (f"{name}({arguments})" for arguments in _parameter_sets(marks[0], names))


def _parameter_sets(mark: ast.Call, names: Sequence[str]) -> Iterator[str]:
    """Yield the arguments of each call that `pytest.mark.parametrize` makes; none if they are no literals."""
    try:
        given, values = (ast.literal_eval(argument) for argument in mark.args)
    except (ValueError, TypeError):
        return
    given = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    rows = [[value] if len(given) == 1 else value for value in values]
    if sorted(given) == sorted(names) and all(isinstance(row, list | tuple) and len(row) == len(given) for row in rows):
        for row in rows:
            yield ", ".join(f"{name}={argument!r}" for name, argument in zip(given, row, strict=True))
