"""Keep and run trials, each once: the name of a finished trial's folder is a hash of everything on which its result depends.

So an interrupted comparison or sweep runs only the rest, and no comparison or sweep repeats a training of another one.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from flows.experiments.recipes import BASES, ITEMS, Figures
from tasks import configuration, trial_on_node
from tasks.configuration import PipelineConfig
from tasks.core import environment
from tasks.core.operation import Resources
from tasks.forkserver import client
from tasks.io import config_file, provenance
from tasks.io.runs import tracking
from tasks.io.system import files, progress, ray_cluster
from tasks.io.system.ray_cluster import Needs
from tasks.io.system.workers import OnNode
from tasks.trial_on_node import NodeTrial

FOLDER = Path(".ratchet/compare")
RESULT, REQUEST, MODEL = "result.json", "trial.json", "model"
SETTINGS = "settings.yaml"
"""The file with the settings of the last refused trial, to which messages refer."""
OF_TRAINING = frozenset(
    {
        "validation",
        "validated_on",
        "measured",
        "trainable",
        "active",
        "tokens",
        "tokens_per_s",
        "peak_memory_mb",
        "bytes",
    }
)
"""The fields of a result that describe only the training."""


@dataclass(frozen=True)
class TrialPlan:
    """One trial: its training and measurements, with all settings."""

    title: str
    """Its name in MLflow."""
    comparison: str
    """The comparison or sweep that requests it."""
    stage: str
    """The stage in which it trains, or whose base it measures."""
    sections: Mapping[str, Any]
    """The contents of its params.yaml."""
    trains: bool = True
    """True if it trains a model; False for the base, which is only measured."""
    test: bool = False
    """True if the model is measured on the test sets."""
    keeps_model: bool = False
    trained: Path | None = None
    """The folder of a trial that kept the model that this one would train; None if it trains the model itself."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Its parameters in MLflow."""


def write_folder(plan: TrialPlan) -> Path:
    """Write the settings of a trial to its folder, and return the folder.

    Raises ValueError with every problem of the settings. If another trial has made the same training, its results are taken over.
    """
    import yaml

    text = yaml.dump(dict(plan.sections), Dumper=config_file.DUMPER, sort_keys=False)
    config = read_settings(text)
    key = _key(plan.stage, config, trains=plan.trains, test=plan.test)
    training, folder = key[0], FOLDER / _name(key)
    folder.mkdir(exist_ok=True)
    files.write_atomically(folder / "params.yaml", text)
    request = {
        "of": plan.stage,
        "stage": plan.stage if plan.trains and plan.trained is None else None,
        "trained": str(plan.trained) if plan.trained else None,
        "base": BASES[plan.stage],
        "test": plan.test,
        "keeps_model": plan.keeps_model,
        "training": training,
        "title": plan.title,
        "tags": {"ratchet.compare": plan.comparison},
        "facts": dict(plan.facts),
    }
    files.write_atomically(folder / REQUEST, json.dumps(request))  # because other trials read it
    if plan.trains and not plan.test and not is_finished(folder):
        _take_over(training, folder)
    return folder


def read_settings(text: str) -> PipelineConfig:
    """Return the config of a trial's settings, from a private file, because other commands may plan trials meanwhile.

    Raises ValueError with every problem of the settings, and writes them to `SETTINGS`.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as place:
        own = Path(place) / SETTINGS
        own.write_text(text, encoding="utf-8")
        try:
            return configuration.load(own)
        except ValueError as error:
            files.write_atomically(FOLDER / SETTINGS, text)
            raise ValueError(str(error).replace(str(own), str(FOLDER / SETTINGS))) from None


def _key(stage: str, config: PipelineConfig, *, trains: bool, test: bool) -> list[str]:
    """Return everything on which a trial's result depends, with the training first."""
    key = [configuration.key(stage, ITEMS[stage], config) if trains else ""]
    if test:
        key += [provenance.digest(path) for path in _read_by_test(BASES[stage])]
        key += [configuration.for_stage("evaluate", config).model_dump_json()]
        key += [provenance.code_digest(configuration.code("evaluate", config))]
    return key


def _name(key: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def check_unchanged(folders: Iterable[Path]) -> None:
    """Raise ValueError if data or code have changed since a trial was planned.

    The training would no longer be the one that its folder names, and could not be compared with earlier ones.
    """
    for folder in folders:
        request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
        config = configuration.load(folder / "params.yaml")
        key = _key(request["of"], config, trains=bool(request["training"]), test=request["test"])
        if _name(key) != folder.name:
            raise ValueError(
                f"{request['title']}: its data or its code have changed since it was planned, so trials from here on could not be compared with "
                f"those before. The same command plans them all again. What is finished is kept in {FOLDER}, and used again if the earlier data and code return."
            )


def _read_by_test(base: str) -> list[Path]:
    reads = configuration.declaration("evaluate").reads
    return [Path(path) for path in (reads["test"], reads["documents"], reads["decisions"], base)]


def _take_over(training: str, folder: Path) -> None:
    """Take over the figures of a training from a trial that also measured the same training on the test sets."""
    for other in FOLDER.glob(f"*/{RESULT}"):
        if json.loads((other.parent / REQUEST).read_text(encoding="utf-8")).get("training") == training:
            figures = {name: value for name, value in _read(other).items() if name in OF_TRAINING}
            files.write_atomically(folder / RESULT, json.dumps(figures, indent=1) + "\n")
            return


def is_finished(folder: Path) -> bool:
    """Return True if a trial has its result."""
    return (folder / RESULT).is_file()


class Runner:
    """Runs trials one after the other on this machine, or in parallel on the Ray cluster that the environment names.

    The fork server or the connection that it needs starts with the first trial and ends with the `with` block.
    """

    def __init__(self, label: str, parent: str, *, forks: bool = True) -> None:
        """`parent` is the MLflow run that is the parent of trials. Without `forks`, each trial is a separate process."""
        self._label, self._parent, self._forks = label, parent, forks
        self._stack = ExitStack()
        self._cluster: ray_cluster.Cluster | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def results(self, folders: Sequence[Path]) -> Generator[Figures]:
        """Run the trials without a result, and yield the results of all in their order. Raises RuntimeError if one fails."""
        waiting = [folder for folder in dict.fromkeys(folders) if not is_finished(folder)]
        address = ray_cluster.address()
        with closing(self._on_cluster(address, waiting) if address else self._here(waiting)) as ended:
            for folder in progress.track(folders, label=self._label, total=len(folders), unit="trial"):
                while not is_finished(folder):
                    next(ended)
                yield _read(folder / RESULT) | {"folder": str(folder)}

    def _here(self, waiting: Sequence[Path]) -> Generator[Path]:
        """Run trials one after the other, and yield each when it has its result."""
        if self._forks and len(waiting) > 1:
            self._forks = False
            self._stack.enter_context(_fork_server())
        for folder in waiting:
            check_unchanged([folder])
            if code := _run(folder, os.environ | {environment.PARENT_RUN: self._parent}):
                raise _failure(folder, code)
            try:
                check_unchanged([folder])
            except ValueError:  # it may have read the data before or after the change
                (folder / RESULT).unlink()
                raise
            yield folder

    def _on_cluster(self, address: str, waiting: Sequence[Path]) -> Generator[Path]:
        """Run trials in parallel, and yield each when its result is written on this machine. Nodes write nothing."""
        if not waiting:
            return
        if self._cluster is None:
            self._cluster = self._stack.enter_context(ray_cluster.connected(address))
        function = OnNode(trial_on_node.run, Path.cwd(), trial_on_node.identity, trial_on_node.identity())
        (Path.cwd() / trial_on_node.SCRATCH / "cache").mkdir(parents=True, exist_ok=True)
        items = [(_for_node(folder, self._parent), _needs(folder)) for folder in waiting]
        with closing(self._cluster.as_they_end(function, items)) as results:
            for number, ended in results:
                tracking.adopt(ended.runs)
                if ended.code:
                    progress.say(ended.said)
                    raise _failure(waiting[number], ended.code)
                trial_on_node.keep(ended, waiting[number], RESULT)
                progress.say(ended.said.rstrip())
                yield waiting[number]


def _failure(folder: Path, code: int) -> RuntimeError:
    title = json.loads((folder / REQUEST).read_text(encoding="utf-8"))["title"]
    why = "failed; the lines above say why"
    if (number := -code if code < 0 else code - 128) in [*signal.Signals]:  # it has reported nothing
        why = f"was ended by {signal.Signals(number).name}"
        why += ", as the system does where memory runs out" if number == signal.SIGKILL else ""
    return RuntimeError(f"{title} {why}. What is finished is kept in {FOLDER}.")


def _for_node(folder: Path, parent: str) -> NodeTrial:
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    reads = _read_by_test(request["base"]) if request["test"] else []
    if stage := request["stage"]:
        reads += configuration.files(stage, ITEMS[stage], configuration.load(folder / "params.yaml"))[0].values()
    if request["trained"]:
        reads.append(Path(request["trained"]) / MODEL)
    contents = {name: (folder / name).read_bytes() for name in ("params.yaml", REQUEST)}
    return NodeTrial(contents, parent, {str(path): provenance.digest(path) for path in reads})


def _needs(folder: Path) -> Needs:
    """Return the request of a trial on a node: that of its stage in `resources`, else the cores and the GPU that it uses."""
    config = configuration.load(folder / "params.yaml")
    stage = json.loads((folder / REQUEST).read_text(encoding="utf-8"))["stage"] or "evaluate"
    declared = config.resources.get(stage, Resources())
    gpus = int(config.compute.device == "cuda") if declared.gpus is None else declared.gpus
    return Needs(declared.cores or config.compute.threads, declared.memory_gb or 0.0, gpus)


def _read(path: Path) -> Figures:
    figures: Figures = json.loads(path.read_text(encoding="utf-8"))
    return figures


@contextmanager
def _fork_server() -> Iterator[None]:
    """Run a fork server within the block. Its forks use the threads of params.yaml; trials that set others run without it.

    The first trial waits for it, because memory is compared between trials, and a child's memory includes the server's imports.
    """
    if not client.is_wanted():
        yield
        return
    server = client.start(os.getpid())
    client.wait_until_ready(server)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def _run(folder: Path, variables: Mapping[str, str]) -> int:
    """Run the trial in a folder, in a child of the fork server or in a separate process, and return the exit code."""
    code = client.run([str(folder)], "tasks.run_trial", name="trial", variables=variables, ends_with_parent=False)
    if code is None:
        command = [sys.executable, "-m", "tasks.run_trial", str(folder)]
        code = subprocess.run(command, env=variables, check=False).returncode
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    return code
