"""Free the doctests of a docstring from their package: functions are called by plain names, and the needed names are listed."""

import ast
import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tasks.io.sources.package import Module
from tasks.stages.ingest.mining.extraction import names, without_prefixes
from tasks.stages.ingest.mining.name_resolution import (
    Import,
    Library,
    Meaning,
    OwnModule,
    Scope,
    StandardImport,
    Unusable,
    bound_names,
    imports,
    parse,
)


@dataclass(frozen=True)
class Doctest:
    """A docstring that does not depend on its package."""

    text: str
    examples: str
    """The examples without the text between them."""
    needs: dict[str, Meaning]
    """Names that the examples use but do not bind."""


def free_doctest(library: Library, module: Module, docstring: str) -> Doctest:
    """Remove imports of the package, and `package.` before names, from a docstring. Raises Unusable if it has no usable examples."""
    try:
        parts = doctest.DocTestParser().parse(docstring)
    except ValueError as error:
        raise Unusable("doctest_syntax", str(error)) from error
    if not any(isinstance(part, doctest.Example) and _has_expectation(part) for part in parts):
        raise Unusable("untested", "no example with a result to compare is run")
    return _Freeing(library, module, parts).free()


def _has_expectation(example: doctest.Example) -> bool:
    return bool(example.want) and not example.options.get(doctest.SKIP)


class _Freeing:
    """The parts of one docstring: text and examples, alternating."""

    def __init__(self, library: Library, module: Module, parts: list[str | doctest.Example]) -> None:
        self.library, self.module, self.parts = library, module, parts
        self.given: dict[str, Meaning] = {}
        self.bound: set[str] = set()

    def free(self) -> Doctest:
        kept = [part for part in self.parts if isinstance(part, str) or not self._takes_over_import(part)]
        self.bound = {name for part in kept if isinstance(part, doctest.Example) for name in self._binds(part)}
        needs: dict[str, Meaning] = {}
        freed = [part if isinstance(part, str) else self._freed(part, needs) for part in kept]
        text = "".join(part if isinstance(part, str) else _written(part, part.indent) for part in freed)
        examples = "".join(_written(part, 0) for part in freed if not isinstance(part, str))
        return Doctest(re.sub(r"\n{3,}", "\n\n", text).strip(), examples, needs)

    def _takes_over_import(self, example: doctest.Example) -> bool:
        """Remember the names that an example imports from the package; return True if the example is to be dropped."""
        tree = _parsed(example)
        imported = list(self._imported(tree))
        of_package = [(item, meaning) for item, meaning in imported if not isinstance(meaning, StandardImport)]
        only_imports = all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body)
        if of_package and not (only_imports and len(of_package) == len(imported)):
            raise Unusable("own_import", example.source.strip())
        self.given |= {item.alias: meaning for item, meaning in of_package}
        return bool(of_package)

    def _imported(self, tree: ast.Module) -> Iterator[tuple[Import, Meaning]]:
        for node in ast.walk(tree):
            for item in imports(node, self.module):
                if item.name == "*":
                    raise Unusable("star_import", item.module)
                if meaning := self._meaning(item):
                    yield item, meaning

    def _meaning(self, item: Import) -> Meaning | None:
        """Return the meaning of the name that an import binds. An import of the module itself binds names of its source."""
        if item.module != self.module.name:
            return self.library.follow(item)
        return self.library.find(item.module, item.name) if item.name else OwnModule(item.module)

    def _binds(self, example: doctest.Example) -> Iterator[str]:
        for node in _parsed(example).body:
            yield from bound_names(node)
            yield from (item.alias for item in imports(node, self.module))

    def _freed(self, example: doctest.Example, needs: dict[str, Meaning]) -> doctest.Example:
        """Return the example with plain names, and add the names that it uses to `needs`."""
        scope = Scope(replace(self.module, text=example.source))
        piece = without_prefixes(self.library, scope, self.given, self.bound)
        for name in sorted(names(piece.text).used - self.bound):
            meaning = piece.needs.get(name) or self.given.get(name) or self.library.find(self.module.name, name)
            if meaning:
                needs[name] = meaning
        return doctest.Example(piece.text, example.want, indent=example.indent)


def _written(example: doctest.Example, indent: int) -> str:
    first, *others = example.source.rstrip("\n").split("\n")
    lines = [f">>> {first}", *(f"... {line}".rstrip() for line in others), *example.want.split("\n")[:-1]]
    return "".join(" " * indent + line + "\n" for line in lines)


def _parsed(example: doctest.Example) -> ast.Module:
    try:
        return parse(example.source)
    except SyntaxError as error:
        raise Unusable("doctest_syntax", f"{example.source.strip()}: {error.msg}") from error
