"""Kill it anywhere, run it again, get the same bytes: `python benchmarks/chaos.py [--profile micro] [--kills 200] [--seed 0]`.

Each kill has a workspace of its own, in which the stages before are done as `dvc repro` leaves them. A run of the next one to three
stages is started, by `dvc repro`, by `ratchet run`, or as a run of the deployment; one of its processes gets SIGKILL at a random
moment: the stage, its DVC, the supervisor between DVC and flow, the flow, the worker (`ratchet up`), or the Prefect server, which
`ratchet up` starts again. Moments are shares of the CPU time that an undisturbed run takes, so that they mean the same on a busy
machine. When nothing of that run is left, the same is run again. A kill is recovered from where this leaves the entries in `dvc.lock`
and the bytes of an undisturbed run, no process, no temporary or torn file, a cache whose objects are what their names say, and no
MLflow run that reads RUNNING.

`--inside tune@r0` kills that stage's processes while it trains, and nothing else. `--driver dvc` leaves Prefect out. What a kill came to is a line of
`<folder>/kills.jsonl`; a benchmark that was broken off goes on where it was, as long as code and options are the same. What was
lost is kept in `<folder>/lost-<number>`.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import intact  # noqa: E402
import victims  # noqa: E402
import workspaces  # noqa: E402

from flows import server, supervisor  # noqa: E402
from tasks.io import progress  # noqa: E402
from tasks.run import WORK  # noqa: E402

Target = Literal["stage", "dvc", "supervisor", "flow", "worker", "server"]
SHARES: dict[Target, int] = {"stage": 7, "dvc": 6, "supervisor": 3, "flow": 2, "worker": 1, "server": 1}
"""Of twenty kills in a row, whose they are."""
DRIVERS = {
    "stage": ("dvc", "dvc", "flow"),
    "dvc": ("dvc", "dvc", "flow"),
    "flow": ("flow", "deployment"),
    "worker": ("deployment",),
    "server": ("flow", "deployment"),
}
ATTEMPTS = 5
"""How often a kill is tried again where the run was over before its moment came."""
GONE_S = 35.0
"""The longest that anything of a run may outlive its kill. A server is started again and the run goes on, so its kill has no such end."""
TORN = re.compile(r"dvc\.lock' (is invalid|validation failed)|structure is corrupted|RWLock-file .* format error")
"""What plain DVC may say when it refuses to start: a file was torn. It mends none; `ratchet tidy` does."""


@dataclass(frozen=True)
class Kill:
    """One process to kill, and when."""

    number: int
    target: Target
    driver: Literal["dvc", "flow", "deployment"]
    first: int
    """The first stage that runs, by its place in the plan."""
    stages: tuple[str, ...]
    victim: str
    """The stage whose process, DVC or supervisor is meant."""
    share: float
    """Of the undisturbed run's CPU time."""

    @property
    def command(self) -> list[str]:
        """What drives the run, for `python -m`."""
        return {
            "dvc": ["dvc", "repro", *self.stages],
            "flow": ["flows.commands", "run", *self.stages],
            "deployment": ["flows.commands", "up"],
        }[self.driver]


def drawn(number: int, attempt: int, options: argparse.Namespace, order: list[str]) -> tuple[Kill, random.Random]:
    """Kill `number` of this seed, and the source of what else is random in it."""
    seed = f"{options.seed} {options.profile} {options.inside}"
    able = {t: DRIVERS.get(t, ("flow",)) for t in SHARES if not options.inside or t not in ("worker", "server")}
    able = {t: [one for one in ways if options.driver in (None, one)] for t, ways in able.items()}
    turns = [t for t, share in SHARES.items() for _ in range(share) if able.get(t)]
    random.Random(f"{seed} {number // len(turns)}").shuffle(turns)
    draw = random.Random(f"{seed} {number} {attempt}")
    target: Target = options.only or turns[number % len(turns)]
    driver = draw.choice(able[target])
    first = order.index(options.inside) if options.inside else draw.randrange(len(order))
    stages = tuple(order[first : first + (1 if options.inside else draw.choice((1, 1, 2, 3)))])
    return Kill(number, target, driver, first, stages, draw.choice(stages), draw.random()), draw


class Bench:
    """The workspaces of this benchmark, and the Prefect server that their flows share."""

    states: workspaces.States
    basis: str
    """What kills must have in common to stand in one table: the code, and how they are drawn."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self._server: subprocess.Popen[bytes] | None = None
        self._url = ""

    def prepare(self) -> None:
        """Make what is not there yet."""
        options, folder = self.options, self.folder
        self.states = workspaces.States(folder, ROOT, options.profile, options.stages, options.inside, self.url)
        chosen = {name: getattr(options, name) for name in ("profile", "seed", "stages", "inside", "driver", "only")}
        self.basis = f"{self.states.code} {json.dumps(chosen)}"

    def url(self) -> str:
        """The address of the shared server, which is started where it is gone."""
        if self._server is None or self._server.poll() is not None or not server.answers(self._url):
            self.close()
            os.environ["PREFECT_HOME"] = str(self.folder / "prefect")
            server.PATIENCE_S = 3600.0  # however busy the machine is
            self._server, self._url = server.start(server.free_port(), ui=False)
        return self._url

    def close(self) -> None:
        """End the shared server."""
        if self._server is not None:
            supervisor.stop([self._server])

    def environment(self, folder: Path, mark: str, *, prefect: bool) -> dict[str, str]:
        """That of a user in this workspace, with our mark."""
        shared = {"PREFECT_API_URL": self.url()} if prefect else {}
        return workspaces.environment(folder) | shared | {victims.MARK: mark}

    def kill(self, number: int) -> dict[str, Any]:
        """What became of kill `number`."""
        for attempt in range(ATTEMPTS):
            kill, draw = drawn(number, attempt, self.options, self.states.order)
            mark = f"{os.getpid()}-{number}-{attempt}"
            space = self.folder / f"kill-{number}"
            self.states.copy(kill.first, space)
            with victims.swept(mark):
                struck = self._strike(kill, space, mark, draw)
                if struck is None:
                    continue
                again = self._again(kill, space, mark)
                row = vars(kill) | struck | again | {"problems": [*_stayed(kill, struck), *again["problems"]]}
            if row["problems"]:
                shutil.rmtree(self.folder / f"lost-{number}", ignore_errors=True)
                space.rename(self.folder / f"lost-{number}")
            else:
                shutil.rmtree(space)
            return row
        return vars(kill) | {"problems": [f"the run was over before its moment in {ATTEMPTS} attempts"]}

    def _strike(self, kill: Kill, space: Path, mark: str, draw: random.Random) -> dict[str, Any] | None:
        """Run, kill, and wait until nothing is left of the run."""
        with self._started(kill, space, mark) as process:
            zero = victims.work_s(process.pid)
            pid = victims.strike(process, *self._plan(kill, space, process, zero), draw)
            if pid is None:
                return None
            start = time.monotonic()
            if kill.driver == "deployment" and kill.target != "worker":
                self._close_when_idle(process)
            left = victims.gone(mark, workspaces.PATIENCE_S, carrier=False)
            said = (space.parent / f"{space.name}.log").read_text(errors="replace").splitlines()
            return {
                "code": process.poll() if left else process.wait(),  # DVC takes one that nobody has waited for as alive
                "gone_s": round(time.monotonic() - start, 1),
                "left": sorted(left.values()),
                "said": said[-3:],
                "checkpoint": any((space / WORK).glob("*/*/checkpoint-*")),
            }

    def _close_when_idle(self, process: "subprocess.Popen[bytes]") -> None:
        """A worker outlives what was killed: it is told to end once the run is over."""
        deadline = time.monotonic() + workspaces.PATIENCE_S
        while victims.find(process.pid, victims.is_flow) is not None and time.monotonic() < deadline:
            time.sleep(victims.PACE_S)
        process.terminate()

    @contextmanager
    def _started(self, kill: Kill, space: Path, mark: str) -> "Iterator[subprocess.Popen[bytes]]":
        environment = self.environment(space, mark, prefect=kill.driver == "flow")
        if kill.driver == "deployment":
            environment["PREFECT_SERVER_API_PORT"] = str(server.free_port())
        log = space.parent / f"{space.name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *kill.command],
                cwd=space, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        if kill.driver == "deployment":
            workspaces.asked(workspaces.deployed(log, process, environment["PREFECT_SERVER_API_PORT"]), kill.stages)
        yield process
        process.poll()

    def _plan(
        self, kill: Kill, space: Path, process: "subprocess.Popen[bytes]", zero: float
    ) -> tuple[Callable[[], int | None], Callable[[int], bool]]:
        """How the victim is found, and whether its moment has come."""
        costs = self.states.costs
        root = process.pid
        whole = sum(costs[stage].dvc for stage in kill.stages)
        if kill.driver != "dvc":
            whole += self.states.flow().dvc
        found: dict[str, Callable[[], int | None]] = {
            "stage": lambda: victims.find(root, lambda words: victims.is_stage(words, kill.victim)),
            "dvc": lambda: (
                root if kill.driver == "dvc" else victims.find(root, lambda w: victims.is_dvc(w, kill.victim))
            ),
            "supervisor": lambda: victims.find(root, lambda words: victims.is_supervisor(words, kill.victim)),
            "flow": lambda: root if kill.driver == "flow" else victims.find(root, victims.is_flow),
            "worker": lambda: root,
            "server": lambda: victims.find(self._serving(kill, root), victims.is_server),
        }
        if self.options.inside:
            return found[kill.target], self._while_training(kill, space, root)
        own = {"stage": costs[kill.victim].stage, "supervisor": costs[kill.victim].dvc}
        if kill.target == "dvc" and kill.driver == "flow":
            own["dvc"] = costs[kill.victim].dvc
        moment = kill.share * own.get(kill.target, whole)
        if kill.target in own:
            return found[kill.target], lambda pid: victims.work_s(pid) >= moment
        return found[kill.target], lambda _pid: victims.work_s(root) - zero >= moment

    def _serving(self, kill: Kill, root: int) -> int:
        """A process above the Prefect server that a run has to do with."""
        return self._server.pid if self._server and kill.driver == "flow" else root

    def _while_training(self, kill: Kill, space: Path, root: int) -> Callable[[int], bool]:
        moment, begun = kill.share * self.states.costs[kill.victim].training, [0.0]

        def far_enough(_pid: int) -> bool:
            stage = victims.find(root, lambda words: victims.is_stage(words, kill.victim))
            if stage is None or not any((space / WORK / kill.victim).glob("*")):
                return False
            begun[0] = begun[0] or victims.work_s(stage)
            return victims.work_s(stage) - begun[0] >= moment

        return far_enough

    def _again(self, kill: Kill, space: Path, mark: str) -> dict[str, Any]:
        """Run the same once more, undisturbed, and look at what is there."""
        start = time.monotonic()
        repro, tidy = ["dvc", "repro", *kill.stages], ["flows.commands", "tidy"]
        by_dvc = kill.driver == "dvc" and (self.options.driver == "dvc" or kill.number % 2)
        # Where plain DVC refuses, a person tidies first; in order of the plan the lock is after tidying.
        ways = [[repro, tidy], [tidy, repro, tidy]] if by_dvc else [[["flows.commands", "run", *kill.stages]]]
        refusals: list[str] = []
        for commands in ways:
            failed = next(filter(None, (self._failure(command, space, mark) for command in commands)), "")
            if not failed:
                break
            refusals.append(failed)
            if not TORN.search(failed):
                break
        problems = [f"never ended: {line}" for line in victims.gone(mark, workspaces.PATIENCE_S).values()]
        if failed:
            problems.append(failed)
        else:
            problems += intact.problems(space, self.states.last, kill.stages, self.states.order)
        seconds = round(time.monotonic() - start, 1)
        return {"again": commands[-1][0], "refusals": refusals, "again_s": seconds, "problems": problems}

    def _failure(self, command: list[str], space: Path, mark: str) -> str:
        """What a command said where it failed; empty where it did not."""
        environment = self.environment(space, mark, prefect=command[1] == "run")
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=space, env=environment, capture_output=True, text=True
        )
        return f"{' '.join(command)} failed: {(done.stdout + done.stderr)[-2000:]}" if done.returncode else ""


def _stayed(kill: Kill, struck: dict[str, Any]) -> list[str]:
    """What outlived a kill for too long."""
    if struck["left"]:
        return [f"outlived it by {workspaces.PATIENCE_S:.0f} s: {line}" for line in struck["left"]]
    slow = kill.target != "server" and struck["gone_s"] > GONE_S
    return [f"gone only {struck['gone_s']:.0f} s after it"] if slow else []


def table(rows: list[dict[str, Any]]) -> str:
    """Kills tried, recovered from and lost, by what was killed."""
    lines = [
        "| killed | tried | recovered | lost | gone after, s (median, longest) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for target in [*SHARES, "all"]:
        some = [row for row in rows if target in (row["target"], "all") and "gone_s" in row]
        if some:
            lost = sum(bool(row["problems"]) for row in some)
            gone = sorted(row["gone_s"] for row in some)
            spread = f"{gone[len(gone) // 2]:.1f}, {gone[-1]:.1f}"
            lines.append(f"| {target} | {len(some)} | {len(some) - lost} | {lost} | {spread} |")
    resumed = sum(row.get("checkpoint", False) for row in rows)
    refused = sum(bool(row.get("refusals")) for row in rows)
    lines += [
        "",
        f"{resumed} left a checkpoint of a training behind; {refused} made plain DVC refuse to start until `ratchet tidy`.",
    ]
    if untried := [row for row in rows if "gone_s" not in row]:
        lines += ["", f"{len(untried)} kills could not be tried; {untried[0]['number']}: {untried[0]['problems'][0]}"]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Kill, print the table, and say by the exit code whether anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="micro")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", type=int, help="only so many of the first stages of the plan")
    parser.add_argument("--inside", metavar="STAGE", help="kill while this stage trains")
    parser.add_argument("--driver", choices=["dvc", "flow", "deployment"], help="no other runs")
    parser.add_argument("--only", choices=list(SHARES), help="kill nothing else")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args(arguments)
    folder = options.folder or Path(".ratchet/chaos") / options.profile
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    kept = folder / "kills.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    bench = Bench(folder, options)
    try:
        bench.prepare()
        # What could not be tried is tried again.
        rows = [row for row in rows if row.get("basis") == bench.basis and "gone_s" in row]
        known = {row["number"] for row in rows}
        todo = [number for number in range(options.kills) if number not in known]
        for number in progress.track(todo, label="chaos", unit="kill"):
            try:
                row = bench.kill(number)
            except RuntimeError as error:  # a server that did not start, say: the next kill may fare better
                row = {"number": number, "target": "none", "problems": [str(error)]}
            row |= {"basis": bench.basis}
            rows.append(row)
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if row["problems"]:
                progress.say(f"kill {number} ({row['target']}): {'; '.join(row['problems'])}")
    finally:
        bench.close()
    print(table(rows))
    return int(any(row["problems"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
