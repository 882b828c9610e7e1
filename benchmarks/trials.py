"""Trials a second on Ray clusters of this machine: one node against two, in pairs, and more nodes with trials that only sleep.

Run it in a workspace in which `ratchet run tune@r0` has made what a trial reads. Nodes have one core each, so two of them are real on
two cores and no more are; `--sleeping` replaces trials by tasks that sleep, which is a simulation of the way there and back.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.experiments import trial_store
from flows.experiments.sweeps import axes, sweep
from tasks.core import environment
from tasks.io.system import ray_cluster
from tasks.io.system.ray_cluster import Needs

NODE = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
CONFIG = {"worker_niceness": 0, "worker_register_timeout_seconds": 240, "agent_register_timeout_ms": 240_000}
"""Other work of the machine takes from one node what it takes from two, and a process may start slowly."""


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="trials of each measurement")
    parser.add_argument("--tokens", type=int, default=20_000, help="tokens of each training")
    parser.add_argument("--pairs", type=int, default=3, help="measurements of one node and of two, in turns")
    parser.add_argument("--sleeping", type=float, metavar="SECONDS", help="simulate, with trials that sleep so long")
    parser.add_argument(
        "--nodes", type=int, nargs="+", default=[1, 2], help="numbers of nodes; more than two only with --sleeping"
    )
    options = parser.parse_args()
    if max(options.nodes) > 2 and options.sleeping is None:
        parser.error("more than two nodes need --sleeping: this is no measurement of trials")
    environment.set_defaults(environment.NO_TELEMETRY | environment.RAY_OPTIONS | environment.RAY_LOOPBACK)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAY_TMPDIR"] = folder
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Measure each number of nodes in turns, and print medians and what they are to the first number's."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": CONFIG, **NODE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    os.environ[environment.RAY] = cluster.address
    rates: dict[int, list[float]] = {number: [] for number in options.nodes}
    try:
        for pair in range(options.pairs):
            for number in options.nodes if pair % 2 == 0 else reversed(options.nodes):
                _set_nodes(cluster, number)
                seconds = _sleep(cluster.address, options) if options.sleeping is not None else _train(options)
                rates[number].append(options.trials / seconds)
                print(f"{number} nodes: {rates[number][-1]:.3f} trials/s", flush=True)
    finally:
        cluster.shutdown()
    first = options.nodes[0]
    for number, each in rates.items():
        ratios = [rate / one for rate, one in zip(each, rates[first], strict=True)]
        print(
            f"{number} nodes: median {statistics.median(each):.3f} trials/s, {statistics.median(ratios):.2f} times that of {first} "
            f"(pairs {', '.join(f'{ratio:.2f}' for ratio in ratios)}){' - sleeping trials' if options.sleeping is not None else ''}"
        )


def _set_nodes(cluster: Any, number: int) -> None:
    while len(cluster.worker_nodes) < number:
        cluster.add_node(num_cpus=1, **NODE)
    while len(cluster.worker_nodes) > number:
        cluster.remove_node(next(iter(cluster.worker_nodes)))


def _train(options: argparse.Namespace) -> float:
    """Return the seconds of trials of which none is there yet."""
    names = [f"tune.seed=0..{options.trials - 1}", "tune.warmup=0.1"]
    with tempfile.TemporaryDirectory() as folder:
        trial_store.FOLDER = Path(folder)
        made = sweep.make(axes.read(names), tokens=options.tokens)
        point = made.points().ask()[0]
        folders = [trial_store.prepare(sweep.plan(made, point, seed)) for seed in made.seeds]
        return _seconds(folders)


def _seconds(folders: Sequence[Path]) -> float:
    with trial_store.Runner("trials", "benchmark") as runner:
        results = runner.results(folders)
        before = time.perf_counter()
        list(results)
        return time.perf_counter() - before


def _sleep(address: str, options: argparse.Namespace) -> float:
    with ray_cluster.connected(address) as cluster:
        before = time.perf_counter()
        list(cluster.as_they_end(time.sleep, [(options.sleeping, Needs())] * options.trials))
        return time.perf_counter() - before


if __name__ == "__main__":
    main()
