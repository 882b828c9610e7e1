"""`ratchet share`."""

from typing import Annotated

import typer


def share(
    to: Annotated[
        str | None, typer.Option(help="A folder, or an address as DVC takes it; kept in .dvc/config.")
    ] = None,
) -> None:
    """Push all outputs to DVC's remote.

    Writes the MLflow runs that made them to data/runs.jsonl, for git.

    Example: ratchet share --to ../store, later: ratchet share
    """
    from flows.registry import share

    share.share_workspace(to)
