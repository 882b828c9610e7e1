"""Functions with doctests as examples: signature and docstring ask, the code answers, the doctests judge."""

import ast
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.core.records import Example, Message, Refusal, Tests, content_id
from tasks.core.wording import block, quoted, request
from tasks.io.sources.package import Module
from tasks.stages.ingest.cut import Function, cut
from tasks.stages.ingest.doctests import free
from tasks.stages.ingest.inline import Inliner
from tasks.stages.ingest.resolve import Library, Own, Scope, Unusable, parse

MAX_SOLUTION = 2000
"""Characters of a solution: about 600 tokens, which fits a packed row of the smallest models."""
MAX_PROMPT = 4000
"""Characters of a prompt: longer docstrings are manuals."""
MAX_CONTEXT = 1500
"""Characters of helpers that a prompt shows in full; of more, it shows what a caller needs to know."""
SHORT, MEDIUM = 200, 500
"""Characters up to which a solution counts as short (a handful of lines) and as medium (a screen's half)."""


@dataclass(frozen=True)
class Candidate:
    """An example that has yet to prove itself."""

    example: Example
    program: str
    """The solution."""
    idle: tuple[str, ...]
    """Functions of the same signature that do nothing. Tests that let one of them pass are worth nothing."""


def mine(modules: Iterable[Module]) -> Iterator[Candidate | Refusal]:
    """What the functions with doctests of one distribution make, module by module, in source order."""
    library = Library(modules)
    inliner = Inliner(library)
    for module in library.modules.values():
        if ">>>" in module.text:
            yield from functions(module, inliner)


def functions(module: Module, inliner: Inliner) -> Iterator[Candidate | Refusal]:
    """The top-level functions of `module` that have a doctest. Methods need an object around them and are left out."""
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


def tier(solution: str) -> str:
    """`short`, `medium` or `long`."""
    return "short" if len(solution) <= SHORT else "medium" if len(solution) <= MEDIUM else "long"


def _candidate(inliner: Inliner, scope: Scope, node: Function, index: int) -> Candidate:
    module, library, entry = scope.module, inliner.library, Own(scope.module.name, node.name)
    if scope.bound[node.name] != [index]:
        raise Unusable("rebound", f"{node.name} is bound more than once")
    examples = free(library, module, inspect.cleandoc(ast.get_docstring(node, clean=False) or ""))
    piece = cut(library, scope, node, bare=True)
    around = inliner.closure(piece.needs | examples.needs, entry)
    context = inliner.closure(piece.needs, entry)
    if sum(map(len, context.helpers)) > MAX_CONTEXT:
        context = inliner.outline(piece.needs, entry)
    header = _header(piece.text)
    prompt = request(node.name, f"{header}\n    {quoted(examples.text, '    ')}", context.code)
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
        tests=Tests("doctest", examples.examples, node.name, around.code),
        tier=tier(piece.text),
    )
    return Candidate(example, piece.text, tuple(f"{header}\n    {body}" for body in _idle_bodies(node.args)))


def _idle_bodies(args: ast.arguments) -> list[str]:
    """Bodies that do nothing. `return None` would be `pass` once more."""
    named = [*args.posonlyargs, *args.args, *([args.vararg] if args.vararg else []), *args.kwonlyargs]
    return ["pass", *(f"return {arg.arg}" for arg in named[:1])]


def _header(code: str) -> str:
    """The lines of a function up to its body."""
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
