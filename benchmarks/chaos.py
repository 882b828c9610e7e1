"""Recovery from kills at random moments: `python benchmarks/chaos.py [--profile micro] [--kills 200] [--seed 0]`.

Each kill has a workspace of its own, in which the earlier stages are done by `dvc repro`. A run of the next one to three stages is
started, by `dvc repro`, by `ratchet run`, or as a run of the deployment. One of its processes gets SIGKILL at a random moment: the
stage (in a process of its own or in a child of the fork server), the client that waits for such a child, the fork server, the stage's
DVC process, the supervisor between DVC and flow, the flow, the worker (`ratchet up`), or the Prefect server, which `ratchet up`
restarts. Moments are shares of the CPU time of an undisturbed run, so that they mean the same on a busy machine. After
the run has ended, the same is run again. The kill is recovered if the result has the entries in `dvc.lock` and the bytes of an
undisturbed run, no process, no temporary or torn file, no cache object whose content contradicts its name, and no MLflow run that
reads RUNNING.

`--inside tune@r0` kills only that stage's processes, while it trains. `--driver dvc` leaves Prefect out. The result of each kill is a
line of `<folder>/kills.jsonl`; an interrupted benchmark resumes if code and options are the same. A workspace that did not recover is
kept in `<folder>/lost-<number>`.
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

from flows.execution import ports, prefect_server, supervisor  # noqa: E402
from tasks.io.system import progress  # noqa: E402
from tasks.runner import WORK  # noqa: E402

Target = Literal["stage", "client", "forkserver", "dvc", "supervisor", "flow", "worker", "server"]
SHARES: dict[Target, int] = {
    "stage": 5, "client": 2, "forkserver": 2, "dvc": 4, "supervisor": 3, "flow": 2, "worker": 1, "server": 1
}  # fmt: skip
"""Kills of each target among twenty in a row."""
DRIVERS = {
    "stage": ("dvc", "dvc", "flow"),
    "client": ("flow",),
    "forkserver": ("flow",),
    "dvc": ("dvc", "dvc", "flow"),
    "flow": ("flow", "deployment"),
    "worker": ("deployment",),
    "server": ("flow", "deployment"),
}
FORKED = ("client", "forkserver")
"""Targets beside a stage that a child of a fork server runs."""
ATTEMPTS = 8
"""Attempts at a kill, if the run ends before its moment."""
GONE_S = 35.0
"""Longest time that processes of a run may outlive its kill. It does not apply to kills of a server, after which the run continues: Prefect's
server is restarted, and without a fork server stages run in processes of their own."""
TORN = re.compile(r"dvc\.lock' (is invalid|validation failed)|structure is corrupted|RWLock-file .* format error")
"""Messages with which plain DVC refuses to start after a torn file. `ratchet tidy` repairs it."""


@dataclass(frozen=True)
class Kill:
    """One process to kill, and the moment."""

    number: int
    target: Target
    driver: Literal["dvc", "flow", "deployment"]
    first: int
    """The first stage that runs, by its place in the plan."""
    stages: tuple[str, ...]
    victim: str
    """The stage whose process, DVC process or supervisor is killed."""
    share: float
    """Moment, as a share of the undisturbed run's CPU time."""

    @property
    def command(self) -> list[str]:
        """Arguments of `python -m` that start the run."""
        return {
            "dvc": ["dvc", "repro", *self.stages],
            "flow": ["flows.commands", "run", *self.stages],
            "deployment": ["flows.commands", "up"],
        }[self.driver]


def drawn(
    number: int, attempt: int, options: argparse.Namespace, order: list[str], with_models: list[str]
) -> tuple[Kill, random.Random]:
    """Return kill `number` of this seed, and the generator for its other random choices.

    `with_models` are the stages that a fork server spares its imports. A flow starts one for two of them, in which the second runs.
    """
    seed = f"{options.seed} {options.profile} {options.inside}"
    able = {
        t: DRIVERS.get(t, ("flow",)) for t in SHARES if not options.inside or t not in ("worker", "server", *FORKED)
    }
    able = {t: [way for way in ways if options.driver in (None, way)] for t, ways in able.items()}
    turns = [t for t, share in SHARES.items() for _ in range(share) if able.get(t)]
    random.Random(f"{seed} {number // len(turns)}").shuffle(turns)
    draw = random.Random(f"{seed} {number} {attempt}")
    target: Target = options.only or turns[number % len(turns)]
    driver = draw.choice(able[target])
    first = order.index(options.inside) if options.inside else draw.randrange(len(order))
    if target in FORKED:
        second = draw.randrange(1, len(with_models))
        first = order.index(with_models[second - 1])
        stages = tuple(order[first : order.index(with_models[second]) + 1])
        return Kill(number, target, driver, first, stages, stages[-1], draw.random()), draw
    stages = tuple(order[first : first + (1 if options.inside else draw.choice((1, 1, 2, 3)))])
    return Kill(number, target, driver, first, stages, draw.choice(stages), draw.random()), draw


class Bench:
    """The workspaces of this benchmark, and the Prefect server that their flows share."""

    states: workspaces.States
    basis: str
    """Code and options; only kills with the same basis are put in one table."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self._server: subprocess.Popen[bytes] | None = None
        self._url = ""

    def prepare(self) -> None:
        """Make the missing workspaces."""
        options, folder = self.options, self.folder
        self.states = workspaces.States(folder, ROOT, options.profile, options.stages, options.inside, self.url)
        chosen = {name: getattr(options, name) for name in ("profile", "seed", "stages", "inside", "driver", "only")}
        self.basis = f"{self.states.code} {json.dumps(chosen)}"

    def url(self) -> str:
        """Return the address of the shared server, which is started if it does not run."""
        if self._server is None or self._server.poll() is not None or not prefect_server.answers(self._url):
            self.close()
            os.environ["PREFECT_HOME"] = str(self.folder / "prefect")
            prefect_server.PATIENCE_S = 3600.0  # however busy the machine is
            self._server, self._url = prefect_server.start(ports.free_port(), ui=False)
        return self._url

    def close(self) -> None:
        """Stop the shared server."""
        if self._server is not None:
            supervisor.stop([self._server])

    def environment(self, folder: Path, mark: str, *, prefect: bool) -> dict[str, str]:
        """Return the environment of a user in this workspace, with the mark of this run."""
        shared = {"PREFECT_API_URL": self.url()} if prefect else {}
        return workspaces.environment(folder) | shared | {victims.MARK: mark}

    def kill(self, number: int) -> dict[str, Any]:
        """Try kill `number` and return its result."""
        for attempt in range(ATTEMPTS):
            kill, draw = drawn(number, attempt, self.options, self.states.order, self.states.with_models)
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
        """Run, kill, and wait until all processes of the run have ended."""
        with self._started(kill, space, mark) as process:
            zero = victims.work_s(victims.marked(mark))
            pid = victims.strike(process, *self._plan(kill, space, process, mark, zero), draw)
            if pid is None:
                return None
            start = time.monotonic()
            if kill.driver == "deployment" and kill.target != "worker":
                self._close_when_idle(process)
            survivors = victims.wait_for_end(mark, workspaces.PATIENCE_S, uploader=False)
            said = (space.parent / f"{space.name}.log").read_text(errors="replace").splitlines()
            return {
                "code": process.poll() if survivors else process.wait(),  # DVC treats an unreaped process as alive
                "gone_s": round(time.monotonic() - start, 1),
                "left": sorted(survivors.values()),
                "said": said[-3:],
                "checkpoint": any((space / WORK).glob("*/*/checkpoint-*")),
            }

    def _close_when_idle(self, process: "subprocess.Popen[bytes]") -> None:
        """Stop the worker once the run has ended; it outlives the killed process."""
        deadline = time.monotonic() + workspaces.PATIENCE_S
        while victims.find(process.pid, victims.is_flow) is not None and time.monotonic() < deadline:
            time.sleep(victims.PACE_S)
        process.terminate()

    @contextmanager
    def _started(self, kill: Kill, space: Path, mark: str) -> "Iterator[subprocess.Popen[bytes]]":
        environment = self.environment(space, mark, prefect=kill.driver == "flow")
        if kill.driver == "deployment":
            environment["PREFECT_SERVER_API_PORT"] = str(ports.free_port())
        log = space.parent / f"{space.name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *kill.command],
                cwd=space, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        if kill.driver == "deployment":
            workspaces.request_run(
                workspaces.deployed(log, process, environment["PREFECT_SERVER_API_PORT"]), kill.stages
            )
        yield process
        process.poll()

    def _plan(
        self, kill: Kill, space: Path, process: "subprocess.Popen[bytes]", mark: str, zero: float
    ) -> tuple[Callable[[], int | None], Callable[[int], bool]]:
        """Return functions that find the victim, and that tell whether its moment has come."""
        costs = self.states.costs
        root = process.pid
        total = sum(costs[stage].dvc for stage in kill.stages)
        if kill.driver != "dvc":
            total += self.states.flow().dvc

        def working() -> int | None:
            return victims.forked(mark, kill.victim)

        find_pid: dict[str, Callable[[], int | None]] = {
            "stage": lambda: victims.stage_process(kill.victim, root, mark),
            "client": lambda: (
                victims.find(root, lambda words: victims.is_stage(words, kill.victim)) if working() else None
            ),
            "forkserver": lambda: victims.fork_server(mark) if working() else None,
            "dvc": lambda: (
                root if kill.driver == "dvc" else victims.find(root, lambda w: victims.is_dvc(w, kill.victim))
            ),
            "supervisor": lambda: victims.find(root, lambda words: victims.is_supervisor(words, kill.victim)),
            "flow": lambda: root if kill.driver == "flow" else victims.find(root, victims.is_flow),
            "worker": lambda: root,
            "server": lambda: victims.find(self._serving(kill, root), victims.is_server),
        }
        if self.options.inside:
            return find_pid[kill.target], self._while_training(kill, space, root, mark)
        if kill.target == "stage" or kill.target in FORKED:
            return find_pid[kill.target], self._while_working(kill, root, mark)
        costs_of_target = {"supervisor": costs[kill.victim].dvc}
        if kill.target == "dvc" and kill.driver == "flow":
            costs_of_target["dvc"] = costs[kill.victim].dvc
        moment = kill.share * costs_of_target.get(kill.target, total)
        if kill.target in costs_of_target:
            return find_pid[kill.target], lambda pid: victims.work_s(victims.below(pid)) >= moment
        return find_pid[kill.target], lambda _pid: victims.work_s(victims.marked(mark)) - zero >= moment

    def _serving(self, kill: Kill, root: int) -> int:
        """Return a process above the Prefect server that the run uses."""
        return self._server.pid if self._server and kill.driver == "flow" else root

    def _while_working(self, kill: Kill, root: int, mark: str) -> Callable[[int], bool]:
        cost = self.states.costs[kill.victim].stage
        forked_cost = max(0.1, cost - self.states.imports_s)

        def far_enough(_pid: int) -> bool:
            if child := victims.forked(mark, kill.victim):
                return victims.work_s(victims.below(child)) >= kill.share * forked_cost
            stage = victims.stage_process(kill.victim, root, mark)
            return stage is not None and victims.work_s(victims.below(stage)) >= kill.share * cost

        return far_enough

    def _while_training(self, kill: Kill, space: Path, root: int, mark: str) -> Callable[[int], bool]:
        moment, begun = kill.share * self.states.costs[kill.victim].training, [0.0]

        def far_enough(_pid: int) -> bool:
            stage = victims.stage_process(kill.victim, root, mark)
            if stage is None or not any((space / WORK / kill.victim).glob("*")):
                return False
            begun[0] = begun[0] or victims.work_s(victims.below(stage))
            return victims.work_s(victims.below(stage)) - begun[0] >= moment

        return far_enough

    def _again(self, kill: Kill, space: Path, mark: str) -> dict[str, Any]:
        """Run the same once more, undisturbed, and check the result."""
        start = time.monotonic()
        repro, tidy = ["dvc", "repro", *kill.stages], ["flows.commands", "tidy"]
        by_dvc = kill.driver == "dvc" and (self.options.driver == "dvc" or kill.number % 2)
        # If plain DVC refuses, a person runs `ratchet tidy` first. The lock is in the order of the plan after tidying.
        ways = [[repro, tidy], [tidy, repro, tidy]] if by_dvc else [[["flows.commands", "run", *kill.stages]]]
        refusals: list[str] = []
        for commands in ways:
            failed = next(filter(None, (self._failure(command, space, mark) for command in commands)), "")
            if not failed:
                break
            refusals.append(failed)
            if not TORN.search(failed):
                break
        problems = [f"never ended: {line}" for line in victims.wait_for_end(mark, workspaces.PATIENCE_S).values()]
        if failed:
            problems.append(failed)
        else:
            problems += intact.problems(space, self.states.last, kill.stages, self.states.order)
        seconds = round(time.monotonic() - start, 1)
        return {"again": commands[-1][0], "refusals": refusals, "again_s": seconds, "problems": problems}

    def _failure(self, command: list[str], space: Path, mark: str) -> str:
        """Run a command and return its output if it failed; else an empty string."""
        environment = self.environment(space, mark, prefect=command[1] == "run")
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=space, env=environment, capture_output=True, text=True
        )
        return f"{' '.join(command)} failed: {(done.stdout + done.stderr)[-2000:]}" if done.returncode else ""


def _stayed(kill: Kill, struck: dict[str, Any]) -> list[str]:
    """Return processes that outlived a kill for too long."""
    if struck["left"]:
        return [f"outlived it by {workspaces.PATIENCE_S:.0f} s: {line}" for line in struck["left"]]
    slow = kill.target not in ("server", "forkserver") and struck["gone_s"] > GONE_S
    return [f"gone only {struck['gone_s']:.0f} s after it"] if slow else []


def table(rows: list[dict[str, Any]]) -> str:
    """Format the kills tried, recovered and lost, by target."""
    lines = [
        "| killed | tried | recovered | lost | gone after, s (median, longest) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for target in [*SHARES, "all"]:
        some = [row for row in rows if target in (row["target"], "all") and "gone_s" in row]
        if some:
            lost = sum(bool(row["problems"]) for row in some)
            durations = sorted(row["gone_s"] for row in some)
            spread = f"{durations[len(durations) // 2]:.1f}, {durations[-1]:.1f}"
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
    """Kill, print the table, and return 1 if a kill was not recovered."""
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
