"""One trial of a comparison, in a process of its own: `python -m tasks.run_trial FOLDER`.

The folder holds `params.yaml`, the config of the trial, and `trial.json`: the stage that trains (none for the base alone, and for a
model that another trial kept), and whether the model is measured on the test sets. `result.json` is written to it, and then the
model is removed unless it is to be kept: a comparison of full models would fill a disk.
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
    """Run the trial in a folder, and return the exit code. `forked`: in a child of the fork server."""
    return process.run(lambda: main(Path(arguments[0])), forked=forked)


def main(folder: Path) -> None:
    """Train and measure as the folder says, and write the result, unless another process has done so by the time that it lets the folder go."""
    with _alone(folder):
        if not (folder / RESULT).is_file():
            _make(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a trial's folder. Waits for another process that has it: a command that was started twice, or the child of one that was killed."""
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
                    progress.say(f"{taken.owner} is at work on the trial in {folder}. This one waits for it.")
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
    """Return the config whose only model is the trial's, by which `evaluate` finds it."""
    is_trained = trial["stage"] or trial["trained"]
    path = measured(Path(trial["trained"] or folder) / MODEL) if is_trained else trial["base"]
    model = Model(group="compare", path=str(path), base=trial["base"])
    return config.model_copy(update={"models": {"trial": model}})


def measured(model: Path) -> Path:
    """Return the folder that a training is measured by: its model, or the one adapter of the bank beside a base that passed through.

    Raises ValueError for a bank of several.
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
    """A run that records the time at which each optimizer step ended, in seconds of a clock, and the steps that a validation followed."""

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
    """Return tokens trained per second, each step timed from the end of the one before; None if no step can be timed.

    `losses` are the rows (step, tokens so far, loss) of a training. A step after a checkpoint or a validation is left out: it would
    be charged with these. So are the first one, with all that comes before, and what another process has made.
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
    """Return the peak memory in MB: of the GPU if it computes, else of this process."""
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
