"""Put marks into a program that record which lines and branches of its functions are reached.

The marks are calls in the syntax tree; no tracer is set. The library `coverage` is not available in the sandbox, where programs can import
only the standard library. `sys.settrace` reports lines, but its branches are those of bytecode, which differ between Python versions. The
branches of `sys.monitoring`, available from Python 3.12, are those of bytecode too. Marks give the same counts on every version, and each
costs a call.

A line counts if a statement in a function begins on it; docstrings do not. A branch is one outcome of a condition: of `if`, `while`, the
conditional expression, `if` in a comprehension and a guard of `match`, two each; and of `for`, that its body runs, or that it runs out.
"""

import ast
from dataclasses import dataclass, field

MARK, SEEN = "_mark_", "_seen_"
PRELUDE = f"""
{SEEN} = set()
def {MARK}(place, *outcome):
    {SEEN}.add((place, bool(outcome[0]) if outcome else None))
    return outcome[0] if outcome else None
"""
"""Runs before a program with marks, in its namespace. The mark of a condition returns the condition's value unchanged, which may be None,
since `while` may bind it by `:=`."""
Bodies = tuple[str, ...]
BODIES: Bodies = ("body", "orelse", "finalbody")


@dataclass
class Marked:
    """A program with marks."""

    source: str
    lines: set[int] = field(default_factory=set)
    """The lines on which statements of functions begin."""
    branches: set[tuple[int, bool]] = field(default_factory=set)
    """Pairs of a condition's number and one of its outcomes."""


def marked(program: str) -> Marked:
    """Return a program with marks. Raises SyntaxError if it is not valid Python."""
    try:
        tree = ast.parse(program)
        marking = _Marking()
        marking.visit(tree)
        return Marked(ast.unparse(ast.fix_missing_locations(tree)), marking.lines, marking.branches)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from None


class _Marking(ast.NodeTransformer):
    """Puts marks before statements of functions, and around conditions in them."""

    def __init__(self) -> None:
        self.lines: set[int] = set()
        self.branches: set[tuple[int, bool]] = set()
        self._depth = 0
        self._conditions = 0

    def visit(self, node: ast.AST) -> ast.AST:
        """Mark the nodes below a node, and then the node."""
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        self._depth += is_function
        if self._depth:
            self._mark_conditions(node)
        lines = {name: [statement.lineno for statement in body] for name, body in _bodies(node)}
        self.generic_visit(node)
        if self._depth:
            for name, body in _bodies(node):
                setattr(node, name, self._with_marks(body, lines[name], is_function and name == "body"))
            if isinstance(node, ast.For | ast.AsyncFor):
                self._mark_loop(node)
        self._depth -= is_function
        return node

    def _mark_conditions(self, node: ast.AST) -> None:
        match node:
            case ast.If() | ast.While() | ast.IfExp() if not isinstance(node.test, ast.Constant):
                node.test = self._condition(node.test)
            case ast.comprehension(ifs=conditions):
                node.ifs = [self._condition(test) for test in conditions]
            case ast.match_case(guard=ast.expr() as guard):
                node.guard = self._condition(guard)

    def _mark_loop(self, node: ast.For | ast.AsyncFor) -> None:
        number = self._number()
        node.body = [_statement(number, True), *node.body]
        node.orelse = [_statement(number, False), *node.orelse]

    def _condition(self, test: ast.expr) -> ast.expr:
        return _call(self._number(), test)

    def _number(self) -> int:
        self._conditions += 1
        self.branches |= {(-self._conditions, True), (-self._conditions, False)}
        return -self._conditions

    def _with_marks(self, body: list[ast.stmt], lines: list[int], may_document: bool) -> list[ast.stmt]:
        marked_body: list[ast.stmt] = []
        for place, (statement, line) in enumerate(zip(body, lines, strict=True)):
            if not (may_document and place == 0 and _is_docstring(statement)):
                self.lines.add(line)
                marked_body.append(_statement(line))
            marked_body.append(statement)
        return marked_body


def _bodies(node: ast.AST) -> list[tuple[str, list[ast.stmt]]]:
    return [
        (name, body)
        for name in BODIES
        if isinstance(body := getattr(node, name, None), list) and body and isinstance(body[0], ast.stmt)
    ]


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _call(place: int, *outcome: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(MARK, ast.Load()), [ast.Constant(place), *outcome], [])


def _statement(place: int, *outcome: bool) -> ast.stmt:
    return ast.Expr(_call(place, *(ast.Constant(value) for value in outcome)))
