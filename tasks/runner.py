"""Run any stage: `python -m tasks.run STAGE [ITEM]` calls this one runner for all of them.

It does the work that all stages share: it takes the stage's lock, ends the process when its parent dies, reads the typed settings, opens the
MLflow run, and at last renames the outputs into place. Nothing that it does may change an output. If an item has the same inputs, settings and
code as another item of the stage, the runner copies that item's outputs, so that a round that changed nothing costs nothing.
"""

import fcntl
import importlib
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core import environment, imports
from tasks.core.config import Config
from tasks.core.nested import flat
from tasks.core.operation import Resources
from tasks.core.text.calls import Call
from tasks.core.training import in_words
from tasks.io import config_file, provenance, stage_outputs
from tasks.io.runs import run_store, traces, tracking
from tasks.io.system import locks, process, progress, usage

T = TypeVar("T")
SCRATCH = Path(".ratchet")
WORK = SCRATCH / "work"
"""Folder for unfinished work, from which a killed stage continues."""
BASE_CARD = Path("models/base/ratchet.json")
"""Read as JSON here, since importing `tasks.io.weights.checkpoints` would make every stage depend on the code of models."""


def main(arguments: list[str], *, forked: bool = False) -> int:
    """Run one stage, and return the exit code: 0 if its outputs are in place. `forked`: True in a child of the fork server."""
    if not 1 <= len(arguments) <= 2:
        progress.say(f"usage: python -m tasks.run STAGE [ITEM]\nstages: {', '.join(configuration.stage_names())}")
        return 2
    stage, item = arguments[0], arguments[1] if len(arguments) == 2 else None
    return process.run(lambda: run_stage(stage, item), f"{_name(stage, item)} stopped: ", forked=forked)


def run_stage(stage: str, item: str | None) -> None:
    """Run a stage under its lock and its MLflow run, and rename its outputs into place."""
    if stage not in configuration.stage_names():
        raise ValueError(f"There is no stage {stage!r}. There are: {', '.join(configuration.stage_names())}.")
    config = configuration.load()
    reads, writes = configuration.files(stage, item, config)
    for name, path in reads.items():
        if not path.exists():
            raise FileNotFoundError(
                f"{path} ({name}) is missing. `dvc repro {_name(stage, item)}` makes what comes first."
            )
    stage_config = configuration.for_stage(stage, config)
    if compute := getattr(stage_config, "compute", None):
        process.set_threads(compute)
    if configuration.declaration(stage).trains:
        process.keep_few_kernels()
    if _rank() > 0:
        _assist(stage, item, reads, list(writes), stage_config, configuration.key(stage, item, config))
        return
    if environment.JOINED in os.environ:
        raise RuntimeError(
            "torchrun gave rank 0, which writes the outputs, to a node that joined. Run the stage again."
        )
    run_store.check()
    basis = configuration.basis(stage, item, config)
    key = configuration.key_of(basis)
    provenance.save_digests()
    with _lock(_name(stage, item)), _turn(stage, item, key):
        partial = stage_outputs.prepare(writes)
        equal_stage = _taken_over(stage, item, key, config, partial)
        if not equal_stage:
            _share_out(stage, item, config)
        with _open_run(
            stage, item, key, stage_config, reads, list(configuration.parts(stage, config).values())
        ) as recorder:
            run = StageRun(stage, item, key, recorder)
            if equal_stage:
                run.note(taken_over_from=equal_stage)
                run.say(
                    f"{_name(stage, item)}: its inputs, settings and code are those of {equal_stage}, whose outputs it takes over"
                )
            else:
                code(stage).main(reads, partial, stage_config, run)
            run.log(None, output_mb=sum(map(stage_outputs.size, partial.values())) / 2**20)
            _check_unchanged(stage, item, basis)
            stage_outputs.publish(partial, writes)
            if item is not None:
                stage_outputs.remember(_name(stage, item), key, writes)
                provenance.save_digests()


def code(stage: str) -> Any:
    """Import the module of a stage."""
    with imports.lasting():
        return importlib.import_module(f"tasks.stages.{stage}.stage")


def _rank() -> int:
    """Return the rank of this process among those that share a training; 0 for a single process too."""
    return int(os.environ.get(environment.RANK, "0"))


def _shared() -> bool:
    """Return True if this is one of several processes that share a training."""
    return environment.RANK in os.environ


def _share_out(stage: str, item: str | None, config: PipelineConfig) -> None:
    """Replace this process by torchrun, which starts this runner in each process, if several processes are configured to share a training."""
    if _shared() or not configuration.declaration(stage).trains:
        return
    arguments = [stage] if item is None else [stage, item]
    if config.resources.get(stage, Resources()).nodes > 1:
        os.execv(sys.executable, [sys.executable, "-m", "tasks.nodes", *arguments])
    if (processes := config.compute.processes) > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        os.execv(sys.executable, [sys.executable, *launch, "-m", "tasks.run", *arguments])


def _taken_over(
    stage: str, item: str | None, key: str, config: PipelineConfig, partial: Mapping[str, Path]
) -> str | None:
    """Copy the outputs of another item with the same key to `partial`, and return its name (`tune@r0`); None if there is none.

    Processes that share a training never skip it, since the others would wait for one that did.
    """
    if item is None or _shared():
        return None
    items = getattr(config, configuration.declaration(stage).items or "")
    for other in (name for name in items if name != item):
        _, other_writes = configuration.files(stage, other, config)
        if stage_outputs.take_over(_name(stage, other), key, other_writes, partial):
            return _name(stage, other)
    return None


def _check_unchanged(stage: str, item: str | None, before: Mapping[str, Any]) -> None:
    """Raise RuntimeError if the stage's inputs, settings or code changed during the run.

    DVC would otherwise record that the outputs were made from the changed files.
    """
    config = configuration.load()
    now = configuration.basis(stage, item, config)
    if now == before:
        return
    reads, _ = configuration.files(stage, item, config)
    inputs = [str(path) for name, path in reads.items() if now["inputs"][name] != before["inputs"].get(name)]
    old, new = dict(flat(before["settings"])), dict(flat(now["settings"]))
    settings = [name for name in {**old, **new} if (name in old, old.get(name)) != (name in new, new.get(name))]
    what = ", ".join([*inputs, *settings]) or "its code"
    raise stage_outputs.changed_meanwhile(what, _name(stage, item))


def _assist(
    stage: str, item: str | None, reads: Mapping[str, Path], writes: list[str], stage_config: Config, key: str
) -> None:
    """Run the part of a process of rank > 0 in a training. Only rank 0 writes outputs, prints, and logs to MLflow."""
    module = code(stage)
    with tempfile.TemporaryDirectory() as folder:
        module.main(
            reads, {name: Path(folder) / name for name in writes}, stage_config, Assistant(stage, item, key, None)
        )


class StageRun:
    """The run context of a stage (`tasks.core.stage.Run`): the console, the MLflow run, and a folder for unfinished work."""

    def __init__(self, stage: str, item: str | None, key: str, recorder: tracking.Recorder | None) -> None:
        self.item = item
        self._stage, self._label, self._recorder = stage, _name(stage, item), recorder
        self._is_traced = traces.wanted(stage)
        self._sums: dict[str, float] = defaultdict(float)
        # The folder depends on the class of machine: on another class, the last digits of a continued training would differ.
        machine = provenance.facts_digest(provenance.machine_class())
        self._work = WORK / self._label / f"{key[:16]}-{machine[:8]}"

    @property
    def work(self) -> Path:
        self._work.mkdir(parents=True, exist_ok=True)
        return self._work

    @property
    def cache(self) -> Path:
        return SCRATCH / "cache"

    def say(self, text: str) -> None:
        progress.say(text)

    def note(self, **params: Any) -> None:
        if self._recorder:
            self._recorder.params(**params)

    def log(self, step: int | None = None, **metrics: float) -> None:
        if self._recorder:
            self._recorder.metrics(metrics, step)

    def add(self, **metrics: float) -> None:
        for name, figure in metrics.items():
            self._sums[name] += figure
        self.log(None, **{name: self._sums[name] for name in metrics})

    def trace(self, call: Call) -> None:
        if self._recorder and self._is_traced:
            self._recorder.trace(self._stage, call)

    def track(
        self,
        items: Iterable[T],
        *,
        total: int | None = None,
        unit: str = "item",
        status: Callable[[], str] = lambda: "",
    ) -> Iterator[T]:
        return progress.track(items, label=self._label, total=total, unit=unit, status=status)


class Assistant(StageRun):
    """The run context of ranks > 0. It shares the work folder, and prints and logs nothing."""

    def say(self, text: str) -> None:
        """Print nothing, since rank 0 prints."""

    def track(
        self,
        items: Iterable[T],
        *,
        total: int | None = None,
        unit: str = "item",
        status: Callable[[], str] = lambda: "",
    ) -> Iterator[T]:
        yield from items


def _name(stage: str, item: str | None) -> str:
    """Return the stage's name in DVC."""
    return stage if item is None else f"{stage}@{item}"


@contextmanager
def _turn(stage: str, item: str | None, key: str) -> Iterator[None]:
    """Let items with equal keys run one after the other, so that later ones can copy the outputs of the first."""
    if item is None or _shared():
        yield
        return
    path = SCRATCH / "turns" / f"{stage}-{key[:16]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"{_name(stage, item)}: an equal {stage} is running; waiting for its outputs")
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # A process that starts now may run at the same time as one that waited, which costs only time.
            path.unlink(missing_ok=True)


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Hold the stage's lock, so that each stage has one writer in the workspace."""
    try:
        with locks.exclusive(SCRATCH / "locks" / f"{name}.lock"):
            yield
    except locks.Taken as taken:
        raise RuntimeError(
            f"{taken.owner} is running this very stage ({taken.path}). Wait for it, or end it."
        ) from None


@contextmanager
def _open_run(
    stage: str, item: str | None, key: str, stage_config: Config, reads: Mapping[str, Path], parts: list[str]
) -> Iterator[tracking.Recorder]:
    """Open the MLflow run of a stage, as a child of the flow's run if a flow started it. Its status is that of the stage."""
    name = _name(stage, item)
    tags = tracking.source(" ".join(["python -m tasks.run", stage, *([item] if item else [])])) | {
        "dvc.stage": name,
        "ratchet.key": key,
        "machine": " · ".join(f"{part} {value}" for part, value in provenance.machine_class().items()),
    }
    if flow := os.environ.get(environment.FLOW_RUN):
        tags["prefect.flow_run_id"] = flow
    title = " · ".join(filter(None, [name, in_words(parts), key[:8]]))
    recorder = tracking.Recorder(title, parent=os.environ.get(environment.PARENT_RUN), tags=tags)
    recorder.params(**as_recorded(stage_config), **base_weights())
    recorder.datasets(dvc_hashes(reads.values()))
    status: tracking.Status = "FAILED"
    try:
        with usage.watched(lambda number, values: recorder.metrics(values, number)):
            yield recorder
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        recorder.metrics({"peak_memory_mb": usage.peak_memory_mb()})
        recorder.end(status)


def as_recorded(stage_config: Config) -> dict[str, Any]:
    """Return the settings of a stage in the form for its MLflow run: full name → value."""
    return {name: _portable(value) for name, value in flat(stage_config.model_dump())}


def base_weights() -> dict[str, str]:
    """Return the digest of the base on disk for the MLflow run; empty without a base. The base decides how long a stage takes."""
    try:
        return {"base_weights": json.loads(BASE_CARD.read_text(encoding="utf-8"))["weights"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _portable(value: Any) -> Any:
    """Return the value without paths of this machine: an absolute path is replaced by its last part."""
    if isinstance(value, Path):
        return value.name if value.is_absolute() else value.as_posix()
    if isinstance(value, Mapping):
        return {name: _portable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(inner) for inner in value]
    return value


def dvc_hashes(paths: Iterable[Path]) -> dict[str, str]:
    """Return DVC's hash of each path that is an output of a stage. DVC commits the inputs of a stage before it starts."""
    try:
        text = Path("dvc.lock").read_text()
        lock = yaml.load(text, config_file.LOADER) if text.endswith("\n") else {}
        hashes = {out["path"]: out["md5"] for entry in lock["stages"].values() for out in entry["outs"]}
    except (FileNotFoundError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}  # another DVC process is writing the file; an incomplete file is no error of this stage
    return {str(path): hashes[str(path)] for path in paths if str(path) in hashes}
