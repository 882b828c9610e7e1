"""One JSON object a line."""

import json
from collections.abc import Iterator

from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.containers.encodings import TextLines
from tasks.io.sources.record import SHOWN, Broken, Record, Row


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
