"""`ratchet join`."""

from typing import Annotated

import typer


def join(stage: Annotated[str, typer.Argument(help="A stage that trains, as DVC names it: tune@r0.")]) -> None:
    """Share the training of a stage that another machine's workspace runs.

    `resources.STAGE.nodes` says how many machines share the training, RATCHET_RENDEZVOUS the address at which they meet.

    Example: ratchet join tune@r0 (with RATCHET_RENDEZVOUS=10.0.0.1:29400)
    """
    import os
    import sys

    os.execv(sys.executable, [sys.executable, "-m", "tasks.nodes", "--join", *stage.split("@", 1)])
