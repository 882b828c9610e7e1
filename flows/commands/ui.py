"""`ratchet ui`."""

import os
import sys
from typing import Annotated

import typer


def ui(port: Annotated[int, typer.Option(help="The port to listen to.", min=1, max=65535)] = 5000) -> None:
    """Show every run in MLflow's pages, until Ctrl-C.

    `ratchet open mlflow` opens them in a browser too.

    Example: ratchet ui --port 5001
    """
    from flows.execution import mlflow_pages
    from tasks.io.runs import run_links, run_store
    from tasks.io.system import progress

    if run_links.is_server():
        raise RuntimeError(f"{run_store.shown()} is a server with pages of its own. `ratchet open mlflow` opens them.")
    run_store.check()
    mlflow_pages.check_port(port, "ratchet ui")
    progress.say(f"Runs: {mlflow_pages.address(port)}")
    sys.stdout.flush()
    command = mlflow_pages.command(port)
    os.execve(command[0], command, mlflow_pages.environment())  # Ctrl-C and signals reach MLflow itself
