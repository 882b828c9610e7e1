"""Detect the format of a file by its first bytes, and by its name if a text could have several formats."""

import json
from dataclasses import dataclass
from typing import Literal

from tasks.io.sources.containers.archives import Entry, office_kind
from tasks.io.sources.containers.encodings import HEAD, unicode_of
from tasks.io.sources.formats import delimited
from tasks.io.sources.record import UnreadableError

Format = Literal[
    "JSON lines", "JSON", "CSV", "Parquet", "Arrow", "Excel", "SQLite", "DuckDB", "PDF", "Word", "HTML", "LaTeX", "notebook", "e-mail", "text",
    "code", "empty", "unknown",
]  # fmt: skip
TABLES: tuple[Format, ...] = ("JSON lines", "JSON", "CSV", "Parquet", "Arrow", "Excel")
TEXTS: tuple[Format, ...] = ("PDF", "Word", "HTML", "LaTeX", "notebook", "e-mail", "text", "code")
MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"\xff\xff\xff\xff", "Arrow"),
    (b"SQLite format 3\x00", "SQLite"),
    (b"%PDF-", "PDF"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel"),
)
SUFFIXES: dict[Format, tuple[str, ...]] = {
    "JSON lines": (".jsonl", ".ndjson"),
    "JSON": (".json",),
    "CSV": (".csv", ".tsv", ".tab", ".psv", ".ssv"),
    "Parquet": (".parquet",),
    "Arrow": (".arrow", ".feather", ".ipc"),
    "Excel": (".xlsx", ".xlsb", ".xlsm", ".xls", ".ods"),
    "PDF": (".pdf",),
    "Word": (".docx",),
    "HTML": (".html", ".htm", ".xhtml"),
    "LaTeX": (".tex", ".latex"),
    "notebook": (".ipynb",),
    "e-mail": (".eml",),
    "text": (".txt", ".md", ".markdown", ".rst", ".text", ".log", ".adoc", ".org"),
    "code": (
        ".py", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".java", ".kt", ".scala", ".js", ".mjs", ".ts", ".tsx", ".jsx", ".rb",
        ".php", ".swift", ".m", ".cs", ".fs", ".hs", ".ml", ".lua", ".pl", ".r", ".jl", ".sh", ".bash", ".sql", ".zig", ".ex", ".exs",
        ".erl", ".clj", ".dart", ".vue", ".css", ".scss", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".xml", ".proto", ".cmake", ".f90",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Content:
    """The format of a file and its compression."""

    format: Format
    compression: str


def detect(entry: Entry) -> Content:
    """Return the format of an entry."""
    with entry.open() as opened:
        head = opened.stream.peek(HEAD)[:HEAD]
        damage = opened.damage
    if damage and not head:
        raise UnreadableError(f"{entry.path or entry.name}: {damage}")
    if not head:
        return Content("empty", opened.compression)
    return Content(_by_bytes(entry, head) or _by_text(entry, head), opened.compression)


def named_format(name: str) -> Format | None:
    """Return the format for the suffix of a name."""
    lowered = name.lower()
    return next((format for format, suffixes in SUFFIXES.items() if lowered.endswith(suffixes)), None)


def _by_bytes(entry: Entry, head: bytes) -> Format | None:
    for magic, format in MAGIC:
        if head.startswith(magic):
            return format
    if head[8:12] == b"DUCK":
        return "DuckDB"
    if head.startswith(b"PK\x03\x04"):
        with entry.on_disk() as path:
            kind = office_kind(path)
        kinds: dict[str, Format] = {"excel": "Excel", "word": "Word"}
        return kinds.get(kind, "unknown")
    named = named_format(entry.name)
    if named in (
        "Parquet",
        "Arrow",
        "Excel",
        "PDF",
        "Word",
    ):  # the name claims a format that the contents lack: its reader reports the error
        return named
    return None


def _by_text(entry: Entry, head: bytes) -> Format:
    encoding, mark = unicode_of(head)
    named = named_format(entry.name)
    if named == "JSON lines":
        return named
    text = head[mark:].decode(encoding, "replace").lstrip()
    if text.startswith("{") and named in (None, "JSON", "text"):
        return _braces(text, named)
    if text.startswith("[") and _is_json_list(text) and named in (None, "JSON", "text"):
        return "JSON"
    if named == "text" or named is None:
        if _looks_binary(text):
            return "unknown"
        is_plain = named is None or entry.name.lower().endswith((".txt", ".log"))
        if text[:256].lower().startswith(("<!doctype html", "<html")):
            return "HTML"
        return "CSV" if is_plain and delimited.is_table(entry) else "text"
    if named != "CSV" and _looks_binary(text):
        return "unknown"
    return named


def _braces(text: str, named: Format | None) -> Format:
    """Return the format of a text that begins with a brace: one object per line, or one document."""
    first, *others = (line for line in text.splitlines() if line.strip())
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return "JSON" if others or named == "JSON" else "JSON lines"
    return "JSON lines" if any(line.startswith("{") for line in others) or named != "JSON" else "JSON"


def _is_json_list(text: str) -> bool:
    return text[1:].lstrip()[:1] in ("{", "[", "]", '"', "")


def _looks_binary(text: str) -> bool:
    """Return True if a text has zero bytes, or more than a tenth of control characters."""
    sample = text[:4096]
    controls = sum(character < " " and character not in "\t\n\r\f\x1b\x1f\x01" for character in sample)
    return "\x00" in sample or controls > len(sample) / 10
