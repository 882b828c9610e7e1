"""Workspaces of a profile in every state of its graph: nothing done, the first stage done, the first two …"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import intact
import victims

from tasks.io import progress
from tasks.run import WORK

PATIENCE_S = 600.0
"""How long a run may take until nothing of it is left, before it counts as never ending. A busy machine is slow."""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one stage, undisturbed."""

    dvc: float
    """DVC and all that it starts."""
    stage: float = 0.0
    """The stage's own process."""
    training: float = 0.0
    """Of these, those from the first sign of its work folder on."""


def environment(folder: Path) -> dict[str, str]:
    """A user's in this workspace: home, MLflow store and Prefect are its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("MLFLOW", "PREFECT", "RATCHET", "PYTHONPATH"))}
    python = Path(sys.executable).parent
    own = {"HOME": str(home), "DVC_SITE_CACHE_DIR": str(home / "dvc"), "OMP_NUM_THREADS": "1"}
    return kept | own | {"PATH": f"{python}:{os.environ['PATH']}"}


class States:
    """Copies of the repository's files under DVC, with a profile in use, after 0, 1, 2 … stages of its plan. Made once for all
    that has the same code."""

    code: str
    """A hash of the repository's files."""

    def __init__(
        self, folder: Path, root: Path, profile: str, stages: int | None, inside: str | None, url: Callable[[], str]
    ) -> None:
        """`url` tells the address of a Prefect server that runs."""
        self._folder = folder / "states"
        self.code = code_of(root)
        note = self._folder / "code"
        if not note.exists() or note.read_text() != self.code:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            note.write_text(self.code)
        if not self._state(0).exists():
            _fresh(root, profile, self._state(0))
        plan = _run(self._state(0), "flows.commands", "plan", "--json")
        order = [step["stage"] for step in json.loads(plan)]
        self.order = order[: order.index(inside) + 1 if inside else stages]
        self.costs: dict[str, Cost] = {}
        for number, stage in enumerate(progress.track(self.order, label="undisturbed", unit="stage")):
            self.costs[stage] = self._advance(number, stage)
        self._url = url

    @property
    def last(self) -> Path:
        """The workspace in which everything is done."""
        return self._state(len(self.order))

    def copy(self, number: int, place: Path) -> None:
        """A workspace of its own in which `number` stages are done."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._state(number), place, symlinks=True)

    def _state(self, number: int) -> Path:
        return self._folder / str(number)

    def _advance(self, number: int, stage: str) -> Cost:
        """The state after one more stage, by plain DVC; what that cost."""
        note = self._folder / f"{stage}.json"
        if not note.exists():
            partial = self._folder / "partial"
            self.copy(number, partial)
            cost = _measured(partial, stage)
            shutil.rmtree(self._state(number + 1), ignore_errors=True)
            partial.rename(self._state(number + 1))
            note.write_text(json.dumps(asdict(cost)))
        return Cost(**json.loads(note.read_text()))

    def flow(self) -> Cost:
        """What a flow costs beyond the DVC of its stages."""
        note, stage = self._folder / "flow.json", self.order[0]
        if not note.exists():
            partial = self._folder / "partial"
            self.copy(0, partial)
            whole = _measured(partial, stage, ["flows.commands", "run", stage], PREFECT_API_URL=self._url())
            note.write_text(json.dumps(asdict(Cost(max(1.0, whole.dvc - self.costs[stage].dvc)))))
        return Cost(**json.loads(note.read_text()))


def deployed(log: Path, process: "subprocess.Popen[bytes]", port: str) -> str:
    """The address of the deployment that `ratchet up` serves, once it says that it is ready."""
    while "prefect deployment run" not in log.read_text(errors="replace"):
        if process.poll() is not None:
            raise RuntimeError(f"`ratchet up` ended: {log.read_text(errors='replace')}")
        time.sleep(0.2)
    api = f"http://127.0.0.1:{port}/api/deployments"
    # A server that others keep busy says so (503).
    return f"{api}/{json.loads(_answered(f'{api}/name/pipeline/workstation'))['id']}"


def asked(deployment: str, stages: Sequence[str]) -> str:
    """Ask a deployment for a run of these stages; its id."""
    wanted = json.dumps({"parameters": {"stages": list(stages)}, "state": {"type": "SCHEDULED"}}).encode()
    headers = {"Content-Type": "application/json"}
    run = _answered(urllib.request.Request(f"{deployment}/create_flow_run", wanted, headers))
    return str(json.loads(run)["id"])


def _answered(request: "str | urllib.request.Request") -> bytes:
    """What a server says, once it does. Raises RuntimeError where it does not for `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except OSError as error:
            # Where it may have heard us, asking again could start a second run.
            waits = error.code == 503 if isinstance(error, urllib.error.HTTPError) else _refused(error)
            if not waits or time.monotonic() > deadline:
                raise RuntimeError(f"the server of `ratchet up` does not answer: {error}") from error
            time.sleep(0.5)


def _refused(error: OSError) -> bool:
    """Whether nobody listens yet."""
    return isinstance(getattr(error, "reason", error), ConnectionRefusedError)


def files(root: Path) -> list[str]:
    """The names of the repository's files. What has run here has not run there, so `dvc.lock` is none of them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    return sorted(name for name in listed.split("\0") if name not in ("", "dvc.lock") and (root / name).is_file())


def code_of(root: Path) -> str:
    """What makes a workspace what it is: all but the documents."""
    found = hashlib.sha256()
    for name in files(root):
        if not name.endswith(".md") and not name.startswith(("docs/", "tests/")):
            found.update(name.encode() + b"\0" + hashlib.sha256((root / name).read_bytes()).digest())
    return found.hexdigest()[:16]


def copied(root: Path, profile: str, folder: Path) -> None:
    """The repository's files in a new folder, with a profile in use."""
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


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def _measured(folder: Path, stage: str, command: Sequence[str] = (), **more: str) -> Cost:
    """Run a stage alone, and say what it costs once nothing of it is left."""
    mark = f"{os.getpid()}-{stage}"
    env = environment(folder) | more | {victims.MARK: mark}
    own = training = 0.0
    with victims.swept(mark), (folder.parent / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *(command or ["dvc", "repro", "--single-item", stage])],
            cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        whole = 0.0
        while process.poll() is None:
            whole = max(whole, victims.work_s(process.pid))
            pid = victims.find(process.pid, lambda words: victims.is_stage(words, stage))
            if pid is not None:
                own = max(own, victims.work_s(pid))
                if not training and any((folder / WORK / stage).glob("*")):
                    training = own
            time.sleep(victims.PACE_S)
        log.seek(0)
        said = log.read()
        left = victims.gone(mark, PATIENCE_S)
    found = [] if command else intact.problems(folder, folder, [stage])
    if process.returncode or left or found:
        raise RuntimeError(f"{stage}, undisturbed: exit code {process.returncode}; {left}; {found}\n{said}")
    return Cost(whole, own, own - training if training else 0.0)
