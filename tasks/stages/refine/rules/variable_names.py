"""Which names a program binds and uses, and local variables named by what they do.

A consistent new name for a local variable changes nothing that a caller can see. Which names are chosen is ours: those that
well-kept code has most often, so that programs which do the same read the same.
"""

import ast
import builtins
from collections import Counter
from collections.abc import Iterator

import libcst as cst
import libcst.matchers as m

OPAQUE = frozenset({"locals", "vars", "dir", "eval", "exec", "globals", "compile", "__import__", "breakpoint"})
"""A program that calls one of these may see what its variables are called."""
PRINTS_ITS_NAME = m.FormattedStringExpression(equal=m.AssignEqual())
"""`f"{x=}"`"""
SHORT = 3
"""A name of so many letters says less than the role that its variable has; longer ones stay."""
EMPTY = ("[]", "{}", "()", "''", "0", "0.0", "list()", "dict()", "set()", "tuple()")


def parsed(code: str) -> ast.Module:
    """The syntax tree. Raises SyntaxError where there is none."""
    try:
        return ast.parse(code)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from None


def bound(tree: ast.AST) -> set[str]:
    """Every name that is bound anywhere in a program; `*` where an import binds names unseen."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(name, ast.Store() | ast.Del()):
                found.add(name)
            case ast.arg(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                found.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                found.add(name)
            case ast.Import(aliases) | ast.ImportFrom(names=aliases):
                found |= {(alias.asname or alias.name).split(".")[0] for alias in aliases}
            case ast.Global(names) | ast.Nonlocal(names):
                found |= set(names)
    return found


def is_opaque(tree: ast.AST) -> bool:
    """Whether renaming or rebuilding parts of a program could be seen by the program itself."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return bool(used & OPAQUE) or "*" in bound(tree)


def conventional(code: str, around: str) -> str:
    """The program with its local variables named by what they do, as far as the names are free.

    `around` is what runs beside it: prelude and tests. Raises SyntaxError where the program cannot be read.
    """
    tree = parsed(code)
    if is_opaque(tree) or m.findall(cst.parse_module(code), PRINTS_ITS_NAME):
        return code
    fixed = _fixed(tree)
    taken = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | bound(tree) | _words(around) | fixed
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for old, new in _roles(function):
            if len(old) <= SHORT and old not in fixed and new not in taken:
                code = cst.parse_module(code).visit(_Renaming(old, new)).code
                taken, fixed = taken | {new}, fixed | {old, new}
    return code


def _fixed(tree: ast.Module) -> set[str]:
    """Names that a caller can use or that are not the program's own: parameters, keywords, attributes of scopes, what is global."""
    found = {name for statement in tree.body for name in _bound_here(statement)} | set(dir(builtins))
    for node in ast.walk(tree):
        match node:
            case ast.arg(name) | ast.ClassDef(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                found.add(name)
            case ast.keyword(arg=str(name)):
                found.add(name)
            case ast.Global(names) | ast.Nonlocal(names):
                found |= set(names)
            case ast.Import() | ast.ImportFrom():
                found |= bound(node)
            case ast.ClassDef():
                found |= bound(node)
    return found | ({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - bound(tree))


def _bound_here(statement: ast.stmt) -> set[str]:
    """What a statement of a module binds in the module."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    return bound(statement)


def _words(text: str) -> set[str]:
    return {node.id for node in ast.walk(parsed(text)) if isinstance(node, ast.Name)} | bound(parsed(text))


def _roles(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """(variable, the name for what it does), where a function has one variable alone for it."""
    found = list(_all_roles(function))
    counts = Counter(new for _, new in dict.fromkeys(found))
    return ((old, new) for old, new in dict.fromkeys(found) if counts[new] == 1)


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
    """Variables that begin with nothing: what a function gathers its result in."""
    return {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in EMPTY
        for target in node.targets
        if isinstance(target, ast.Name)
    }


class _Renaming(cst.CSTTransformer):
    """One variable under another name, wherever it stands; attributes and keywords of that name are something else."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__()
        self.old, self.new = old, new

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        return updated_node.with_changes(value=self.new) if updated_node.value == self.old else updated_node

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.Attribute:
        return updated_node.with_changes(attr=original_node.attr)
