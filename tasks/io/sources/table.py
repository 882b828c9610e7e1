"""Rows of a table on disk, in any supported format, encoding, compression or archive.

An unreadable record is yielded as `Broken`, with its place. Records come one by one, so the whole table is never in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.io.sources.containers import archives
from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.containers.encodings import TextLines
from tasks.io.sources.formats import columnar, delimited, detection, json_document, json_lines, workbook
from tasks.io.sources.formats.blocks import Block
from tasks.io.sources.formats.detection import Format
from tasks.io.sources.record import Broken, Record, UnreadableError

READERS: dict[Format, Callable[[Entry], Iterator[Record]]] = {
    "JSON lines": json_lines.read,
    "JSON": json_document.read,
    "CSV": delimited.read,
    "Parquet": columnar.read_parquet,
    "Arrow": columnar.read_arrow,
    "Excel": workbook.read,
}
WITH_HEADER: dict[Format, Callable[[Entry, bool | None], Iterator[Record]]] = {
    "CSV": delimited.read,
    "Excel": workbook.read,
}
"""Readers of formats whose first row may or may not name the columns."""
CUTTERS: dict[Format, Callable[[Path], Sequence[Block] | None]] = {
    "JSON lines": json_lines.blocks,
    "Parquet": columnar.blocks,
}
ADVICE: dict[Format, str] = {
    "SQLite": "a database: name what to read of it as a source `{from: query, database: …, query: SELECT …}`",
    "DuckDB": "a database: name what to read of it as a source `{from: query, database: …, query: SELECT …}`",
    "unknown": "its format is none that is known",
}


def rows(path: Path, header: bool | None = None) -> Iterator[Record]:
    """Yield the records of the table at `path`, in order; for an archive, those of all its members.

    `header` says whether a row of CSV and Excel tables names the columns; with None, this is detected.
    Raises FileNotFoundError without the file, and UnreadableError with the reason if nothing of it can be read as a table.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file. Correct the path in `ingest` in params.yaml.")
    for entry in archives.entries(path):
        if isinstance(entry, Broken):
            yield entry
        elif not entry.member:
            yield from _records(entry, header)
        else:
            yield from _member(entry, header)


def blocks(path: Path, header: bool | None = None) -> Sequence[Block] | None:
    """Return the parts of a plain file that can be read separately; None for any other file, which is read as a whole.

    `header` is that of `rows`.
    """
    entry = archives.file_entry(path)
    with entry.open() as opened:
        head = opened.stream.peek(512)[:512]
        is_packed = bool(opened.compression) or archives.is_zip(head) or archives.is_tar(head)
    if is_packed or not head:
        return None
    format = detection.detect(entry).format
    if format == "CSV":
        return delimited.blocks(path, header)
    cut = CUTTERS.get(format)
    return cut and cut(path)


def may_lack_header(path: Path) -> bool:
    """Return True if tables of this format, or of that of a member of an archive, may or may not have a row that names the columns.

    Return False for a file that cannot be read.
    """
    try:
        entries = [entry for entry in archives.entries(path) if isinstance(entry, Entry)]
        return any(detection.detect(entry).format in WITH_HEADER for entry in entries)
    except (UnreadableError, OSError):
        return False


def describe(path: Path, header: bool | None = None) -> str:
    """Return the format of a file in words, with its detected properties: `CSV (semicolon), cp1252, gzip`. `header` is that of `rows`."""
    described = sorted({_describe(entry, header) for entry in archives.entries(path) if isinstance(entry, Entry)})
    return " and ".join(described)


def _records(entry: Entry, header: bool | None) -> Iterator[Record]:
    format = detection.detect(entry).format
    if format == "empty":
        yield Broken("line 1", "empty file", "there is nothing in it", "")
        return
    if format not in READERS:
        raise UnreadableError(f"{entry.path or entry.name}: no table: {ADVICE.get(format, f'this is {format}')}.")
    if format in WITH_HEADER:
        yield from WITH_HEADER[format](entry, header)
    else:
        yield from READERS[format](entry)


def _member(entry: Entry, header: bool | None) -> Iterator[Record]:
    """Yield the records of a member of an archive, with its name before their places."""
    try:
        for record in _records(entry, header):
            yield replace(record, where=f"{entry.member} {record.where}")
    except (UnreadableError, OSError) as error:
        yield Broken(entry.member, "unreadable file", str(error), "")


def _describe(entry: Entry, header: bool | None) -> str:
    content = detection.detect(entry)
    words: list[str] = [content.format]
    if content.format == "CSV":
        words[0] = f"CSV ({delimited.find_dialect(entry, header).name})"
    if content.format in ("CSV", "JSON lines"):
        lines = TextLines(entry)
        for _ in lines:
            pass
        words += [lines.encoding] if lines.encoding != "utf-8" else []
    elif content.format == "JSON":
        words += [encoding for encoding in [json_document.encoding_of(entry)] if encoding != "utf-8"]
    words += filter(None, ["in an archive" if entry.member else "", content.compression])
    return ", ".join(words)
