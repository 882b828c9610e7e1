"""A Ray cluster on this machine's loopback, for tests."""

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from flows.execution import ports

HERE = "127.0.0.1"
NODE = {"node_ip_address": HERE, "object_store_memory": 80 << 20}
CONFIG = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 8,
    "health_check_timeout_ms": 30_000,
    "agent_register_timeout_ms": 240_000,
    "worker_register_timeout_seconds": 240,
    "worker_niceness": 0,
}
"""Settings by which Ray notices within seconds a lost node, whose port refuses connections, and waits for a node that is slow on a busy machine.
Without the last line, its processes would run at niceness 15 and get a 28th of the CPU time of another process on a busy machine."""

START_S = 600
"""Seconds within which a node must start."""
PORTS = ("dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")
"""The ports of a node's agents. Ray gives up a node whose agents have not chosen theirs within 15 seconds."""


@contextmanager
def cluster() -> Iterator[Any]:
    """Start a cluster whose head runs no tasks. Its temporary files, and those of its tasks, are in one folder."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for name, value in {
            "RAY_TMPDIR": folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "TMPDIR": folder,
        }.items():
            patch.setenv(name, value)  # Ray reads these variables when it is imported
        pytest.importorskip("ray", reason="needs the extra `ray`")
        from ray._private import services
        from ray.cluster_utils import Cluster

        patch.setattr(services, "get_node", _patient(services.get_node))
        patch.setattr(services, "start_ray_process", _told(services.start_ray_process))
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": CONFIG, **_node()}
        started = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield started
        finally:
            started.shutdown()


def _node() -> dict[str, Any]:
    """Return the arguments with which a node starts on the loopback, with free ports."""
    return NODE | dict(zip(PORTS, ports.free_ports(len(PORTS)), strict=True))


def _told(start: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap Ray's function that starts a process, to pass the ports of the agent to the raylet too. Ray passes them to the agent only."""

    def start_told(command: list[str], kind: str, *arguments: Any, **options: Any) -> Any:
        if kind == "raylet":
            words = " ".join(command)
            for ours, its in ("grpc-port", "metrics_agent_port"), ("listen-port", "dashboard_agent_listen_port"):
                if port := re.search(rf"--{ours}=(\d+)", words):
                    command = [*command, f"--{its}={port[1]}"]
        return start(command, kind, *arguments, **options)

    return start_told


def _patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap Ray's function that waits for a starting node, to wait longer. Ray gives up a node that takes more than 30 seconds."""

    def get(*arguments: Any) -> Any:
        deadline = time.monotonic() + START_S
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    return get


def with_two_nodes(started: Any) -> list[Any]:
    """Return a cluster's two worker nodes of one core each. A lost node is replaced."""
    while len(started.worker_nodes) < 2:
        started.add_node(num_cpus=1, **_node())
    return list(started.worker_nodes)


def with_nodes_at(started: Any, cores: Mapping[str, int]) -> list[Any]:
    """Return a cluster's nodes: one at each loopback address of `cores`, with that many cores. A lost node is replaced."""
    for address in cores.keys() - {node.node_ip_address for node in started.worker_nodes}:
        started.add_node(num_cpus=cores[address], **_node() | {"node_ip_address": address})
    return list(started.worker_nodes)
