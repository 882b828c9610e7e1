"""`ratchet verify`."""

from typing import Annotated

import typer

from flows.commands import _completion
from flows.commands._reports import Report


def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Measure only these entries of `models`.", autocompletion=_completion.measured_models),
    ] = None,
    measure: Annotated[bool, typer.Option(help="Measure losses anew, beside the hashes.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Check that this workspace holds what its record says, without training.

    Hashes of outputs and models are compared, and losses are measured anew. On the class of machine that made the models, losses must
    be equal to the bit; on another one within a stated tolerance. Runs in data/runs.jsonl are taken over into MLflow. The exit code
    is 3 where anything does not hold.

    Example: ratchet verify, or ratchet verify compressed, or ratchet verify --no-measure
    """
    from itertools import chain

    from flows.commands import _terminal
    from flows.commands._workspace_reports import VerifyReport
    from flows.execution import workspace_lease
    from flows.registry import verification

    checks = []
    with workspace_lease.acquired():
        for check in chain(
            verification.check_files(),
            verification.import_runs(),
            verification.check_losses(models or []) if measure else (),
        ):
            checks.append(check)
            if not as_json:
                mark = "✓" if check.holds else "✗"
                _terminal.show(f"{mark} {check.what}", colours={"✓": "green", "✗": "red"})
    report = VerifyReport(checks)
    if not report.holds and not as_json:
        _terminal.show("→ `ratchet plan` says what of this a run would make anew.", indent=4)
    return report
