"""`ratchet plan`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.execution.dvc.forecast import Step
    from flows.execution.estimates import StageEstimate


def plan(
    stages: Annotated[list[str] | None, typer.Argument(help="Only these stages and what they need.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for other programs.")] = False,
) -> None:
    """Say what a run would do to each stage, why, and what that takes: time, memory and disk.

    run, restored (from DVC's cache), unchanged, or may change (as a stage before it runs). Figures are those of earlier runs that
    MLflow remembers; without any they follow from tokens × parameters, or are left out.

    Example: ratchet plan --json
    """
    import dataclasses
    import json

    from flows.execution import estimates
    from flows.execution.dvc import forecast
    from tasks import configuration

    configuration.load()
    steps = forecast.plan(stages or [])
    taken = estimates.for_stages([step.stage for step in steps if step.state in ("run", "may change")])
    if as_json:
        rows = [
            dataclasses.asdict(step)
            | {"estimate": dataclasses.asdict(taken[step.stage]) if step.stage in taken else None}
            for step in steps
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max((len(step.stage) for step in steps), default=0)
    for step in steps:
        figures = f"{_figures(taken.get(step.stage)):<34}" if taken else ""
        typer.echo(f"{step.stage:<{width}}  {step.state:<10}  {figures}{'; '.join(step.why)}".rstrip())
    for line in _summary(steps, taken):
        typer.echo(line)


def _summary(steps: "Sequence[Step]", taken: "Mapping[str, StageEstimate]") -> list[str]:
    """Return the sum over the stages, one after the other, and the basis of the figures."""
    from flows.execution.estimates import BASIS_IN_WORDS, Range, as_size, as_time

    waiting = [step for step in steps if step.state in ("run", "may change")]
    if not waiting:
        return []
    estimated = [step for step in waiting if step.stage in taken]
    lines = [""]
    if estimated:
        estimates = [taken[step.stage] for step in estimated]
        certain = [taken[step.stage] for step in estimated if step.state == "run"]
        total = Range(sum(one.seconds.low for one in certain), sum(one.seconds.high for one in estimates))
        memory = [one.memory_mb for one in estimates if one.memory_mb]
        disk = [one.disk_mb for one in estimates if one.disk_mb]
        parts = [f"one after the other {as_time(total)}"]
        if memory:
            parts.append(f"at most {as_size(Range(*[max(one.high for one in memory)] * 2))} of memory at a time")
        if disk:
            parts.append(f"up to {as_size(Range(*[sum(one.high for one in disk)] * 2))} of new files")
        lines.append(f"Together: {', '.join(parts)}.")
        bases = dict.fromkeys(one.source for one in estimates)
        lines.append(
            "Figures rest on " + ", ".join(f"{_MARKS[basis]} {BASIS_IN_WORDS[basis]}" for basis in bases) + "."
        )
    if lacking := [step.stage for step in waiting if step.stage not in taken]:
        lines.append(f"Nothing is known yet of what these take: {', '.join(lacking)}.")
    return lines


_MARKS = {"equal settings": "=", "other settings": "~", "tokens × parameters": "?"}


def _figures(estimate: "StageEstimate | None") -> str:
    from flows.execution.estimates import as_size, as_time

    if estimate is None:
        return "–"
    parts = [f"{_MARKS[estimate.source]} {as_time(estimate.seconds)}"]
    parts += [as_size(megabytes) for megabytes in (estimate.memory_mb, estimate.disk_mb) if megabytes]
    return "  ".join(parts) + "  "
