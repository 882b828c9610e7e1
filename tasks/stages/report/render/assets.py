"""The libraries and scripts that are embedded in the page, which loads nothing and runs no other script."""

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

FOLDER = files("tasks.stages.report.render")
VENDOR = FOLDER / "vendor"
SCRIPTS = ("vega.min.js", "vega-lite.min.js", "vega-interpreter.js", "tabulator.min.js")
"""The scripts of libraries, in the order in which they run. The page's own script follows."""
STYLE = "tabulator.min.css"
MODULE = (
    ("import { ascending, isString, DisallowedObjectProperties } from 'vega-util';",
     "(function () {\nconst { ascending, isString, DisallowedObjectProperties } = vega;"),
    ("export { expression as expressionInterpreter };", "vega.expressionInterpreter = expression;\n})();"),
)  # fmt: skip
"""The first and last lines of vega-interpreter, an ES module, and their replacements for a page without modules."""


@dataclass(frozen=True)
class Library:
    """A library on the page."""

    name: str
    version: str
    license: str
    license_text: str


@cache
def scripts() -> tuple[str, ...]:
    """Return the scripts of the page."""
    return (*(_script(name) for name in SCRIPTS), _read("templates/page.js"))


@cache
def style() -> str:
    """Return the style sheet of the libraries."""
    return _without_map(_read(f"vendor/{STYLE}"))


@cache
def libraries() -> tuple[Library, ...]:
    """Return the libraries with their licences, which every copy must include."""
    listed = {facts["package"]: facts for facts in json.loads(_read("vendor/vendored.json")).values()}
    return tuple(
        Library(name, facts["version"], facts["license"], _read(f"vendor/{facts['license_file']}"))
        for name, facts in listed.items()
    )


@cache
def content_policy() -> str:
    """Return the page's content security policy: it allows nothing but the page's own scripts, each by its hash, inline styles and data images."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts())
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def _script(name: str) -> str:
    text = _without_map(_read(f"vendor/{name}"))
    if name == "vega-interpreter.js":
        for line, replacement in MODULE:
            if text.count(line) != 1:
                raise ValueError(f"{name}: expected one line {line!r}. Another version needs other lines in MODULE.")
            text = text.replace(line, replacement)
    return text


def _without_map(text: str) -> str:
    """Return a script or style sheet without the link to its source map, which is not on the page."""
    return "\n".join(line for line in text.split("\n") if "# sourceMappingURL=" not in line)


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
