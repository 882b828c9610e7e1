"""`ratchet why`."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.bisection import Part
    from flows.differences import Side


def why(
    first: Annotated[str, typer.Argument(help="A version's number, `champion`, or `candidate`.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    bisect: Annotated[
        bool,
        typer.Option(
            "--bisect", help="Where several stages part, run what lies between and name the one that matters."
        ),
    ] = False,
) -> None:
    """Say what makes the difference between two models: the stage where their making parts, what follows from it, and the items of the gate set lost and won.

    Example: ratchet why 3 4, or ratchet why champion candidate --bisect
    """
    from flows import differences

    before, after = differences.side(first), differences.side(second)
    typer.echo(f"From {before.name} to {after.name}.")
    causes = differences.causes(before, after)
    apart = [cause for cause in causes if cause.effect]
    for cause in apart:
        typer.echo(f"{cause.stage}:")
        for what in cause.what:
            typer.echo(f"  {what}")
        if followers := cause.effect[1:]:
            typer.echo(f"  followed by {', '.join(followers)}")
    for cause in [cause for cause in causes if not cause.effect]:
        typer.echo(f"{cause.stage} made the same: {'; '.join(cause.what)}")
    if not causes:
        typer.echo("No setting, code or data differs.")
    for line in differences.machine(before, after):
        typer.echo(f"machine: {line}")
    for line in differences.items(before, after):
        typer.echo(line)
    if bisect:
        _bisect(before, after)
    elif len(apart) > 1:
        typer.echo(
            f"{len(apart)} stages part on their own, and what each did alone no record tells. `ratchet why {first} {second} "
            "--bisect` runs what lies between."
        )


def _bisect(before: "Side", after: "Side") -> None:
    """Run what lies between the two, and name the stage that does most."""
    from flows import bisection, estimates, ledger, stopping, workspace

    apart = bisection.spans(before, after)
    if not apart:
        typer.echo("No stage parts, so there is nothing to tell apart.")
        return
    with stopping.told(), workspace.claimed():
        if again := bisection.reruns(before, after):
            taken = estimates.of(again)
            known = [taken[stage].seconds for stage in again if stage in taken]
            total = estimates.Range(sum(one.low for one in known), sum(one.high for one in known))
            typer.echo(
                f"Up to {(len(apart) - 1).bit_length()} times what lies between is made: {', '.join(again)}"
                f"{f' ({estimates.as_time(total)} each)' if known else ''}."
            )
        with ledger.parent(title=f"why · {before.name} · {after.name}") as run:
            parts = []
            for part in bisection.bisect(before, after, run.id):
                typer.echo(_line(part))
                parts.append(part)
    typer.echo(_conclusion(parts))


def _line(part: "Part") -> str:
    found = part.worse_by
    stages = ", ".join(cause.stage for cause in part.causes)
    return (
        f"{stages}: loss {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] nats/token on {part.items} test items"
    )


def _conclusion(parts: "list[Part]") -> str:
    whole, last = parts[0], parts[-2:]
    if not whole.is_certain:
        return "On the test set the two do not differ for certain: there is no cause to name, and nothing was run."
    found = max(last, key=lambda part: abs(part.worse_by.value))
    stages = ", ".join(cause.stage for cause in found.causes)
    share = found.worse_by.value / whole.worse_by.value
    if not found.is_certain:
        return f"No stage does it alone for certain; {stages} has the largest share, {share:.0%}."
    return f"The cause: {stages}, with {share:.0%} of the difference."
