"""`ratchet plan`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.estimates import Estimate
    from flows.graph import Step


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

    from flows import estimates, graph
    from tasks import settings

    settings.load()
    steps = graph.plan(stages or [])
    taken = estimates.of([step.stage for step in steps if step.state in ("run", "may change")])
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


def _summary(steps: "Sequence[Step]", taken: "Mapping[str, Estimate]") -> list[str]:
    """What all of it takes, one stage after the other, and what the figures rest on."""
    from flows.estimates import WORDS, Range, as_size, as_time

    waiting = [step for step in steps if step.state in ("run", "may change")]
    if not waiting:
        return []
    known = [(step.state == "run", taken[step.stage]) for step in waiting if step.stage in taken]
    lines = [""]
    if known:
        sure = [one for runs, one in known if runs]
        every = [one for _, one in known]
        total = Range(sum(one.seconds.low for one in sure), sum(one.seconds.high for one in every))
        memory = [one.memory_mb for one in every if one.memory_mb]
        disk = [one.disk_mb for one in every if one.disk_mb]
        parts = [f"one after the other {as_time(total)}"]
        if memory:
            parts.append(f"at most {as_size(Range(*[max(one.high for one in memory)] * 2))} of memory at a time")
        if disk:
            parts.append(f"up to {as_size(Range(*[sum(one.high for one in disk)] * 2))} of new files")
        lines.append(f"Together: {', '.join(parts)}.")
        rests_on = dict.fromkeys(one.source for one in every)
        lines.append("Figures rest on " + ", ".join(f"{_MARKS[name]} {WORDS[name]}" for name in rests_on) + ".")
    if lacking := [step.stage for step in waiting if step.stage not in taken]:
        lines.append(f"Nothing is known yet of what these take: {', '.join(lacking)}.")
    return lines


_MARKS = {"equal settings": "=", "other settings": "~", "tokens × parameters": "?"}


def _figures(one: "Estimate | None") -> str:
    from flows.estimates import as_size, as_time

    if one is None:
        return "–"
    parts = [f"{_MARKS[one.source]} {as_time(one.seconds)}"]
    parts += [as_size(found) for found in (one.memory_mb, one.disk_mb) if found]
    return "  ".join(parts) + "  "
