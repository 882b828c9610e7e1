"""`ratchet verify`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import _completion
from flows.commands._reports import Report


def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Measure only these entries of `models`.", autocompletion=_completion.measured_models),
    ] = None,
    measure: Annotated[bool, typer.Option(help="Also measure losses again.")] = True,
    evidence: Annotated[
        Path | None, typer.Option(help="Check only this folder of `ratchet evidence`, wherever it comes from.")
    ] = None,
    key: Annotated[Path, typer.Option(help="The public keys that signatures are checked by.")] = Path(
        "data/signing_keys.pem"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Check that this workspace holds what its record says, without training.

    Compares the hashes of outputs and models, and measures losses again. On the class of machine that made the models, losses must be
    bit-identical; on another class, within a stated tolerance. Evidence in models/evidence is checked by signature, file by file. Runs
    in data/runs.jsonl are imported into MLflow. The exit code is 3 if anything does not hold.

    Example: ratchet verify, or ratchet verify compressed, or ratchet verify --no-measure, or ratchet verify --evidence models/evidence/1
    """
    from itertools import chain

    from flows.commands import _terminal
    from flows.commands._verify_report import VerifyReport
    from flows.execution import workspace_lease
    from flows.registry import verification

    checks: list[verification.Check] = []

    def show(check: verification.Check) -> None:
        checks.append(check)
        if not as_json:
            mark = "✓" if check.holds else "✗"
            _terminal.show(f"{mark} {check.what}", colours={"✓": "green", "✗": "red"})

    if evidence:
        for check in verification.check_evidence(evidence, key):
            show(check)
        return VerifyReport(checks)
    with workspace_lease.acquired():
        for check in chain(
            verification.check_files(),
            verification.import_runs(),
            verification.check_losses(models or []) if measure else (),
        ):
            show(check)
    report = VerifyReport(checks)
    if not report.holds and not as_json:
        _terminal.show("→ `ratchet plan` says which of these a run would make again.", indent=4)
    return report
