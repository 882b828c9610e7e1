"""`ratchet why`."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.experiments.bisection import Part
    from flows.experiments.model_differences import ModelRecord


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
    """Explain the difference between two models: the stages whose inputs differ, what follows from them, and the items of the gate set lost and won.

    Example: ratchet why 3 4, or ratchet why champion candidate --bisect
    """
    from flows.experiments import model_differences

    before, after = model_differences.load_record(first), model_differences.load_record(second)
    typer.echo(f"From {before.name} to {after.name}.")
    causes = model_differences.causes(before, after)
    effective = [cause for cause in causes if cause.effect]
    for cause in effective:
        typer.echo(f"{cause.stage}:")
        for what in cause.what:
            typer.echo(f"  {what}")
        if followers := cause.effect[1:]:
            typer.echo(f"  followed by {', '.join(followers)}")
    for cause in [cause for cause in causes if not cause.effect]:
        typer.echo(f"{cause.stage} made the same: {'; '.join(cause.what)}")
    if not causes:
        typer.echo("No setting, code or data differs.")
    for line in model_differences.machine_changes(before, after):
        typer.echo(f"machine: {line}")
    for line in model_differences.item_changes(before, after):
        typer.echo(line)
    if bisect:
        _bisect(before, after)
    elif len(effective) > 1:
        typer.echo(
            f"{len(effective)} stages part on their own, and no record tells the effect of each alone. This command runs what lies "
            f"between:\n  ratchet why {first} {second} --bisect"
        )


def _bisect(before: "ModelRecord", after: "ModelRecord") -> None:
    """Run what lies between the two, and name the stage with the largest effect."""
    from flows.execution import cancellation, estimates, flow_runs, workspace_lease
    from flows.experiments import bisection

    groups = bisection.separable_causes(before, after)
    if not groups:
        typer.echo("No stage parts, so there is nothing to tell apart.")
        return
    with cancellation.handled(), workspace_lease.acquired():
        if reruns := bisection.stages_to_rerun(before, after):
            taken = estimates.for_stages(reruns)
            known = [taken[stage].seconds for stage in reruns if stage in taken]
            total = estimates.Range(sum(seconds.low for seconds in known), sum(seconds.high for seconds in known))
            typer.echo(
                f"Up to {(len(groups) - 1).bit_length()} times what lies between is made: {', '.join(reruns)}"
                f"{f' ({estimates.as_time(total)} each)' if known else ''}."
            )
        with flow_runs.recorded(title=f"why · {before.name} · {after.name}") as run:
            parts = []
            for part in bisection.bisect(before, after, run.id):
                typer.echo(_line(part))
                parts.append(part)
    typer.echo(_conclusion(parts))


def _line(part: "Part") -> str:
    rise = part.worse_by
    stages = ", ".join(cause.stage for cause in part.causes)
    return f"{stages}: loss {rise.value:+.4f} [{rise.low:+.4f}, {rise.high:+.4f}] nats/token on {part.items} test items"


def _conclusion(parts: "list[Part]") -> str:
    total, last = parts[0], parts[-2:]
    if not total.is_certain:
        return "On the test set the two do not differ for certain: there is no cause to name, and nothing was run."
    largest = max(last, key=lambda part: abs(part.worse_by.value))
    stages = ", ".join(cause.stage for cause in largest.causes)
    share = largest.worse_by.value / total.worse_by.value
    if not largest.is_certain:
        return f"No stage does it alone for certain; {stages} has the largest share, {share:.0%}."
    return f"The cause: {stages}, with {share:.0%} of the difference."
