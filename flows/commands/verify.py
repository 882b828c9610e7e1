"""`ratchet verify`."""

from typing import Annotated

import typer


def verify(
    models: Annotated[list[str] | None, typer.Argument(help="Measure only these entries of `models`.")] = None,
    measure: Annotated[bool, typer.Option(help="Measure losses anew, beside the hashes.")] = True,
) -> None:
    """Check that this workspace holds what its record says, without training: hashes of outputs and models, losses measured anew.

    On the class of machine that made the models, losses must be equal to the bit; on another one within a stated tolerance. Runs in
    data/runs.jsonl are taken over into MLflow. The exit code is 1 where anything does not hold.

    Example: ratchet verify, or ratchet verify compressed, or ratchet verify --no-measure
    """
    from itertools import chain

    from flows.execution import workspace_lease
    from flows.registry import verification

    failed = 0
    with workspace_lease.acquired():
        for check in chain(
            verification.check_files(),
            verification.import_runs(),
            verification.check_losses(models or []) if measure else (),
        ):
            typer.echo(f"{'✓' if check.holds else '✗'} {check.what}")
            failed += not check.holds
    if failed:
        raise typer.Exit(1)
