"""`ratchet plan`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands import _completion
from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.execution.cost.estimates import Range, StageEstimate
    from flows.execution.dvc.forecast import Step
    from tasks.configuration import PipelineConfig

COLOURS = {"run": "yellow", "restored": "cyan", "unchanged": "green", "may change": "magenta"}
LESS = " More processes with compute.fsdp, activation_checkpointing, or an adapter take less."
"""What reduces the GPU memory of a training."""


def plan(
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="Only these stages and what they need.", autocompletion=_completion.stages),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Estimate for GPUs of this kind, by their data sheet: H100, A100, L4 …"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Say what a run would do to each stage, why, and how long it takes.

    A stage will run, be restored (from DVC's cache), stay unchanged, or may change (because an earlier stage runs). Time, memory and
    disk come from earlier runs in MLflow. Without any, they are estimated from the tokens, the model size and the speed of this
    machine, which is measured once, in some seconds; the memory of a training is counted by a pass over a few tokens.

    With --gpu, every figure is for `compute.processes` GPUs of that kind, and memory is per GPU. Figures come from the vendor's data sheet
    and assumed shares of its peak, so no such machine is needed.

    Example: ratchet plan --json, or ratchet plan --gpu H100
    """
    from flows.commands import _terminal
    from flows.commands._plan_report import PlannedStage, PlanReport
    from flows.execution.cost import estimates, memory_counts
    from flows.execution.dvc import forecast
    from tasks import configuration

    config = configuration.load()
    steps = forecast.plan(stages or [])
    waiting = [step.stage for step in steps if step.state in ("run", "may change")]
    by_stage = estimates.on_gpus(waiting, gpu) if gpu else memory_counts.refined(estimates.for_stages(waiting), config)
    if not as_json:
        _show(steps, by_stage, config)
        for line in _remarks(by_stage, gpu, config) if gpu else ():
            _terminal.show(line)
    total = _total(steps, by_stage)
    planned = [
        PlannedStage(step.stage, step.state, step.why, step.upstream, _host(step, config), by_stage.get(step.stage))
        for step in steps
    ]
    return PlanReport(planned, total)


def _remarks(by_stage: "Mapping[str, StageEstimate]", gpu: str, config: "PipelineConfig") -> Iterator[str]:
    """Yield a sentence for each stage that needs more than the GPU's memory, and one if the estimates are of another precision."""
    from flows.execution.cost import gpu_plan
    from flows.execution.cost.estimates import MB, as_size
    from tasks import configuration

    room = gpu_plan.gpu(gpu).gigabytes
    for stage, estimate in by_stage.items():
        if estimate.memory_mb and estimate.memory_mb.low * MB > room * 1e9:
            sentence = f"{stage}: {as_size(estimate.memory_mb)} do not fit into the {room} GB of a {gpu}."
            trains = configuration.declaration(stage.partition("@")[0]).trains
            yield sentence + (LESS if trains else "")
    if by_stage and config.compute.precision == "fp32":
        yield "Times are those of bf16, and compute.precision is fp32, in which a GPU takes several times as long."


def _host(step: "Step", config: "PipelineConfig") -> str | None:
    declared = config.resources.get(step.stage.partition("@")[0])
    return declared.host if declared else None


def _show(steps: "Sequence[Step]", by_stage: "Mapping[str, StageEstimate]", config: "PipelineConfig") -> None:
    from flows.commands import _terminal

    rows = [
        (step.stage, step.state, *_figures(by_stage.get(step.stage), any_known=bool(by_stage)), _reasons(step, config))
        for step in steps
    ]
    _terminal.show_table(rows, COLOURS)
    for line in _summary(steps, by_stage):
        _terminal.show(line)


def _reasons(step: "Step", config: "PipelineConfig") -> str:
    """Return the reasons of a step, after the host that would run it."""
    host = _host(step, config)
    return f"on {host}: {step.reasons}" if host and step.state != "unchanged" else step.reasons


def _total(steps: "Sequence[Step]", by_stage: "Mapping[str, StageEstimate]") -> "Range | None":
    """Return the seconds of all stages with an estimate, one after the other; the low end leaves out stages that may not run."""
    from flows.execution.cost.estimates import Range

    estimated = [(step.state, by_stage[step.stage].seconds) for step in steps if step.stage in by_stage]
    if not estimated:
        return None
    return Range(
        sum(seconds.low for state, seconds in estimated if state == "run"),
        sum(seconds.high for _, seconds in estimated),
    )


def _summary(steps: "Sequence[Step]", by_stage: "Mapping[str, StageEstimate]") -> Iterator[str]:
    """Yield the sum over the stages, one after the other, and the basis of the figures."""
    from flows.execution.cost.estimates import BASIS_IN_WORDS, Range, as_size, as_time

    waiting = [step for step in steps if step.state in ("run", "may change")]
    if not waiting:
        return
    yield ""
    if total := _total(steps, by_stage):
        estimates = list(by_stage.values())
        memory = [one.memory_mb for one in estimates if one.memory_mb]
        disk = [one.disk_mb for one in estimates if one.disk_mb]
        parts = [f"one after the other {as_time(total)}"]
        if memory:
            parts.append(f"at most {as_size(Range(*[max(one.high for one in memory)] * 2))} of memory at a time")
        if disk:
            parts.append(f"up to {as_size(Range(*[sum(one.high for one in disk)] * 2))} of new files")
        yield f"Together: {', '.join(parts)}."
        bases = dict.fromkeys(one.source for one in estimates)
        yield "Figures rest on " + ", ".join(f"{_MARKS[basis]} {BASIS_IN_WORDS[basis]}" for basis in bases) + "."
        if "machine speed" in bases and (load := _load()):
            yield load
    if lacking := [step.stage for step in waiting if step.stage not in by_stage]:
        yield f"Nothing is known yet of what these take: {', '.join(lacking)}."


def _load() -> str:
    """Return a remark where other work keeps this machine busy; empty where it is idle."""
    import os

    from flows.execution import resources
    from tasks import configuration

    load, cores = os.getloadavg()[0], resources.machine().cores
    if load <= cores:
        return ""
    factor = (load + configuration.load().compute.threads) / cores
    return (
        f"Other work keeps this machine busy (load {load:.0f} on {cores} cores): as long as it lasts, a run takes at least "
        f"{factor:.0f} times as long."
    )


_MARKS = {"equal settings": "=", "other settings": "~", "machine speed": "?", "data sheet": "?"}


def _figures(estimate: "StageEstimate | None", *, any_known: bool) -> tuple[str, str]:
    """Return the time of a stage, and its memory and disk."""
    from flows.execution.cost.estimates import as_size, as_time

    if estimate is None:
        return ("–" if any_known else ""), ""
    sizes = {"memory": estimate.memory_mb, "disk": estimate.disk_mb}
    told = ", ".join(f"{as_size(megabytes)} {name}" for name, megabytes in sizes.items() if megabytes)
    return f"{_MARKS[estimate.source]} {as_time(estimate.seconds)}", told
