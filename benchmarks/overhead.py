"""What the flow costs beyond bare `dvc repro`: `python benchmarks/overhead.py [--profile tiny] [--rounds 5]`.

In a workspace in which every stage is done, all outputs are taken away, and are brought back from DVC's cache by `dvc repro` and by
`ratchet run` in turn, with a Prefect server that runs already: what the stages themselves cost is the same for both and is left
out, and what remains is told per stage, as the median of paired differences with their range. Then the same where nothing is to be
done. CPU seconds stand beside those of the clock, which mean little on a busy machine; the load is told. The workspace is made once, in
the folder that `benchmarks/chaos.py` uses.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import intact  # noqa: E402
import workspaces  # noqa: E402

from flows import server, supervisor  # noqa: E402

DRIVERS = {"dvc repro": ["dvc", "repro", "--quiet"], "ratchet run": ["flows.commands", "run"]}
Seconds = tuple[float, float]
"""By the clock, and of CPU."""


def take_away(folder: Path) -> None:
    """Remove every output that a stage made."""
    for entry in intact.entries(folder).values():
        for out in entry.get("outs", []):
            path = folder / out["path"]
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> Seconds:
    """What a command takes; that of processes which outlive it is not counted."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def paired(
    rounds: int, prepare: Callable[[], None], run: Callable[[list[str]], Seconds]
) -> list[tuple[Seconds, Seconds]]:
    """Both drivers in turn, each first in every other round: bare, flow."""
    found = []
    for number in range(rounds):
        taken = {}
        for name in DRIVERS if number % 2 == 0 else reversed(DRIVERS):
            prepare()
            taken[name] = run(DRIVERS[name])
        found.append((taken["dvc repro"], taken["ratchet run"]))
    return found


def told(pairs: list[tuple[Seconds, Seconds]], stages: int) -> str:
    """The median of what the flow takes above bare, per stage, by the clock and of CPU, with the range."""
    parts = []
    for kind, words in enumerate(("s", "s of CPU")):
        above = sorted((flow[kind] - bare[kind]) / stages for bare, flow in pairs)
        parts.append(f"{statistics.median(above):.2f} ({above[0]:.2f} to {above[-1]:.2f}) {words}")
    return ", ".join(parts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = (Path(".ratchet/chaos") / options.profile).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    process, url = server.start(server.free_port(), ui=False)
    try:
        states = workspaces.States(folder, ROOT, options.profile, None, None, lambda: url)
        space = folder / "overhead"
        states.copy(len(states.order), space)
        environment = workspaces.environment(space) | {"PREFECT_API_URL": url}
        everything = paired(
            options.rounds, lambda: take_away(space), lambda command: timed(command, space, environment)
        )
        nothing = paired(options.rounds, lambda: None, lambda command: timed(command, space, environment))
        shutil.rmtree(space)
    finally:
        supervisor.stop([process])
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {options.rounds} rounds; {len(states.order)} stages"
    )
    print(f"restoring every stage, above bare `dvc repro`, per stage: {told(everything, len(states.order))}")
    print(f"where nothing is to be done, above bare `dvc repro`: {told(nothing, 1)}")
    for name, place in (("bare", 0), ("flow", 1)):
        print(f"  {name} alone: {statistics.median(pair[place][0] for pair in nothing):.2f} s, "
              f"{statistics.median(pair[place][1] for pair in nothing):.2f} s of CPU")  # fmt: skip


if __name__ == "__main__":
    main()
