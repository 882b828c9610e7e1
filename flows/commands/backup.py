"""`ratchet backup`."""

from pathlib import Path
from typing import Annotated

import typer


def backup(
    to: Annotated[
        Path, typer.Argument(help="A folder that keeps many backups, or the name of a file (with an ending) for one.")
    ],
    keys: Annotated[
        bool, typer.Option("--keys", help="Take files of secrets along: .ratchet/keys, .dvc/config.local, .env.")
    ] = False,
    outputs: Annotated[
        bool, typer.Option(help="Take the outputs of stages along; without, DVC's remote must have them all.")
    ] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a run that works here, instead of an error.")] = False,
) -> None:
    """Back up all that git does not hold.

    Runs, models and their versions, outputs, data, decisions, unfinished trainings, edits without a commit, commits of this branch that no remote has.
    Servers may go on meanwhile. A folder takes only what it does not have yet.

    Example: ratchet backup ../backups, or ratchet backup ../today.zip, later: ratchet restore ../backups
    """
    from flows.registry.backup import writing

    writing.back_up(to, keys=keys, outputs=outputs, wait=wait)
