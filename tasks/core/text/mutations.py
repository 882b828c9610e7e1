"""Mutants of a program: each has one small mistake of the kind that programmers make, and is otherwise unchanged.

The kinds are mutation-testing operators that resemble oversights. They are our choice, because the paper does not list its own (objective `fait`).
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest

import libcst as cst
from libcst.metadata import ExpressionContext, ExpressionContextProvider, MetadataWrapper

Change = tuple[cst.CSTNode, cst.CSTNode]
"""A node of a program, and its replacement."""
Operator = Callable[[cst.CSTNode, frozenset[str]], Iterator[Change]]
"""Yields changes of a node or of nodes in it, given the names of the program's variables."""

COMPARISONS: Mapping[type, Sequence[type]] = {
    cst.LessThan: (cst.LessThanEqual, cst.GreaterThan),
    cst.LessThanEqual: (cst.LessThan, cst.GreaterThanEqual),
    cst.GreaterThan: (cst.GreaterThanEqual, cst.LessThan),
    cst.GreaterThanEqual: (cst.GreaterThan, cst.LessThanEqual),
    cst.Equal: (cst.NotEqual,),
    cst.NotEqual: (cst.Equal,),
    cst.In: (cst.NotIn,),
    cst.NotIn: (cst.In,),
    cst.Is: (cst.IsNot,),
    cst.IsNot: (cst.Is,),
}
ARITHMETIC: Mapping[type, Sequence[type]] = {
    cst.Add: (cst.Subtract,),
    cst.Subtract: (cst.Add,),
    cst.Multiply: (cst.Add, cst.Divide),
    cst.Divide: (cst.FloorDivide, cst.Multiply),
    cst.FloorDivide: (cst.Divide, cst.Modulo),
    cst.Modulo: (cst.FloorDivide,),
    cst.Power: (cst.Multiply,),
    cst.LeftShift: (cst.RightShift,),
    cst.RightShift: (cst.LeftShift,),
    cst.BitAnd: (cst.BitOr,),
    cst.BitOr: (cst.BitAnd,),
    cst.AddAssign: (cst.SubtractAssign,),
    cst.SubtractAssign: (cst.AddAssign,),
    cst.MultiplyAssign: (cst.AddAssign,),
    cst.DivideAssign: (cst.MultiplyAssign,),
    cst.FloorDivideAssign: (cst.DivideAssign,),
}
BOOLEAN: Mapping[type, Sequence[type]] = {cst.And: (cst.Or,), cst.Or: (cst.And,)}
LEAVES = (cst.Return, cst.Raise, cst.Continue, cst.Break)
MOST_OTHERS = 4
LOOSE = (cst.BooleanOperation, cst.IfExp, cst.Lambda, cst.NamedExpr)
"""Expressions that bind less tightly than `not`."""


def mutants(program: str, seed: str, operators: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (operator, program with one change), in an order drawn from `seed`, alternating between the kinds.

    Raises SyntaxError if the program cannot be parsed.
    """
    try:
        module = cst.parse_module(program)
        kinds = _changes(module, operators)
    except (cst.ParserSyntaxError, RecursionError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from None
    draw = random.Random(seed)
    queues = [[(name, change) for change in kinds[name]] for name in operators]
    for queue in queues:
        draw.shuffle(queue)
    draw.shuffle(queues)
    for turn in zip_longest(*queues):
        for name, (old, new) in filter(None, turn):
            changed = module.deep_replace(old, new)
            assert isinstance(changed, cst.Module)
            yield name, changed.code


def _changes(module: cst.Module, operators: Sequence[str]) -> dict[str, list[Change]]:
    """Return every change that these operators can make, by operator."""
    contexts = MetadataWrapper(module, unsafe_skip_copy=True).resolve(ExpressionContextProvider)
    nodes = _nodes(module)
    variables = _variables(nodes, contexts)
    kinds = {name: [change for node in nodes for change in OPERATORS[name](node, variables)] for name in operators}
    if "variable" in kinds:  # only if the variable is read here
        kinds["variable"] = [
            change for change in kinds["variable"] if contexts.get(change[0]) is ExpressionContext.LOAD
        ]
    return kinds


def swap(table: Mapping[type, Sequence[type]]) -> Operator:
    """Return the mutation that replaces an operator sign by another one."""

    def changes(node: cst.CSTNode, variables: frozenset[str]) -> Iterator[Change]:
        for kind in table.get(type(node), ()):
            around = {name: getattr(node, name) for name in ("whitespace_before", "whitespace_after")}
            yield node, kind(**around)

    return changes


def boundary(node: cst.CSTNode, variables: frozenset[str]) -> Iterator[Change]:
    """Change an integer by one."""
    if isinstance(node, cst.Integer):
        value = node.evaluated_value
        yield from ((node, node.with_changes(value=str(near))) for near in (value + 1, value - 1) if near >= 0)


def guard(node: cst.CSTNode, variables: frozenset[str]) -> Iterator[Change]:
    """Remove a special case: an `if` without `else` that ends in return, raise, continue or break."""
    if isinstance(node, cst.IndentedBlock) and len(node.body) > 1:
        for place, statement in enumerate(node.body):
            if _is_guard(statement):
                yield node, node.with_changes(body=[*node.body[:place], *node.body[place + 1 :]])


def arguments(node: cst.CSTNode, variables: frozenset[str]) -> Iterator[Change]:
    """Swap two neighbouring arguments."""
    if isinstance(node, cst.Call):
        for place, (left, right) in enumerate(pairwise(node.args)):
            if not any((left.keyword, right.keyword, left.star, right.star)):
                first, second = left.with_changes(value=right.value), right.with_changes(value=left.value)
                yield node, node.with_changes(args=[*node.args[:place], first, second, *node.args[place + 2 :]])


def variable(node: cst.CSTNode, variables: frozenset[str]) -> Iterator[Change]:
    """Replace a variable that is read by another one. Only the next few in alphabetical order are used, to limit the number of mutants."""
    if isinstance(node, cst.Name) and node.value in variables:
        names = sorted(variables)
        place = names.index(node.value) + 1
        others = [*names[place:], *names[: place - 1]][:MOST_OTHERS]
        yield from ((node, node.with_changes(value=other)) for other in others)


def condition(node: cst.CSTNode, variables: frozenset[str]) -> Iterator[Change]:
    """Negate a condition."""
    space = cst.SimpleWhitespace(" ")  # `if(x):` has no space, and `ifnot` is not a keyword
    before = {cst.If: "whitespace_before_test", cst.While: "whitespace_after_while", cst.IfExp: "whitespace_after_if"}
    if isinstance(node, cst.If | cst.While | cst.IfExp):
        yield node, node.with_changes(test=_negated(node.test), **{before[type(node)]: space})


def returned(node: cst.CSTNode, variables: frozenset[str]) -> Iterator[Change]:
    """Drop a `return` and keep its expression."""
    if isinstance(node, cst.Return) and node.value:
        yield node, cst.Expr(node.value, semicolon=node.semicolon)


OPERATORS: Mapping[str, Operator] = {
    "comparison": swap(COMPARISONS),
    "arithmetic": swap(ARITHMETIC),
    "boolean": swap(BOOLEAN),
    "boundary": boundary,
    "guard": guard,
    "arguments": arguments,
    "variable": variable,
    "condition": condition,
    "return": returned,
}


class _Collector(cst.CSTVisitor):
    """Collects every node below the visited one, in the order of the text."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[cst.CSTNode] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        self.nodes.append(node)
        return True


def _nodes(module: cst.Module) -> list[cst.CSTNode]:
    collector = _Collector()
    module.visit(collector)
    return collector.nodes


def _variables(
    nodes: Sequence[cst.CSTNode], contexts: Mapping[cst.CSTNode, ExpressionContext | None]
) -> frozenset[str]:
    """Return the names of parameters and assigned variables."""
    parameters = {node.name.value for node in nodes if isinstance(node, cst.Param)}
    functions = {node.name.value for node in nodes if isinstance(node, cst.FunctionDef | cst.ClassDef)}
    assigned = {
        node.value for node in nodes if isinstance(node, cst.Name) and contexts.get(node) is ExpressionContext.STORE
    }
    return frozenset((parameters | assigned) - functions)


def _is_guard(statement: cst.CSTNode) -> bool:
    if not isinstance(statement, cst.If) or statement.orelse:
        return False
    last = statement.body.body[-1]
    simple = last.body[-1] if isinstance(last, cst.SimpleStatementLine) else last
    return isinstance(simple, LEAVES)


def _negated(test: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        return test.expression
    if isinstance(test, LOOSE) and not test.lpar:
        test = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.UnaryOperation(cst.Not(), test)
