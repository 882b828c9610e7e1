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
    """Test whether incoming data still resemble the training data.

    On drift, `ratchet up` retrains.

    Example: ratchet monitor data/incoming/monday.jsonl
    """
    from flows.execution import cancellation, prefect_server
    from flows.registry import drift_log
    from tasks.core.imports import lasting
    from tasks.io.system import progress

    with lasting():
        from flows.monitor import monitor as flow

    given = [str(path) for path in files or []]
    drift_log.incoming_paths(given)
    with cancellation.handled(), prefect_server.connected():
        ended = flow(given, return_state=True)
        ended.result()
        heard = not prefect_server.is_private()
    if ended.name == "Drift" and not heard:
        progress.say("`ratchet up` is not running, so no retraining was started. Start one: ratchet retrain")
