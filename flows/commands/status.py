"""`ratchet status`."""

from typing import Annotated

import typer


def status(
    count: Annotated[int, typer.Option("--last", min=1, help="So many decisions, and so many nights.")] = 14,
) -> None:
    """Say which version is in place, what was decided last, and what the last nights came to, each with its reason.

    Example: ratchet status, or ratchet status --last 50
    """
    from flows.registry import history, promotion, retrain_log
    from tasks.io.system import git

    past = history.read()
    typer.echo(f"In place: {past.in_place}. Looks at the gate set against it: {past.looks}.")
    for line in promotion.missing_lines(past):
        typer.echo(
            f"{history.HISTORY} lacks the {line.kind} of {line.time}: `ratchet promote` puts it back, or says why not."
        )
    if past.lines and git.has_changes(history.HISTORY):
        typer.echo(f"Git does not hold it yet: git add {history.HISTORY} && git commit {history.HISTORY}")
    for line in past.lines[-count:]:
        what = f"back from {line.left}" if isinstance(line, history.Rollback) else f"{line.verdict} ({line.name})"
        typer.echo(f"{line.time}  {line.version:>4}  {what}  {line.reason}".rstrip())
    for night in retrain_log.last(count):
        took = "" if night.seconds is None else f"({night.seconds:.0f} s)"
        typer.echo(f"night {night.time}  {night.cause}  {night.outcome}  {night.reason} {took}".rstrip())
