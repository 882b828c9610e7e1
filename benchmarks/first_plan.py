"""The first `ratchet plan` against the run: `python benchmarks/first_plan.py FOLDER [PROFILE …]` (`tiny`, and that of params.yaml).

For each profile a fresh workspace is made in FOLDER, planned, and run once. The middle of each estimate (the geometric mean of its
two ends) is compared with the seconds that MLflow recorded, stage by stage and in all. `machine_speed.json` is measured anew.

Estimates are for an idle machine. The CPU time of the whole run is printed beside its clock: where the clock runs on for much longer
than the CPU time divided by the cores, other work was in the way, and stages took longer than they do alone.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import workspaces  # noqa: E402

from tasks.io.runs import past_runs  # noqa: E402  # the path comes first, where this runs as a script

ACCURATE = 2.0
"""The factor within which an estimate counts as right."""


def main(folder: Path, profiles: list[str]) -> None:
    """Plan and run each profile, and print estimates beside the measured times."""
    for profile in profiles:
        workspace = folder / profile
        if not (workspace / "run.json").is_file():
            _measure(profile, workspace)
        print(verdict(profile, json.loads((workspace / "run.json").read_text())))


def _measure(profile: str, workspace: Path) -> None:
    """Make a workspace, plan it, run it, and keep the figures in `run.json`."""
    workspaces.copied(ROOT, profile, workspace)
    subprocess.run(["git", "init", "--quiet"], cwd=workspace, check=True)
    shutil.rmtree(workspace / "cache", ignore_errors=True)
    environment = workspaces.environment(workspace) | {"XDG_CACHE_HOME": str(workspace / "cache")}
    start = time.perf_counter()
    planned = json.loads(_ratchet(workspace, environment, "plan", "--json"))
    figures = {"plan_s": time.perf_counter() - start, "load": os.getloadavg()[0], "planned": planned}
    start, cpu = time.perf_counter(), _cpu_seconds()
    _ratchet(workspace, environment, "run")
    figures |= {"clock_s": time.perf_counter() - start, "cpu_s": _cpu_seconds() - cpu}
    figures["recorded"] = _recorded(workspace, [stage["stage"] for stage in planned["stages"]])
    (workspace / "run.json").write_text(json.dumps(figures, indent=1) + "\n")


def _ratchet(workspace: Path, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "flows.commands", *arguments]
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return done.stdout


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _recorded(workspace: Path, stages: list[str]) -> dict[str, float]:
    """Return the mean seconds of the items of each stage, as MLflow recorded them."""
    os.chdir(workspace)
    past = past_runs.past(dict.fromkeys(stage.partition("@")[0] for stage in stages))
    return {stage: sum(run.seconds for run in runs) / len(runs) for stage, runs in past.items() if runs}


def verdict(profile: str, figures: dict) -> str:
    """Format the estimate of each stage beside its measured time."""
    items = Counter(stage["stage"].partition("@")[0] for stage in figures["planned"]["stages"])
    estimates = {stage["stage"].partition("@")[0]: stage["estimate"] for stage in figures["planned"]["stages"]}
    rows, totals = [], [0.0, 0.0]
    for name, count in items.items():
        took, estimate = figures["recorded"].get(name), estimates[name]
        if took is None or estimate is None:
            rows.append(f"  {name:<10} {count:>2} ×  not estimated, or taken over from another item")
            continue
        middle = math.sqrt(estimate["seconds"]["low"] * estimate["seconds"]["high"])
        totals = [totals[0] + count * middle, totals[1] + count * took]
        rows.append(f"  {name:<10} {count:>2} ×  {_line(middle, took)}")
    head = (
        f"{profile}: planned in {figures['plan_s']:.1f} s (load {figures['load']:.1f}); the run took {figures['clock_s']:.0f} s by the "
        f"clock and {figures['cpu_s']:.0f} s of CPU time on {os.cpu_count()} cores"
    )
    return "\n".join([head, *rows, f"  {'in all':<15}  {_line(*totals)}"])


def _line(estimate: float, took: float) -> str:
    ratio = estimate / took
    right = "within a factor of two" if 1 / ACCURATE <= ratio <= ACCURATE else ""
    return f"{estimate:>7.1f} s foretold, {took:>7.1f} s taken, {ratio:>5.2f} times  {right}".rstrip()


def default_profile() -> str:
    """Return the profile that params.yaml of this repository equals."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    return next(
        path.stem for path in sorted((ROOT / "params").glob("*.yaml")) if yaml.safe_load(path.read_text()) == params
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("profiles", nargs="*")
    options = parser.parse_args()
    main(options.folder.resolve(), options.profiles or ["tiny", default_profile()])
