"""One JSON object a line."""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.containers.encodings import HEAD, MAX_LINE, TextLines, is_plain_utf8, line_too_long, raw_lines
from tasks.io.sources.record import SHOWN, Broken, Record, Row

BLOCK = 1 << 23
"""Bytes of a block, but for the rest of its last line."""


@dataclass(frozen=True)
class Block:
    """Some consecutive lines of a file."""

    start: int
    """Bytes before it."""
    size: int
    lines_before: int
    digest: str


def read(entry: Entry) -> Iterator[Record]:
    """Yield the objects, by line. Blank lines are no records."""
    lines = TextLines(entry)
    number = 0
    for line in lines:
        if isinstance(line, Broken):
            yield line
            continue
        number, text = line
        if text and not text.isspace():
            yield parse(f"line {number}", text)
    if lines.damage:
        yield Broken(f"after line {number}", "damaged file", lines.damage, "")


def blocks(path: Path) -> list[Block] | None:
    """Return the blocks of a plain file, which can be read apart; None if it is not in UTF-8 or has a line too long for a block."""
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
            parts.append(Block(start, len(data), lines, hashlib.sha256(data).hexdigest()))
            start += len(data)
            lines += data.count(b"\n")
            if not data.endswith(b"\n") and start < path.stat().st_size:
                return None
    return parts


def read_block(path: Path, block: Block) -> Iterator[Record]:
    """Yield the objects of a block, by their lines in the file. Raises ValueError if the file has changed since it was cut into blocks."""
    with path.open("rb") as file:
        file.seek(block.start)
        data = file.read(block.size)
    if hashlib.sha256(data).hexdigest() != block.digest:
        raise ValueError(f"{path} has changed while it was read. Run it again.")
    for number, line in raw_lines(io.BufferedReader(io.BytesIO(data))):
        place = number + block.lines_before
        if isinstance(line, int):
            yield line_too_long(place, line)
        elif (text := line.decode("utf-8")) and not text.isspace():
            yield parse(f"line {place}", text)


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
