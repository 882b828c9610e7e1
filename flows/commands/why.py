"""`ratchet why`."""

from typing import Annotated

import typer


def why(
    first: Annotated[str, typer.Argument(help="A version's number, `champion`, or `candidate`.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
) -> None:
    """Say what differs between two models: where their making parts, stage by stage, and the items of the gate set lost and won.

    Example: ratchet why 3 4, or ratchet why champion candidate
    """
    from flows import differences

    before, after = differences.side(first), differences.side(second)
    typer.echo(f"From {before.name} to {after.name}.")
    causes = differences.causes(before, after)
    for cause in causes:
        typer.echo(f"{cause.stage}:")
        for what in cause.what:
            typer.echo(f"  {what}")
    if not causes:
        typer.echo("No setting, code or data differs.")
    for line in differences.machine(before, after):
        typer.echo(f"machine: {line}")
    for line in differences.items(before, after):
        typer.echo(line)
