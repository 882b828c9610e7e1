"""A Ray cluster of this machine alone, which `ratchet up --ray` starts and ends."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flows.execution import ports, resources, supervisor, workspace
from tasks.core import environment
from tasks.io.system import ray_cluster

HOST, PORT = "127.0.0.1", 6379
LOG = workspace.LOGS / "ray.log"
START_S = 120.0
"""Seconds in which the cluster has to answer."""
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, Ray stays on 127.0.0.1. Without it `ray start` takes the machine's own address in its place and listens on all; clients need it
too."""
SHARE = 0.7
"""Share of the machine's memory that tasks may declare; the rest is for Ray's object store and its processes."""
OURS = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", LOOPBACK: "0"}
"""Without these settings Ray would lower its tasks to niceness 15, and report usage statistics."""


@contextmanager
def running() -> Iterator[str]:
    """Run a cluster with the cores, memory and GPUs of this machine inside the block, and yield its address on the loopback interface.

    It takes Ray's port, or a free one if that is taken. Raises RuntimeError, with what to do, if Ray is not installed or does not start.
    """
    if find_spec("ray") is None:
        raise RuntimeError(f"`ratchet up --ray` needs the extra `ray`: {ray_cluster.EXTRA}")
    port = _port()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log:
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": os.environ | OURS}
        with supervisor.running(_command(port, resources.machine()), **options) as process:
            _wait_for(process, port)
            yield f"{HOST}:{port}"


def variables(address: str) -> dict[str, str]:
    """Return the environment variables of a client: the cluster's address for our commands, and what keeps Ray on the loopback
    interface."""
    return {environment.RAY: address, LOOPBACK: "0"}


def _port() -> int:
    """Return Ray's port, or a free one if that is taken."""
    return PORT if ports.port_owner(PORT) is None else ports.free_port()


def _command(port: int, machine: resources.Machine) -> list[str]:
    return [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
        f"--node-ip-address={HOST}", f"--port={port}", "--include-dashboard=false", "--no-monitor",
        f"--num-cpus={machine.cores}", f"--num-gpus={len(machine.gpus)}", f"--memory={int(SHARE * machine.memory_gb * resources.GB)}",
    ]  # fmt: skip


def _wait_for(process: "subprocess.Popen[Any]", port: int) -> None:
    """Return once the cluster answers. Raises RuntimeError with its last output if it ended, or does not answer in time."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), 1).close()
            return
        except OSError:
            time.sleep(supervisor.PACE_S)
    said = [line.strip() for line in LOG.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    raise RuntimeError(f"Ray did not start ({' '.join(said[-2:]) or 'it printed nothing'}). Its output is in {LOG}.")
