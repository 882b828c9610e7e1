"""English prose in a Python installation: package descriptions, `help()` topics, descriptions of data sets."""

import platform
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from tasks.io.sources.text import Text
from tasks.io.system import packages

FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
NO_PROSE = re.compile(r"^[ \t]*(>>>|\.\.\. |\$ |\[?!\[|<|\.\. |:[\w-]+:|\|).*$", re.MULTILINE)
"""Matches lines of interactive sessions, badges, directives and tables."""
LINKS = re.compile(r"`([^`<]+?)\s*<[^>]+>`_*|\[([^\]]*)\]\([^)]*\)")
TAGS = re.compile(r"<[^>\n]+>")
EMPTY = re.compile(r"^[\W_]*$\n?(?=[\W_]*$)", re.MULTILINE)


def distributions(names: Sequence[str]) -> Iterator[Text]:
    """Yield the long descriptions of the distributions `names` (of all installed ones if empty), without code and badges."""
    for name in names or _installed():
        packages.version(name, "ingest.corpora: descriptions")
        about = metadata.metadata(name)
        prose = _prose(str(about.json.get("description") or ""))
        if prose:
            yield Text(f"{about['Name']} {about['Version']}", prose, packages.license_of(name))


def topics() -> Iterator[Text]:
    """Yield the chapters of the language reference that `help()` shows."""
    from pydoc_data.topics import topics as chapters

    for name in sorted(chapters):
        yield Text(f"python {platform.python_version()}: {name}", chapters[name], "PSF-2.0")


def sklearn() -> Iterator[Text]:
    """Yield scikit-learn's descriptions of its data sets."""
    version = packages.version("scikit-learn", "ingest.corpora: sklearn")
    spec = find_spec("sklearn")
    assert spec
    assert spec.origin
    # Beside the package's file: `importlib.resources` would import the package, which takes a CPU-second.
    for path in sorted((Path(spec.origin).parent / "datasets/descr").glob("*.rst")):
        yield Text(f"scikit-learn {version}: {path.name}", path.read_text(encoding="utf-8"), "BSD-3-Clause")


def _installed() -> list[str]:
    return sorted({distribution.metadata["Name"] for distribution in metadata.distributions()}, key=str.lower)


def _prose(text: str) -> str:
    """Return the text without code, badges and directives; a link is replaced by its words."""
    text = NO_PROSE.sub("", FENCED.sub("", text))
    text = TAGS.sub("", LINKS.sub(lambda link: link[1] or link[2] or "", text))
    return EMPTY.sub("", text).strip()
