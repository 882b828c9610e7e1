"""`ratchet why`."""

from typing import Annotated

import typer


def why(
    first: Annotated[str, typer.Argument(help="A version's number, `champion`, or `candidate`.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
) -> None:
    """Say what makes the difference between two models: the stage where their making parts, what follows from it, and the items of the gate set lost and won.

    Example: ratchet why 3 4, or ratchet why champion candidate
    """
    from flows import differences

    before, after = differences.side(first), differences.side(second)
    typer.echo(f"From {before.name} to {after.name}.")
    causes = differences.causes(before, after)
    for cause in [cause for cause in causes if cause.effect]:
        typer.echo(f"{cause.stage}:")
        for what in cause.what:
            typer.echo(f"  {what}")
        if followers := cause.effect[1:]:
            typer.echo(f"  followed by {', '.join(followers)}")
    for cause in [cause for cause in causes if not cause.effect]:
        typer.echo(f"{cause.stage} made the same: {'; '.join(cause.what)}")
    if (several := sum(bool(cause.effect) for cause in causes)) > 1:
        typer.echo(
            f"{several} stages part on their own, the first above all others. What each did alone no record tells: take one back "
            "in params.yaml or git, and `ratchet run`; what is in the cache does not run again."
        )
    if not causes:
        typer.echo("No setting, code or data differs.")
    for line in differences.machine(before, after):
        typer.echo(f"machine: {line}")
    for line in differences.items(before, after):
        typer.echo(line)
