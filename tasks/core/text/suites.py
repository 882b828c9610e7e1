"""Suites of tests for one function: the code of them that runs, and the faults for which a suite is rejected before it runs.

A suite is Python that runs in the function's process: plain assertions, functions `test_…` without parameters, classes `Test…`, and classes
of `unittest`. Fixtures and parameters of pytest are not supported. Code in the function's process could manipulate the function. So a suite is
rejected if its text binds the function's name or a name that the function reads, sets attributes of it, patches it or reads its code.
"""

import ast
import symtable
from collections.abc import Collection, Iterator
from dataclasses import dataclass

SYNTAX, EMPTY, EDITS, READS = "syntax", "no assertion", "edits the function", "reads its code"
FAULTS = (SYNTAX, EMPTY, EDITS, READS)
SETTERS = frozenset(("setattr", "delattr", "patch", "object", "multiple", "setitem", "__setattr__", "update"))
"""Last name segments of functions that change the object named by a string argument."""
INSIDES = frozenset(("__code__", "__globals__", "__closure__", "getsource", "getsourcelines"))
DEBUG = "__import__('unittest').defaultTestLoader.loadTestsFromTestCase({name}).debug()"
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Suite:
    """A suite in the form in which it runs."""

    statements: tuple[str, ...]
    """The source of each of its statements, and then a call of each test that it defines."""
    fault: str = ""
    """One of `FAULTS`; empty if it may run."""

    @property
    def script(self) -> str:
        """Return all statements as one source."""
        return "\n".join(self.statements) + "\n"


def read(text: str, entry: str, program: str) -> Suite:
    """Return the suite in a text for the function `entry` of a program, with its fault if it has one."""
    try:
        tree = ast.parse(text)
        statements = tuple(ast.unparse(node) for node in tree.body) + tuple(_calls(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Suite((), SYNTAX)
    nodes = list(ast.walk(tree))
    own = globals_of(program) - {entry}
    if any(_binds(node, entry) or _changes(node, {entry, *own}) for node in nodes) or own & _bound(tree):
        return Suite(statements, EDITS)
    if any(_looks_inside(node) for node in nodes):
        return Suite(statements, READS)
    return Suite(statements, "" if any(map(_asserts, nodes)) else EMPTY)


def globals_of(program: str) -> frozenset[str]:
    """Return the names that the functions of a program read from outside (including builtins), and the names that it defines."""
    try:
        table = symtable.symtable(program, "solution.py", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()
    defined = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}
    return frozenset(defined.union(*map(_global_names, table.get_children())))


def _global_names(table: symtable.SymbolTable) -> set[str]:
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return own.union(*map(_global_names, table.get_children()))


def _bound(tree: ast.Module) -> set[str]:
    """Return the names that the suite binds outside functions. Imports that bind a module under its own name are left out."""
    try:
        table = symtable.symtable(ast.unparse(tree), "suite.py", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return set()
    symbols = [symbol for symbol in table.get_symbols() if not symbol.is_imported()]
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned()} | _declared(table)


def _declared(table: symtable.SymbolTable) -> set[str]:
    """Return the names that functions bind outside themselves by `global`."""
    names: set[str] = set()
    for child in table.get_children():
        names |= {s.get_name() for s in child.get_symbols() if s.is_declared_global() and s.is_assigned()}
        names |= _declared(child)
    return names


def _binds(node: ast.AST, entry: str) -> bool:
    """Return True if a node binds the name of the function, in any scope."""
    match node:
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name) | ast.arg(name):
            return name == entry
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return name == entry
        case ast.Name(name, ast.Store() | ast.Del()):
            return name == entry
        case ast.ImportFrom("solution", names):  # the module of the function
            return any(alias.asname == entry != alias.name for alias in names)
        case ast.Import(names) | ast.ImportFrom(names=names):
            return any((alias.asname or alias.name) == entry for alias in names)
    return False


def _changes(node: ast.AST, names: Collection[str]) -> bool:
    """Return True if a node sets an attribute of the function, or changes one of these names in another way than by binding it."""
    match node:
        case ast.Attribute(value, name, ast.Store() | ast.Del()):
            return name in names or (isinstance(value, ast.Name) and value.id in names)
        case ast.Subscript(ast.Call() | ast.Attribute(), ast.Constant(str(name)), ast.Store() | ast.Del()):
            return name in names
        case ast.Call(function, arguments, options):
            if ast.unparse(function).rpartition(".")[2] not in SETTERS:
                return False
            given = [*arguments, *(option.value for option in options)]
            texts = [part.value for part in given if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            keys = {option.arg for option in options}
            first = {part.id for part in arguments[:1] if isinstance(part, ast.Name)}
            return bool({text.rpartition(".")[2] for text in texts} & set(names) or (keys | first) & set(names))
    return False


def _looks_inside(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(_, name) | ast.Name(name) | ast.Constant(str(name)) | ast.alias(name):
            return name in INSIDES
    return False


def _asserts(node: ast.AST) -> bool:
    """Return True for an assertion that is not only about constants."""
    match node:
        case ast.Assert(test):
            return any(isinstance(part, ast.Name | ast.Call) for part in ast.walk(test))
        case ast.Call(ast.Attribute(_, name)):
            return name.startswith("assert")
        case ast.Raise(ast.Name("AssertionError") | ast.Call(ast.Name("AssertionError"))):
            return True
    return False


def _calls(tree: ast.Module) -> Iterator[str]:
    """Yield a call of each test that the suite defines."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not _needs(node, 0):
            yield f"{node.name}()"
        elif isinstance(node, ast.ClassDef) and any("TestCase" in ast.unparse(base) for base in node.bases):
            yield DEBUG.format(name=node.name)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
            names = [method.name for method in methods if method.name.startswith("test") and not _needs(method, 1)]
            yield from (f"{node.name}().{name}()" for name in names)


def _needs(function: ast.FunctionDef, given: int) -> bool:
    """Return True if a function has more parameters without a default than are given."""
    arguments = function.args
    keywords = any(default is None for default in arguments.kw_defaults)
    return keywords or len(arguments.posonlyargs + arguments.args) - len(arguments.defaults) > given
