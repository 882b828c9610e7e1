"""All that a definition needs to run alone: imports of the standard library, and code of its own distribution."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tasks.stages.ingest.cut import Piece, cut
from tasks.stages.ingest.resolve import Found, Library, Own, Package, Standard, Unusable

MAX_CLOSURE = 6000
"""Characters that may be inlined. What needs more is a part of a system rather than a function."""


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
        self._pieces: dict[tuple[str, int], Piece | Unusable] = {}

    def closure(self, needs: Mapping[str, Found], entry: Own) -> Closure:
        """What `needs` stands for and needs in turn, without `entry` itself. Raises Unusable."""
        walk = _Walk(self, entry)
        for name, found in needs.items():
            walk.need(name, found)
        return walk.closure()

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
        self.texts: dict[tuple[str, int], str] = {}
        self.order: dict[str, int] = {}

    def need(self, name: str, found: Found) -> None:
        if self.meanings.setdefault(name, found) != found:
            raise Unusable("name_clash", f"{name} has two meanings")
        if isinstance(found, Package):
            raise Unusable("module_object", f"the module {found.module} is used as a value")
        if isinstance(found, Own) and found != self.entry:
            self._add(found)

    def _add(self, own: Own) -> None:
        for index in self.inliner.library.scope(own.module).bound[own.name]:
            if (own.module, index) in self.texts:
                continue
            piece = self.inliner.piece(own.module, index)
            self.texts[own.module, index] = piece.text
            if sum(map(len, self.texts.values())) > MAX_CLOSURE:
                raise Unusable("closure_too_long", f"more than {MAX_CLOSURE} characters would be inlined")
            for name, found in piece.needs.items():
                self.need(name, found)
        self.order.setdefault(own.module, len(self.order))  # after the modules it needs: definitions before users

    def closure(self) -> Closure:
        places = sorted(self.texts, key=lambda place: (self.order[place[0]], place[1]))
        statements = {found.statement for found in self.meanings.values() if isinstance(found, Standard)}
        return Closure(merge_imports(statements), tuple(self.texts[place] for place in places))


def merge_imports(statements: Iterable[str]) -> tuple[str, ...]:
    """Import statements, sorted, with one line for each module that names are taken from."""
    plain = sorted(line for line in statements if line.startswith("import "))
    taken: dict[str, list[str]] = {}
    for line in sorted(line for line in statements if line.startswith("from ")):
        module, name = line.removeprefix("from ").split(" import ")
        taken.setdefault(module, []).append(name)
    return (*plain, *(f"from {module} import {', '.join(names)}" for module, names in taken.items()))
