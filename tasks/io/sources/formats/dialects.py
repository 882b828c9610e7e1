"""Dialects of delimited tables: delimiter, quotes and escapes."""

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
"""Matches backslashes that do not precede a quote."""


@dataclass(frozen=True)
class Dialect:
    """The dialect of a delimited table."""

    delimiter: str
    quote: str = '"'
    escape: str | None = None
    """The mark before a quote inside a field; without it, the quote is doubled. Before any other character, the mark is part of the text,
    unless it escapes itself."""
    skips_space: bool = False
    """True if spaces after a delimiter are ignored."""
    escapes_itself: bool = False
    """True if the mark `escape` also escapes itself in the text."""
    titles: int = 0
    """Number of records above the header, which do not belong to the table."""
    has_header: bool = True

    @property
    def name(self) -> str:
        """Return the dialect in words."""
        marks = [DELIMITERS.get(self.delimiter, repr(self.delimiter))]
        marks += ["single quotes"] if self.quote == "'" else []
        marks += ["backslashes"] if self.escape else []
        marks += ["spaces"] if self.skips_space else []
        marks += [f"header below {self.titles} of titles"] if self.titles else []
        marks += [] if self.has_header else ["no header"]
        return ", ".join(marks)

    def parse(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Yield the records in lines. Raises csv.Error if they do not fit the dialect."""
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
    """Return a line rewritten for a parser in which a backslash escapes any character after it.

    If the writer `doubled` backslashes, an odd number of them is left unchanged.
    """
    return TEXT_BACKSLASHES.sub(lambda run: run[0] if doubled and len(run[0]) % 2 == 0 else run[0] * 2, line)
