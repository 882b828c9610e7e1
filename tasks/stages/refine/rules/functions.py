"""Functions beside a function: more of what it gives, a variant of it, and two of them, one after the other. All of it is ours.

Nothing here says what a function does in words of its own. A prompt states a change exactly, by the code or by what it is made of,
and what the new function gives is found by running it.
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

from tasks.core.programs import program
from tasks.core.records import Example, Message, Tests, identify
from tasks.core.wording import Request, block, quoted, request, requested
from tasks.stages.refine.rules.names import parsed
from tasks.stages.refine.rules.pieces import (
    docstring,
    expression,
    header,
    is_call,
    joined,
    renamed,
    united,
    with_docstring,
)

Outputs = Sequence[str | None]
MAX_CONTEXT = 1500
"""Characters of code that a new prompt shows, as in mined prompts."""
MAX_OUTPUT = 200
NEW_CALLS = 2
"""Examples that a docstring is given beside its own."""
MOST_CALLS = 4
"""Examples of a new function that do not build on one another."""
SWAPS: Mapping[str, Sequence[str]] = {
    "<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<="), "==": ("!=",), "!=": ("==",),
    "+": ("-",), "-": ("+",), "*": ("+",), "//": ("%",), "%": ("//",), "min": ("max",), "max": ("min",), "any": ("all",),
    "all": ("any",), "True": ("False",), "False": ("True",),
}  # fmt: skip
ADDRESS = re.compile(r"0x[0-9a-f]{4,}| object at |<generator|<function|<map|<filter|<zip|<itertools")


@dataclass(frozen=True)
class Function:
    """An example that answers with one function and has a docstring's examples for tests."""

    example: Example
    name: str
    code: str
    node: ast.FunctionDef
    request: Request | None
    """What its prompt was made of, where it is of the project's own wording."""
    calls: tuple[doctest.Example, ...]

    @property
    def prelude(self) -> str:
        assert self.example.tests
        return self.example.tests.prelude


@dataclass(frozen=True)
class Draft:
    """An example to be. What its calls print is yet to be found by running `solution`."""

    rule: str
    parents: tuple[Example, ...]
    solution: str
    entry: str
    calls: tuple[str, ...]
    """Sources of doctest examples."""
    prelude: str
    stub: str
    """The signature; empty where the parent's prompt stays but for more examples."""
    statement: str
    """What the docstring says above its examples."""
    context: str
    others: tuple[str, ...] = ()
    """Programs that its tests must tell from it."""


def taken_apart(example: Example) -> Function | None:
    """The function of an example, or None where it is none."""
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
            found = requested(example.prompt[-1].content) if len(example.prompt) == 1 else None
            return Function(example, name, code, node, found, tuple(calls))
    return None


# --- more examples for the docstring -----------------------------------------------------------------------------------------


def with_more_examples(function: Function, draw: random.Random) -> Iterator[Draft]:
    """The same function, its docstring with calls that it did not show: their arguments are the shown ones', a little changed."""
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
    """A call of the function with one of its literal arguments changed."""
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
    """A value of the same type near another one; the same where there is none. A number keeps its sign."""
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
    """The function with another word in place of one that its program holds once, and the prompt says which.

    Programs with `while` and those that call themselves are left alone: a variant of them may not end.
    """
    if _may_not_end(function.node) or len(function.code) > MAX_CONTEXT:
        return
    words = [token for token in tokenize.generate_tokens(io.StringIO(function.code).readline) if token.string.strip()]
    body = function.node.body[0].lineno
    counts: dict[str, int] = {}
    for token in words:
        counts[token.string] = counts.get(token.string, 0) + 1
    once = [token for token in words if counts[token.string] == 1 and token.start[0] >= body]
    changes = [(token, new) for token in once for new in _instead(token)]
    draw.shuffle(changes)
    name = f"{function.name}_variant"
    for token, new in changes:
        changed = _put(function.code, token, new)
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


def _instead(token: tokenize.TokenInfo) -> Sequence[str]:
    if token.type == tokenize.NUMBER and token.string.isdecimal():
        number = int(token.string)
        return [str(near) for near in (number + 1, number - 1, 2 * number) if near >= 0 and near != number]
    return SWAPS.get(token.string, ())


def _may_not_end(node: ast.FunctionDef) -> bool:
    calls_itself = any(isinstance(n, ast.Name) and n.id == node.name for n in ast.walk(node))
    return calls_itself or any(isinstance(n, ast.While) for n in ast.walk(node))


def _put(code: str, token: tokenize.TokenInfo, new: str) -> str:
    lines = code.splitlines(keepends=True)
    row, start, end = token.start[0] - 1, token.start[1], token.end[1]
    lines[row] = lines[row][:start] + new + lines[row][end:]
    return "".join(lines)


# --- two functions, one after the other --------------------------------------------------------------------------------------


def composed(outer: Function, inner: Function) -> Iterator[Draft]:
    """What one function makes of another's result, where the one can be called with a single argument."""
    name = f"{outer.name}_of_{inner.name}"
    prelude = united([inner.prelude, inner.code, outer.prelude, outer.code])
    context = united([part for f in (inner, outer) for part in (f.request.context if f.request else "", f.code)])
    passed = _passed_on(inner.node.args)
    calls = [renamed(call.source, inner.name, name) for call in inner.calls if is_call(call.source, inner.name)]
    if not _takes_one(outer.node.args) or passed is None or not calls or prelude is None or context is None:
        return
    if len(context) > MAX_CONTEXT or outer.name == inner.name or outer.example.license != inner.example.license:
        return
    arguments = _bare(inner.node.args)
    stub = f"def {name}({ast.unparse(arguments)}):"
    call = f"{outer.name}({inner.name}({passed}))"
    yield Draft(
        "composition", (inner.example, outer.example), f"{stub}\n    return {call}", name, tuple(calls), prelude,
        stub, f"Return `{call}`.", context, (f"{stub}\n    return {inner.name}({passed})",),
    )  # fmt: skip


def _takes_one(arguments: ast.arguments) -> bool:
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return required == 1 and not any(default is None for default in arguments.kw_defaults)


def _passed_on(arguments: ast.arguments) -> str | None:
    """Arguments as a call hands them on; None where a default is more than a literal."""
    for default in [*arguments.defaults, *arguments.kw_defaults]:
        if default is not None and not isinstance(default, ast.Constant):
            return None
    parts = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    parts += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    parts += [f"{argument.arg}={argument.arg}" for argument in arguments.kwonlyargs]
    parts += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return ", ".join(parts)


def _bare(arguments: ast.arguments) -> ast.arguments:
    """The parameters without annotations, which may be of names that a prompt does not show."""
    bare = parsed(f"def f({ast.unparse(arguments)}): ...").body[0]
    assert isinstance(bare, ast.FunctionDef)
    for node in ast.walk(bare.args):
        if isinstance(node, ast.arg):
            node.annotation = None
    return bare.args


# --- from a draft to an example ----------------------------------------------------------------------------------------------


def finished(draft: Draft, outputs: Outputs) -> Example | None:
    """The example, with what its calls printed for expectations; None where they printed nothing to compare."""
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
    """The calls that a docstring can show, with what they print: up to the first that cannot where one builds on another."""
    found: list[tuple[str, str]] = []
    builds = any(expression(source) is None for source in draft.calls)
    for source, output in zip(draft.calls, outputs, strict=True):
        if output is not None and (expression(source) is None or _is_telling(output)):
            found.append((source, output))
        elif builds:
            break
    if not builds:
        found = found[: MOST_CALLS if draft.stub else NEW_CALLS]
    results = [output for _, output in found if output]
    says_always_the_same = bool(draft.stub) and len(results) > 1 and len(set(results)) == 1
    return [] if says_always_the_same or not results else found


def _is_telling(output: str) -> bool:
    """Whether an output can stand in a docstring and tells a result from another, everywhere."""
    odd = ADDRESS.search(output) or "\n\n" in output or output.startswith(("Traceback", ">>>", "..."))
    return bool(output) and len(output) <= MAX_OUTPUT and not odd


def _new_prompt(draft: Draft, added: str) -> str:
    if draft.stub:
        doc = quoted(f"{draft.statement}\n\n{added.rstrip()}", "    ")
        return request(draft.entry, f"{draft.stub}\n    {doc}", draft.context)
    asked = requested(draft.parents[0].prompt[-1].content)
    assert asked
    return with_docstring(asked, f"{(docstring(asked.stub) or '').rstrip()}\n\n{added.rstrip()}")


def _as_doctest(source: str, output: str) -> str:
    first, *others = source.rstrip("\n").split("\n")
    lines = [f">>> {first}", *(f"... {line}".rstrip() for line in others)]
    return "\n".join([*lines, *output.rstrip("\n").split("\n")] if output else lines) + "\n"
