"""The marks that part the fields of a table with a delimiter."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

DELIMITERS = {
    ",": "comma",
    ";": "semicolon",
    "\t": "tab",
    "|": "bar",
    "^": "caret",
    "~": "tilde",
    "\x1f": "unit separator",
    "\x01": "SOH",
}
TEXT_BACKSLASHES = re.compile(r'\\+(?![\\"])')
"""Backslashes that stand before no quote."""


@dataclass(frozen=True)
class Dialect:
    """The marks that part fields."""

    delimiter: str
    quote: str = '"'
    escape: str | None = None
    """The mark before a quote inside a field; without it the quote is doubled. Before anything else it is a character of the text,
    unless it escapes itself."""
    skips_space: bool = False
    """True if spaces behind a delimiter belong to no field."""
    escapes_itself: bool = False
    """True if the mark `escape` stands before each of its kind in the text too."""
    titles: int = 0
    """Records above the header, which are none of the table's."""

    @property
    def name(self) -> str:
        """Return it in words."""
        marks = [DELIMITERS.get(self.delimiter, repr(self.delimiter))]
        marks += ["single quotes"] if self.quote == "'" else []
        marks += ["backslashes"] if self.escape else []
        marks += ["spaces"] if self.skips_space else []
        marks += [f"header below {self.titles} of titles"] if self.titles else []
        return ", ".join(marks)

    def parse(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Yield the records in lines. Raises csv.Error where they do not fit."""
        return csv.reader(
            map(partial(_escaped, doubled=self.escapes_itself), lines) if self.escape else lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            escapechar=self.escape,
            doublequote=self.escape is None,
            skipinitialspace=self.skips_space,
            strict=True,
        )


def _escaped(line: str, doubled: bool) -> str:
    """Return a line as a parser reads it by which a backslash escapes whatever comes behind it.

    Where the writer `doubled` backslashes, an odd number of them was none of its making and stays.
    """
    return TEXT_BACKSLASHES.sub(lambda run: run[0] if doubled and len(run[0]) % 2 == 0 else run[0] * 2, line)
