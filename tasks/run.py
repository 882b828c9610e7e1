"""The one runner of every stage: `python -m tasks.run STAGE [ITEM]`, which is what dvc.yaml calls.

It does what is the same for all: the stage's lock, death with its parent, typed settings, the MLflow run, and outputs that
appear by a rename as the last act. Nothing it does may change an output. A stage whose inputs, settings and code equal those of
another of its items takes over what that one has made: a round that changed nothing costs nothing.
"""

import fcntl
import importlib
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tasks import settings
from tasks.core import environment, imports
from tasks.core.nested import flat
from tasks.core.training import in_words
from tasks.io import locks, outputs, process, progress, provenance, run_store, tracking

T = TypeVar("T")
SCRATCH = Path(".ratchet")
WORK = SCRATCH / "work"
"""Where stages keep what they need to go on after a kill."""


def main(arguments: list[str]) -> int:
    """Run one stage; the exit code says whether its outputs are there."""
    if not 1 <= len(arguments) <= 2:
        progress.say(f"usage: python -m tasks.run STAGE [ITEM]\nstages: {', '.join(settings.stage_names())}")
        return 2
    stage, item = arguments[0], arguments[1] if len(arguments) == 2 else None
    return process.run(lambda: run_stage(stage, item), f"{_name(stage, item)} stopped: ")


def run_stage(stage: str, item: str | None) -> None:
    """Run a stage under its lock and its MLflow run, and rename its outputs into place."""
    if stage not in settings.stage_names():
        raise ValueError(f"There is no stage {stage!r}. There are: {', '.join(settings.stage_names())}.")
    everything = settings.load()
    reads, writes = settings.files(stage, item, everything)
    for name, path in reads.items():
        if not path.exists():
            raise FileNotFoundError(
                f"{path} ({name}) is missing. `dvc repro {_name(stage, item)}` makes what comes first."
            )
    own = settings.for_stage(stage, everything)
    if compute := getattr(own, "compute", None):
        process.set_threads(compute)
    if _rank() > 0:
        _assist(stage, item, reads, list(writes), own, settings.key(stage, item, everything))
        return
    run_store.check()
    key = settings.key(stage, item, everything)
    provenance.save_digests()
    with _lock(_name(stage, item)), _turn(stage, item, key):
        partial = outputs.prepare(writes)
        equal = _taken_over(stage, item, key, everything, partial)
        if not equal:
            _share_out(stage, item, everything)
        with _open_run(stage, item, key, own, reads, list(settings.parts(stage, everything).values())) as recorder:
            run = StageRun(stage, item, key, recorder)
            if equal:
                run.note(taken_over_from=equal)
                run.say(
                    f"{_name(stage, item)}: its inputs, settings and code are those of {equal}, whose outputs it takes over"
                )
            else:
                code(stage).main(reads, partial, own, run)
            run.log(None, output_mb=sum(map(outputs.size, partial.values())) / 2**20)
            outputs.publish(partial, writes)
            if item is not None:
                outputs.remember(_name(stage, item), key, writes)
                provenance.save_digests()


def code(stage: str) -> Any:
    """The module of a stage."""
    with imports.lasting():
        return importlib.import_module(f"tasks.stages.{stage}.stage")


def _rank() -> int:
    """The number of this process among those that share a training; 0 does what one process alone would do."""
    return int(os.environ.get(environment.RANK, "0"))


def _shared() -> bool:
    """Whether this is one of several processes that share a training."""
    return environment.RANK in os.environ


def _share_out(stage: str, item: str | None, everything: Any) -> None:
    """Where several processes are to share a training, become torchrun, which starts this runner in each of them."""
    if _shared() or not settings.declaration(stage).trains:
        return
    if (processes := everything.compute.processes) > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        arguments = [stage] if item is None else [stage, item]
        os.execv(sys.executable, [sys.executable, *launch, "-m", "tasks.run", *arguments])


def _taken_over(stage: str, item: str | None, key: str, everything: Any, partial: Mapping[str, Path]) -> str | None:
    """The stage (`tune@r0`) whose outputs stand at `partial` now, since it has the same key; None where there is none.

    Processes that share a training all take part in it: one of them alone cannot leave it out.
    """
    if item is None or _shared():
        return None
    items = getattr(everything, settings.declaration(stage).items or "")
    for other in (name for name in items if name != item):
        _, theirs = settings.files(stage, other, everything)
        if outputs.take_over(_name(stage, other), key, theirs, partial):
            return _name(stage, other)
    return None


def _assist(stage: str, item: str | None, reads: Mapping[str, Path], writes: list[str], own: Any, key: str) -> None:
    """Do a further process's share of a training. What is written, said and recorded is the first one's."""
    module = code(stage)
    with tempfile.TemporaryDirectory() as folder:
        module.main(reads, {name: Path(folder) / name for name in writes}, own, Assistant(stage, item, key, None))


class StageRun:
    """What a stage is handed (`tasks.core.stage.Run`): the console, the MLflow run, and a folder for unfinished work."""

    def __init__(self, stage: str, item: str | None, key: str, recorder: tracking.Recorder | None) -> None:
        self.item = item
        self._label, self._recorder = _name(stage, item), recorder
        # Another class of machine continues nobody's work: its last digits would differ.
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
    """What a further process of a training is handed: the same work folder, and nobody who listens."""

    def say(self, text: str) -> None:
        """Nothing: the first process says it."""

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
    """The stage as DVC names it."""
    return stage if item is None else f"{stage}@{item}"


@contextmanager
def _turn(stage: str, item: str | None, key: str) -> Iterator[None]:
    """One after the other, items with equal keys: the later ones find what the first has made."""
    if item is None or _shared():
        yield
        return
    path = SCRATCH / "turns" / f"{stage}-{key[:16]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"{_name(stage, item)}: an equal {stage} is at work; waiting for what it makes")
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # one that comes now may work beside one that waited: that costs time alone


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """One writer per stage and workspace."""
    try:
        with locks.exclusive(SCRATCH / "locks" / f"{name}.lock"):
            yield
    except locks.Taken as taken:
        raise RuntimeError(
            f"{taken.owner} is running this very stage ({taken.path}). Wait for it, or end it."
        ) from None


@contextmanager
def _open_run(
    stage: str, item: str | None, key: str, own: Any, reads: Mapping[str, Path], parts: list[str]
) -> Iterator[tracking.Recorder]:
    """The MLflow run of a stage, a child of its flow's run where a flow started it. It ends as what became of the stage."""
    name = _name(stage, item)
    tags = {
        "dvc.stage": name,
        "ratchet.key": key,
        "git.commit": provenance.commit(),
        "machine": " · ".join(f"{part} {value}" for part, value in provenance.machine_class().items()),
    }
    if flow := os.environ.get(environment.FLOW_RUN):
        tags["prefect.flow_run_id"] = flow
    title = " · ".join(filter(None, [name, in_words(parts), key[:8]]))
    recorder = tracking.Recorder(title, parent=os.environ.get(environment.PARENT_RUN), tags=tags)
    recorder.params(**as_recorded(own))
    recorder.datasets(_dvc_hashes(reads))
    status: tracking.Status = "FAILED"
    try:
        yield recorder
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        recorder.metrics({"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
        recorder.end(status)


def as_recorded(own: Any) -> dict[str, Any]:
    """The settings of a stage as its MLflow run has them: name in full → value."""
    return {name: _portable(value) for name, value in flat(own.model_dump())}


def _portable(value: Any) -> Any:
    """The value without the paths of this machine: of an absolute one the last name says enough."""
    if isinstance(value, Path):
        return value.name if value.is_absolute() else value.as_posix()
    if isinstance(value, Mapping):
        return {name: _portable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(inner) for inner in value]
    return value


def _dvc_hashes(reads: Mapping[str, Path]) -> dict[str, str]:
    """DVC's hash of each input that another stage made: those are committed before this stage starts."""
    try:
        text = Path("dvc.lock").read_text()
        lock = yaml.safe_load(text) if text.endswith("\n") else {}
        made = {out["path"]: out["md5"] for entry in lock["stages"].values() for out in entry["outs"]}
    except (FileNotFoundError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}  # another DVC is just writing it: what is half there is no fault of this stage
    return {str(path): made[str(path)] for path in reads.values() if str(path) in made}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
