"""Cut a top-level statement out of its module, so that it runs without it.

Everything that refers to its package is removed: decorators that are not of the standard library, annotations that name the package's
classes, `package.` before a name, imports of the package inside a function. This can change the meaning, so the doctests are run
afterwards to check that the function still does what its docstring says.
"""

import ast
import re
import symtable
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from tasks.core.text.wording import quoted
from tasks.io.sources.package import Module
from tasks.stages.ingest.mining.name_resolution import (
    Library,
    Meaning,
    OwnDefinition,
    OwnModule,
    Scope,
    StandardImport,
    Unusable,
    imports,
    parse,
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclass(frozen=True)
class Piece:
    """The text of one statement, and the meanings of its global names."""

    text: str
    needs: dict[str, Meaning]
    early: frozenset[str] | None = None
    """For a function, the names that its definition reads before any call: in defaults, annotations, decorators. None for other statements."""


@dataclass(frozen=True)
class Names:
    """The names in a piece of source."""

    used: frozenset[str]
    """Names read from the surrounding scope."""
    early: frozenset[str]
    """The names among `used` that are read outside of function bodies."""
    local: frozenset[str]
    """Names bound by its inner scopes."""


def extract(library: Library, scope: Scope, node: ast.stmt, *, bare: bool = False) -> Piece:
    """Cut out the statement `node`, with docstrings shortened to one sentence; with `bare`, without its own docstring. Raises Unusable."""
    nested = dict(_package_imports(library, scope.module, node, strict=bare))
    return _Extraction(library, scope, node, nested, bare=bare).piece()


def without_prefixes(library: Library, scope: Scope, given: Mapping[str, Meaning], bound: Set[str]) -> Piece:
    """Return all of `scope` with `package.` removed from names. `given` are names that it imports, `bound` names that it defines."""
    renaming = _Extraction(library, scope, parse(scope.module.text), given)
    renaming.locals |= bound
    return renaming.rename_all()


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring, or its first paragraph if that is not a sentence, on one line."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]


class _Extraction:
    """The edits of one statement, by their spans in the module's bytes."""

    def __init__(
        self, library: Library, scope: Scope, node: ast.AST, given: Mapping[str, Meaning], *, bare: bool = False
    ) -> None:
        self.library, self.scope, self.node, self.given, self.bare = library, scope, node, given, bare
        self.nodes = list(ast.walk(node))
        self.edits: dict[tuple[int, int], str] = {}
        self.renamed: dict[str, Meaning] = {}
        before = names(self._text())
        self.globals, self.locals = before.used, before.local - given.keys()

    def piece(self) -> Piece:
        for node in self.nodes:
            self._untie(node)
        text = self.rename_all().text
        after = names(text)
        meanings = {name: self._find(name) for name in sorted(after.used)}
        early = after.early if isinstance(self.node, Function) else None
        return Piece(text, {name: meaning for name, meaning in meanings.items() if meaning}, early)

    def rename_all(self) -> Piece:
        for node in self.nodes:
            self._rename(node)
        return Piece(self._text(), self.renamed)

    def _find(self, name: str) -> Meaning | None:
        return self.renamed[name] if name in self.renamed else self._find_as_written(name)

    def _find_as_written(self, name: str) -> Meaning | None:
        return self.given[name] if name in self.given else self.library.find(self.scope.module.name, name)

    def _untie(self, node: ast.AST) -> None:
        """Remove from `node` what refers to its package, and shorten its docstring."""
        if isinstance(node, Definition):
            for decorator in node.decorator_list:
                if not self._is_free(decorator):
                    self._cut_lines(decorator)
            self._edit_docstring(node)
        annotation = node.returns if isinstance(node, Function) else getattr(node, "annotation", None)
        if isinstance(annotation, ast.expr) and not self._is_light(annotation):
            self._cut_annotation(node, annotation)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            items = list(imports(node, self.scope.module))
            if items and all(item.alias in self.given for item in items):
                self._cut_lines(node)

    def _cut_annotation(self, node: ast.AST, annotation: ast.expr) -> None:
        start, end = self._span(annotation)
        if isinstance(node, ast.arg):
            self._cut_type(self._span(node)[0] + len(node.arg.encode()), end)
        elif isinstance(node, ast.AnnAssign) and node.value is None:
            self.edits[self._span(node)] = "pass"
        elif isinstance(node, ast.AnnAssign):
            self.edits[self._span(node.target)[1], end] = ""
        else:
            arrow = self.scope.source.rindex(b"->", 0, start)
            self.edits[len(self.scope.source[:arrow].rstrip()), end] = ""

    def _cut_type(self, start: int, end: int) -> None:
        """Cut `: T`, and the spaces around the `=` of a default, which are usual only with an annotation."""
        default = self.scope.source[end : end + 200].lstrip(b" ")
        if default.startswith(b"="):
            value = default[1:].lstrip(b" ")
            end += len(self.scope.source[end : end + 200]) - len(value)
        self.edits[start, end] = "=" if default.startswith(b"=") else ""

    def _is_free(self, decorator: ast.expr) -> bool:
        """Return True if a decorator comes from the standard library or from the statement itself."""
        root = decorator
        while isinstance(root, ast.Attribute | ast.Call):
            root = root.value if isinstance(root, ast.Attribute) else root.func
        try:
            is_package = isinstance(root, ast.Name) and isinstance(self._find(root.id), OwnDefinition | OwnModule)
        except Unusable:
            is_package = isinstance(root, ast.Name) and root.id not in self.locals
        return not is_package

    def _is_light(self, annotation: ast.expr) -> bool:
        """Return True if all names of an annotation are builtins, names of the standard library, or aliases and TypeVars of these."""
        return self._all_light(self.scope.module.name, annotation, frozenset())

    def _all_light(self, module: str, node: ast.AST, seen: frozenset[OwnDefinition]) -> bool:
        try:
            meanings = [self.library.find(module, name.id) for name in ast.walk(node) if isinstance(name, ast.Name)]
        except Unusable:
            return False
        definitions = [meaning for meaning in meanings if isinstance(meaning, OwnDefinition)]
        return not any(isinstance(meaning, OwnModule) for meaning in meanings) and all(
            alias not in seen and self._is_light_alias(alias, seen | {alias}) for alias in definitions
        )

    def _is_light_alias(self, alias: OwnDefinition, seen: frozenset[OwnDefinition]) -> bool:
        scope = self.library.scope(alias.module)
        nodes = [scope.statements[index] for index in scope.bound[alias.name]]
        return all(isinstance(node, ast.Assign) and self._all_light(alias.module, node.value, seen) for node in nodes)

    def _edit_docstring(self, node: Definition) -> None:
        text = ast.get_docstring(node)
        if text is None:
            return
        literal = node.body[0]
        if not (self.bare and node is self.node):
            self.edits[self._span(literal)] = quoted(first_sentence(text))
        elif len(node.body) == 1:
            raise Unusable("empty", "its docstring is all of its body")
        elif literal.lineno == node.lineno or node.body[1].lineno == literal.end_lineno:
            raise Unusable("layout", "its docstring shares a line with code")
        else:
            self._cut_lines(literal, blank_too=True)

    def _rename(self, node: ast.AST) -> None:
        """Replace the package's names by plain ones: `package.f`, and `g` of `import f as g`, become `f`."""
        try:
            if isinstance(node, ast.Attribute):
                self._rename_chain(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in self.locals:
                meaning = self._find(node.id)
                if isinstance(meaning, OwnDefinition) and meaning.name != node.id and meaning.name not in self.locals:
                    self._replace(node, meaning.name, meaning)
        except Unusable as unusable:
            if unusable.reason in ("shadowed", "name_clash", "layout"):
                raise  # any other reason is raised again if the name is still used after all edits

    def _rename_chain(self, node: ast.Attribute) -> None:
        links = [node]
        while isinstance(links[-1].value, ast.Attribute):
            links.append(links[-1].value)
        root = links[-1].value
        if not isinstance(root, ast.Name) or root.id in self.locals or not isinstance(node.ctx, ast.Load):
            return
        meaning = self._find(root.id)
        while links and isinstance(meaning, OwnModule):
            link = links.pop()
            meaning = self.library.find(meaning.module, link.attr)
            if not isinstance(meaning, OwnModule):
                name = meaning.name if isinstance(meaning, OwnDefinition) else link.attr
                self._replace(link, name, meaning, root.id)

    def _replace(self, node: ast.expr, name: str, meaning: Meaning | None, root: str = "") -> None:
        if name in self.locals and root and isinstance(meaning, OwnDefinition):
            name = f"{root}_{name}"  # the plain name means something else here
        if name in self.locals:
            raise Unusable("shadowed", f"{name} is also a local name")
        if name in self.globals and self._find_as_written(name) != meaning:
            raise Unusable("name_clash", f"{name} has two meanings")
        if meaning and self.renamed.setdefault(name, meaning) != meaning:
            raise Unusable("name_clash", f"{name} has two meanings")
        start, end = self._span(node)
        if "".join(self.scope.source[start:end].decode(errors="replace").split()) != ast.unparse(node):
            raise Unusable("layout", f"{name} stands in an f-string, where Python 3.11 misplaces it")
        self.edits[start, end] = name

    def _span(self, node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
        starts = self.scope.starts
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def _cut_lines(self, node: ast.stmt | ast.expr, *, blank_too: bool = False) -> None:
        """Cut the lines of `node`, which share no line with other code; with `blank_too`, also the blank lines below."""
        starts, last = self.scope.starts, node.end_lineno or node.lineno
        while blank_too and not self.scope.source[starts[last] : starts[last + 1]].strip():
            last += 1
        self.edits[starts[node.lineno - 1], starts[last]] = ""

    def _extent(self) -> tuple[int, int]:
        if not isinstance(self.node, ast.stmt):
            return 0, len(self.scope.source)
        decorators: list[ast.expr] = getattr(self.node, "decorator_list", [])
        line = self.scope.starts[min([self.node.lineno, *(decorator.lineno for decorator in decorators)]) - 1]
        start, end = self._span(self.node)
        alone = decorators or not self.scope.source[line:start].strip()  # not after `a = 1;`
        return line if alone else start, end

    def _text(self) -> str:
        """Return the statement after the edits. An edit inside a larger one is dropped."""
        at, end = self._extent()
        parts: list[bytes] = []
        for (start, stop), replacement in sorted(self.edits.items(), key=lambda edit: (edit[0][0], -edit[0][1])):
            if start >= at:
                parts += [self.scope.source[at:start], replacement.encode()]
                at = stop
        text = b"".join([*parts, self.scope.source[at:end]]).decode().strip("\n")
        return textwrap.dedent(text) if text.startswith((" ", "\t")) else text


def _package_imports(
    library: Library, module: Module, statement: ast.stmt, strict: bool
) -> Iterator[tuple[str, Meaning]]:
    """Yield the names that imports of the package inside a statement bind. Other imports are kept; `strict` refuses third-party ones."""
    for item in (item for node in ast.walk(statement) for item in imports(node, module)):
        if item.name == "*":
            raise Unusable("star_import", item.module)
        if not strict and not library.owns(item.module):
            continue  # a helper may import numpy in a branch: the tests show whether it is needed
        meaning = library.follow(item)
        if meaning and not isinstance(meaning, StandardImport):
            yield item.alias, meaning


def names(source: str) -> Names:
    """Return the names in `source`. Raises Unusable if it is not valid Python because a cut went through a line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            top = symtable.symtable(source, "<piece>", "exec")
    except SyntaxError as error:
        raise Unusable("layout", f"cannot be cut out: {error}") from error
    inner = [symbol for table in _inner(top) for symbol in table.get_symbols()]
    early = frozenset(symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced())
    deep = frozenset(symbol.get_name() for symbol in inner if symbol.is_global())
    return Names(early | deep, early, frozenset(symbol.get_name() for symbol in inner if symbol.is_local()))


def _inner(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _inner(child)
