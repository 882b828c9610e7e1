"""Mine examples from functions: signature and docstring as prompt, code as response, doctests or the project's own tests as tests."""

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.core.records import Example, Message, Refusal, Tests, content_id
from tasks.core.text.programs import header
from tasks.core.text.wording import block, quoted, request
from tasks.io.sources.package import Module
from tasks.stages.ingest.mining import project_tests
from tasks.stages.ingest.mining.doctests import free_doctest
from tasks.stages.ingest.mining.extraction import Function, extract
from tasks.stages.ingest.mining.inlining import Inliner
from tasks.stages.ingest.mining.name_resolution import (
    Library,
    Meaning,
    OwnDefinition,
    Scope,
    Unusable,
    parse,
    refusal,
)
from tasks.stages.ingest.mining.project_tests import PYTEST, ProjectTest

MAX_SOLUTION = 2000
"""Most characters of a solution: about 600 tokens, which fit into a pack of the smallest models."""
MAX_PROMPT = 4000
"""Most characters of a prompt: longer docstrings are manuals."""
MAX_CONTEXT = 1500
"""Most characters of helpers that a prompt shows in full. If there are more, it shows their signatures."""
SHORT, MEDIUM = 200, 500
"""Most characters of a short solution (a few lines) and of a medium one (half a screen)."""


@dataclass(frozen=True)
class Candidate:
    """An example that is not yet verified."""

    example: Example
    program: str
    """The solution."""
    trivial_programs: tuple[str, ...]
    """Functions of the same signature with trivial bodies. Tests that one of them passes are worthless."""


@dataclass(frozen=True)
class Checked:
    """The docstring of a function as a prompt shows it, and the tests of the function."""

    docstring: str
    tests: Tests | None
    """The tests without their prelude; None for a function that nothing checks."""
    needs: Mapping[str, Meaning]
    """Names that the tests use but do not bind."""


def mine_candidates(
    modules: Iterable[Module], test_modules: Sequence[Module] = (), *, untested: bool = False
) -> Iterator[Candidate | Example | Refusal]:
    """Yield a candidate or a refusal for each function with doctests, or with tests in `test_modules`, in source order.

    First comes a refusal for each of these tests that cannot be used. With `untested`, public functions that only have a docstring are
    examples too, without tests.
    """
    own = {module.name: module for module in modules}
    library = Library([*([PYTEST] if test_modules else []), *test_modules, *own.values()])
    tests = project_tests.collect(library, test_modules)
    yield from tests.refused
    miner = Miner(library, Inliner(library), tests.by_function, untested)
    for module in own.values():
        if ">>>" in module.text or test_modules or untested:
            yield from miner.examples_of(module)


@dataclass(frozen=True)
class Miner:
    """Turns the functions of a library into examples."""

    library: Library
    inliner: Inliner
    tests: Mapping[OwnDefinition, Sequence[ProjectTest]]
    untested: bool

    def examples_of(self, module: Module) -> Iterator[Candidate | Example | Refusal]:
        """Yield the top-level functions of `module` that are wanted as examples. Methods are left out, since they need an object."""
        try:
            scope = self.library.scope(module.name)
        except Unusable as unusable:
            yield refusal(module, "", unusable, module.text)
            return
        for index, node in enumerate(scope.statements):
            if isinstance(node, Function) and self._is_wanted(module, node):
                try:
                    yield self._example(scope, node, index)
                except Unusable as unusable:
                    start = scope.starts[node.lineno - 1]
                    record = scope.source[start : start + 400].decode(errors="ignore")
                    yield refusal(module, node.name, unusable, record)

    def _is_wanted(self, module: Module, node: Function) -> bool:
        docstring = ast.get_docstring(node) or ""
        is_tested = OwnDefinition(module.name, node.name) in self.tests
        is_documented = self.untested and not node.name.startswith("_")
        return ">>>" in docstring or bool(docstring and (is_tested or is_documented))

    def _checked(self, module: Module, node: Function) -> Checked:
        """Return the docstring of a function with its doctests, else with the tests of its project, else without tests."""
        docstring = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
        if ">>>" in docstring:
            doctest = free_doctest(self.library, module, docstring)
            return Checked(doctest.text, Tests("doctest", doctest.examples, node.name), doctest.needs)
        if tests := self.tests.get(OwnDefinition(module.name, node.name)):
            return Checked(
                docstring, Tests("script", project_tests.script(tests), node.name), project_tests.needs(tests)
            )
        return Checked(docstring, None, {})

    def _example(self, scope: Scope, node: Function, index: int) -> Candidate | Example:
        module, inliner, entry = scope.module, self.inliner, OwnDefinition(scope.module.name, node.name)
        if scope.bound[node.name] != [index]:
            raise Unusable("rebound", f"{node.name} is bound more than once")
        checked = self._checked(module, node)
        piece = extract(self.library, scope, node, bare=True)
        prelude = inliner.closure({**piece.needs, **checked.needs}, entry)
        context = inliner.closure(piece.needs, entry)
        if sum(map(len, context.helpers)) > MAX_CONTEXT:
            context = inliner.outline(piece.needs, entry)
        header = _header(piece.text)
        prompt = request(node.name, f"{header}\n    {quoted(checked.docstring, '    ')}", context.code)
        if len(piece.text) > MAX_SOLUTION or len(prompt) > MAX_PROMPT:
            raise Unusable("too_long", f"{len(piece.text)} characters of code, {len(prompt)} of prompt")
        example = Example(
            id=content_id("function", prompt, piece.text),
            messages=[Message("user", prompt), Message("assistant", block(piece.text))],
            task="function",
            domain=module.distribution,
            group=module.name,
            split="train",
            source=f"{module.origin}:{node.name}",
            license=module.license,
            tests=checked.tests and replace(checked.tests, prelude=prelude.code),
            tier=solution_tier(piece.text),
        )
        if checked.tests is None:
            return example
        return Candidate(example, piece.text, tuple(f"{header}\n    {body}" for body in _trivial_bodies(node.args)))


def solution_tier(solution: str) -> str:
    """Return `short`, `medium` or `long`."""
    return "short" if len(solution) <= SHORT else "medium" if len(solution) <= MEDIUM else "long"


def _trivial_bodies(args: ast.arguments) -> list[str]:
    """Return bodies that do nothing useful: `pass`, and `return` of the first argument. `return None` would equal `pass`."""
    named = [*args.posonlyargs, *args.args, *([args.vararg] if args.vararg else []), *args.kwonlyargs]
    return ["pass", *(f"return {arg.arg}" for arg in named[:1])]


def _header(code: str) -> str:
    """Return the lines of a function up to its body. Raises Unusable if signature and body share a line."""
    (node,) = parse(code).body
    assert isinstance(node, Function)
    lines = header(code, node)
    if len(lines.splitlines()) == node.body[0].lineno:
        raise Unusable("layout", "signature and body share a line")
    return lines
