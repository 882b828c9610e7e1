"""A top-level statement cut out of its module, so that it can stand alone.

What ties it to its package is taken off: decorators that are not of the standard library, annotations that name the
package's classes, `package.` before a name, imports of the package inside a function. Nothing here is believed to
keep the meaning: whether a function still does what its docstring says is found out by running its doctests.
"""

import ast
import symtable
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.stages.ingest.resolve import Found, Import, Library, Own, Package, Scope, Standard, Unusable, imports

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Piece:
    """The text of one statement, and what its global names stand for."""

    text: str
    needs: dict[str, Found]


def cut(library: Library, scope: Scope, node: ast.stmt, *, bare: bool = False) -> Piece:
    """The statement `node`, with docstrings of one line, or (`bare`) without its own. Raises Unusable."""
    return _Cut(library, scope, node, bare).piece()


def quoted(text: str, indent: str = "") -> str:
    """A docstring literal that holds `text`."""
    mark = "r" if "\\" in text else ""
    if '"""' in text or text.endswith(("\\", '"')):
        mark, text = "", text.replace("\\", "\\\\").replace('"', '\\"')
    lines = text.splitlines()
    end = f"\n{indent}" if len(lines) > 1 else ""
    body = "\n".join([*lines[:1], *(textwrap.indent(line, indent) for line in lines[1:])])
    return f'{mark}"""{body}{end}"""'


class _Cut:
    """The edits of one statement, by where they stand in the module's bytes."""

    def __init__(self, library: Library, scope: Scope, node: ast.stmt, bare: bool) -> None:
        self.library, self.scope, self.node, self.bare = library, scope, node, bare
        self.edits: dict[tuple[int, int], str] = {}
        self.renamed: dict[str, Found] = {}
        self.nested = dict(self._own_imports(node))
        used, bound = names(self._text())
        self.globals, self.locals = used, bound - self.nested.keys()

    def piece(self) -> Piece:
        for node in ast.walk(self.node):
            self._untie(node)
        for node in ast.walk(self.node):
            self._rename(node)
        text = self._text()
        found = {name: self._find(name) for name in sorted(names(text)[0])}
        return Piece(text, {name: meaning for name, meaning in found.items() if meaning})

    def _find(self, name: str) -> Found | None:
        return self.renamed[name] if name in self.renamed else self._find_as_written(name)

    def _find_as_written(self, name: str) -> Found | None:
        if name in self.nested:
            return self.library.follow(self.nested[name])
        return self.library.find(self.scope.module.name, name)

    def _own_imports(self, statement: ast.stmt) -> Iterator[tuple[str, Import]]:
        """Imports of the package inside the statement. Those of the standard library stay where they are."""
        for node in ast.walk(statement):
            for item in imports(node, self.scope.module):
                if item.name == "*":
                    raise Unusable("star_import", item.module)
                if not isinstance(self.library.follow(item), Standard):
                    yield item.alias, item

    def _untie(self, node: ast.AST) -> None:
        """Take off what ties `node` to its package, and shorten its docstring."""
        if isinstance(node, Definition):
            for decorator in node.decorator_list:
                if not self._is_free(decorator):
                    self._cut_lines(decorator)
            self._edit_docstring(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns and not self._is_light(node.returns):
            start, end = self._span(node.returns)
            arrow = self.scope.source.rindex(b"->", 0, start)
            self.edits[len(self.scope.source[:arrow].rstrip()), end] = ""
        elif isinstance(node, ast.arg) and node.annotation and not self._is_light(node.annotation):
            self._cut_annotation(node, node.annotation)
        elif isinstance(node, ast.AnnAssign) and not self._is_light(node.annotation):
            span = self._span(node) if node.value is None else (self._span(node.target)[1], self._span(node.annotation)[1])
            self.edits[span] = "pass" if node.value is None else ""
        elif isinstance(node, ast.Import | ast.ImportFrom):
            items = list(imports(node, self.scope.module))
            if items and all(item.alias in self.nested for item in items):
                self._cut_lines(node)

    def _cut_annotation(self, argument: ast.arg, annotation: ast.expr) -> None:
        """Cut `: T`, and the spaces around the `=` of a default, which only stand beside an annotation."""
        start, end = self._span(argument)[0] + len(argument.arg.encode()), self._span(annotation)[1]
        default = self.scope.source[end : end + 200].lstrip(b" ")
        if default.startswith(b"="):
            value = default[1:].lstrip(b" ")
            end += len(self.scope.source[end : end + 200]) - len(value)
        self.edits[start, end] = "=" if default.startswith(b"=") else ""

    def _is_free(self, decorator: ast.expr) -> bool:
        """Whether a decorator comes from the standard library or from the statement itself."""
        root = decorator
        while isinstance(root, ast.Attribute | ast.Call):
            root = root.value if isinstance(root, ast.Attribute) else root.func
        try:
            own = isinstance(root, ast.Name) and isinstance(self._find(root.id), Own | Package)
        except Unusable:
            own = isinstance(root, ast.Name) and root.id not in self.locals
        return not own

    def _is_light(self, annotation: ast.expr) -> bool:
        """Whether all names of an annotation are builtins, of the standard library, or aliases and TypeVars of such."""
        return self._all_light(self.scope.module.name, annotation, frozenset())

    def _all_light(self, module: str, node: ast.AST, seen: frozenset[Own]) -> bool:
        try:
            found = [self.library.find(module, name.id) for name in ast.walk(node) if isinstance(name, ast.Name)]
        except Unusable:
            return False
        owned = [meaning for meaning in found if isinstance(meaning, Own)]
        return not any(isinstance(meaning, Package) for meaning in found) and all(
            own not in seen and self._is_light_alias(own, seen | {own}) for own in owned
        )

    def _is_light_alias(self, own: Own, seen: frozenset[Own]) -> bool:
        scope = self.library.scope(own.module)
        nodes = [scope.statements[index] for index in scope.bound[own.name]]
        return all(isinstance(node, ast.Assign) and self._all_light(own.module, node.value, seen) for node in nodes)

    def _edit_docstring(self, node: Definition) -> None:
        text = ast.get_docstring(node)
        if text is None:
            return
        literal = node.body[0]
        if not (self.bare and node is self.node):
            self.edits[self._span(literal)] = quoted(text.splitlines()[0] if text else "")
        elif len(node.body) == 1:
            raise Unusable("empty", "its docstring is all of its body")
        elif literal.lineno == node.lineno or node.body[1].lineno == literal.end_lineno:
            raise Unusable("layout", "its docstring shares a line with code")
        else:
            self._cut_lines(literal, blank_too=True)

    def _rename(self, node: ast.AST) -> None:
        """Call what the package defines by its plain name: `package.f`, and `g` of `import f as g`, become `f`."""
        try:
            if isinstance(node, ast.Attribute):
                self._rename_chain(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in self.locals:
                found = self._find(node.id)
                if isinstance(found, Own) and found.name != node.id:
                    self._replace(node, found.name, found)
        except Unusable as unusable:
            if unusable.reason in ("shadowed", "name_clash"):
                raise  # the others are met again if the name is still there in the end

    def _rename_chain(self, node: ast.Attribute) -> None:
        links = [node]
        while isinstance(links[-1].value, ast.Attribute):
            links.append(links[-1].value)
        root = links[-1].value
        if not isinstance(root, ast.Name) or root.id in self.locals:
            return
        found = self._find(root.id)
        while links and isinstance(found, Package):
            link = links.pop()
            found = self.library.find(found.module, link.attr)
            if not isinstance(found, Package):
                self._replace(link, found.name if isinstance(found, Own) else link.attr, found)

    def _replace(self, node: ast.expr, name: str, found: Found | None) -> None:
        if name in self.locals:
            raise Unusable("shadowed", f"{name} is also a local name")
        if name in self.globals and self._find_as_written(name) != found:
            raise Unusable("name_clash", f"{name} has two meanings")
        if found:
            if self.renamed.setdefault(name, found) != found:
                raise Unusable("name_clash", f"{name} has two meanings")
        self.edits[self._span(node)] = name

    def _span(self, node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
        starts = self.scope.starts
        assert node.end_lineno is not None and node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def _cut_lines(self, node: ast.stmt | ast.expr, *, blank_too: bool = False) -> None:
        starts, last = self.scope.starts, node.end_lineno or node.lineno
        while blank_too and not self.scope.source[starts[last] : starts[last + 1]].strip():
            last += 1
        self.edits[starts[node.lineno - 1], starts[last]] = ""

    def _text(self) -> str:
        """The statement after the edits. An edit inside a larger one is part of it."""
        decorators: list[ast.expr] = getattr(self.node, "decorator_list", [])
        first = min([self.node.lineno, *(decorator.lineno for decorator in decorators)])
        at, end = self.scope.starts[first - 1], self._span(self.node)[1]
        parts: list[bytes] = []
        for (start, stop), text in sorted(self.edits.items(), key=lambda edit: (edit[0][0], -edit[0][1])):
            if start >= at:
                parts += [self.scope.source[at:start], text.encode()]
                at = stop
        return textwrap.dedent(b"".join([*parts, self.scope.source[at:end]]).decode()).strip("\n")


def names(source: str) -> tuple[set[str], set[str]]:
    """The names that `source` reads from around it, and those that its inner scopes bind. Raises Unusable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            top = symtable.symtable(source, "<piece>", "exec")
    except SyntaxError as error:
        raise Unusable("layout", f"cannot be cut out: {error}") from error
    tables = list(_inner(top))
    used = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    used |= {symbol.get_name() for table in tables for symbol in table.get_symbols() if symbol.is_global()}
    return used, {symbol.get_name() for table in tables for symbol in table.get_symbols() if symbol.is_local()}


def _inner(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _inner(child)
