"""`ratchet monitor`."""

from pathlib import Path
from typing import Annotated

import typer


def monitor(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Tables of prompts or examples, or folders of them; without any, `monitor.incoming`."),
    ] = None,
) -> None:
    """Say whether what comes in is still what was trained on; where it is not, `ratchet up` retrains.

    Example: ratchet monitor data/incoming/monday.jsonl
    """
    from flows import server, stopping, watching
    from tasks.core.imports import lasting
    from tasks.io import progress

    with lasting():
        from flows.monitor import monitor as flow

    given = [str(path) for path in files or []]
    watching.places(given)
    with stopping.told(), server.used():
        ended = flow(given, return_state=True)
        ended.result()
        heard = not server.is_private()
    if ended.name == "Drift" and not heard:
        progress.say("`ratchet up` does not run here, so nothing was started. `ratchet retrain` does it by hand.")
