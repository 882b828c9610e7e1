"""Run one trial of a comparison in a process of its own: `python -m tasks.run_trial FOLDER`.

The folder holds `params.yaml`, the config of the trial, and `trial.json`, which says which stage trains (none for the base, and for a model that
another trial kept) and whether the model is measured on the test sets. The trial writes `result.json` to the folder, and then removes the model
unless `trial.json` asks to keep it, because the models of a comparison would fill a disk.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core import environment
from tasks.core.stage import Model
from tasks.io.runs import tracking
from tasks.io.system import files, locks, process, progress, usage
from tasks.io.weights import banks, checkpoints
from tasks.runner import StageRun, code

RESULT, MODEL, LOCK = "result.json", "model", ".lock"
PACE_S = 0.5
ITEM = "r0"


def run(arguments: list[str], *, forked: bool = False) -> int:
    """Run the trial in a folder, and return the exit code. `forked`: True in a child of the fork server."""
    return process.run(lambda: main(Path(arguments[0])), forked=forked)


def main(folder: Path) -> None:
    """Train and measure as the folder says, and write the result. Do nothing if another process, which held the folder, has written it."""
    with _alone(folder):
        if not (folder / RESULT).is_file():
            _make(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a trial's folder. Wait for another process that holds it: a second command, or the child of a killed one."""
    with ExitStack() as stack:
        told = False
        while True:
            try:
                stack.enter_context(locks.exclusive(folder.with_suffix(LOCK)))
                break
            except locks.Taken as taken:
                if taken.owner.elsewhere:
                    raise RuntimeError(f"{taken}. If nothing works there any more: rm {taken.path}") from None
                if not told:
                    progress.say(f"{taken.owner} is running the trial in {folder}. This one waits for it.")
                told = True
            time.sleep(PACE_S)
        yield


def _make(folder: Path) -> None:
    trial = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    config = configuration.load(folder / "params.yaml")
    process.set_threads(config.compute)
    recorder = tracking.Recorder(trial["title"], parent=os.environ.get(environment.PARENT_RUN), tags=trial["tags"])
    recorder.params(**trial["facts"])
    status: tracking.Status = "FAILED"
    try:
        result = _train(trial["stage"], folder, config, recorder) if trial["stage"] else {}
        if trial["trained"]:
            result = json.loads((Path(trial["trained"]) / RESULT).read_text(encoding="utf-8"))
        if trial["test"]:
            result |= _test(folder, _with_model(trial, folder, config), recorder)
        recorder.metrics({name: value for name, value in result.items() if isinstance(value, int | float)})
        files.write_atomically(folder / RESULT, json.dumps(result, indent=1) + "\n")
        if not trial["keeps_model"]:
            shutil.rmtree(folder / MODEL, ignore_errors=True)
        status = "FINISHED"
    finally:
        recorder.end(status)


def _with_model(trial: Mapping[str, Any], folder: Path, config: PipelineConfig) -> PipelineConfig:
    """Return the config with the trial's model as its only model, so that `evaluate` finds it."""
    is_trained = trial["stage"] or trial["trained"]
    path = measured(Path(trial["trained"] or folder) / MODEL) if is_trained else trial["base"]
    model = Model(group="compare", path=str(path), base=trial["base"])
    return config.model_copy(update={"models": {"trial": model}})


def measured(model: Path) -> Path:
    """Return the folder to measure: the trained model, or the only adapter of a bank whose base passed through unchanged.

    Raises ValueError for a bank with several adapters.
    """
    bank = model / checkpoints.BANK
    if not checkpoints.is_bank(bank):
        return model
    members = banks.members(bank)
    if len(members) > 1:
        raise ValueError(
            f"pretrain.bank: a comparison measures one model, and there are adapters of {', '.join(members)}. Name the texts of one domain."
        )
    (member,) = members.values()
    return bank / member.folder


class TimedRun(StageRun):
    """A run that records the time at which each optimizer step ended, in seconds of `clock`, and the steps after which it validated."""

    def __init__(self, *args: Any, clock: Callable[[], float]) -> None:
        super().__init__(*args)
        self.ends: dict[int, float] = {}
        self.validated: set[int] = set()
        self._clock = clock

    def log(self, step: int | None = None, **metrics: float) -> None:
        super().log(step, **metrics)
        if step is None:
            return
        if "train/loss" in metrics:
            self.ends[step] = self._clock()
        else:
            self.validated.add(step)


def speed(
    ends: Mapping[int, float],
    losses: Sequence[tuple[int, int, float]],
    save_every: int,
    validated: Collection[int] = (),
) -> float | None:
    """Return the tokens trained per second. Each step is timed from the end of the one before; None if no step can be timed.

    `losses` are the rows (step, tokens so far, loss) of a training. Steps after a checkpoint or a validation are left out, since their time
    would include it. So are the first step, whose time would include the start, and steps by an earlier process.
    """
    seen = {step: tokens for step, tokens, _ in losses}
    before = [
        step
        for step in ends
        if step + 1 in ends and step not in validated and not (save_every and step % save_every == 0)
    ]
    seconds = sum(ends[step + 1] - ends[step] for step in before)
    return sum(seen[step + 1] - seen[step] for step in before) / seconds if seconds else None


def _train(stage: str, folder: Path, config: PipelineConfig, recorder: tracking.Recorder) -> dict[str, Any]:
    if not getattr(config, stage).valid_tokens:
        raise ValueError(f"{stage}.valid_tokens is 0, and learning rates are chosen by the validation loss.")
    item = ITEM if configuration.declaration(stage).items else None
    clock = time.process_time if config.compute.device == "cpu" else time.perf_counter
    run = TimedRun(stage, item, configuration.key(stage, item, config), recorder, clock=clock)
    reads, _ = configuration.files(stage, item, config)
    model = folder / MODEL
    shutil.rmtree(model, ignore_errors=True)
    code(stage).main(reads, {"model": model}, configuration.for_stage(stage, config), run)
    course = json.loads((model / "training.json").read_text(encoding="utf-8"))
    shutil.rmtree(run.work)
    last = {name: points[-1][1] for name, points in course["measured"].items()}
    return {
        "validation": last.get("validation", last.get("domain")),
        "validated_on": course["validated_on"],
        "measured": course["measured"],
        "trainable": course["trainable"],
        "active": course["active"],
        "tokens": course["tokens"],
        "tokens_per_s": speed(run.ends, course["loss"], getattr(config, stage).save_every, run.validated),
        "peak_memory_mb": _peak_memory(config.compute.device),
        "bytes": sum(file.stat().st_size for file in measured(model).glob("*.safetensors")),
    }


def _peak_memory(device: str) -> float:
    """Return the peak memory in MB, of the GPU if it is used, else of this process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    return usage.peak_memory_mb()


def _test(folder: Path, config: PipelineConfig, recorder: tracking.Recorder) -> dict[str, Any]:
    name = next(iter(config.models))
    run = StageRun("evaluate", name, "compare", recorder)
    reads, _ = configuration.files("evaluate", name, config)
    writes = {"metrics": folder / "metrics.json", "results": folder / "results.parquet"}
    code("evaluate").main(reads, writes, configuration.for_stage("evaluate", config), run)
    metrics: dict[str, Any] = json.loads(writes["metrics"].read_text(encoding="utf-8"))
    return {"metrics": metrics}


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
