"""Mine examples from functions with doctests: the prompt is signature and docstring, the response the code, the tests the doctests."""

import ast
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.core.records import Example, Message, Refusal, Tests, content_id
from tasks.core.text.wording import block, quoted, request
from tasks.io.sources.package import Module
from tasks.stages.ingest.mining.doctests import free_doctest
from tasks.stages.ingest.mining.extraction import Function, extract
from tasks.stages.ingest.mining.inlining import Inliner
from tasks.stages.ingest.mining.name_resolution import Library, OwnDefinition, Scope, Unusable, parse

MAX_SOLUTION = 2000
"""Characters of a solution: about 600 tokens, which fits a packed row of the smallest models."""
MAX_PROMPT = 4000
"""Characters of a prompt: longer docstrings are manuals."""
MAX_CONTEXT = 1500
"""Characters of helpers that a prompt shows in full; beyond, it shows their signatures."""
SHORT, MEDIUM = 200, 500
"""Characters up to which a solution counts as short (a handful of lines) and as medium (half a screen)."""


@dataclass(frozen=True)
class Candidate:
    """An example that is not yet verified."""

    example: Example
    program: str
    """The solution."""
    trivial_programs: tuple[str, ...]
    """Functions of the same signature with trivial bodies. Tests that let one of them pass are worth nothing."""


def mine_candidates(modules: Iterable[Module]) -> Iterator[Candidate | Refusal]:
    """Yield a candidate or a refusal for each function with doctests of one distribution, in source order."""
    library = Library(modules)
    inliner = Inliner(library)
    for module in library.modules.values():
        if ">>>" in module.text:
            yield from _candidates_of(module, inliner)


def _candidates_of(module: Module, inliner: Inliner) -> Iterator[Candidate | Refusal]:
    """Yield the top-level functions of `module` that have a doctest. Methods would need an object and are left out."""
    try:
        scope = inliner.library.scope(module.name)
    except Unusable as unusable:
        yield _refusal(module, "", unusable, module.text)
        return
    for index, node in enumerate(scope.statements):
        if isinstance(node, Function) and ">>>" in (ast.get_docstring(node) or ""):
            try:
                yield _candidate(inliner, scope, node, index)
            except Unusable as unusable:
                start = scope.starts[node.lineno - 1]
                yield _refusal(module, node.name, unusable, scope.source[start : start + 400].decode(errors="ignore"))


def solution_tier(solution: str) -> str:
    """Return `short`, `medium` or `long`."""
    return "short" if len(solution) <= SHORT else "medium" if len(solution) <= MEDIUM else "long"


def _candidate(inliner: Inliner, scope: Scope, node: Function, index: int) -> Candidate:
    module, library, entry = scope.module, inliner.library, OwnDefinition(scope.module.name, node.name)
    if scope.bound[node.name] != [index]:
        raise Unusable("rebound", f"{node.name} is bound more than once")
    doctest = free_doctest(library, module, inspect.cleandoc(ast.get_docstring(node, clean=False) or ""))
    piece = extract(library, scope, node, bare=True)
    prelude = inliner.closure(piece.needs | doctest.needs, entry)
    context = inliner.closure(piece.needs, entry)
    if sum(map(len, context.helpers)) > MAX_CONTEXT:
        context = inliner.outline(piece.needs, entry)
    header = _header(piece.text)
    prompt = request(node.name, f"{header}\n    {quoted(doctest.text, '    ')}", context.code)
    if len(piece.text) > MAX_SOLUTION or len(prompt) > MAX_PROMPT:
        raise Unusable("too_long", f"{len(piece.text)} characters of code, {len(prompt)} of prompt")
    example = Example(
        id=content_id("function", prompt, piece.text),
        messages=[Message("user", prompt), Message("assistant", block(piece.text))],
        task="function",
        domain=module.distribution,
        group=module.name,
        split="train",
        source=f"{_origin(module)}:{node.name}",
        license=module.license,
        tests=Tests("doctest", doctest.examples, node.name, prelude.code),
        tier=solution_tier(piece.text),
    )
    return Candidate(example, piece.text, tuple(f"{header}\n    {body}" for body in _trivial_bodies(node.args)))


def _trivial_bodies(args: ast.arguments) -> list[str]:
    """Return bodies that do nothing useful: `pass`, and the first argument returned. `return None` would equal `pass`."""
    named = [*args.posonlyargs, *args.args, *([args.vararg] if args.vararg else []), *args.kwonlyargs]
    return ["pass", *(f"return {arg.arg}" for arg in named[:1])]


def _header(code: str) -> str:
    """Return the lines of a function up to its body."""
    (node,) = parse(code).body
    assert isinstance(node, Function)
    lines = code.splitlines()[: node.body[0].lineno - 1]
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    if not lines:
        raise Unusable("layout", "signature and body share a line")
    return "\n".join(lines)


def _origin(module: Module) -> str:
    return f"{' '.join(filter(None, (module.distribution, module.version)))}: {module.path}"


def _refusal(module: Module, where: str, unusable: Unusable, record: str) -> Refusal:
    return Refusal(_origin(module), where, unusable.reason, unusable.detail, record[:200])
