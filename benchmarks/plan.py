"""Accuracy of `ratchet plan`: `python benchmarks/plan.py FOLDER [TRIALS] [SEED]`.

Makes a workspace with the graph, the code and the settings of profile `micro` in FOLDER, in which every stage only writes a digest of
its inputs (`stand_in.py`), and brings it up to date. Every trial makes one to three random edits: a setting, a file of data/raw, a
declared file of code, an output; or it reverts the edits. The plan's prediction for each stage is compared with what `dvc repro` then
does. Trials are kept in FOLDER/trials.jsonl; an interrupted benchmark resumes as long as the code is the same. The prediction
`may change` is always right, so the share of definite predictions is printed beside the share of right ones.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import workspaces  # noqa: E402

from flows.execution.dvc import forecast  # noqa: E402  # the path comes first, where this runs as a script
from tasks.core import statistics  # noqa: E402

SETTINGS: dict[str, list[object]] = {
    "ingest.seed": [0, 1],
    "tune.seed": [0, 1, 2],
    "tune.max_tokens": [1500, 2000],
    "methods.adamw.learning_rate": [0.003, 0.002],
    "diagnose.seed": [0, 1],
    "refine.seed": [0, 1],
    "compress.valid_tokens": [500, 1000],
    "report.general_margin": [0.05, 0.06],
    "gate.alpha": [0.05, 0.04],
    "evaluate.text_tokens": [500, 400],  # no stage of the profile reads it
}
POSSIBLE = {
    "run": {"run"},
    "restored": {"restored"},
    "unchanged": {"unchanged"},
    "may change": {"run", "restored", "unchanged"},
}
SAID = {"run": "Running stage '{}':", "restored": "Stage '{}' is cached", "unchanged": "Stage '{}' didn't change"}


def main(folder: Path, trials: int, seed: int) -> None:
    """Run the missing trials, and print how often the plan was right."""
    folder.mkdir(parents=True, exist_ok=True)
    workspace = folder / "workspace"
    code, ready = workspaces.code_of(ROOT), workspace / "ready"
    if not ready.is_file() or ready.read_text() != code:
        _make(workspace)
        ready.write_text(code)
    os.chdir(workspace)
    log = folder / "trials.jsonl"
    known = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    known = [trial for trial in known if (trial["seed"], trial.get("code")) == (seed, code)]
    if len(known) < trials:
        _repro()  # an interrupted trial ends here, uncounted
    for number in tqdm(range(len(known), trials), desc="edits", initial=len(known), total=trials):
        known.append(_trial(workspace, seed, number) | {"code": code})
        with log.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(known[-1]) + "\n")
    print(verdict(known[:trials]))


def verdict(trials: list[dict]) -> str:
    """Format how often all stages of an edit, and single stages, became what was predicted, with exact 95 % intervals."""
    stages = [stage for trial in trials for stage in trial["stages"]]
    moved = [row for row in stages if (row["foretold"], row["became"]) != ("unchanged", "unchanged")]
    definite = [row for row in moved if row["foretold"] != "may change"]
    lines = [
        ("edits of which every stage became what was foretold", [trial["right"] for trial in trials]),
        ("stages foretold rightly", [row["right"] for row in stages]),
        ("of those that were to move: foretold as one thing", [row in definite for row in moved]),
        ("of these: rightly", [row["right"] for row in definite]),
    ]
    return "\n".join(_line(*line) for line in lines)


def _line(what: str, right: list[bool]) -> str:
    estimate = statistics.proportion(sum(right), len(right))
    share = f"{100 * estimate.value:5.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{what:<52} {sum(right):>5} of {len(right):>5} = {share}"


def _trial(workspace: Path, seed: int, number: int) -> dict:
    draw = random.Random(f"{seed}/{number}")
    edits = [draw.choice(EDITS)(workspace, draw) for _ in range(draw.randint(1, 3))]
    foretold = {step.stage: (step.state, step.why) for step in forecast.plan()}
    said = _repro()
    stages = []
    for stage, (state, why) in foretold.items():
        (became,) = [what for what, words in SAID.items() if words.format(stage) in said]
        # An input that another stage has yet to make may turn out to be one that is in the cache.
        possible = POSSIBLE[state] | ({"restored"} if any(reason.endswith("may change") for reason in why) else set())
        stages.append({"stage": stage, "foretold": state, "became": became, "right": became in possible, "why": why})
    return {
        "seed": seed,
        "number": number,
        "edits": edits,
        "right": all(row["right"] for row in stages),
        "stages": stages,
    }


def _make(workspace: Path) -> None:
    """Copy the repository's files under a git and DVC of their own, with profile `micro` in use and up to date."""
    workspaces.copied(ROOT, "micro", workspace)
    shutil.copyfile(ROOT / "benchmarks/stand_in.py", workspace / "tasks/run.py")
    for command in (["git", "init", "--quiet"], ["git", "add", "."]):
        subprocess.run(command, cwd=workspace, check=True)
    commit = ["git", "-c", "user.name=plan", "-c", "user.email=plan@localhost", "commit", "--quiet", "-m", "start"]
    subprocess.run(commit, cwd=workspace, check=True)
    os.chdir(workspace)
    Path("stand_in.json").write_text(json.dumps(_entries()))
    _repro()


def _entries() -> dict[str, dict[str, list[str]]]:
    """Return the inputs and outputs of each stage; for an output folder, the files that other stages read, or one file."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        stages = list(repo.index.graph)
        read = {str(dep) for stage in stages for dep in stage.deps}
        entries = {}
        for stage in stages:
            files = [file for out in map(str, stage.outs) for file in _files_of(out, read)]
            config = [name for dep in stage.deps for name in getattr(dep, "params", None) or []]
            deps = [str(dep) for dep in stage.deps if not getattr(dep, "params", None)]
            entries[stage.addressing] = {"deps": deps, "params": config, "files": files}
        return entries


def _files_of(out: str, read: set[str]) -> list[str]:
    inside = sorted(path for path in read if path.startswith(f"{out}/"))
    return [out] if Path(out).suffix else inside or [f"{out}/made.txt"]


def _repro() -> str:
    """Run `dvc repro` and return its output."""
    environment = os.environ | {
        "PYTHONPATH": str(Path.cwd()),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return done.stdout


def _setting(workspace: Path, draw: random.Random) -> str:
    name = draw.choice(list(SETTINGS))
    params = workspace / "params.yaml"
    tree = yaml.safe_load(params.read_text())
    section = tree
    *way, last = name.split(".")
    for part in way:
        section = section[part]
    value = draw.choice([value for value in SETTINGS[name] if value != section.get(last)])
    section[last] = value
    params.write_text(yaml.safe_dump(tree, sort_keys=False))
    return f"{name} = {value}"


def _data(workspace: Path, draw: random.Random) -> str:
    file = workspace / "data/raw" / draw.choice(["notes.txt", "more/notes.txt"])
    if file.exists() and draw.random() < 0.4:
        file.unlink()
        return f"removed {file.name}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{draw.randrange(3)}\n")
    return f"wrote {file.relative_to(workspace)}"


def _code(workspace: Path, draw: random.Random) -> str:
    """Add a comment to a file that some stage declares: the stage runs again and writes the same outputs."""
    stages = yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]
    files = sorted({dep["path"] for entry in stages.values() for dep in entry["deps"] if dep["path"].endswith(".py")})
    file = workspace / draw.choice(files)
    file.write_text(file.read_text() + f"# {draw.randrange(2)}\n")
    return f"edited {file.relative_to(workspace)}"


def _output(workspace: Path, draw: random.Random) -> str:
    stages = yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]
    path = workspace / draw.choice(sorted(out["path"] for entry in stages.values() for out in entry["outs"]))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return f"removed {path.relative_to(workspace)}"


def _touch(workspace: Path, draw: random.Random) -> str:
    os.utime(workspace / "data/review_decisions.jsonl")
    return "touched data/review_decisions.jsonl"


def _back(workspace: Path, draw: random.Random) -> str:
    subprocess.run(["git", "checkout", "--quiet", "--", "params.yaml", "tasks"], cwd=workspace, check=True)
    for file in (workspace / "data/raw").rglob("notes.txt"):
        file.unlink()
    return "took all edits of settings, code and data back"


EDITS: list[Callable[[Path, random.Random], str]] = [
    _setting,
    _setting,
    _setting,
    _code,
    _code,
    _data,
    _output,
    _back,
    _touch,
]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("trials", type=int, nargs="?", default=100)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    options = parser.parse_args()
    main(options.folder.resolve(), options.trials, options.seed)
