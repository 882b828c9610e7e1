"""`ratchet ui`."""

import os
import sys
from typing import Annotated

import typer


def ui(port: Annotated[int, typer.Option(help="The port to listen to.", min=1, max=65535)] = 5000) -> None:
    """Show every run in MLflow's pages, until Ctrl-C.

    Example: ratchet ui --port 5001
    """
    from flows.execution import prefect_server
    from tasks.io.runs import experiment_page, run_links, run_store
    from tasks.io.system import progress

    if run_links.is_server():
        raise RuntimeError(f"{run_store.shown()} is a server with pages of its own: open it in a browser.")
    run_store.check()
    if owner := prefect_server.port_owner(port):
        raise RuntimeError(f"port {port} is taken by {owner}. Another one: ratchet ui --port {port + 1}")
    os.environ["MLFLOW_BACKEND_STORE_URI"] = run_store.uri()  # its password is nothing for a list of processes
    command = ["-m", "mlflow", "ui", "--host", prefect_server.HOST, "--port", str(port)]
    # There is one reader, and each of the four workers that MLflow takes costs seconds and a quarter gigabyte.
    command += ["--workers", "1"]
    progress.say(f"Runs: http://{prefect_server.HOST}:{port}/{experiment_page.address(run_store.experiment())}")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *command])  # Ctrl-C and signals reach MLflow itself
