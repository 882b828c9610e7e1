"""All that a definition needs to run alone: imports of the standard library, and code of its own distribution."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tasks.stages.ingest.cut import Definition, Piece, cut
from tasks.stages.ingest.resolve import Found, Library, Own, Package, Standard, Unusable, parse

MAX_CLOSURE = 16_000
"""Characters that may be inlined. A long chain of small helpers stays below; what needs a class hierarchy does not."""


Place = tuple[str, int]
"""A statement: its module and its number there."""


@dataclass(frozen=True)
class Closure:
    """What runs before a definition, in an order that runs."""

    imports: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        return "\n\n\n".join(part for part in ("\n".join(self.imports), *self.helpers) if part)


class Inliner:
    """Closures within one distribution; each statement is cut out once."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._pieces: dict[Place, Piece | Unusable] = {}

    def closure(self, needs: Mapping[str, Found], entry: Own) -> Closure:
        """What `needs` stands for and needs in turn, without `entry` itself. Raises Unusable."""
        walk = _Walk(self, entry)
        for name, found in needs.items():
            walk.need(name, found)
        return walk.closure()

    def outline(self, needs: Mapping[str, Found], entry: Own) -> Closure:
        """What `needs` stands for and no further: the signatures of helpers, for a reader who only calls them."""
        statements = {found.statement for found in needs.values() if isinstance(found, Standard)}
        owned = {name: found for name, found in needs.items() if isinstance(found, Own) and found != entry}
        return Closure(merge_imports(statements), tuple(self._brief(name, owned[name]) for name in sorted(owned)))

    def _brief(self, name: str, own: Own) -> str:
        text = "\n".join(brief(piece.text) for piece in self.pieces(own))
        return text if name == own.name else f"{text}\n\n\n{name} = {own.name}"

    def pieces(self, own: Own) -> list[Piece]:
        """The statements that bind a name."""
        return [self.piece(own.module, index) for index in self.library.scope(own.module).bound[own.name]]

    def text(self, own: Own) -> str:
        return "\n".join(piece.text for piece in self.pieces(own))

    def piece(self, module: str, index: int) -> Piece:
        """The statement `index` of a module. Raises Unusable."""
        place = module, index
        if place not in self._pieces:
            scope = self.library.scope(module)
            try:
                self._pieces[place] = cut(self.library, scope, scope.statements[index])
            except Unusable as unusable:
                self._pieces[place] = unusable
        known = self._pieces[place]
        if isinstance(known, Unusable):
            raise Unusable(known.reason, known.detail)
        return known


class _Walk:
    """The transitive closure of names."""

    def __init__(self, inliner: Inliner, entry: Own) -> None:
        self.inliner, self.entry = inliner, entry
        self.meanings: dict[str, Found] = {entry.name: entry}
        self.aliases: dict[str, str] = {}
        self.pieces: dict[Place, Piece] = {}
        self.modules: dict[str, int] = {}
        self.length = 0
        self.begun: set[tuple[Place, bool]] = set()
        self.sequence: list[Place] = []

    def need(self, name: str, found: Found) -> None:
        known = self.meanings.setdefault(name, found)
        if known != found:
            if self._same_code(known, found):
                return
            raise Unusable("name_clash", f"{name} has two meanings")
        if isinstance(found, Package):
            raise Unusable("module_object", f"the module {found.module} is used as a value")
        if isinstance(found, Own) and found.name != name:
            self._add_alias(name, found)
        elif isinstance(found, Own) and found != self.entry:
            self._add(found)

    def _add_alias(self, name: str, own: Own) -> None:
        if own == self.entry:
            raise Unusable("shadowed", f"{name} would have to stand for {own.name}, which comes later")
        self.aliases[name] = own.name
        self.need(own.name, own)

    def _same_code(self, one: Found, other: Found) -> bool:
        """Whether two modules define a name in the same words, as they do with `T = TypeVar("T")`."""
        return isinstance(one, Own) and isinstance(other, Own) and self.inliner.text(one) == self.inliner.text(other)

    def _add(self, own: Own) -> None:
        for index in self.inliner.library.scope(own.module).bound[own.name]:
            if (own.module, index) in self.pieces:
                continue
            piece = self.pieces[own.module, index] = self.inliner.piece(own.module, index)
            self.length += len(piece.text)
            if self.length > MAX_CLOSURE:
                raise Unusable("closure_too_long", f"more than {MAX_CLOSURE} characters would be inlined")
            for name, found in piece.needs.items():
                self.need(name, found)
        self.modules.setdefault(own.module, len(self.modules))  # after the modules that it needs

    def closure(self) -> Closure:
        for place in sorted(self.pieces, key=lambda place: (self.modules[place[0]], place[1])):
            self._put(place, called=False)
        statements = {found.statement for found in self.meanings.values() if isinstance(found, Standard)}
        aliases = [f"{alias} = {name}" for alias, name in sorted(self.aliases.items())]
        return Closure(merge_imports(statements), (*(self.pieces[place].text for place in self.sequence), *aliases))

    def _put(self, place: Place, called: bool) -> None:
        """Append a statement in source order, but after what it reads, and what is called, while it runs itself."""
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

    def _places(self, found: Found) -> Iterator[Place]:
        if isinstance(found, Own) and found != self.entry:
            yield from ((found.module, index) for index in self.inliner.library.scope(found.module).bound[found.name])


def brief(code: str) -> str:
    """A definition's signature and the first line of its docstring; of anything else the first line."""
    (node,) = parse(code).body
    lines = code.splitlines()
    if not isinstance(node, Definition):
        return code if len(lines) == 1 else f"{lines[0][:80]} ..."
    body = node.body[0]
    last = body.lineno - 1 if ast.get_docstring(node) is None else body.end_lineno
    return "\n".join([*lines[:last], "    ..."])


def merge_imports(statements: Iterable[str]) -> tuple[str, ...]:
    """Import statements, sorted, with one line for each module that names are taken from."""
    plain = sorted(line for line in statements if line.startswith("import "))
    taken: dict[str, list[str]] = {}
    for line in sorted(line for line in statements if line.startswith("from ")):
        module, name = line.removeprefix("from ").split(" import ")
        taken.setdefault(module, []).append(name)
    return (*plain, *(f"from {module} import {', '.join(names)}" for module, names in taken.items()))
