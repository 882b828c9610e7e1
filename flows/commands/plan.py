"""`ratchet plan`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.estimates import Estimate, Range
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
    from flows.estimates import Range

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
        parts = [f"one after the other {_time(total)}"]
        if memory:
            parts.append(f"at most {_size(Range(*[max(one.high for one in memory)] * 2))} of memory at a time")
        if disk:
            parts.append(f"up to {_size(Range(*[sum(one.high for one in disk)] * 2))} of new files")
        lines.append(f"Together: {', '.join(parts)}.")
        rests_on = dict.fromkeys(one.source for one in every)
        lines.append("Figures rest on " + ", ".join(f"{_MARKS[name]} {_WORDS[name]}" for name in rests_on) + ".")
    if lacking := [step.stage for step in waiting if step.stage not in taken]:
        lines.append(f"Nothing is known yet of what these take: {', '.join(lacking)}.")
    return lines


_MARKS = {"equal settings": "=", "other settings": "~", "tokens × parameters": "?"}
_WORDS = {
    "equal settings": "earlier runs with these settings",
    "other settings": "earlier runs with other settings, in proportion to the tokens",
    "tokens × parameters": "tokens × parameters, for want of runs",
}


def _figures(one: "Estimate | None") -> str:
    if one is None:
        return "–"
    parts = [f"{_MARKS[one.source]} {_time(one.seconds)}"]
    parts += [_size(found) for found in (one.memory_mb, one.disk_mb) if found]
    return "  ".join(parts) + "  "


def _time(found: "Range") -> str:
    """`40–70 s`, `3–5 min`, `1.2–2.0 h`."""
    unit, seconds = next((u, s) for u, s, most in _UNITS if found.high < most)
    return _between(found.low / seconds, found.high / seconds, unit)


def _size(found: "Range") -> str:
    """`300–800 MB`, `1.2–3.0 GB`."""
    unit, mb = ("MB", 1) if found.high < 1000 else ("GB", 1024)
    return _between(found.low / mb, found.high / mb, unit)


def _between(low: float, high: float, unit: str) -> str:
    first, last = (f"{value:.0f}" if value >= 10 or unit in ("s", "MB") else f"{value:.1f}" for value in (low, high))
    return f"{last} {unit}" if first == last else f"{first}–{last} {unit}"


_UNITS = (("s", 1, 100), ("min", 60, 6000), ("h", 3600, float("inf")))
