"""Decide whether an expression's value comes from the program, or may be the result of a comparison made inside the sandbox.

If a value of the program is compared outside, it must be right, whatever the program did to its process. A program can cheat a
comparison that runs in its own process, by an object that equals everything or by a patched `count`, because the expected result is
always the same `True`. So an expression counts as a program value only if all functions between the program and the value are on a
list of functions that do not compare. `sorted(f(1))` is a program value. `[2].count(f(1))`, `operator.eq(f(1), 2)`, `same(f(1), 2)`,
`f(1).equals(2)` and `sum(f(x) == 2 for x in y)` are not.
"""

import ast
import builtins
from collections.abc import Iterable

ALONE = ("next", "iter", "bool", "min", "max")
"""Functions that return contents of their single argument. A second argument may be the expected value: `next(f(1), 2)`, `min(f(1), 2)`."""
CARRIERS = (
    "list", "tuple", "set", "frozenset", "dict", "sorted", "reversed", "enumerate", "islice", "itertools.islice", "len", "sum", "str",
    "repr", "print", "bytes", "int", "float", "complex", "abs", "round", "ord", "chr", "type",
)  # fmt: skip
"""Functions that return contents of their first argument."""
SHAPING = (
    "pop", "split", "rsplit", "splitlines", "partition", "rpartition", "strip", "lstrip", "rstrip", "encode", "decode", "ljust", "rjust",
    "center", "zfill", "expandtabs", "to_bytes", "hex", "astype", "reshape", "tolist",
)  # fmt: skip
"""Methods that return contents of their object and whose arguments are only options. Other methods may compare the object with an argument."""


class Scope:
    """The names that a script has bound so far."""

    def __init__(self, entry: str) -> None:
        self.entry = entry
        """The name of the tested function or class."""
        self.untainted = set(dir(builtins)) - {entry}
        """Names whose values do not depend on the program."""
        self.may_compare: set[str] = set()
        """Names of functions that may compare, and of results that may come from a comparison."""

    def enter(self, statement: ast.stmt) -> None:
        """Record the names that the statement binds."""
        names = bound(statement)
        defines = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        may_compare = defines or not self.compares_nothing(statement)
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        is_tainted = value is not None and self.is_tainted(value)
        self.untainted, self.may_compare = self.untainted - names, self.may_compare - names
        if may_compare:
            self.may_compare |= names
        elif not is_tainted:
            self.untainted |= names

    def compares_nothing(self, statement: ast.stmt) -> bool:
        """Return True if running the statement compares nothing: it only binds names."""
        match statement:
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(ast.Constant() | ast.Name()):
                return True
            case ast.Assign(value=ast.expr() as value) | ast.AnnAssign(value=ast.expr() as value):
                return self.is_program_value(value)
            case ast.FunctionDef(args=arguments, decorator_list=[]):
                return not self.any_tainted([*arguments.defaults, *filter(None, arguments.kw_defaults)])
            case ast.ClassDef(body=body, decorator_list=[]):
                return all(map(self.compares_nothing, body))
        return isinstance(statement, ast.AnnAssign)

    def is_program_value(self, node: ast.expr) -> bool:
        """Return True if the value is one that the program computed and has to get right."""
        if not self.is_tainted(node):
            return True
        match node:
            case ast.Name(name):
                return name not in self.may_compare
            case ast.Attribute(value) | ast.UnaryOp(_, value):
                return self.is_program_value(value)
            case ast.Subscript(value, place):
                return self.is_program_value(value) and not self.is_tainted(place)
            case ast.List(parts) | ast.Tuple(parts):
                return all(map(self.is_program_value, parts))
            case ast.ListComp(part, loops) | ast.GeneratorExp(part, loops):
                return self.are_program_elements(part, loops)
            case ast.Call(function, arguments, options):
                return self.is_program_call(function, arguments, [option.value for option in options])
        return False

    def is_program_call(self, function: ast.expr, arguments: list[ast.expr], options: list[ast.expr]) -> bool:
        """Return True if a call's value is one that the program computed."""
        name = ast.unparse(function)
        match arguments:
            case _ if name == self.entry:
                return True  # its arguments do not matter
            case [mapped, *rest] if name == "map" and not options:
                return self.is_program_call(mapped, rest, [])
            case [first] if name in ALONE:
                return self.is_program_value(first) and not self.any_tainted(options)
            case [first, *rest] if name in CARRIERS:
                return self.is_program_value(first) and not self.any_tainted([*rest, *options])
        given = [*arguments, *options]
        if (
            isinstance(function, ast.Attribute)
            and given
            and function.attr not in SHAPING
            and self.is_tainted(function.value)
        ):
            return False
        return self.is_program_value(function) and not self.any_tainted(given)

    def are_program_elements(self, part: ast.expr, loops: list[ast.comprehension]) -> bool:
        """Return True if the elements of a comprehension are values that the program computed."""
        inner = Scope(self.entry)
        inner.untainted, inner.may_compare = self.untainted, self.may_compare
        for loop in loops:
            if not inner.is_program_value(loop.iter):
                return False
            targets = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
            inner.untainted = inner.untainted - targets if inner.is_tainted(loop.iter) else inner.untainted | targets
            if not all(map(inner.is_program_value, loop.ifs)):
                return False
        return inner.is_program_value(part)

    def is_tainted(self, node: ast.AST) -> bool:
        """Return True if the node depends on the program: it uses a name that is not the script's own data, a module
        or a builtin."""
        names = [child for child in ast.walk(node) if isinstance(child, ast.Name)]
        local_names = {name.id for name in names if isinstance(name.ctx, ast.Store)}
        local_names |= {child.arg for child in ast.walk(node) if isinstance(child, ast.arg)}
        return any(name.id not in self.untainted | local_names for name in names)

    def any_tainted(self, nodes: Iterable[ast.AST]) -> bool:
        """Return True if one of the nodes depends on the program."""
        return any(map(self.is_tainted, nodes))


def bound(statement: ast.stmt) -> set[str]:
    """Return the names that the statement binds."""
    match statement:
        case ast.Import(aliases) | ast.ImportFrom(names=aliases):
            return {(alias.asname or alias.name).partition(".")[0] for alias in aliases}
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
            return {name}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
