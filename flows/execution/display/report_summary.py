"""Show the short form of the report at the end of a run."""

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tasks.io.system import progress

FOLDER = Path("data/report")
HEAD = re.compile(r"(.*?)  items  (\S.*?) {2,}(\S.*?) {2,}(\S.*)")
"""First line of a table: what is measured, the number of items, two models, and their difference."""
CELL_INDENT = " " * 4
WRAPPED = re.compile(r"^(?!.*  items  )(\S.{79,})\n(?=\S)", re.M)
"""A line of running text that continues on the next line."""


def show() -> None:
    """Print the report's summary, and where to find its page and the runs."""
    summary = FOLDER / "summary.txt"
    if summary.is_file():
        text = summary.read_text(encoding="utf-8").rstrip()
        if sys.stdout.isatty():
            text = "\n".join(fitted(text, shutil.get_terminal_size().columns))
        progress.say(f"\n{text}\n")
    if pages := sorted(FOLDER.glob("*.html")):
        progress.say(f"Report: {pages[0]}")
    progress.say("Runs:   `ratchet ui` (or `mlflow ui`) shows every run, its metrics and what it was made from.")


def fitted(summary: str, width: int) -> Iterator[str]:
    """Yield the lines of a summary for a terminal: if a table is wider than the terminal, each cell gets a line of its own."""
    if max(map(len, summary.splitlines()), default=0) <= width:
        yield from summary.splitlines()
        return
    head: re.Match[str] | None = None
    for line in WRAPPED.sub(r"\1 ", summary).splitlines():
        if match := HEAD.fullmatch(line):
            head = match
            yield from _wrapped(head[1].strip() or head[4], width)
        elif head and len(line) > head.start(2) and line[head.start(2) - 2 : head.start(2)] == "  ":
            yield from _cells(line, head)
        else:
            yield from _wrapped(line, width)


def _cells(line: str, head: re.Match[str]) -> Iterator[str]:
    label, items = line[: head.end(1)].strip(), line[head.end(1) : head.start(2)].strip()
    if label:  # a long label has a line of its own
        yield f"  {label}"
    starts = [head.start(group) for group in (2, 3, 4)]
    parts = [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    for name, cell in zip(("items", *head.groups()[1:]), (items, *parts), strict=True):
        if cell:
            yield f"{CELL_INDENT}{name}: {cell}"


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, break_on_hyphens=False, break_long_words=False) or [""]
