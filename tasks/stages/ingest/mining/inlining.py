"""Inline the dependencies of a definition: imports of the standard library, and code of the same distribution."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tasks.core.text.programs import header
from tasks.stages.ingest.mining.extraction import Definition, Piece, extract
from tasks.stages.ingest.mining.name_resolution import (
    Library,
    Meaning,
    OwnDefinition,
    OwnModule,
    StandardImport,
    Unusable,
    parse,
)

MAX_CLOSURE = 16_000
"""Most characters that are inlined: enough for a long chain of small helpers, too few for a class hierarchy."""


Place = tuple[str, int]
"""A statement: its module and its index in the module."""


@dataclass(frozen=True)
class Closure:
    """The statements that a definition depends on, in an order in which they can run."""

    imports: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        return "\n\n\n".join(part for part in ("\n".join(self.imports), *self.helpers) if part)


class Inliner:
    """Finds closures within one distribution. Each statement is cut out only once."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._pieces: dict[Place, Piece | Unusable] = {}

    def closure(self, needs: Mapping[str, Meaning], entry: OwnDefinition) -> Closure:
        """Return everything that `needs` depends on, directly and indirectly, without `entry` itself. Raises Unusable."""
        walk = _Walk(self, entry)
        for name, meaning in needs.items():
            walk.need(name, meaning)
        return walk.closure()

    def outline(self, needs: Mapping[str, Meaning], entry: OwnDefinition) -> Closure:
        """Return what `needs` depends on directly, with helpers as signatures, which are enough to call them."""
        statements = {meaning.statement for meaning in needs.values() if isinstance(meaning, StandardImport)}
        helpers = {
            name: meaning for name, meaning in needs.items() if isinstance(meaning, OwnDefinition) and meaning != entry
        }
        signatures = tuple(self._signatures(name, helpers[name]) for name in sorted(helpers))
        return Closure(merge_imports(statements), signatures)

    def _signatures(self, name: str, helper: OwnDefinition) -> str:
        text = "\n".join(signature(piece.text) for piece in self.pieces(helper))
        return text if name == helper.name else f"{text}\n\n\n{name} = {helper.name}"

    def pieces(self, definition: OwnDefinition) -> list[Piece]:
        """Return the statements that bind a name."""
        indices = self.library.scope(definition.module).bound[definition.name]
        return [self.piece(definition.module, index) for index in indices]

    def text(self, definition: OwnDefinition) -> str:
        return "\n".join(piece.text for piece in self.pieces(definition))

    def piece(self, module: str, index: int) -> Piece:
        """Return the statement `index` of a module. Raises Unusable."""
        place = module, index
        if place not in self._pieces:
            scope = self.library.scope(module)
            try:
                self._pieces[place] = extract(self.library, scope, scope.statements[index])
            except Unusable as unusable:
                self._pieces[place] = unusable
        piece = self._pieces[place]
        if isinstance(piece, Unusable):
            raise Unusable(piece.reason, piece.detail)
        return piece


class _Walk:
    """The transitive closure of names."""

    def __init__(self, inliner: Inliner, entry: OwnDefinition) -> None:
        self.inliner, self.entry = inliner, entry
        self.meanings: dict[str, Meaning] = {entry.name: entry}
        self.aliases: dict[str, str] = {}
        self.pieces: dict[Place, Piece] = {}
        self.modules: dict[str, int] = {}
        self.length = 0
        self.begun: set[tuple[Place, bool]] = set()
        self.sequence: list[Place] = []

    def need(self, name: str, meaning: Meaning) -> None:
        first = self.meanings.setdefault(name, meaning)
        if first != meaning:
            if self._same_code(first, meaning):
                return
            raise Unusable("name_clash", f"{name} has two meanings")
        if isinstance(meaning, OwnModule):
            raise Unusable("module_object", f"the module {meaning.module} is used as a value")
        if isinstance(meaning, OwnDefinition) and meaning.name != name:
            self._add_alias(name, meaning)
        elif isinstance(meaning, OwnDefinition) and meaning != self.entry:
            self._add(meaning)

    def _add_alias(self, name: str, definition: OwnDefinition) -> None:
        if definition == self.entry:
            raise Unusable("shadowed", f"{name} would have to stand for {definition.name}, which comes later")
        self.aliases[name] = definition.name
        self.need(definition.name, definition)

    def _same_code(self, a: Meaning, b: Meaning) -> bool:
        """Return True if two modules define a name by the same code, as is common for `T = TypeVar("T")`."""
        if not (isinstance(a, OwnDefinition) and isinstance(b, OwnDefinition)):
            return False
        return self.inliner.text(a) == self.inliner.text(b)

    def _add(self, definition: OwnDefinition) -> None:
        module = definition.module
        for index in self.inliner.library.scope(module).bound[definition.name]:
            if (module, index) in self.pieces:
                continue
            piece = self.pieces[module, index] = self.inliner.piece(module, index)
            self.length += len(piece.text)
            if self.length > MAX_CLOSURE:
                raise Unusable("closure_too_long", f"more than {MAX_CLOSURE} characters would be inlined")
            for name, meaning in piece.needs.items():
                self.need(name, meaning)
        self.modules.setdefault(module, len(self.modules))  # a module comes after the modules that it needs

    def closure(self) -> Closure:
        for place in sorted(self.pieces, key=lambda place: (self.modules[place[0]], place[1])):
            self._put(place, called=False)
        statements = {meaning.statement for meaning in self.meanings.values() if isinstance(meaning, StandardImport)}
        aliases = [f"{alias} = {name}" for alias, name in sorted(self.aliases.items())]
        return Closure(merge_imports(statements), (*(self.pieces[place].text for place in self.sequence), *aliases))

    def _put(self, place: Place, called: bool) -> None:
        """Append a statement, after the statements that it reads when it runs, and after those whose functions it then calls."""
        if (place, called) in self.begun:
            return
        self.begun.add((place, called))
        piece = self.pieces[place]
        runs = called or piece.early is None
        for name in piece.needs:
            if piece.early is None or called or name in piece.early:
                for other in self._places(self.meanings[name]):
                    self._put(other, runs)
        if place not in self.sequence:
            self.sequence.append(place)

    def _places(self, meaning: Meaning) -> Iterator[Place]:
        if isinstance(meaning, OwnDefinition) and meaning != self.entry:
            indices = self.inliner.library.scope(meaning.module).bound[meaning.name]
            yield from ((meaning.module, index) for index in indices)


def signature(code: str) -> str:
    """Return the signature and docstring of a definition, or the first line of any other statement."""
    (node,) = parse(code).body
    lines = code.splitlines()
    if not isinstance(node, Definition):
        return code if len(lines) == 1 else f"{lines[0][:80]} ..."
    body, top = node.body[0], header(code, node)
    if ast.get_docstring(node) is None or len(top.splitlines()) == body.lineno:
        return f"{top}\n    ..."
    return "\n".join([*lines[: body.end_lineno], "    ..."])


def merge_imports(statements: Iterable[str]) -> tuple[str, ...]:
    """Return the import statements sorted, with one line for each module from which names are imported."""
    plain = sorted(line for line in statements if line.startswith("import "))
    names_of: dict[str, list[str]] = {}
    for line in sorted(line for line in statements if line.startswith("from ")):
        module, name = line.removeprefix("from ").split(" import ")
        names_of.setdefault(module, []).append(name)
    return (*plain, *(f"from {module} import {', '.join(names)}" for module, names in names_of.items()))
