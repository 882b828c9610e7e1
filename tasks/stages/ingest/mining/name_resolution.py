"""Resolve names at the top level of a module: to a builtin, the standard library, or the module's own distribution."""

import ast
import builtins
import sys
import typing
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from tasks.core.records import Refusal
from tasks.io.sources.package import Module

# Names that every namespace has without an import.
BUILTINS = frozenset({*dir(builtins), "__name__", "__builtins__"})


class Unusable(Exception):
    """The reason, as a code and a detail, why a definition cannot be taken out of its package."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def refusal(module: Module, where: str, unusable: Unusable, record: str) -> Refusal:
    """Return the refusal of a definition."""
    return Refusal(module.origin, where, unusable.reason, unusable.detail, record[:200])


@dataclass(frozen=True)
class StandardImport:
    """The meaning of a name that an import of the standard library binds."""

    statement: str


@dataclass(frozen=True)
class OwnDefinition:
    """The meaning of a name that a module of the distribution defines."""

    module: str
    name: str


@dataclass(frozen=True)
class OwnModule:
    """The meaning of a name that is a module of the distribution."""

    module: str


Meaning = StandardImport | OwnDefinition | OwnModule


@dataclass(frozen=True)
class Import:
    """One name that an import binds. Without `name`, it binds a module."""

    module: str
    name: str | None
    alias: str

    @property
    def statement(self) -> str:
        renamed = f" as {self.alias}"
        if self.name is None:
            return f"import {self.module}" + ("" if self.binds_root else renamed)
        return f"from {self.module} import {self.name}" + ("" if self.name == self.alias else renamed)

    @property
    def binds_root(self) -> bool:
        """True for `import a.b.c`, which binds `a`."""
        return self.name is None and self.alias == self.module.split(".")[0]


class Scope:
    """The top level of one module: its statements, and the statements that bind each name."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.source = module.text.encode()
        self.statements = list(_statements(parse(module.text).body, module))
        self.bound: dict[str, list[int]] = {}
        self.imports: dict[str, Import] = {}
        self.stars: list[str] = []
        for index, statement in enumerate(self.statements):
            for item in imports(statement, module):
                self._add_import(item)
            if isinstance(statement, ast.Import | ast.ImportFrom):
                continue
            for name in bound_names(statement):
                self.bound.setdefault(name, []).append(index)
        lines = self.source.splitlines(keepends=True)
        self.starts = list(accumulate(map(len, lines), initial=0))
        """The offset of each line in bytes, which are the unit of columns in a syntax tree; the last entry is the end of the source."""

    def _add_import(self, item: Import) -> None:
        if item.name == "*":
            self.stars.append(item.module)
        else:
            self.imports[item.alias] = item


class Library:
    """The modules of one distribution by name."""

    def __init__(self, modules: Iterable[Module]) -> None:
        self.modules = {module.name: module for module in modules}
        # When the standard library is mined, its imports of itself are kept: it is available when the program runs.
        foreign = (name.split(".") for name, module in self.modules.items() if module.distribution != "python")
        self._owned = {".".join(parts[:length]) for parts in foreign for length in range(1, len(parts) + 1)}
        self._scopes: dict[str, Scope] = {}

    def scope(self, name: str) -> Scope:
        """Return the top level of the module `name`. Raises Unusable if it is not Python of this version."""
        if name not in self._scopes:
            try:
                self._scopes[name] = Scope(self.modules[name])
            except (SyntaxError, ValueError) as error:
                raise Unusable("syntax", f"{name}: {error}") from error
        return self._scopes[name]

    def owns(self, dotted: str) -> bool:
        """Return True if an import of `dotted` refers to this distribution."""
        return dotted in self._owned

    def find(self, module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Meaning | None:
        """Return the meaning of `name` at the top level of `module`; None for a builtin. Raises Unusable."""
        if (module, name) in seen:
            raise Unusable("unknown_name", f"{name} of {module} is imported in a circle")
        seen |= {(module, name)}
        scope = self.scope(module) if module in self.modules else None
        if scope and name in scope.bound:
            return OwnDefinition(module, name)
        # An import of a package's own submodule binds only that submodule.
        if scope and name in scope.imports and scope.imports[name].module != module:
            return self.follow(scope.imports[name], seen)
        if self.owns(f"{module}.{name}"):
            return OwnModule(f"{module}.{name}")
        if scope and (meaning := self._find_in_stars(scope, name, seen)):
            return meaning
        if name in BUILTINS:
            return None
        raise Unusable("unknown_name", f"{name} in {module}")

    def _find_in_stars(self, scope: Scope, name: str, seen: frozenset[tuple[str, str]]) -> Meaning | None:
        for star in reversed(scope.stars):
            if self.owns(star):
                try:
                    return self.find(star, name, seen)
                except Unusable:
                    continue
            if name not in BUILTINS:
                raise Unusable("star_import", f"{name} may come from {star}")
        return None

    def follow(self, item: Import, seen: frozenset[tuple[str, str]] = frozenset()) -> Meaning | None:
        """Return the meaning of the name that an import binds. Raises Unusable if it is of neither the distribution nor the standard library."""
        if self.owns(item.module):
            if item.name is not None:
                return self.find(item.module, item.name, seen)
            return OwnModule(item.alias if item.binds_root else item.module)
        if item.module.split(".")[0] in sys.stdlib_module_names:
            return StandardImport(item.statement)
        raise Unusable("third_party", item.module)


def parse(source: str) -> ast.Module:
    """Parse the source without Python's warnings, since the code is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def imports(node: ast.AST, module: Module) -> Iterator[Import]:
    """Yield the names that an import statement binds. `from __future__` is skipped, since the features that it enables are the default."""
    if isinstance(node, ast.Import):
        for name in node.names:
            yield Import(name.name, None, name.asname or name.name.split(".")[0])
    elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
        for name in node.names:
            origin = _absolute(node, module)
            origin = "typing" if origin == "typing_extensions" and hasattr(typing, name.name) else origin
            yield Import(origin, name.name, name.asname or name.name)


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    up = node.level - (1 if module.path.endswith("__init__.py") else 0)
    parts = module.name.split(".")
    return ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])


def _statements(body: list[ast.stmt], module: Module) -> Iterator[ast.stmt]:
    """Yield the statements that run if only the standard library is installed, without overloads."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from (inner for inner in node.body if isinstance(inner, ast.Import | ast.ImportFrom))
        elif isinstance(node, ast.If) and _is_about_version(node.test):
            yield from _statements(node.body if _holds(node.test) else node.orelse, module)
        elif isinstance(node, ast.Try) and _guards_import(node) and _imports_beyond_standard(node, module):
            yield from _statements(node.handlers[0].body, module)
        elif not (isinstance(node, ast.FunctionDef) and _is_overload(node)):
            yield node


def _is_about_version(test: ast.expr) -> bool:
    """Return True if a condition compares Python's version with constants and does nothing else."""
    used = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    calls = any(isinstance(node, ast.Call | ast.NamedExpr) for node in ast.walk(test))
    return used in ({"sys"}, {"version_info"}, {"hexversion"}) and isinstance(test, ast.Compare) and not calls


def _holds(test: ast.expr) -> bool:
    versions = {"sys": sys, "version_info": sys.version_info, "hexversion": sys.hexversion}
    return bool(eval(compile(ast.Expression(test), "<version>", "eval"), {"__builtins__": {}}, versions))


def _guards_import(node: ast.Try) -> bool:
    return any(handler.type is None or "ImportError" in ast.dump(handler.type) for handler in node.handlers)


def _imports_beyond_standard(node: ast.Try, module: Module) -> bool:
    inside = (item for part in node.body for inner in ast.walk(part) for item in imports(inner, module))
    return any(item.module.split(".")[0] not in sys.stdlib_module_names for item in inside)


def _is_overload(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).split(".")[-1] == "overload" for decorator in node.decorator_list)


def bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds in its scope, including names whose items it sets: `TABLE[key] = …`."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (name.asname or name.name.split(".")[0] for name in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
        yield node.value.id
    elif isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return
    else:
        for child in ast.iter_child_nodes(node):
            yield from bound_names(child)
