"""`ratchet status`."""

from typing import Annotated

import typer


def status(
    count: Annotated[int, typer.Option("--last", min=1, help="So many decisions.")] = 14,
) -> None:
    """Say which version is in place, and what was decided last, each with its verdict and reason.

    Example: ratchet status, or ratchet status --last 50
    """
    from flows import history

    past = history.read()
    typer.echo(f"In place: {past.in_place}. Looks at the gate set since the last promotion: {past.looks}.")
    for line in past.lines[-count:]:
        what = f"back from {line.left}" if isinstance(line, history.Rollback) else f"{line.verdict} ({line.name})"
        typer.echo(f"{line.time}  {line.version:>4}  {what}  {line.reason}".rstrip())
