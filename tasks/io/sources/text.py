"""Texts below a folder, or in one file: plain text, Markdown and reStructuredText unchanged; HTML, LaTeX, notebooks, e-mails, PDF and Word as running text."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from tasks.io.sources import documents, folders
from tasks.io.sources.record import UnreadableError

Read = Callable[[Path], tuple[str, str]]
"""Returns the running text of a document and a note."""
ENDINGS = (".txt", ".md", ".markdown", ".rst", ".html", ".htm", ".tex", ".ipynb", ".eml", ".pdf", ".docx")
"""Suffixes of files that are always texts. For other files, the contents decide."""
SILENT = frozenset({"script", "style", "noscript", "template", "svg", "nav", "head"})
HEAD = frozenset({"title", "meta", "link", "base", "script", "style", "noscript", "template"})
"""Elements that may occur in a head. Any other element ends it, because a page may omit its end tag."""
BLOCKS = frozenset({
    "p", "div", "br", "li", "ul", "ol", "dl", "dt", "dd", "tr", "table", "pre", "blockquote", "section", "article",
    "header", "footer", "main", "aside", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "figure", "figcaption", "form", "body", "option",
})  # fmt: skip
CELLS = frozenset({"td", "th"})
NAVIGATION = frozenset({"prev", "next", "help"})
"""Values of `rel` that mark a link of navigation."""
PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "table", "ul", "ol", "dl", "blockquote"})


@dataclass(frozen=True)
class Text:
    """One text and its name within its source."""

    name: str
    text: str
    license: str
    note: str = ""
    """The encoding, or the share of it that could be extracted, if there is something to report."""


@dataclass(frozen=True)
class Unreadable:
    """A file without text."""

    name: str
    detail: str
    reason: str = "not UTF-8"


def running_text(file: Path) -> tuple[str, str]:
    """Return the running text of a document, and a note: the encoding, or the share of it that could be extracted.

    Raises UnreadableError if it has no text or cannot be read.
    """
    extracted = documents.extract(file)
    return from_html(extracted.text) if extracted.is_html else extracted.text, extracted.note


def files(path: Path) -> list[Path]:
    """Return the texts below a folder, by path; for the path of a text, this one. Raises FileNotFoundError if there is neither."""
    return [file for file, problem in _files(path) if problem is None]


def _files(path: Path) -> Iterator[tuple[Path, Unreadable | None]]:
    """Yield the files below a folder, or the one file, that are texts, and unused files with the reason.

    Tables, databases and Python files are neither, because other sources read them.
    """
    if not path.is_dir() and not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file or folder. Correct the path in `ingest.corpora` in params.yaml."
        )
    for file in [path] if path.is_file() else folders.walk(path):
        name = _name(file, path)
        if file.is_dir():
            yield file, Unreadable(name, "links to folders are not followed", "a link to a folder")
        elif not is_within(file, path):
            yield file, Unreadable(name, "links are not followed out of the folder", "a link out of the folder")
        elif file.suffix.lower() in ENDINGS or (role := folders.role(file)) == "text":
            yield file, None
        elif role == "code" and file.suffix != ".py":
            yield file, Unreadable(name, "a folder gives Python alone; a git repository is a source of its own", "code")
        elif role == "other":
            yield file, Unreadable(name, "its format is none that is known", "no text")


def is_within(file: Path, folder: Path) -> bool:
    """Return False for a link to a place outside the folder."""
    return file.resolve().is_relative_to(folder.resolve())


def folder(path: Path, license: str, read: Read = running_text) -> Iterator[Text | Unreadable]:
    """Yield the texts below a folder, or of one file, in the form that `read` returns, and unused files with the reason."""
    for file, problem in _files(path):
        yield problem or text_of(file, path, license, read)


def text_of(file: Path, folder: Path, license: str, read: Read = running_text) -> Text | Unreadable:
    """Return the text of a file below a folder, in the form that `read` returns."""
    try:
        text, note = read(file)
    except UnreadableError as error:
        return Unreadable(_name(file, folder), str(error), "unreadable file")
    return Text(_name(file, folder), text, license, note)


def _name(file: Path, folder: Path) -> str:
    """Return the path of a file in its folder; if it is the source itself, its name."""
    return file.name if file == folder else file.relative_to(folder).as_posix()


def from_html(markup: str) -> str:
    """Return the running text of a page, with each block on a separate line, and without scripts, styles and navigation."""
    parser = _Reader()
    parser.feed(markup)
    parser.close()
    lines = (line if verbatim else " ".join(line.split()) for line, verbatim in parser.lines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Reader(HTMLParser):
    """Collects text, with a line break at each block. The layout of `pre` is kept."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[tuple[str, bool]] = []
        self._silent: list[str] = []
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in HEAD and self._silent[-1:] == ["head"]:
            self.handle_endtag("head")
        if tag in SILENT or (tag == "a" and NAVIGATION.intersection((dict(attrs).get("rel") or "").split())):
            self._silent.append(tag)
        self._pre += tag == "pre"
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:  # also closes elements inside it that the page left open
            del self._silent[self._silent.index(tag) :]
        self._pre -= tag == "pre" and self._pre > 0
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._parts.append((data if self._pre else re.sub(r"\s+", " ", data), self._pre > 0))

    def _break(self, tag: str) -> None:
        if tag in CELLS:
            self._parts.append((" ", False))
        elif tag in BLOCKS:
            self._parts.append(("\n\n" if tag in PARAGRAPHS else "\n", False))

    def lines(self) -> Iterator[tuple[str, bool]]:
        """Yield each line, and True if its layout is kept."""
        line, verbatim = "", False
        for text, pre in self._parts:
            first, *others = text.split("\n")
            line, verbatim = line + first, verbatim or pre
            for other in others:
                yield line, verbatim
                line, verbatim = other, pre
        yield line, verbatim
