"""`ratchet data diff`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.project.data.diff import Difference


def diff(
    before: Annotated[str, typer.Argument(help="A round, a git revision, or `workspace` for the present files.")],
    after: Annotated[str, typer.Argument(help="Another one.")] = "workspace",
    number: Annotated[int, typer.Option("--rows", "-n", min=1, help="Changes to show of each kind.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Compare the examples of two rounds, or of two git revisions.

    The data of a revision come from DVC's cache; nothing is checked out.

    Example: ratchet data diff r0 r1, or ratchet data diff HEAD~1
    """
    from flows.commands import _terminal
    from flows.commands._data_reports import DataDiffReport
    from flows.project.data import diff

    difference = diff.compare(before, after, number)
    if not as_json:
        for line in _lines(difference):
            _terminal.show(line, hanging=4)
    return DataDiffReport(difference)


def _lines(difference: "Difference") -> Iterator[str]:
    """Yield the differences in words."""
    from flows.commands._terminal import cell

    totals = difference.totals
    yield f"From {difference.before} ({totals.before:,} examples) to {difference.after} ({totals.after:,}): {totals.same:,} are the same."
    for size in difference.splits:
        yield f"{size.name}: {size.before:,} → {size.after:,}"
    for size in difference.reasons:
        if size.before != size.after:
            yield f"refused, {cell(size.name)}: {size.before:,} → {size.after:,}"
    lists = {
        f"{totals.added:,} added": [
            f"+ {place.id} {place.split} {cell(place.source)}"
            + (f" from {', '.join(place.parents)}" if place.parents else "")
            for place in difference.added
        ],
        f"{totals.removed:,} removed": [
            f"- {place.id} {place.split} {cell(place.source)}" for place in difference.removed
        ],
        f"{totals.changed:,} changed": [
            f"~ {one.before} → {one.after} {cell(one.source)}" for one in difference.changed
        ],
        f"{totals.moved:,} in another split": [
            f"{one.id} {one.before} → {one.after} {cell(one.source)}" for one in difference.moved
        ],
    }
    for title, lines in lists.items():
        if lines:
            yield title
            yield from (f"  {line}" for line in lines)
