"""Split a test script into steps: expressions that are evaluated inside the sandbox and checked outside, and other statements.

Of `assert f(2) == 4`, only `f(2)` goes into the sandbox. Its value comes out as plain data and is compared here. So a program cannot
cheat by an object that equals everything, a patched builtin or a jump over the assertion, and it cannot find the `4`.

An assertion is split if it is one expression, or the comparison of one with a literal (`==`, `<`, `in`, `is None`, …). These may also
be under `not`, in `abs(f(x) - 1.5) < 1e-6` or `math.isclose(f(x), 1.5)`, or joined by `and`. If a statement calls a function of the
script, such as HumanEval's `check(f)`, the call is replaced by the function's leading assertions and a call of the rest. That rest,
and all other statements, run inside.

An object of the program's own class equals no literal here and is below none, whatever its methods return. Two kinds of assertions
about values that cannot come out are run inside: that a value contains a literal, as in `3 in range(9)`; and that a value which is too
large to come out is above or below a literal, if it consists of builtin types only.

A step is marked `inside` if something in it may be compared in the program's process (`taint.py`).
"""

import ast
import copy
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, takewhile
from typing import Any

from tasks.io.sandbox.taint import Scope

Check = Callable[[Any], Any]
"""A function of the value of an expression. Its result is true if the assertion holds."""


@dataclass(frozen=True)
class Statements:
    """Source that runs inside the sandbox, to its end."""

    source: str
    inside: bool = True
    """True if the source may compare something."""


@dataclass(frozen=True)
class Question:
    """An expression to evaluate inside the sandbox, and the check of its value outside."""

    expression: str
    holds: Check
    assertion: str
    message: str = ""
    """Source of the assertion's message."""
    inside: bool = False
    """True if the value may be the result of a comparison inside the sandbox."""
    membership: str = ""
    """Source of the assertion, with `VALUE` for the value, if it is about whether the value contains a literal; else empty. It runs inside if
    the value cannot come out."""
    order: str = ""
    """The same for an assertion about whether the value is above or below a literal. It runs inside only if the value consists of builtin
    types."""


def steps(script: str, entry: str = "") -> list[Statements | Question]:
    """Return the script's steps in order; none for an empty one. A script that does not parse is one step, which raises the error when it is run.

    `entry` is the name of the tested function or class.
    """
    try:
        return list(joined(list(parts(ast.parse(script).body, Scope(entry)))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [Statements(script)]


def parts(body: Sequence[ast.stmt], scope: Scope) -> Iterator[Statements | Question]:
    """Yield a step for each statement, or for each part of an assertion that is joined by `and`."""
    for statement in unfolded(body):
        for part in conjuncts(statement):
            yield question(part, scope) or Statements(ast.unparse(part), not scope.compares_nothing(part))
        scope.enter(statement)


def joined(parts: Sequence[Statements | Question]) -> Iterator[Statements | Question]:
    """Yield the questions, and the statements between two questions as one step."""
    for asks, group in groupby(parts, lambda part: isinstance(part, Question)):
        if asks:
            yield from group
        else:
            run = [step for step in group if isinstance(step, Statements)]
            yield Statements("\n".join(step.source for step in run), any(step.inside for step in run))


def is_idle(statement: ast.stmt) -> bool:
    """Return True if the statement is a docstring or another constant or name without effect."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant | ast.Name)


# --- assertions ---------------------------------------------------------------------------------------------------

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda item, container: item in container, ast.NotIn: lambda item, container: item not in container,
}  # fmt: skip
HOLDS = (ast.In, ast.NotIn)
ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
DISTANCES = ("abs", "fabs", "math.fabs")
CLOSE = ("isclose", "math.isclose")
COMPARING = {"all", "any", "bool", "callable", "hasattr", "isinstance", "issubclass", *DISTANCES, *CLOSE}
"""Functions that compare. Inside the sandbox the program could replace them."""
UNKNOWN = object()
VALUE = "_value_of_question"
"""The name of the variable that holds the value of a question inside the sandbox."""


def conjuncts(statement: ast.stmt) -> list[ast.stmt]:
    """Return `assert a` and `assert b` for `assert a and b`."""
    match statement:
        case ast.Assert(ast.BoolOp(ast.And(), values), message):
            return [ast.Assert(value, message) for value in values]
    return [statement]


def question(statement: ast.stmt, scope: Scope) -> Question | None:
    """Return the statement as a question; None if it cannot be one."""
    if not isinstance(statement, ast.Assert):
        return None
    part, check = separate(statement.test)
    if compares(part):
        return None
    message = ast.unparse(statement.msg) if statement.msg else ""
    return Question(
        ast.unparse(part),
        check,
        ast.unparse(statement.test),
        message,
        inside=not scope.is_program_value(part),
        membership=about_value(statement.test, part, HOLDS),
        order=about_value(statement.test, part, ORDER),
    )


def about_value(test: ast.expr, part: ast.expr, comparisons: tuple[type[ast.cmpop], ...]) -> str:
    """Return `3 in VALUE` for `3 in part`, also under `not`; an empty string if the test is not such a comparison of `part`."""
    match test:
        case ast.UnaryOp(ast.Not(), inner) if source := about_value(inner, part, comparisons):
            return f"not {source}"
        case ast.Compare(left, [comparison], [right]) if isinstance(comparison, comparisons) and (
            part is right or (part is left and comparisons is ORDER)
        ):
            sides = [ast.Name(VALUE) if side is part else side for side in (left, right)]
            return ast.unparse(ast.Compare(sides[0], [comparison], sides[1:]))
    return ""


def separate(test: ast.expr) -> tuple[ast.expr, Check]:
    """Split a test into the expression to evaluate inside and the check of its value. A test that cannot be split is evaluated whole."""
    match test:
        case ast.UnaryOp(ast.Not(), inner):
            part, check = separate(inner)
            return part, lambda value: not check(value)
        case ast.Compare(left, [comparison], [right]) if comparable(comparison, right):
            return separate_literal(left, right, COMPARISONS[type(comparison)]) or unsplit(test)
        case ast.Call(function, [ast.BinOp(left, ast.Sub(), right)], []) if ast.unparse(function) in DISTANCES:
            return separate_literal(left, right, lambda a, b: abs(a - b)) or unsplit(test)
        case ast.Call(function, [left, right], options) if ast.unparse(function) in CLOSE:
            tolerances = {str(option.arg): literal(option.value) for option in options}
            return separate_literal(left, right, partial(math.isclose, **tolerances)) or unsplit(test)
    return unsplit(test)


def unsplit(test: ast.expr) -> tuple[ast.expr, Check]:
    """Return the test itself, whose value must be true."""
    return test, lambda value: value


def separate_literal(
    left: ast.expr, right: ast.expr, combine: Callable[[Any, Any], Any]
) -> tuple[ast.expr, Check] | None:
    """Split a comparison that has a literal on one side; None if it has none."""
    if (constant := literal(right)) is not UNKNOWN:
        part, check = separate(left)
        return part, lambda value: combine(check(value), constant)
    if (constant := literal(left)) is not UNKNOWN:
        part, check = separate(right)
        return part, lambda value: combine(constant, check(value))
    return None


def literal(node: ast.expr) -> Any:
    """Return the value of a literal, else UNKNOWN."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return UNKNOWN


def comparable(comparison: ast.cmpop, right: ast.expr) -> bool:
    """Return True if a decoded value can be compared this way. Only None, True and False keep their identity."""
    if isinstance(comparison, ast.Is | ast.IsNot):
        return isinstance(right, ast.Constant) and (right.value is None or isinstance(right.value, bool))
    return True


def compares(node: ast.AST) -> bool:
    """Return True if the expression's value is itself the result of a comparison."""
    match node:
        case ast.Compare() | ast.BoolOp():
            return True
        case ast.Call(function):
            return ast.unparse(function) in COMPARING  # comparisons in its arguments do not matter
    return any(map(compares, ast.iter_child_nodes(node)))


# --- calls of the script's own functions --------------------------------------------------------------------------


def unfolded(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements, with the leading assertions of a function in place of its call."""
    mentions = Counter(node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name))
    calls = Counter(map(called, body))
    defined = Counter(statement.name for statement in body if isinstance(statement, ast.FunctionDef))
    functions = {
        statement.name: statement
        for statement in body
        if isinstance(statement, ast.FunctionDef) and defined[statement.name] == 1
        if calls[statement.name] == mentions[statement.name] > 0 and is_plain(statement)
    }
    for statement in body:
        name = called(statement)
        if name in functions:
            yield from call_unfolded(statement, functions[name])
        elif not (isinstance(statement, ast.FunctionDef) and statement.name in functions):
            yield statement


def called(statement: ast.stmt) -> str:
    """Return the name of the function if the statement is only a call whose arguments are names; else an empty string."""
    match statement:
        case ast.Expr(ast.Call(ast.Name(name), arguments, [])) if all(
            isinstance(argument, ast.Name) for argument in arguments
        ):
            return name
    return ""


def is_plain(function: ast.FunctionDef) -> bool:
    """Return True if a call runs the function's statements and nothing else: no defaults, decorators or yields."""
    rest = copy.copy(function.args)
    rest.args = []
    special = [*function.decorator_list, *ast.iter_child_nodes(rest)]
    return not special and not any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))


def call_unfolded(call: ast.stmt, function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """Yield the function's leading assertions, with the call's arguments; then a call of the rest, if there is more."""
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    names = [argument.id for argument in call.value.args if isinstance(argument, ast.Name)]
    parameters = [parameter.arg for parameter in function.args.args]
    outer_names = {*parameters, *names}
    lead = (
        list(takewhile(lambda statement: can_lead(statement, outer_names), function.body))
        if len(names) == len(parameters)
        else []
    )
    renaming = Renaming(dict(zip(parameters, names, strict=False)))
    yield from (renaming.visit(copy.deepcopy(statement)) for statement in lead)
    if rest := function.body[len(lead) :]:
        remainder = copy.copy(function)
        remainder.body = rest
        yield remainder
        yield call


def can_lead(statement: ast.stmt, names: Iterable[str]) -> bool:
    """Return True if the statement means the same outside its function: it has no effect, or asserts without
    rebinding `names`."""
    if is_idle(statement):
        return True
    nodes = list(ast.walk(statement))
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    keeps = not any(isinstance(node, ast.NamedExpr) for node in nodes)
    return isinstance(statement, ast.Assert) and keeps and bound.isdisjoint(names)


class Renaming(ast.NodeTransformer):
    """Replaces parameters by arguments."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)
