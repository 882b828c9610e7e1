"""A test script as steps: what is asked of the program, and what is decided outside.

Of `assert f(2) == 4` only `f(2)` goes into the sandbox; its value comes out as plain data and is compared here. So neither an
object that equals everything, nor a patched builtin, nor a jump over the assertion helps, and `4` is not there to be found.

Told apart are assertions of one expression, or its comparison with a literal (`==`, `<`, `in`, `is None`, …), also behind `not`, in
`abs(f(x) - 1.5) < 1e-6` or `math.isclose(f(x), 1.5)`, or joined by `and`. A function of the script that a statement calls, as
HumanEval's `check(f)`, counts as its leading assertions and the rest. That rest, and whatever else there is, runs inside.
An object of the program's own class equals no literal here, whatever its class says. A step says whether something is compared in it
where the program runs (`trust.py`).
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

from tasks.io.sandbox.trust import Scope

Weigh = Callable[[Any], Any]


@dataclass(frozen=True)
class Statements:
    """Source that runs inside, to its end."""

    source: str
    inside: bool = True
    """Whether something may be compared in it."""


@dataclass(frozen=True)
class Question:
    """An expression for the program, and whether its value is what it should be."""

    expression: str
    holds: Weigh
    assertion: str
    message: str = ""
    """The expression behind the assertion's comma."""
    inside: bool = False
    """Whether the value is the outcome of a comparison that was made before it came out."""


def steps(script: str, entry: str = "") -> list[Statements | Question]:
    """The script in order; nothing for an empty one. What cannot be read is one step: running it will tell why.

    `entry` is the name of what is tested.
    """
    try:
        return list(joined(list(parts(ast.parse(script).body, Scope(entry)))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [Statements(script)]


def parts(body: Sequence[ast.stmt], scope: Scope) -> Iterator[Statements | Question]:
    """Each statement as a step of its own."""
    for statement in unfolded(body):
        for part in conjuncts(statement):
            yield question(part, scope) or Statements(ast.unparse(part), not scope.quiet(part))
        scope.enter(statement)


def joined(parts: Sequence[Statements | Question]) -> Iterator[Statements | Question]:
    """The questions, and the statements between two of them as one step."""
    for asks, group in groupby(parts, lambda part: isinstance(part, Question)):
        if asks:
            yield from group
        else:
            run = [step for step in group if isinstance(step, Statements)]
            yield Statements("\n".join(step.source for step in run), any(step.inside for step in run))


def is_idle(statement: ast.stmt) -> bool:
    """Whether it is a docstring, or a name that is looked up for nothing."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant | ast.Name)


# --- assertions ---------------------------------------------------------------------------------------------------

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda part, whole: part in whole, ast.NotIn: lambda part, whole: part not in whole,
}  # fmt: skip
DISTANCES = ("abs", "fabs", "math.fabs")
CLOSE = ("isclose", "math.isclose")
JUDGES = {"all", "any", "bool", "callable", "hasattr", "isinstance", "issubclass", *DISTANCES, *CLOSE}
"""What compares: inside, its word is the program's word."""
UNKNOWN = object()


def conjuncts(statement: ast.stmt) -> list[ast.stmt]:
    """`assert a` and `assert b` for `assert a and b`."""
    match statement:
        case ast.Assert(ast.BoolOp(ast.And(), values), message):
            return [ast.Assert(value, message) for value in values]
    return [statement]


def question(statement: ast.stmt, scope: Scope) -> Question | None:
    """The statement as a question; None if it is none."""
    if not isinstance(statement, ast.Assert):
        return None
    part, weigh = asked(statement.test)
    if compares(part):
        return None
    message = ast.unparse(statement.msg) if statement.msg else ""
    return Question(ast.unparse(part), weigh, ast.unparse(statement.test), message, inside=not scope.told(part))


def asked(test: ast.expr) -> tuple[ast.expr, Weigh]:
    """The part of a test to ask for, and what to make of its value: all of the test and nothing where they are not told apart."""
    match test:
        case ast.UnaryOp(ast.Not(), inner):
            part, weigh = asked(inner)
            return part, lambda value: not weigh(value)
        case ast.Compare(left, [comparison], [right]) if comparable(comparison, right):
            return sided(left, right, COMPARISONS[type(comparison)]) or whole(test)
        case ast.Call(function, [ast.BinOp(left, ast.Sub(), right)], []) if ast.unparse(function) in DISTANCES:
            return sided(left, right, lambda one, other: abs(one - other)) or whole(test)
        case ast.Call(function, [left, right], options) if ast.unparse(function) in CLOSE:
            tolerances = {str(option.arg): literal(option.value) for option in options}
            return sided(left, right, partial(math.isclose, **tolerances)) or whole(test)
    return whole(test)


def whole(test: ast.expr) -> tuple[ast.expr, Weigh]:
    """The test itself, whose value is to be true."""
    return test, lambda value: value


def sided(left: ast.expr, right: ast.expr, combine: Callable[[Any, Any], Any]) -> tuple[ast.expr, Weigh] | None:
    """What is to be asked where one side is a literal; None where neither is."""
    if (known := literal(right)) is not UNKNOWN:
        part, weigh = asked(left)
        return part, lambda value: combine(weigh(value), known)
    if (known := literal(left)) is not UNKNOWN:
        part, weigh = asked(right)
        return part, lambda value: combine(known, weigh(value))
    return None


def literal(node: ast.expr) -> Any:
    """The value of a literal, else UNKNOWN."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return UNKNOWN


def comparable(comparison: ast.cmpop, right: ast.expr) -> bool:
    """Whether a value can be compared so after a journey. Identity survives it for None, True and False alone."""
    if isinstance(comparison, ast.Is | ast.IsNot):
        return isinstance(right, ast.Constant) and (right.value is None or isinstance(right.value, bool))
    return True


def compares(node: ast.AST) -> bool:
    """Whether the expression's value is itself the outcome of a comparison."""
    match node:
        case ast.Compare() | ast.BoolOp():
            return True
        case ast.Call(function):
            return ast.unparse(function) in JUDGES  # what a call makes of its arguments is its own affair
    return any(map(compares, ast.iter_child_nodes(node)))


# --- functions of the script that it calls --------------------------------------------------------------------------


def unfolded(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements, with the leading assertions of a function in place of its call."""
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
    """The name of a function that the statement calls with names for arguments, and does nothing else; empty if it is none."""
    match statement:
        case ast.Expr(ast.Call(ast.Name(name), arguments, [])) if all(isinstance(one, ast.Name) for one in arguments):
            return name
    return ""


def is_plain(function: ast.FunctionDef) -> bool:
    """Whether a call runs the function's statements and nothing else."""
    rest = copy.copy(function.args)
    rest.args = []
    special = [*function.decorator_list, *ast.iter_child_nodes(rest)]
    return not special and not any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))


def call_unfolded(call: ast.stmt, function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """The function's leading assertions, about the call's arguments; then, if there is more, a call of what is left."""
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    names = [argument.id for argument in call.value.args if isinstance(argument, ast.Name)]
    parameters = [parameter.arg for parameter in function.args.args]
    own = {*parameters, *names}
    lead = (
        list(takewhile(lambda statement: can_lead(statement, own), function.body))
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
    """Whether it means the same outside its function: it does nothing, or it is an assertion that gives none of the names another meaning."""
    if is_idle(statement):
        return True
    nodes = list(ast.walk(statement))
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    keeps = not any(isinstance(node, ast.NamedExpr) for node in nodes)
    return isinstance(statement, ast.Assert) and keeps and bound.isdisjoint(names)


class Renaming(ast.NodeTransformer):
    """Puts arguments in place of parameters."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)
