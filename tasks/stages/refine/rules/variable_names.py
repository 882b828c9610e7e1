"""Find the names that a program binds and uses, and rename local variables according to their role.

Renaming a local variable consistently changes nothing that a caller can see. The choice of names is ours: the most frequent names in
good code, so that programs that do the same look the same.
"""

import ast
import builtins
from collections import Counter
from collections.abc import Iterator

import libcst as cst
import libcst.matchers as m

OPAQUE = frozenset({"locals", "vars", "dir", "eval", "exec", "globals", "compile", "__import__", "breakpoint"})
"""A program that calls one of these may read the names of its variables."""
PRINTS_ITS_NAME = m.FormattedStringExpression(equal=m.AssignEqual())
"""`f"{x=}"`"""
SHORT = 3
"""Longest name, in characters, that is replaced by the name of the variable's role. Longer names are kept."""
EMPTY = ("[]", "{}", "()", "''", "0", "0.0", "list()", "dict()", "set()", "tuple()")


def parsed(code: str) -> ast.Module:
    """Parse code. Raises SyntaxError, and no other error, for code that cannot be parsed."""
    try:
        return ast.parse(code)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from None


def module_of(code: str) -> cst.Module:
    """Parse code with its layout. Raises SyntaxError for code that libcst cannot parse, which includes some valid Python."""
    try:
        return cst.parse_module(code)
    except (cst.ParserSyntaxError, RecursionError, TypeError) as error:  # of `return(lambda: x)`: its issue 1061
        raise SyntaxError(str(error)) from None


def bound(tree: ast.AST) -> set[str]:
    """Return every name that is bound anywhere in a program, and `*` if a star import binds unknown ones."""
    names_bound: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(name, ast.Store() | ast.Del()):
                names_bound.add(name)
            case ast.arg(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                names_bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names_bound.add(name)
            case ast.Import(aliases) | ast.ImportFrom(names=aliases):
                names_bound |= {(alias.asname or alias.name).split(".")[0] for alias in aliases}
            case ast.Global(names) | ast.Nonlocal(names):
                names_bound |= set(names)
    return names_bound


def is_opaque(tree: ast.AST) -> bool:
    """Return True if the program might observe that parts of it were renamed or rewritten."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return bool(used & OPAQUE) or "*" in bound(tree)


def rename_variables(code: str, around: str) -> str:
    """Return code with local variables renamed according to their role, as far as the names are free.

    `around` is other code that runs with it: prelude and tests. Raises SyntaxError if the program cannot be parsed.
    """
    tree = parsed(code)
    if is_opaque(tree) or m.findall(module_of(code), PRINTS_ITS_NAME):
        return code
    fixed = _fixed(tree)
    taken = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | bound(tree) | _names_in(around) | fixed
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for old, new in _roles(function):
            if len(old) <= SHORT and old not in fixed and new not in taken:
                code = module_of(code).visit(_Renaming(old, new)).code
                taken, fixed = taken | {new}, fixed | {old, new}
    return code


def _fixed(tree: ast.Module) -> set[str]:
    """Return the names that must not change, since a caller can use them or they are defined elsewhere.

    These are parameters, keywords, class members and globals.
    """
    fixed = {name for statement in tree.body for name in bound_by(statement)} | set(dir(builtins))
    for node in ast.walk(tree):
        match node:
            case ast.arg(name) | ast.ClassDef(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                fixed.add(name)
            case ast.keyword(arg=str(name)):
                fixed.add(name)
            case ast.Global(names) | ast.Nonlocal(names):
                fixed |= set(names)
            case ast.Import() | ast.ImportFrom():
                fixed |= bound(node)
            case ast.ClassDef():
                fixed |= bound(node)
    return fixed | ({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - bound(tree))


def bound_by(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    return bound(statement)


def _names_in(text: str) -> set[str]:
    return {node.id for node in ast.walk(parsed(text)) if isinstance(node, ast.Name)} | bound(parsed(text))


def _roles(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Return (variable, name of its role) for each role that only one variable of the function has."""
    roles = dict.fromkeys(_all_roles(function))
    counts = Counter(new for _, new in roles)
    return ((old, new) for old, new in roles if counts[new] == 1)


def _all_roles(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    match function.body[-1]:
        case ast.Return(ast.Name(name)) if name in _started_empty(function):
            yield name, "result"
    for node in ast.walk(function):
        match node:
            case ast.ExceptHandler(name=str(name)):
                yield name, "error"
            case ast.withitem(ast.Call(ast.Name("open")), ast.Name(name)):
                yield name, "file"
            case ast.For(target, source) | ast.comprehension(target, source):
                yield from _loop_roles(target, source)


def _loop_roles(target: ast.expr, source: ast.expr) -> Iterator[tuple[str, str]]:
    match target, source:
        case ast.Tuple([ast.Name(first), ast.Name(second)]), ast.Call(ast.Attribute(attr="items"), []):
            yield first, "key"
            yield second, "value"


def _started_empty(function: ast.FunctionDef) -> set[str]:
    """Return the variables to which an empty or zero value is assigned. A function collects its result in such a variable."""
    return {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in EMPTY
        for target in node.targets
        if isinstance(target, ast.Name)
    }


class _Renaming(cst.CSTTransformer):
    """Renames one variable, but not attributes of the same name."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__()
        self.old, self.new = old, new

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        return updated_node.with_changes(value=self.new) if updated_node.value == self.old else updated_node

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.Attribute:
        return updated_node.with_changes(attr=original_node.attr)
