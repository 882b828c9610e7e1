"""Print lines and tables for people: wrapped and coloured on a terminal; elsewhere plain, without wrapping."""

import os
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence

import typer

from tasks.core.text.visible import visible

WIDE = 100
"""The widest that text is set on a wider terminal: longer lines are hard to read."""
LEAST_LAST = 24
"""Columns that the last cell of a table needs beside the others; with less room, each cell gets a line of its own."""
GAP = "  "


def open_closed_streams() -> None:
    """Open the null device for each standard stream that the caller closed (`>&-`). Otherwise the next opened file, such as a lock or a
    database, would get the stream's number, and printed text would go into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # `open` takes the lowest free number: this
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115  # open until exit


def columns() -> int | None:
    """Return the width of the terminal that stdout writes to; None if stdout is no terminal, and lines must not be wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def may_colour() -> bool:
    """Return False if NO_COLOR is set (https://no-color.org) or the terminal cannot show colours."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def ask(question: str, *, default: str | None = None, show_default: bool = True) -> str:
    """Return the answer to a question. Raises typer.Abort at Ctrl-C and Ctrl-D."""
    _let_ctrl_c_through()
    answer: str = typer.prompt(question, default=default, show_default=show_default)
    return answer


def confirm(question: str, *, default: bool) -> bool:
    """Return True if a person agrees. Raises typer.Abort at Ctrl-C and Ctrl-D."""
    _let_ctrl_c_through()
    return typer.confirm(question, default=default)


def _let_ctrl_c_through() -> None:
    """Let Ctrl-C end the reading of an answer: polars installs a handler on import with which the reading would go on."""
    signal.siginterrupt(signal.SIGINT, True)


def show(text: str, *, indent: int = 0, hanging: int = 2, colours: Mapping[str, str] | None = None) -> None:
    """Print a text, wrapped on a terminal: indented by `indent` columns, and by `hanging` more from the second line on."""
    for line in text.splitlines() or [""]:
        typer.echo(_painted(_wrapped(line, columns(), indent, hanging), colours or {}))


def show_table(rows: Sequence[Sequence[str]], colours: Mapping[str, str] | None = None) -> None:
    """Print rows of cells in columns; if the terminal is too narrow, each cell of a row gets a line of its own."""
    for row in lay_out(rows, columns()):
        typer.echo(_painted(row, colours or {}))


def cell(text: str, chars: int = 300) -> str:
    """Return a text of the data as one line that cannot act on a terminal: runs of white space become one space, controls are escaped."""
    line = " ".join(text.split())
    return visible(line if len(line) <= chars else f"{line[: chars - 1]}…", chars)


def show_data(text: str, chars: int) -> None:
    """Print a text of the data with its line breaks, cut to `chars`, so that no character of it acts on the terminal."""
    show(visible(text, chars), indent=2, hanging=0)


def lay_out(rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """Yield a text for each row of a table. The last column is wrapped beside the others, or below them if there is too little room."""
    if not rows:
        return
    widths = [max(map(len, cells)) for cells in list(zip(*rows, strict=True))[:-1]]
    used = [size for size in widths if size]
    before_last = sum(used) + len(GAP) * len(used)
    for row in rows:
        *first, last = row
        if width is not None and before_last + LEAST_LAST > width:
            head = _wrapped(GAP.join(cell for cell in first[:2] if cell), width, 0, 4)
            below = (_wrapped(cell.strip(), width, 4, 0) for cell in (*first[2:], last) if cell.strip())
            yield "\n".join([head, *below])
            continue
        beside = "".join(f"{cell:<{size}}{GAP}" for cell, size in zip(first, widths, strict=True) if size)
        if width is None:
            yield f"{beside}{last}".rstrip()
        else:
            yield _wrapped(last, width, 0, before_last, opening=beside).rstrip()


def stacked(table: str) -> str:
    """Return a Markdown table as one block for each of its rows: its first cell, then `column: value` lines."""
    head, _, *body = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    blocks = [
        "\n".join([row[0], *(f"  {name}: {cell}" for name, cell in list(zip(head, row, strict=True))[1:])])
        for row in body
    ]
    return "\n".join(blocks)


def _wrapped(text: str, width: int | None, indent: int, hanging: int, opening: str = "") -> str:
    start = " " * indent + opening
    if width is None:
        return start + text
    return textwrap.fill(
        text,
        max(min(width, max(WIDE, len(start) + LEAST_LAST)), indent + hanging + 8),
        initial_indent=start,
        subsequent_indent=" " * (indent + hanging),
        break_on_hyphens=False,
        break_long_words=False,  # a broken path or link could not be copied
    )


def _painted(text: str, colours: Mapping[str, str]) -> str:
    """Colour the first word of a text that `colours` names. `typer.echo` drops colours if stdout is no terminal."""
    words = "|".join(map(re.escape, colours))
    pattern = rf"(?<!\S)(?:{words})(?!\S)"
    return re.sub(pattern, lambda match: typer.style(match[0], fg=colours[match[0]]), text, count=1) if words else text
