"""`ratchet evidence`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import _completion


def evidence(
    model: Annotated[
        str,
        typer.Argument(
            help="`champion`, a version's number, or an entry of `models`.",
            autocompletion=_completion.comparable_models,
        ),
    ] = "champion",
    to: Annotated[Path | None, typer.Option(help="The folder to write; default: models/evidence/MODEL.")] = None,
) -> None:
    """Write a signed folder by which others can judge a model with their own tools.

    Beside the model's files: model card, bill of materials (CycloneDX), provenance (in-toto, SLSA), description of the data (Croissant),
    licences, the gate's decision, dvc.lock and the environment. A promotion writes it automatically. The data are not in it.

    Example: ratchet evidence, then ratchet verify --evidence models/evidence/1
    """
    from flows.commands import _terminal
    from flows.execution import workspace_lease
    from flows.registry.evidence import bundle, signing

    if to and to.exists():
        raise ValueError(f"{to} exists. Remove it, or name another place.")
    with workspace_lease.acquired():
        folder = bundle.write(model, to)
    _terminal.show(
        f"{folder}: signed. Its key is in {signing.TRUSTED}: commit that file, or hand it to those who verify."
    )
