"""Recovery of work on a Ray cluster from kills at random moments: `python benchmarks/ray_kills.py [--kills 60] [--seed 0] [--work shards]`.

A cluster of two nodes of one core each runs on this machine. On it run the trials of a sweep, three trainings of profile `micro`, or
stage `ingest`, whose parts and blocks of texts are small, so that some forty go over the cluster. In each run two or three processes get
SIGKILL at random moments from which it should go on: a raylet, with which its node is lost, and processes of Ray in which a trial or a
shard is at work. In half of the runs one gets it from which it cannot: the trial's own process, the cluster's head, or the process that
asks, which is the sweep's or that of the stage. Then the same is run again, on a cluster that has two nodes. Moments are shares of the
CPU time that the nodes' workers take in an undisturbed run.

The kills of a run are recovered if all files of the workspace have the bytes that this machine makes without a cluster, MLflow has each
run as FINISHED once and none as RUNNING, the run ended as it should, and no process and no temporary file is left, on the nodes neither:
what a killed one left there, the next one has removed.

Each run is a line of `<folder>/kills.jsonl`; an interrupted benchmark resumes if code and options are the same. A workspace that did not
recover is kept in `<folder>/lost-<number>`. MLflow hears of the runs afterwards, from this process.
"""

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import ingest  # noqa: E402
import intact  # noqa: E402
import victims  # noqa: E402
import workspaces  # noqa: E402
from ray_victims import GONE_S, Clock, Nodes, Target, Work  # noqa: E402

from tasks.core import environment  # noqa: E402
from tasks.io.runs import spool_uploader  # noqa: E402
from tasks.io.system import progress  # noqa: E402

NAMES = {
    ("trials", "raylet"): "raylet of a node with a trial",
    ("trials", "worker"): "process of Ray that runs a trial",
    ("trials", "trial"): "the trial's own process",
    ("trials", "head"): "head, during trials",
    ("trials", "asker"): "the process of the sweep",
    ("shards", "raylet"): "raylet of a node with a shard",
    ("shards", "worker"): "process of Ray that works on a shard",
    ("shards", "head"): "head, during shards",
    ("shards", "asker"): "the process of the stage",
}
LAST: dict[Work, list[Target | None]] = {
    "trials": [None, None, None, "trial", "head", "asker"],
    "shards": [None, None, "head", "asker"],
}
"""The targets of the last kill in a run, each equally often."""
SWEEP = """
from flows.experiments.sweeps import axes, sweep
sweep.run(sweep.make(axes.read(["methods.adamw.learning_rate=0.001,0.003,0.01"]), tokens=1500), "nobody")
"""
OTHERS = """
from tasks import runner
runner.run_stage("pretrain", None)
runner.run_stage("faults", "r0")
"""
INGEST = ["-m", "tasks.run", "ingest"]
COMMANDS: dict[Work, list[str]] = {"trials": ["-c", SWEEP], "shards": INGEST}
STATES = {
    "shards": ("fresh", ["-m", "tasks.run", "fetch"]),
    "shards-alone": ("shards", INGEST),
    "trials": ("shards-alone", ["-c", OTHERS]),
    "trials-alone": ("trials", COMMANDS["trials"]),
}
"""Workspaces as work finds them and as this machine alone leaves them: which other they begin as, and what is run there."""
ROWS = 1_000
SMALL = {
    "tasks/io/sources/formats/blocks.py": ("\nBLOCK = ", "\nBLOCK = 20_000 # "),
    "tasks/stages/ingest/shards/collection.py": ("\nLARGE_BLOCK = ", "\nLARGE_BLOCK = 100 # "),
    "params.yaml": ("\n  corpora:", "\n    - {from: file, path: data/raw/rows.jsonl, domain: words}\n  corpora:"),
}
"""Edits of the workspace by which a few rows are many shards."""
COSTS = ("tokens_per_s", "peak_memory_mb")
"""Figures of a clock and of a machine."""
ALONE = {environment.PARENT_RUN: "nobody", "RATCHET_FORKSERVER": "0"}
"""Every stage and trial is a process of its own, and none starts an uploader."""
SCRATCH: dict[Work, str] = {"trials": "ratchet-trial-", "shards": "ratchet-part-"}
"""Beginning of the names of temporary folders on nodes."""
spool_uploader.LINGER_S = 0.2


class Bench:
    """The workspaces of this benchmark and its cluster."""

    def __init__(self, folder: Path, seed: int, work: Work | None) -> None:
        self.folder, self.seed, self.work = folder, seed, work
        self.nodes = Nodes(f"{os.getpid()}-nodes")
        self.basis = f"{workspaces.code_of(ROOT)} {seed} {work}"
        self._left: set[str] = set()
        self._costs: dict[Work, float] = {}

    def prepare(self) -> None:
        """Make the missing workspaces, and run the trials and the stage undisturbed on the cluster, for the CPU time."""
        states = self.folder / "states"
        code = workspaces.code_of(ROOT)
        if not (states / "code").exists() or (states / "code").read_text() != code:
            shutil.rmtree(states, ignore_errors=True)
            states.mkdir()
            _make(states / "fresh")
            (states / "code").write_text(code)
        for name, (before, command) in progress.track(
            STATES.items(), label="alone", total=len(STATES), unit="workspace"
        ):
            if not (states / name).exists():
                space = self._copy(before, f"partial-{name}")
                self._run(command, space, f"{os.getpid()}-alone")
                space.rename(states / name)
        for work, command in COMMANDS.items():
            note = states / f"{work}.json"
            if not note.exists():
                space = self._copy(work, f"undisturbed-{work}")
                seconds = self._run(command, space, f"{os.getpid()}-{work}", cluster=True)
                if problems := self._problems(work, space):
                    raise SystemExit(f"{work}, undisturbed: {'; '.join(problems)}")
                note.write_text(json.dumps(seconds))
                shutil.rmtree(space)
            self._costs[work] = json.loads(note.read_text())

    def run(self, number: int) -> dict[str, Any]:
        """Run, kill, run again, and return the result."""
        draw = random.Random(f"{self.seed} {number}")
        work: Work = self.work or draw.choice(["trials", "shards", "shards"])
        targets: list[Target] = ["worker"] * draw.randint(2, 3)
        if draw.random() < 0.5:  # one at most: without both nodes the run waits for another
            targets[draw.randrange(len(targets))] = "raylet"
        last = draw.choice(LAST[work])
        space, mark = self._copy(work, f"run-{number}"), f"{os.getpid()}-{number}"
        with victims.swept(mark):
            row = self._struck(work, [*targets, *([last] if last else [])], space, mark, draw)
            if row["code"]:
                row["problems"] += self._again(row, COMMANDS[work], space, mark)
            else:
                _tell_mlflow(space)
            row["problems"] += self._problems(work, space)
        if row["problems"]:
            shutil.rmtree(self.folder / f"lost-{number}", ignore_errors=True)
            space.rename(self.folder / f"lost-{number}")
        else:
            shutil.rmtree(space)
        return {"number": number, "work": work} | row

    def _struck(self, work: Work, targets: list[Target], space: Path, mark: str, draw: random.Random) -> dict[str, Any]:
        """Run, kill the targets one after the other, and wait until all processes of the run have ended."""
        kills: list[dict[str, Any]] = []
        below: set[int] = set()
        process = self._started(COMMANDS[work], space, mark, cluster=True)
        clock = Clock(self.nodes)
        for share, target in zip(sorted(draw.random() for _ in targets), targets, strict=True):
            begun, moment = time.monotonic(), share * self._costs[work]

            def victim() -> int | None:
                return self.nodes.victim(target, work, process.pid) if clock() >= moment else None  # noqa: B023

            def note(pid: int) -> bool:
                below.update(victims.below(pid))
                return True

            if victims.strike(process, victim, note, draw) is None:
                break  # the run was over before this moment
            kills.append({"target": NAMES[work, target], "share": round(share, 3)})
        begun = time.monotonic()
        code = process.wait(workspaces.PATIENCE_S)
        ended_s = time.monotonic() - begun
        problems = [f"outlived it by {GONE_S:.0f} s: {words}" for words in self._left_after(mark, below)]
        gone_s = time.monotonic() - begun - ended_s
        is_last = len(kills) == len(targets)
        stops = is_last and targets[-1] not in ("raylet", "worker")
        if code and not stops:
            problems.append(f"the run ended with {code}: {_last_lines(space)}")
        if stops and targets[-1] == "head":
            problems += [f"outlived the cluster: {words}" for words in self.nodes.close()]
            self._left = set()
        times = {"ended_s": round(ended_s, 1), "gone_s": round(gone_s, 1)}
        return {"kills": kills, "code": code, **times, "said": _last_lines(space), "problems": problems}

    def _left_after(self, mark: str, below: Iterable[int] = ()) -> list[str]:
        """Wait until no process of a run is left, here or on the nodes, nor a child of a killed process. Return those that are left."""
        deadline = time.monotonic() + GONE_S
        while True:
            left = self.nodes.at_work() | victims.marked(mark)
            left |= {pid: words for pid in below if (words := " ".join(victims.command(pid))) and "Agent" not in words}
            if not left or time.monotonic() > deadline:
                return sorted(left.values())
            time.sleep(0.3)

    def _again(self, row: dict[str, Any], command: list[str], space: Path, mark: str) -> list[str]:
        """Run the same once more, undisturbed, and return the problem if it fails."""
        begun = time.monotonic()
        try:
            self._run(command, space, mark, cluster=True)
        except RuntimeError as error:
            return [str(error)]
        finally:
            row["again_s"] = round(time.monotonic() - begun, 1)
        return []

    def _problems(self, work: Work, space: Path) -> list[str]:
        """Return the differences from a run on this machine alone."""
        alone = self.folder / f"states/{work}-alone"
        made, expected = _made(space), _made(alone)
        problems = [f"{path}: is missing" for path in expected.keys() - made.keys()]
        problems += [f"{path}: nobody should have left it" for path in made.keys() - expected.keys()]
        problems += [f"{path}: other bytes" for path in expected.keys() & made.keys() if made[path] != expected[path]]
        problems += [*intact.leftovers(space), *intact.runs(space, [])]
        if (there := _finished(space)) != (wanted := _finished(alone)):
            problems.append(f"MLflow: finished are {dict(there)}, not {dict(wanted)}")
        left, before = self.nodes.temporary, self._left
        self._left = left
        problems += [f"on a node: {name}: left over" for name in left if not name.startswith(tuple(SCRATCH.values()))]
        gone = {name for name in before if name.startswith(SCRATCH[work])}
        return problems + [f"on a node: {name}: the next one left it" for name in gone & left]

    def _run(self, command: list[str], space: Path, mark: str, *, cluster: bool = False) -> float:
        """Run without a kill, tell MLflow, and return the CPU seconds of the nodes' workers. Raises RuntimeError if it fails."""
        with victims.swept(mark):
            process = self._started(command, space, mark, cluster=cluster)
            seconds = 0.0
            clock = Clock(self.nodes) if cluster else float
            while process.poll() is None:
                seconds = clock()
                time.sleep(victims.PACE_S)
            if process.returncode:
                raise RuntimeError(f"exit code {process.returncode}: {_last_lines(space, 20)}")
            if left := self._left_after(mark) if cluster else []:
                raise RuntimeError(f"never ended: {'; '.join(left)}")
        _tell_mlflow(space)
        return seconds

    def _started(self, command: list[str], space: Path, mark: str, *, cluster: bool) -> "subprocess.Popen[bytes]":
        variables = {victims.MARK: mark, **ALONE} | ({environment.RAY: self.nodes.ready()} if cluster else {})
        with (self.folder / f"{space.name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=space, env=workspaces.environment(space) | variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _copy(self, state: str, name: str) -> Path:
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        return Path(shutil.copytree(self.folder / "states" / state, place, symlinks=True))


def _make(folder: Path) -> None:
    """Make a workspace in which no stage has run, with many small shards."""
    workspaces.copied(ROOT, "micro", folder)
    for name, (old, new) in SMALL.items():
        text = (folder / name).read_text()
        if old not in text:
            raise SystemExit(f"{name} has no {old.strip()!r} any more, by which a few rows are many shards")
        (folder / name).write_text(text.replace(old, new, 1))
    (folder / "data/raw").mkdir(parents=True, exist_ok=True)
    ingest.write(folder / "data/raw/rows.jsonl", ROWS)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)


def _tell_mlflow(space: Path) -> None:
    """Upload the runs of a workspace to its MLflow, as its uploader would, and close those of killed processes."""
    with ExitStack() as stack:
        stack.callback(os.chdir, Path.cwd())
        os.chdir(space)
        os.environ[environment.TRACKING_URI] = f"sqlite:///{space}/mlflow.db"
        spool_uploader.upload()


def _made(space: Path) -> dict[str, Any]:
    """Return the contents of a workspace by path: the bytes, without figures that depend on clock or machine."""
    folders = [space / ".ratchet" / name for name in ("compare", "cache")]
    paths = [*intact.files(space), *(path for folder in folders for path in folder.rglob("*") if path.is_file())]
    return {
        path.relative_to(space).as_posix(): _without_costs(path) if path.name == "result.json" else path.read_bytes()
        for path in paths
    }


def _without_costs(path: Path) -> dict[str, Any]:
    return {name: value for name, value in json.loads(path.read_text()).items() if name not in COSTS}


def _finished(space: Path) -> Counter[str]:
    """Return how many runs of each name MLflow has as FINISHED."""
    with closing(sqlite3.connect(space / "mlflow.db")) as store:
        return Counter(name for (name,) in store.execute("select name from runs where status = 'FINISHED'"))


def _last_lines(space: Path, number: int = 3) -> str:
    log = space.parent / f"{space.name}.log"
    return " | ".join(log.read_text(errors="replace").splitlines()[-number:])


def table(rows: list[dict[str, Any]]) -> str:
    """Format the kills tried, recovered and lost, by target."""
    tried, lost = Counter[str](), Counter[str]()
    for row in rows:
        names = [kill["target"] for kill in row["kills"]]
        tried.update([*names, *["all"] * len(names)])
        lost.update([*names, *["all"] * len(names)] if row["problems"] else [])
    lines = ["| killed | tried | recovered | lost |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {tried[name]} | {tried[name] - lost[name]} | {lost[name]} |" for name in [*NAMES.values(), "all"]
    ]
    went_on = sum(row["code"] == 0 for row in rows)
    spreads = []
    for name in "ended_s", "gone_s":
        durations = sorted(row[name] for row in rows)
        spreads.append(f"{durations[len(durations) // 2]:.0f} s (longest {durations[-1]:.0f})")
    lines += [
        "",
        f"{len(rows)} runs, of which {went_on} went on to their end; they ended {spreads[0]} after their last kill, and the last of their "
        f"processes {spreads[1]} later.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Kill, print the table, and return 1 if a kill was not recovered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", choices=list(COMMANDS), help="kill during nothing else")
    parser.add_argument("--folder", type=Path, default=Path(".ratchet/ray-kills"))
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    kept = folder / "kills.jsonl"
    bench = Bench(folder, options.seed, options.work)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    rows = [row for row in rows if row["basis"] == bench.basis]
    try:
        bench.prepare()
        while (done := sum(len(row["kills"]) for row in rows)) < options.kills:
            progress.say(f"{done} of {options.kills} kills")
            rows.append(row := bench.run(len(rows)) | {"basis": bench.basis})
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            for problem in row["problems"]:
                progress.say(f"run {row['number']} ({', '.join(kill['target'] for kill in row['kills'])}): {problem}")
    finally:
        bench.nodes.close()
    print(table(rows))
    return int(any(row["problems"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
