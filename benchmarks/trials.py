"""Trials a second on Ray clusters of this machine: one node against two, in pairs, and more nodes with trials that only sleep.

Run it in a workspace in which `ratchet run tune@r0` has made what a trial reads. Nodes have one core each, so two of them are real on
two cores, but not more. `--bare` is their control: equally many processes at a time without Ray, which shows the effect of the cores alone.
`--sleeping` replaces trials by tasks that sleep, which simulates only the overhead of distribution.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

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
    parser.add_argument("--bare", action="store_true", help="measure processes without Ray beside each number of nodes")
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
    """Measure each number of nodes in turn, and print medians and their ratios to the first number's."""
    seconds = {f"{number} nodes": partial(_on_nodes, options, number) for number in options.nodes}
    if options.bare:
        seconds |= {f"{number} processes without Ray": partial(_train, options, number) for number in options.nodes}
    rates: dict[str, list[float]] = {name: [] for name in seconds}
    for pair in range(options.pairs):
        for name in seconds if pair % 2 == 0 else reversed(seconds):
            rates[name].append(options.trials / seconds[name]())
            print(f"{name}: {rates[name][-1]:.3f} trials/s", flush=True)
    first = f"{options.nodes[0]} "
    for name, each in rates.items():
        one = next(other for other in rates if other.startswith(first) and other.endswith(name.partition(" ")[2]))
        ratios = [rate / of_one for rate, of_one in zip(each, rates[one], strict=True)]
        print(
            f"{name}: median {statistics.median(each):.3f} trials/s, {statistics.median(ratios):.2f} times that of {one} "
            f"(pairs {', '.join(f'{ratio:.2f}' for ratio in ratios)}){' - sleeping trials' if options.sleeping is not None else ''}"
        )


def _on_nodes(options: argparse.Namespace, number: int) -> float:
    """Return the seconds of trials on a new cluster with the given number of nodes, after a warm-up."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": CONFIG, **NODE}
    with ExitStack() as stack:
        cluster = Cluster(initialize_head=True, head_node_args=head)
        stack.callback(cluster.shutdown)
        for _ in range(number):
            cluster.add_node(num_cpus=1, **NODE)
        os.environ[environment.RAY] = cluster.address
        stack.callback(os.environ.pop, environment.RAY)
        _sleep(cluster.address, 1.0, number)
        return (
            _train(options) if options.sleeping is None else _sleep(cluster.address, options.sleeping, options.trials)
        )


def _train(options: argparse.Namespace, processes: int = 0) -> float:
    """Return the seconds of trials without cached results: on the cluster that the environment names, or in so many local processes at a time."""
    names = [f"tune.seed=0..{options.trials - 1}", "tune.warmup=0.1"]
    with tempfile.TemporaryDirectory() as folder:
        trial_store.FOLDER = Path(folder)
        made = sweep.make(axes.read(names), tokens=options.tokens)
        point = made.points().ask()[0]
        folders = [trial_store.write_folder(sweep.plan(made, point, seed)) for seed in made.seeds]
        return _seconds(partial(_alone, processes) if processes else _on_cluster, folders)


def _seconds(run: Callable[[Sequence[Path]], None], folders: Sequence[Path]) -> float:
    before = time.perf_counter()
    run(folders)
    return time.perf_counter() - before


def _on_cluster(folders: Sequence[Path]) -> None:
    with trial_store.Runner("trials", "benchmark") as runner:
        list(runner.results(folders))


def _alone(processes: int, folders: Sequence[Path]) -> None:
    with ThreadPoolExecutor(processes) as lanes:
        list(lanes.map(_process, folders))


def _process(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "tasks.run_trial", str(folder)], check=True)


def _sleep(address: str, each: float, count: int) -> float:
    with ray_cluster.connected(address) as cluster:
        before = time.perf_counter()
        list(cluster.as_they_end(time.sleep, [(each, Needs())] * count))
        return time.perf_counter() - before


if __name__ == "__main__":
    main()
