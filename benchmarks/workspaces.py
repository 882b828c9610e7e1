"""Workspaces of a profile in every state of its graph: no stage done, the first stage done, the first two …"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import intact
import victims

from tasks.io.system import progress
from tasks.runner import WORK

PATIENCE_S = 600.0
"""Seconds after which a run that has not ended counts as never ending. A busy machine is slow."""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one undisturbed stage."""

    dvc: float
    """DVC and its descendants."""
    stage: float = 0.0
    """The stage's own process."""
    training: float = 0.0
    """Seconds of that process since its work folder appeared."""


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user in this workspace, with home, MLflow store and Prefect of its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("MLFLOW", "PREFECT", "RATCHET", "PYTHONPATH"))}
    python = Path(sys.executable).parent
    added = {"HOME": str(home), "DVC_SITE_CACHE_DIR": str(home / "dvc"), "OMP_NUM_THREADS": "1"}
    return kept | added | {"PATH": f"{python}:{os.environ['PATH']}"}


class States:
    """Copies of the repository's files under DVC, with a profile in use, after 0, 1, 2 … stages of its plan. Made once for each
    version of the code."""

    code: str
    """A hash of the repository's files."""

    def __init__(
        self, folder: Path, root: Path, profile: str, stages: int | None, inside: str | None, url: Callable[[], str]
    ) -> None:
        """Make the missing states. `url` returns the address of a running Prefect server."""
        self._folder = folder / "states"
        self.code = code_of(root)
        note = self._folder / "code"
        if not note.exists() or note.read_text() != self.code:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            note.write_text(self.code)
        if not self._state(0).exists():
            _fresh(root, profile, self._state(0))
        plan = _run_python(self._state(0), "-m", "flows.commands", "plan", "--json")
        order = [step["stage"] for step in json.loads(plan)["stages"]]
        self.order = order[: order.index(inside) + 1 if inside else stages]
        self.costs: dict[str, Cost] = {}
        for number, stage in enumerate(progress.track(self.order, label="undisturbed", unit="stage")):
            self.costs[stage] = self._advance(number, stage)
        self._url = url

    @property
    def last(self) -> Path:
        """The workspace in which every stage is done."""
        return self._state(len(self.order))

    def copy(self, number: int, place: Path) -> None:
        """Copy the workspace in which `number` stages are done to `place`."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._state(number), place, symlinks=True)

    def _state(self, number: int) -> Path:
        return self._folder / str(number)

    def _advance(self, number: int, stage: str) -> Cost:
        """Make the state after one more stage, by plain DVC, and return its cost."""
        note = self._folder / f"{stage}.json"
        if not note.exists():
            partial = self._folder / "partial"
            self.copy(number, partial)
            cost = _measured(partial, stage)
            shutil.rmtree(self._state(number + 1), ignore_errors=True)
            partial.rename(self._state(number + 1))
            note.write_text(json.dumps(asdict(cost)))
        return Cost(**json.loads(note.read_text()))

    @cached_property
    def imports_s(self) -> float:
        """Return the CPU seconds of the imports that a child of the fork server is spared."""
        code = "import importlib; from tasks.forkserver import server; [importlib.import_module(m) for m in server.MODULES]"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _run_python(self._state(0), "-c", code)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    @property
    def with_models(self) -> list[str]:
        """Return the stages that import many modules which a fork server has already imported."""
        return [stage for stage in self.order if self.costs[stage].stage > self.imports_s / 2]

    def flow(self) -> Cost:
        """Return the cost of a flow beyond the DVC processes of its stages."""
        note, stage = self._folder / "flow.json", self.order[0]
        if not note.exists():
            partial = self._folder / "partial"
            self.copy(0, partial)
            total = _measured(partial, stage, ["flows.commands", "run", stage], PREFECT_API_URL=self._url())
            note.write_text(json.dumps(asdict(Cost(max(1.0, total.dvc - self.costs[stage].dvc)))))
        return Cost(**json.loads(note.read_text()))


def deployed(log: Path, process: "subprocess.Popen[bytes]", port: str) -> str:
    """Wait until `ratchet up` is ready, and return the address of its deployment."""
    while "prefect deployment run" not in log.read_text(errors="replace"):
        if process.poll() is not None:
            raise RuntimeError(f"`ratchet up` ended: {log.read_text(errors='replace')}")
        time.sleep(0.2)
    api = f"http://127.0.0.1:{port}/api/deployments"
    # A server that others keep busy says so (503).
    return f"{api}/{json.loads(_answered(f'{api}/name/pipeline/workstation'))['id']}"


def request_run(deployment: str, stages: Sequence[str]) -> str:
    """Request a run of these stages from a deployment, and return its id."""
    wanted = json.dumps({"parameters": {"stages": list(stages)}, "state": {"type": "SCHEDULED"}}).encode()
    headers = {"Content-Type": "application/json"}
    run = _answered(urllib.request.Request(f"{deployment}/create_flow_run", wanted, headers))
    return str(json.loads(run)["id"])


def _answered(request: "str | urllib.request.Request") -> bytes:
    """Return a server's response, with retries. Raises RuntimeError if it does not answer for `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except OSError as error:
            # After any other error the request may have arrived, and a retry could start a second run.
            waits = error.code == 503 if isinstance(error, urllib.error.HTTPError) else _refused(error)
            if not waits or time.monotonic() > deadline:
                raise RuntimeError(f"the server of `ratchet up` does not answer: {error}") from error
            time.sleep(0.5)


def _refused(error: OSError) -> bool:
    """Return True if the connection was refused: the server does not listen yet."""
    return isinstance(getattr(error, "reason", error), ConnectionRefusedError)


def files(root: Path) -> list[str]:
    """Return the names of the repository's files without `dvc.lock`, which describes runs of this workspace."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    return sorted(name for name in listed.split("\0") if name not in ("", "dvc.lock") and (root / name).is_file())


def code_of(root: Path) -> str:
    """Return a hash of the repository's files, except documentation and tests."""
    digest = hashlib.sha256()
    for name in files(root):
        if not name.endswith(".md") and not name.startswith(("docs/", "tests/")):
            digest.update(name.encode() + b"\0" + hashlib.sha256((root / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def copied(root: Path, profile: str, folder: Path) -> None:
    """Copy the repository's files to a new folder, with a profile in use."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in files(root):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, folder / name)
    shutil.copyfile(folder / f"params/{profile}.yaml", folder / "params.yaml")


def _fresh(root: Path, profile: str, folder: Path) -> None:
    partial = folder.with_name("partial")
    copied(root, profile, partial)
    params = partial / "params.yaml"
    params.write_text(params.read_text().replace("threads: 2", "threads: 1"))
    subprocess.run(["git", "init", "--quiet"], cwd=partial, check=True)
    partial.rename(folder)


def _run_python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def _measured(folder: Path, stage: str, command: Sequence[str] = (), **more: str) -> Cost:
    """Run a stage alone, wait for the end of all its processes, and return its cost."""
    mark = f"{os.getpid()}-{stage}"
    env = environment(folder) | more | {victims.MARK: mark}
    stage_s = training = 0.0
    with victims.swept(mark), (folder.parent / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *(command or ["dvc", "repro", "--single-item", stage])],
            cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        total = 0.0
        while process.poll() is None:
            total = max(total, victims.work_s(victims.below(process.pid)))
            pid = victims.find(process.pid, lambda words: victims.is_stage(words, stage))
            if pid is not None:
                stage_s = max(stage_s, victims.work_s(victims.below(pid)))
                if not training and any((folder / WORK / stage).glob("*")):
                    training = stage_s
            time.sleep(victims.PACE_S)
        log.seek(0)
        said = log.read()
        survivors = victims.wait_for_end(mark, PATIENCE_S)
    problems = [] if command else intact.problems(folder, folder, [stage])
    if process.returncode or survivors or problems:
        raise RuntimeError(f"{stage}, undisturbed: exit code {process.returncode}; {survivors}; {problems}\n{said}")
    return Cost(total, stage_s, stage_s - training if training else 0.0)
