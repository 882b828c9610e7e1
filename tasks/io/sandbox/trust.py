"""Whether what a script asks for can be believed: a value that the program has made, or the outcome of a comparison beside it.

A value that is compared out here has to be right, whatever the program did to its process. A comparison that is made where the
program runs can be talked round, by an object that equals everything or by a patched `count`, and its outcome is always the same
`True`. So the rule names what may stand between the program and its value, and all else counts as comparing: of `sorted(f(1))`
the value is told, of `[2].count(f(1))`, `operator.eq(f(1), 2)`, `same(f(1), 2)`, `f(1).equals(2)` or `sum(f(x) == 2 for x in y)` it
is not.
"""

import ast
import builtins
from collections.abc import Iterable

ALONE = ("next", "iter", "bool", "min", "max")
"""Carry what one argument holds. With a second one, that one may be what is wanted: `next(f(1), 2)`, `min(f(1), 2)`."""
CARRIERS = (
    "list", "tuple", "set", "frozenset", "dict", "sorted", "reversed", "enumerate", "islice", "itertools.islice", "len", "sum", "str",
    "repr", "print", "bytes", "int", "float", "complex", "abs", "round", "ord", "chr", "type",
)  # fmt: skip
"""Carry what their first argument holds."""
SHAPING = (
    "pop", "split", "rsplit", "splitlines", "partition", "rpartition", "strip", "lstrip", "rstrip", "encode", "decode", "ljust", "rjust",
    "center", "zfill", "expandtabs", "to_bytes", "hex", "astype", "reshape", "tolist",
)  # fmt: skip
"""Methods of a value that are given how to carry what it holds. Others may compare it with what they are given."""


class Scope:
    """The names of a script, as far as it has run."""

    def __init__(self, entry: str) -> None:
        self.entry = entry
        """The name of what is tested."""
        self.known = set(dir(builtins)) - {entry}
        """What holds nothing of the program's."""
        self.doubtful: set[str] = set()
        """What may compare when called, or holds what a comparison came to."""

    def enter(self, statement: ast.stmt) -> None:
        """Note what the statement gives names to."""
        names = bound(statement)
        defines = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        doubtful = defines or not self.quiet(statement)
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        live = value is not None and self.live(value)
        self.known, self.doubtful = self.known - names, self.doubtful - names
        if doubtful:
            self.doubtful |= names
        elif not live:
            self.known |= names

    def quiet(self, statement: ast.stmt) -> bool:
        """Whether nothing is compared by running it: it only gives things names."""
        match statement:
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(ast.Constant() | ast.Name()):
                return True
            case ast.Assign(value=ast.expr() as value) | ast.AnnAssign(value=ast.expr() as value):
                return self.told(value)
            case ast.FunctionDef(args=arguments, decorator_list=[]):
                return not self.any_live([*arguments.defaults, *filter(None, arguments.kw_defaults)])
            case ast.ClassDef(body=body, decorator_list=[]):
                return all(map(self.quiet, body))
        return isinstance(statement, ast.AnnAssign)

    def told(self, node: ast.expr) -> bool:
        """Whether the value is one that the program has made, and has to get right."""
        if not self.live(node):
            return True
        match node:
            case ast.Name(name):
                return name not in self.doubtful
            case ast.Attribute(value) | ast.UnaryOp(_, value):
                return self.told(value)
            case ast.Subscript(value, place):
                return self.told(value) and not self.live(place)
            case ast.List(parts) | ast.Tuple(parts):
                return all(map(self.told, parts))
            case ast.ListComp(part, loops) | ast.GeneratorExp(part, loops):
                return self.each_told(part, loops)
            case ast.Call(function, arguments, options):
                return self.call_told(function, arguments, [option.value for option in options])
        return False

    def call_told(self, function: ast.expr, arguments: list[ast.expr], options: list[ast.expr]) -> bool:
        """Whether a call's value is one that the program has made."""
        name = ast.unparse(function)
        match arguments:
            case _ if name == self.entry:
                return True  # what it is asked with is its own affair
            case [what, *rest] if name == "map" and not options:
                return self.call_told(what, rest, [])
            case [first] if name in ALONE:
                return self.told(first) and not self.any_live(options)
            case [first, *rest] if name in CARRIERS:
                return self.told(first) and not self.any_live([*rest, *options])
        given = [*arguments, *options]
        if isinstance(function, ast.Attribute) and given and function.attr not in SHAPING and self.live(function.value):
            return False
        return self.told(function) and not self.any_live(given)

    def each_told(self, part: ast.expr, loops: list[ast.comprehension]) -> bool:
        """Whether the parts that a comprehension collects are ones that the program has made."""
        inner = Scope(self.entry)
        inner.known, inner.doubtful = self.known, self.doubtful
        for loop in loops:
            if not inner.told(loop.iter):
                return False
            targets = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
            inner.known = inner.known - targets if inner.live(loop.iter) else inner.known | targets
            if not all(map(inner.told, loop.ifs)):
                return False
        return inner.told(part)

    def live(self, node: ast.AST) -> bool:
        """Whether the program has a hand in it: it names something that is not the script's own data, a module or a builtin."""
        names = [child for child in ast.walk(node) if isinstance(child, ast.Name)]
        own = {name.id for name in names if isinstance(name.ctx, ast.Store)}
        own |= {child.arg for child in ast.walk(node) if isinstance(child, ast.arg)}
        return any(name.id not in self.known | own for name in names)

    def any_live(self, nodes: Iterable[ast.AST]) -> bool:
        """Whether the program has a hand in one of them."""
        return any(map(self.live, nodes))


def bound(statement: ast.stmt) -> set[str]:
    """The names that the statement gives."""
    match statement:
        case ast.Import(aliases) | ast.ImportFrom(names=aliases):
            return {(alias.asname or alias.name).partition(".")[0] for alias in aliases}
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
            return {name}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
