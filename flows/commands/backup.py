"""`ratchet backup`."""

from pathlib import Path
from typing import Annotated

import typer


def backup(
    to: Annotated[
        Path, typer.Argument(help="A folder that keeps many backups, or the name of a file (with an ending) for one.")
    ],
    keys: Annotated[
        bool, typer.Option("--keys", help="Include files of secrets: .ratchet/keys, .dvc/config.local, .env.")
    ] = False,
    outputs: Annotated[
        bool, typer.Option(help="Include the outputs of stages; without them, DVC's remote must have them all.")
    ] = True,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the run that works here ends, instead of failing.")
    ] = False,
) -> None:
    """Back up everything that git does not hold.

    Runs, models and their versions, outputs, data, decisions, unfinished trainings, uncommitted edits, commits of this branch that no
    remote has. Servers may keep running. A folder of backups receives only what it does not have yet.

    Example: ratchet backup ../backups, or ratchet backup ../today.zip, later: ratchet restore ../backups
    """
    from flows.registry.backup import writing

    writing.back_up(to, keys=keys, outputs=outputs, wait=wait)
