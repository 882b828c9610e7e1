"""Parts of a file that can be read separately, in any order. Together they contain all records of the file."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tasks.io.sources.containers.encodings import Line, line_too_long, raw_lines
from tasks.io.sources.record import Broken, Record

BLOCK = 1 << 23
"""Size of a block in bytes, without the rest of its last record."""


class Block(Protocol):
    """A part of a file."""

    @property
    def digest(self) -> str:
        """Return a digest of its bytes."""

    @property
    def place(self) -> list[Any]:
        """Return as JSON everything else on which its records depend."""

    def records(self, path: Path) -> Iterator[Record]:
        """Yield its records with their places in the file. Raises ValueError if the file has changed since it was divided into blocks."""


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of a plain UTF-8 file."""

    start: int
    """Number of bytes before them."""
    size: int
    before: int
    """Number of lines before them."""
    digest: str

    @classmethod
    def of(cls, data: bytes, start: int, before: int) -> "Lines":
        """Return the lines in `data`, which come after the given numbers of bytes and lines."""
        return cls(start, len(data), before, hashlib.sha256(data).hexdigest())

    def data(self, path: Path) -> bytes:
        """Return the bytes of the lines. Raises ValueError if they have changed."""
        with path.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.size)
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise ValueError(f"{path} has changed while it was read. Run it again.")
        return data

    def read(self, path: Path) -> Iterator[Line | Broken]:
        """Yield the lines. Raises ValueError if they have changed."""
        return lines_in(self.data(path), self.before)


def lines_in(data: bytes, before: int) -> Iterator[Line | Broken]:
    """Yield UTF-8 lines that come after the given number of other lines of their file."""
    for number, line in raw_lines(io.BufferedReader(io.BytesIO(data))):
        if isinstance(line, int):
            yield line_too_long(number + before, line)
        else:
            yield Line(number + before, line.decode("utf-8"))
