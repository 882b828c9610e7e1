"""`ratchet status`."""

from typing import Annotated

import typer


def status(
    count: Annotated[int, typer.Option("--last", min=1, help="So many decisions, and so many nights.")] = 14,
) -> None:
    """Say which version is in place, what was decided last, and what the last nights came to, each with its reason.

    Example: ratchet status, or ratchet status --last 50
    """
    from flows import history, nights, workspace

    past = history.read()
    typer.echo(f"In place: {past.in_place}. Looks at the gate set against it: {past.looks}.")
    if workspace.is_uncommitted(history.HISTORY):
        typer.echo(f"{history.HISTORY} has lines that git does not hold yet: git commit {history.HISTORY}")
    for line in past.lines[-count:]:
        what = f"back from {line.left}" if isinstance(line, history.Rollback) else f"{line.verdict} ({line.name})"
        typer.echo(f"{line.time}  {line.version:>4}  {what}  {line.reason}".rstrip())
    for night in nights.last(count):
        took = "" if night.seconds is None else f"({night.seconds:.0f} s)"
        typer.echo(f"night {night.time}  {night.cause}  {night.outcome}  {night.reason} {took}".rstrip())
