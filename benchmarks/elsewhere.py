"""Overhead of a stage that runs elsewhere: `python benchmarks/elsewhere.py [--rounds 5] [--stages faults@r0 tune@r0] [--hosts FILE HOST]`.

In a workspace in which every stage is done, each stage is run again, here and elsewhere in turn. Elsewhere is a node of a Ray cluster that
starts on this machine, or with `--hosts` a host of a hosts file. A separate machine would add the cost of its network, but would not share
its cores with this one. So only the cost of the transfer is printed: wall-clock seconds above those of the same stage here, as the median of
paired differences with their range. The first run elsewhere copies all files there, and later ones only changed files, so it is listed apart.
`dvc.lock` must be the same, byte for byte, after every run. The workspace is made once, in the folder that `benchmarks/chaos.py` uses.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import ingest  # noqa: E402
import workspaces  # noqa: E402

from flows.execution import ports, prefect_server, supervisor  # noqa: E402
from tasks.core import environment  # noqa: E402
from tasks.io.system import progress  # noqa: E402

HOST = "nodes"
"""What the cluster is called in the hosts file."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="micro")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stages", nargs="+", default=["faults@r0", "tune@r0"])
    parser.add_argument(
        "--hosts", nargs=2, metavar=("FILE", "HOST"), help="a host in place of a cluster on this machine"
    )
    options = parser.parse_args()
    folder = (Path(".ratchet/chaos") / options.profile).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    space = finished(folder, options.profile)
    with there(folder, options.hosts) as elsewhere:
        for stage in options.stages:
            measure(space, stage, elsewhere, options.rounds)
    shutil.rmtree(space)


def finished(folder: Path, profile: str) -> Path:
    """Return a workspace in which every stage is done."""
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    process, url = prefect_server.start(ports.free_port(), ui=False)
    try:
        states = workspaces.States(folder, ROOT, profile, None, None, lambda: url)
        states.copy(len(states.order), folder / "elsewhere")
    finally:
        supervisor.stop([process])
    return folder / "elsewhere"


@contextlib.contextmanager
def there(folder: Path, host: Sequence[str] | None) -> Iterator[dict[str, str]]:
    """Return the environment by which a stage runs elsewhere."""
    if host:
        yield {environment.HOSTS: host[0], environment.ON: host[1]}
        return
    with ingest.cluster():
        entry = {"ray": os.environ.pop(environment.RAY), "folder": str(folder / "there")}
        hosts = folder / "hosts.yaml"
        hosts.write_text(yaml.safe_dump({"hosts": {HOST: entry}}), encoding="utf-8")
        yield {environment.HOSTS: str(hosts), environment.ON: HOST}
    shutil.rmtree(folder / "there", ignore_errors=True)


def measure(space: Path, stage: str, elsewhere: dict[str, str], rounds: int) -> None:
    """Print what a stage takes more elsewhere than here."""
    lock = (space / "dvc.lock").read_bytes()
    taken: list[tuple[float, float]] = []
    for _ in progress.track(range(rounds + 1), label=stage, unit="round"):
        pair = tuple(seconds(space, stage, more) for more in ({}, elsewhere))
        taken.append((pair[0], pair[1]))
        if (space / "dvc.lock").read_bytes() != lock:
            sys.exit(f"{stage}: dvc.lock is another after a run elsewhere. {space} has it.")
    (here, first), *later = taken
    above = sorted(elsewhere_s - here_s for here_s, elsewhere_s in later)
    print(
        f"{stage}: {statistics.median(here_s for here_s, _ in later):.1f} s here; above that elsewhere, the first time {first - here:+.1f} s, "
        f"then {statistics.median(above):+.1f} s ({above[0]:+.1f} to {above[-1]:+.1f}, {rounds} rounds); the same dvc.lock each time",
        flush=True,
    )


def seconds(space: Path, stage: str, more: dict[str, str]) -> float:
    """Run a stage even if DVC considers it unchanged, and return the wall-clock seconds that it took."""
    command = [sys.executable, "-m", "flows.execution.dvc", "repro", "--force", "--single-item", stage]
    variables = workspaces.environment(space) | more
    start = time.perf_counter()
    done = subprocess.run(command, cwd=space, env=variables, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    if bool(more) != (f"on {more.get(environment.ON)}: " in done.stdout):
        sys.exit(f"{stage} ran where it should not:\n{done.stdout}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
