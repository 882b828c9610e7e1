"""Serve MLflow's own pages of this workspace's runs: their address, the server's command, and a check whether one already runs."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from flows.execution import ports
from flows.execution.prefect_server import PATIENCE_S
from tasks.io.runs import experiment_page, run_store

PACE_S = 0.2


def check_port(port: int, command: str) -> None:
    """Raise RuntimeError, with the command to try, if something listens to the port."""
    if owner := ports.port_owner(port):
        raise RuntimeError(f"port {port} is taken by {owner}. Another one: {command} --port {port + 1}")


def address(port: int) -> str:
    """Return the address of the table of runs."""
    return f"http://{ports.HOST}:{port}/{experiment_page.address(run_store.experiment())}"


def command(port: int) -> list[str]:
    """Return the command of a server. One worker is enough for one reader: each of MLflow's default four costs seconds and 250 MB."""
    return [sys.executable, "-m", "mlflow", "ui", "--host", ports.HOST, "--port", str(port), "--workers", "1"]


def environment() -> dict[str, str]:
    """Return the environment of a server. It holds the store's address, whose password must not appear in the process list."""
    return dict(os.environ) | {"MLFLOW_BACKEND_STORE_URI": run_store.uri()}


def is_shown(port: int) -> bool:
    """Return True if an MLflow server of this workspace listens on the port."""
    import psutil

    process = ports.listener(port)
    if process is None:
        return False
    try:
        return any("mlflow" in word for word in process.cmdline()) and Path(process.cwd()) == Path.cwd()
    except psutil.Error:  # gone by now
        return False


def wait_for(server: subprocess.Popen[Any], port: int) -> None:
    """Return when a started server answers. Raises RuntimeError if it ends before, after printing the reason, or takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while server.poll() is None:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"MLflow did not answer at port {port} within {PATIENCE_S:.0f} s. If other work keeps this machine busy, try it later."
            )
        try:
            with urllib.request.urlopen(f"http://{ports.HOST}:{port}/health", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(PACE_S)
    raise RuntimeError("MLflow did not start; what it printed above says why.")
