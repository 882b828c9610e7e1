"""`ratchet chat`."""

from typing import Annotated

import typer


def chat(
    models: Annotated[list[str], typer.Argument(help="A folder, `base`, or a round such as `r0`; one or two.")],
) -> None:
    """Talk to a model, or to two side by side.

    Example: ratchet chat base r0
    """
    import os
    import sys

    if len(models) > 2:
        raise ValueError(f"chat takes one model or two, not {len(models)}.")
    # A process of its own: this one knows no torch.
    os.execv(sys.executable, [sys.executable, "-m", "tasks.engine.chat", *models])
