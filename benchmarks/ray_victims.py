"""A Ray cluster on this machine whose nodes are killed: its processes, those of them at work, and those left over. Linux only."""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import victims  # noqa: E402

from tests import ray_nodes  # noqa: E402

Work = Literal["trials", "shards"]
Target = Literal["raylet", "worker", "trial", "head", "asker"]
GONE_S = 300.0
"""Longest time that processes of a run may outlive it, and those of a node its raylet. Ray looks every few seconds, but a process of Ray
that starts while its raylet goes may wait for it as long as one may take to register (`ray_nodes.CONFIG`: 240 s)."""
ray_nodes.CONFIG |= {
    "gcs_rpc_server_reconnect_timeout_s": 10,
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
}
"""Settings under which nodes end soon after their head, and have no idle processes."""


class Nodes:
    """The cluster, and the processes on its nodes."""

    def __init__(self, mark: str) -> None:
        self._mark, self._stack = mark, ExitStack()
        self._cluster: Any = None

    def ready(self) -> str:
        """Return the address of the cluster with two nodes; parts that were lost are started again."""
        os.environ[victims.MARK] = self._mark
        try:
            if self._cluster is None:
                self._cluster = self._stack.enter_context(ray_nodes.cluster())
            for node in list(self._cluster.worker_nodes):
                if node.all_processes["raylet"][0].process.poll() is not None:
                    self._cluster.remove_node(node, allow_graceful=False)
            ray_nodes.with_two_nodes(self._cluster)
        finally:
            del os.environ[victims.MARK]
        return str(self._cluster.address)

    @property
    def temporary(self) -> set[str]:
        """The temporary files on the nodes, beside Ray's own and torch's folder for what it compiles, which any training makes."""
        folder = Path(os.environ["TMPDIR"])
        return {
            path.name for path in folder.iterdir() if not path.name.startswith(("session_", "ray", "torchinductor_"))
        }

    def raylets(self) -> list[int]:
        """Return the raylets of the nodes that work."""
        return [node.all_processes["raylet"][0].process.pid for node in self._cluster.worker_nodes]

    def victim(self, target: Target, work: Work, asker: int) -> int | None:
        """Return the process to kill, None while there is none that is at work."""
        busy = [pid for pid in self.workers() if victims.command(pid)[:1] == ["ray::_call"]]
        trials = [(pid, trial) for pid in busy for trial in victims.below(pid) if _is_trial(victims.command(trial))]
        match target:
            case "raylet":
                return next((raylet for raylet in self.raylets() if {*busy} & {*victims.below(raylet)}), None)
            case "worker" if work == "shards":
                return next(iter(busy), None)
            case "worker":
                return next((pid for pid, _ in trials), None)
            case "trial":
                return next((trial for _, trial in trials), None)
            case "head":
                server: int = self._cluster.head_node.all_processes["gcs_server"][0].process.pid
                return server
            case "asker":
                return asker

    def workers(self) -> list[int]:
        """Return the processes of Ray for tasks, including idle ones."""
        return [pid for raylet in self.raylets() for pid in victims.below(raylet) if _is_worker(victims.command(pid))]

    def at_work(self) -> dict[int, str]:
        """Return the processes that have a task or a trial, wherever they hang by now."""
        self._reap()
        marked = victims.marked(self._mark)
        return {pid: words for pid, words in marked.items() if _is_worker(words.split()) or _is_trial(words.split())}

    def _reap(self) -> None:
        """Wait for the cluster's processes that have ended, as init does for those of `ray start`: workers of a zombie take their raylet for alive."""
        if self._cluster is not None:
            for node in [self._cluster.head_node, *self._cluster.worker_nodes]:
                for process in (each.process for those in node.all_processes.values() for each in those):
                    process.poll()

    def close(self) -> list[str]:
        """End the cluster, and return its tasks and trials that did not end. Ray's own agents may look for their node for minutes."""
        if self._cluster is None:
            return []
        self._cluster = None
        with victims.swept(self._mark):
            self._stack.close()
            deadline = time.monotonic() + GONE_S
            while (left := self.at_work()) and time.monotonic() < deadline:
                time.sleep(0.3)
            return sorted(left.values())


def _is_worker(words: list[str]) -> bool:
    """Return True for a process of Ray that runs tasks or begins to. The raylet's command holds the same words further on."""
    return bool(words) and (
        words[0] in ("ray::_call", "ray::IDLE") or any(word.endswith("default_worker.py") for word in words[1:3])
    )


def _is_trial(words: list[str]) -> bool:
    return "tasks.run_trial" in words


class Clock:
    """The CPU seconds of the nodes' workers, with their trials, since it was made."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._seen: dict[int, float] = {}

    def __call__(self) -> float:
        for pid in self._nodes.workers():
            self._seen[pid] = max(self._seen.get(pid, 0.0), victims.work_s(victims.below(pid)))
        return sum(self._seen.values())
