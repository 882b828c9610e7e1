"""Overhead of flows and of stages: `python benchmarks/overhead.py [--profile tiny] [--rounds 5] [--stage tune@r0]`.

In a workspace in which every stage is done, all outputs are removed and restored from DVC's cache by `dvc repro` and by `ratchet run`
in turn, with a Prefect server that runs already. No stage runs, so the difference is the overhead; printed per stage, as the median of
paired differences with their range. Then the same when nothing is to be done. CPU seconds are printed beside wall-clock seconds, which
mean little on a busy machine; so is the load.

Then one stage is run again in a child of a fork server, in a process of its own, and `import torch` is timed, in turn: CPU seconds,
the work of the stage included, so that profile `micro` shows the start. The workspace is made once, in the folder that
`benchmarks/chaos.py` uses.
"""

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import intact  # noqa: E402
import victims  # noqa: E402
import workspaces  # noqa: E402

from flows.execution import ports, prefect_server, supervisor  # noqa: E402
from tasks.forkserver import client, protocol  # noqa: E402

DRIVERS = {"dvc repro": ["dvc", "repro", "--quiet"], "ratchet run": ["flows.commands", "run"]}
Seconds = tuple[float, float]
"""Wall-clock and CPU seconds."""


def take_away(folder: Path) -> None:
    """Remove every output of a stage."""
    for entry in intact.entries(folder).values():
        for out in entry.get("outs", []):
            path = folder / out["path"]
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> Seconds:
    """Run a command and return its time, without processes that outlive it."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def paired(
    rounds: int, prepare: Callable[[], None], run: Callable[[list[str]], Seconds]
) -> list[tuple[Seconds, Seconds]]:
    """Time both drivers in turn, each first in every other round; return pairs of bare and flow."""
    pairs = []
    for number in range(rounds):
        taken = {}
        for name in DRIVERS if number % 2 == 0 else reversed(DRIVERS):
            prepare()
            taken[name] = run(DRIVERS[name])
        pairs.append((taken["dvc repro"], taken["ratchet run"]))
    return pairs


def per_stage(pairs: list[tuple[Seconds, Seconds]], stages: int) -> str:
    """Format the flow's overhead per stage, in wall-clock and CPU seconds: median and range."""
    parts = []
    for kind, words in enumerate(("s", "s of CPU")):
        above = sorted((flow[kind] - bare[kind]) / stages for bare, flow in pairs)
        parts.append(f"{statistics.median(above):.2f} ({above[0]:.2f} to {above[-1]:.2f}) {words}")
    return ", ".join(parts)


@contextlib.contextmanager
def fork_server(folder: Path, environment: dict[str, str]) -> Iterator[int]:
    """Serve a workspace within the block; the server's pid."""
    process = subprocess.Popen(client.command(os.getpid()), cwd=folder, env=environment)
    try:
        while not client.answers(os.path.relpath(folder / protocol.SOCKET)):  # the path of a socket may have 107 bytes
            if process.poll() is not None:
                sys.exit(f"the fork server ended with exit code {process.returncode}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def stage_starts(folder: Path, environment: dict[str, str], stage: str, rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each round of a stage in a child of a fork server, in its own process, and of `import torch`."""
    run = ["-m", "tasks.run", *stage.split("@")]
    seconds: dict[str, list[float]] = {
        "in a child of the fork server": [],
        "in its own process": [],
        "import torch": [],
    }
    with fork_server(folder, environment) as server:
        for _ in range(rounds):
            before = victims.work_s([server])  # the seconds of its ended children are among them
            client_s = _cpu_s(run, folder, environment)
            seconds["in a child of the fork server"].append(victims.work_s([server]) - before + client_s)
            seconds["in its own process"].append(_cpu_s(run, folder, environment | {protocol.SWITCH: "0"}))
            seconds["import torch"].append(_cpu_s(["-c", "import torch"], folder, environment))
    return seconds


def _cpu_s(arguments: list[str], folder: Path, environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stage", default="tune@r0", help="the stage whose start is timed")
    options = parser.parse_args()
    folder = (Path(".ratchet/chaos") / options.profile).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    process, url = prefect_server.start(ports.free_port(), ui=False)
    try:
        states = workspaces.States(folder, ROOT, options.profile, None, None, lambda: url)
        space = folder / "overhead"
        states.copy(len(states.order), space)
        environment = workspaces.environment(space) | {"PREFECT_API_URL": url}
        restoring = paired(options.rounds, lambda: take_away(space), lambda command: timed(command, space, environment))
        nothing = paired(options.rounds, lambda: None, lambda command: timed(command, space, environment))
        starts = stage_starts(space, environment, options.stage, options.rounds)
        shutil.rmtree(space)
    finally:
        supervisor.stop([process])
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {options.rounds} rounds; {len(states.order)} stages"
    )
    print(f"restoring every stage, above bare `dvc repro`, per stage: {per_stage(restoring, len(states.order))}")
    print(f"where nothing is to be done, above bare `dvc repro`: {per_stage(nothing, 1)}")
    for name, place in (("bare", 0), ("flow", 1)):
        print(f"  {name} alone: {statistics.median(pair[place][0] for pair in nothing):.2f} s, "
              f"{statistics.median(pair[place][1] for pair in nothing):.2f} s of CPU")  # fmt: skip
    for name, taken in starts.items():
        lowest, highest = min(taken), max(taken)
        print(f"{options.stage}, {name}: {statistics.median(taken):.2f} ({lowest:.2f} to {highest:.2f}) s of CPU")


if __name__ == "__main__":
    main()
