"""Make new examples from a function: more doctest calls, variants of it, and compositions of two functions. These rules are ours.

No description is invented: a prompt states the change exactly, by the code or by the functions from which it is made. The results of the
new function are obtained by running it.
"""

from __future__ import annotations

import ast
import doctest
import io
import random
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.core.records import Example, Message, Tests, identify
from tasks.core.text.programs import body_start, header, program
from tasks.core.text.wording import Request, block, quoted, request, requested
from tasks.stages.refine.rules.code_text import (
    docstring,
    expression,
    is_call,
    joined,
    renamed,
    united,
    with_docstring,
)
from tasks.stages.refine.rules.variable_names import parsed

Outputs = Sequence[str | None]
MAX_CONTEXT = 1500
"""Most characters of code that a new prompt shows, as in mined prompts."""
MAX_OUTPUT = 200
NEW_CALLS = 2
"""Most calls that are added to a docstring."""
MAX_CALLS = 4
"""Most calls of a new function, if they do not depend on one another."""
SWAPS: Mapping[str, Sequence[str]] = {
    "<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<="), "==": ("!=",), "!=": ("==",),
    "+": ("-",), "-": ("+",), "*": ("+",), "//": ("%",), "%": ("//",), "min": ("max",), "max": ("min",), "any": ("all",),
    "all": ("any",), "True": ("False",), "False": ("True",),
}  # fmt: skip
ADDRESS = re.compile(r"0x[0-9a-f]{4,}| object at |<generator|<function|<map|<filter|<zip|<itertools")


@dataclass(frozen=True)
class Function:
    """An example whose response is one function and whose tests are doctests."""

    example: Example
    name: str
    code: str
    node: ast.FunctionDef
    request: Request | None
    """The parts of its prompt, if the prompt has Ratchet's wording for mined functions; else None."""
    calls: tuple[doctest.Example, ...]

    @property
    def prelude(self) -> str:
        assert self.example.tests
        return self.example.tests.prelude


@dataclass(frozen=True)
class Draft:
    """An example without expectations: the output of its calls is obtained by running `solution`."""

    rule: str
    parents: tuple[Example, ...]
    solution: str
    entry: str
    calls: tuple[str, ...]
    """Sources of doctest examples."""
    prelude: str
    stub: str
    """The signature; empty if the parent's prompt is kept and only gets more calls."""
    statement: str
    """The text of the docstring above its examples."""
    context: str
    wrong_programs: tuple[str, ...] = ()
    """Programs that its tests must reject."""


def parse_function(example: Example) -> Function | None:
    """Return the function of an example; None if the response or the tests are anything else."""
    tests = example.tests
    if tests is None or tests.kind != "doctest":
        return None
    code = program(example.response)
    try:
        tree, calls = parsed(code), doctest.DocTestParser().get_examples(tests.code)
        parsed(tests.prelude)
    except (SyntaxError, ValueError):
        return None
    match tree.body:
        case [ast.FunctionDef(name=name) as node] if name == tests.entry and not node.decorator_list:
            parts = requested(example.prompt[-1].content) if len(example.prompt) == 1 else None
            return Function(example, name, code, node, parts, tuple(calls))
    return None


# --- more calls in the docstring ---------------------------------------------------------------------------------------------


def add_doctest_calls(function: Function, draw: random.Random) -> Iterator[Draft]:
    """Yield the same function with new calls in its docstring, whose arguments are those of the shown calls, slightly changed."""
    if function.request is None or not docstring(function.request.stub):
        return
    shown = {call.source.strip() for call in function.calls}
    fresh: list[str] = []
    for call in function.calls:
        changed = _changed_call(call.source, function.name, draw)
        if changed and changed not in shown:
            fresh.append(changed)
            shown.add(changed)
    if fresh:
        draw.shuffle(fresh)
        yield Draft(
            "examples", (function.example,), function.code, function.name, tuple(fresh[: 2 * NEW_CALLS]), function.prelude,
            "", "", function.request.context,
        )  # fmt: skip


def _changed_call(source: str, name: str, draw: random.Random) -> str | None:
    """Return a call of the function with one of its literal arguments changed."""
    match expression(source):
        case ast.Call(ast.Name(called), arguments, keywords) as call if called == name:
            try:
                values = [ast.literal_eval(argument) for argument in arguments]
                named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                return None
            places = [place for place, value in enumerate(values) if _neighbour(value) != value]
            if not places or None in named:
                return None
            place = draw.choice(places)
            values[place] = _neighbour(values[place])
            shown = [repr(value) for value in values] + [f"{key}={value!r}" for key, value in named.items()]
            assert isinstance(call, ast.Call)
            return f"{name}({', '.join(shown)})"
    return None


def _neighbour(value: Any) -> Any:
    """Return a value of the same type close to `value`, or `value` itself if there is none. A number keeps its sign."""
    match value:
        case bool():
            return value
        case int():
            return value + 1 if value > 0 else value - 1 if value < 0 else value
        case float():
            return value * 2
        case str() | bytes() | list() | tuple() if len(value) > 2:
            return value[:-1]
        case dict() if len(value) > 1:
            return dict(list(value.items())[:-1])
    return value


# --- a variant of a function -------------------------------------------------------------------------------------------------


def variants(function: Function, draw: random.Random) -> Iterator[Draft]:
    """Yield variants of the function, in which a token that occurs only once is replaced by another. The prompt names both tokens.

    Programs with `while` and recursive programs are left out, since their variants may not terminate.
    """
    if _may_not_terminate(function.node) or len(function.code) > MAX_CONTEXT:
        return
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(function.code).readline) if token.string.strip()]
    body = body_start(function.code, function.node)
    counts: dict[str, int] = {}
    for token in tokens:
        counts[token.string] = counts.get(token.string, 0) + 1
    once = [token for token in tokens if counts[token.string] == 1 and token.start >= body]
    changes = [(token, new) for token in once for new in _replacements(token)]
    draw.shuffle(changes)
    name = f"{function.name}_variant"
    for token, new in changes:
        changed = _replace_token(function.code, token, new)
        try:
            parsed(changed)
        except SyntaxError:
            continue
        yield Draft(
            "variant",
            (function.example,),
            renamed(changed, function.name, name),
            name,
            tuple(renamed(call.source, function.name, name) for call in function.calls),
            joined(function.prelude, function.code),
            renamed(header(function.code, function.node), function.name, name),
            f"Do what `{function.name}` does, with `{new}` in place of `{token.string}`.",
            joined(function.request.context if function.request else "", function.code),
            (renamed(function.code, function.name, name),),
        )


def _replacements(token: tokenize.TokenInfo) -> Sequence[str]:
    if token.type == tokenize.NUMBER and token.string.isdecimal():
        number = int(token.string)
        return [str(near) for near in (number + 1, number - 1, 2 * number) if near >= 0 and near != number]
    return SWAPS.get(token.string, ())


def _may_not_terminate(node: ast.FunctionDef) -> bool:
    calls_itself = any(isinstance(n, ast.Name) and n.id == node.name for n in ast.walk(node))
    return calls_itself or any(isinstance(n, ast.While) for n in ast.walk(node))


def _replace_token(code: str, token: tokenize.TokenInfo, new: str) -> str:
    lines = code.splitlines(keepends=True)
    row, start, end = token.start[0] - 1, token.start[1], token.end[1]
    lines[row] = lines[row][:start] + new + lines[row][end:]
    return "".join(lines)


# --- compositions of two functions -------------------------------------------------------------------------------------------


def compositions(outer: Function, inner: Function) -> Iterator[Draft]:
    """Yield `outer` applied to the result of `inner`, if `outer` can be called with a single argument."""
    name = f"{outer.name}_of_{inner.name}"
    prelude = united([inner.prelude, inner.code, outer.prelude, outer.code])
    context = united([part for f in (inner, outer) for part in (f.request.context if f.request else "", f.code)])
    forwarded = _forwarded(inner.node.args)
    calls = [renamed(call.source, inner.name, name) for call in inner.calls if is_call(call.source, inner.name)]
    if not _takes_one(outer.node.args) or forwarded is None or not calls or prelude is None or context is None:
        return
    if len(context) > MAX_CONTEXT or outer.name == inner.name or outer.example.license != inner.example.license:
        return
    arguments = _without_annotations(inner.node.args)
    stub = f"def {name}({ast.unparse(arguments)}):"
    call = f"{outer.name}({inner.name}({forwarded}))"
    yield Draft(
        "composition", (inner.example, outer.example), f"{stub}\n    return {call}", name, tuple(calls), prelude,
        stub, f"Return `{call}`.", context, (f"{stub}\n    return {inner.name}({forwarded})",),
    )  # fmt: skip


def _takes_one(arguments: ast.arguments) -> bool:
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return required == 1 and not any(default is None for default in arguments.kw_defaults)


def _forwarded(arguments: ast.arguments) -> str | None:
    """Return the arguments of a call that forwards all parameters; None if a default is more than a literal."""
    for default in [*arguments.defaults, *arguments.kw_defaults]:
        if default is not None and not isinstance(default, ast.Constant):
            return None
    parts = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    parts += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    parts += [f"{argument.arg}={argument.arg}" for argument in arguments.kwonlyargs]
    parts += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return ", ".join(parts)


def _without_annotations(arguments: ast.arguments) -> ast.arguments:
    """Return the parameters without annotations, which may use names that a prompt does not show."""
    bare = parsed(f"def f({ast.unparse(arguments)}): ...").body[0]
    assert isinstance(bare, ast.FunctionDef)
    for node in ast.walk(bare.args):
        if isinstance(node, ast.arg):
            node.annotation = None
    return bare.args


# --- from a draft to an example ----------------------------------------------------------------------------------------------


def finish_draft(draft: Draft, outputs: Outputs) -> Example | None:
    """Return the example with the calls' outputs as expectations; None if they printed nothing to compare."""
    shown = _shown(draft, outputs)
    if not shown:
        return None
    parent = draft.parents[0]
    assert parent.tests
    added = "".join(_as_doctest(source, output) for source, output in shown)
    tests = Tests("doctest", added, draft.entry, draft.prelude)
    prompt = _new_prompt(draft, added)
    if not draft.stub:
        tests = replace(parent.tests, code=parent.tests.code.rstrip("\n") + "\n" + added)
    response = parent.response if not draft.stub else block(draft.solution)
    messages = [*parent.prompt[:-1], Message("user", prompt), Message("assistant", response)]
    return replace(parent, id=identify(messages, tests), messages=messages, tests=tests, weights=None)


def _shown(draft: Draft, outputs: Outputs) -> list[tuple[str, str]]:
    """Return the calls that a docstring can show, with their outputs; none if a new function would always return the same.

    If calls depend on one another (one is an assignment), the list ends before the first call that cannot be shown.
    """
    shown: list[tuple[str, str]] = []
    are_dependent = any(expression(source) is None for source in draft.calls)
    for source, output in zip(draft.calls, outputs, strict=True):
        if output is not None and (expression(source) is None or _is_comparable(output)):
            shown.append((source, output))
        elif are_dependent:
            break
    if not are_dependent:
        shown = shown[: MAX_CALLS if draft.stub else NEW_CALLS]
    results = [output for _, output in shown if output]
    is_constant = bool(draft.stub) and len(results) > 1 and len(set(results)) == 1
    return [] if is_constant or not results else shown


def _is_comparable(output: str) -> bool:
    """Return True if an output can be written into a docstring and is the same on every machine."""
    unusable = ADDRESS.search(output) or "\n\n" in output or output.startswith(("Traceback", ">>>", "..."))
    return bool(output) and len(output) <= MAX_OUTPUT and not unusable


def _new_prompt(draft: Draft, added: str) -> str:
    if draft.stub:
        doc = quoted(f"{draft.statement}\n\n{added.rstrip()}", "    ")
        return request(draft.entry, f"{draft.stub}\n    {doc}", draft.context)
    parts = requested(draft.parents[0].prompt[-1].content)
    assert parts
    return with_docstring(parts, f"{(docstring(parts.stub) or '').rstrip()}\n\n{added.rstrip()}")


def _as_doctest(source: str, output: str) -> str:
    first, *others = source.rstrip("\n").split("\n")
    lines = [f">>> {first}", *(f"... {line}".rstrip() for line in others)]
    return "\n".join([*lines, *output.rstrip("\n").split("\n")] if output else lines) + "\n"
