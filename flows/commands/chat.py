"""`ratchet chat`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def chat(
    model: Annotated[Path, typer.Argument(help="A model's folder.")],
    other: Annotated[Path | None, typer.Argument(help="A second one, which answers side by side.")] = None,
) -> None:
    """Talk to a model, or to two side by side.

    Example: ratchet chat models/base models/tuned/r0
    """
    models = [path for path in (model, other) if path]
    for path in models:
        if not path.is_dir():
            made = sorted(str(config.parent) for config in Path("models").rglob("ratchet.json"))
            raise FileNotFoundError(f"{path}: there is no such model. There are: {', '.join(made) or 'none yet (ratchet run)'}.")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "tasks.engine.chat", *map(str, models)])
