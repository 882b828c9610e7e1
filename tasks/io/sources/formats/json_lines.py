"""One JSON object per line."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.containers.encodings import HEAD, MAX_LINE, Line, TextLines, is_plain_utf8
from tasks.io.sources.formats.blocks import BLOCK, Lines, lines_in
from tasks.io.sources.record import SHOWN, Broken, Record, Row

TEXTS = {str, type(None), bool}
LARGE_NUMBER = re.compile(rb"\d{19}")
"""Matches an integer of more than 64 bits, which orjson would read as a float."""


@dataclass(frozen=True)
class Block:
    """Consecutive lines of a file."""

    lines: Lines

    @property
    def digest(self) -> str:
        return self.lines.digest

    @property
    def place(self) -> list[int]:
        return [self.lines.before]

    def records(self, path: Path) -> Iterator[Record]:
        """Yield the objects with their line numbers in the file."""
        data = self.lines.data(path)
        if len(data) > MAX_LINE:
            return _objects(lines_in(data, self.lines.before))
        return _quickly(data, self.lines.before)


def read(entry: Entry) -> Iterator[Record]:
    """Yield the objects with their line numbers. Blank lines are skipped."""
    lines = TextLines(entry)
    yield from _objects(iter(lines))
    if lines.damage:
        yield Broken(f"after line {lines.number}", "damaged file", lines.damage, "")


def blocks(path: Path) -> list[Block] | None:
    """Return the blocks of a plain file, which can be read separately; None if it is not UTF-8 or has a line that is too long for a block."""
    parts: list[Block] = []
    start = lines = 0
    with path.open("rb") as file:
        if not is_plain_utf8(file.read(HEAD)):
            return None
        file.seek(0)
        while data := file.read(BLOCK):
            data += file.readline(MAX_LINE)
            try:
                data.decode("utf-8")
            except UnicodeDecodeError:
                return None
            parts.append(Block(Lines.of(data, start, lines)))
            start += len(data)
            lines += data.count(b"\n")
            if not data.endswith(b"\n") and start < path.stat().st_size:
                return None
    return parts


def _quickly(data: bytes, before: int) -> Iterator[Record]:
    """Yield the objects in lines like `_objects`. Lines that orjson refuses, or in which it could change a number, are left to `parse`."""
    for number, line in enumerate(data.split(b"\n"), before + 1):
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            value = None
        if type(value) is dict and (set(map(type, value.values())) <= TEXTS or not LARGE_NUMBER.search(line)):
            yield Row(f"line {number}", value)
        elif (text := line.removesuffix(b"\r").decode("utf-8")) and not text.isspace():
            yield parse(f"line {number}", text)


def _objects(lines: Iterator[Line | Broken]) -> Iterator[Record]:
    for line in lines:
        if isinstance(line, Broken):
            yield line
        elif line.text and not line.text.isspace():
            yield parse(f"line {line.number}", line.text)


def parse(where: str, text: str) -> Record:
    """Return the object in a line, or the reason why there is none."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return Broken(where, "not JSON", str(error), text[:SHOWN].rstrip())
    except RecursionError:
        return Broken(where, "not JSON", "it is nested too deeply", text[:SHOWN].rstrip())
    return as_row(where, value, text)


def as_row(where: str, value: object, text: str | None = None) -> Record:
    """Return an object as a row, and any other value as broken."""
    if isinstance(value, dict):
        return Row(where, value)
    shown = json.dumps(value, ensure_ascii=False) if text is None else text
    return Broken(where, "not an object", f"expected {{…}}, found a {type(value).__name__}", shown[:SHOWN].rstrip())
