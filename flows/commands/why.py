"""`ratchet why`."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands import _completion
from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.commands._comparisons import BisectedPart, WhyReport
    from flows.experiments.bisection import Part
    from flows.experiments.model_differences import Cause, MeasureChange, ModelRecord

UNLIKE = (
    "Items of the gate set: the two were measured under different settings of `evaluate`, or in different precisions, so that their figures "
    "do not compare. `ratchet promote` measures versions anew where it judges."
)


def why(
    first: Annotated[
        str,
        typer.Argument(help="A version's number, `champion`, or `candidate`.", autocompletion=_completion.versions),
    ],
    second: Annotated[str, typer.Argument(help="Another one.", autocompletion=_completion.versions)],
    bisect: Annotated[
        bool,
        typer.Option(
            "--bisect", help="If several stages differ, run hybrids of the two models and name the decisive stage."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Explain the difference between two models.

    Names the stages whose inputs differ, the stages that depend on them, and the gate-set items lost and won.

    Example: ratchet why 3 4, or ratchet why champion candidate --bisect
    """
    from dataclasses import replace

    from flows.commands import _terminal
    from flows.experiments import model_differences

    before, after = model_differences.load_record(first), model_differences.load_record(second)
    report = _report(before, after)
    if not as_json:
        for line in _lines(report):
            _terminal.show(line)
    if bisect:
        parts, conclusion = _bisect(before, after)
        return replace(report, bisection=[_part(part) for part in parts], conclusion=conclusion)
    if (parting := sum(bool(cause.effect) for cause in report.causes)) > 1 and not as_json:
        _terminal.show(
            f"{parting} stages differ independently, and no record shows the effect of each alone. To measure it on hybrid "
            f"models:\n  ratchet why {first} {second} --bisect"
        )
    return report


def _report(before: "ModelRecord", after: "ModelRecord") -> "WhyReport":
    """Return the report without a bisection."""
    from flows.commands._comparisons import WhyReport
    from flows.experiments import model_differences

    items = model_differences.item_changes(before, after)
    causes = list(model_differences.causes(before, after))
    machine = model_differences.machine_changes(before, after)
    alike = before.conditions == after.conditions
    return WhyReport(before.name, after.name, causes, machine, items, alike, bisection=None, conclusion=None)


def _lines(report: "WhyReport") -> Iterator[str]:
    """Yield the report in words."""
    yield f"From {report.before} to {report.after}."
    for cause in report.causes:
        if cause.effect:
            yield from _cause_lines(cause)
    for cause in report.causes:
        if not cause.effect:
            yield f"{cause.stage} gave the same output: {'; '.join(cause.what)}"
    if not report.causes:
        yield "No setting, code or data differs."
    yield from (f"machine: {line}" for line in report.machine)
    if report.items is not None and not report.measured_alike:
        yield UNLIKE
    else:
        yield from _item_lines(report.items)


def _cause_lines(cause: "Cause") -> Iterator[str]:
    yield f"{cause.stage}:"
    yield from (f"  {what}" for what in cause.what)
    if followers := cause.effect[1:]:
        yield f"  followed by {', '.join(followers)}"


def _item_lines(changes: "Sequence[MeasureChange] | None") -> Iterator[str]:
    """Yield, for each measure, the items lost and won in words."""
    from tasks.core.records import LOSSES

    if changes is None:
        yield "Items of the gate set: `ratchet promote` first, which counts it as a look at them."
        return
    if not changes:
        yield "Items of the gate set: the two have none in common, under one tokenizer and with one reference."
    for change in changes:
        yield f"{change.measure}: {change.lost} of {change.items} items lost, {change.won} won"
        for word, items in (("lost", change.most_lost), ("won", change.most_won)):
            for item in items:
                by = f"{item.worse_by:+.3f} nats/token" if change.measure in LOSSES else f"{-item.worse_by:+.3f}"
                yield f"  {word} {item.source} ({by})"


def _bisect(before: "ModelRecord", after: "ModelRecord") -> "tuple[list[Part], str]":
    """Run hybrids of the two. Returns the measured parts, and a sentence on the stage with the largest effect."""
    from flows.execution import cancellation, flow_runs, workspace_lease
    from flows.execution.cost import estimates
    from flows.experiments import bisection
    from tasks.io.system import progress

    groups = bisection.separable_causes(before, after)
    if not groups:
        conclusion = "No stage differs, so there is nothing to bisect."
        progress.say(conclusion)
        return [], conclusion
    with cancellation.handled(), workspace_lease.acquired():
        if reruns := bisection.stages_to_rerun(before, after):
            taken = estimates.for_stages(reruns)
            known = [taken[stage].seconds for stage in reruns if stage in taken]
            total = estimates.Range(sum(seconds.low for seconds in known), sum(seconds.high for seconds in known))
            progress.say(
                f"Hybrids to run, at most: {(len(groups) - 1).bit_length()}, each with {', '.join(reruns)}"
                f"{f' ({estimates.as_time(total)} each)' if known else ''}."
            )
        with flow_runs.recorded(title=f"why · {before.name} · {after.name}", command="ratchet why --bisect") as run:
            parts = []
            for part in bisection.bisect(before, after, run.id):
                progress.say(_line(part))
                parts.append(part)
    conclusion = _conclusion(parts)
    progress.say(conclusion)
    return parts, conclusion


def _part(part: "Part") -> "BisectedPart":
    from flows.commands._comparisons import BisectedPart, Interval

    stages = [cause.stage for cause in part.causes]
    return BisectedPart(stages, Interval.of(part.worse_by), part.items, part.is_certain)


def _line(part: "Part") -> str:
    rise = part.worse_by
    stages = ", ".join(cause.stage for cause in part.causes)
    return f"{stages}: loss {rise.value:+.4f} [{rise.low:+.4f}, {rise.high:+.4f}] nats/token on {part.items} test items"


def _conclusion(parts: "list[Part]") -> str:
    total, last = parts[0], parts[-2:]
    if not total.is_certain:
        return "The two do not differ significantly on the test set, so there is no cause to find. Nothing was run."
    if math.isfinite(total.worse_by.value) and not math.isfinite(last[0].worse_by.value):
        first, later = (", ".join(cause.stage for cause in part.causes) for part in last)
        return (
            f"The changes of {first} and of {later} do not work apart: the hybrid with all changes from {last[1].causes[0].stage} on, and "
            "none before, diverges, so that neither is named as the cause."
        )
    largest = max(last, key=lambda part: abs(part.worse_by.value))
    stages = ", ".join(cause.stage for cause in largest.causes)
    if not math.isfinite(total.worse_by.value):
        return f"The cause: {stages}. One of the two diverged, so that no share of the difference can be told."
    share = largest.worse_by.value / total.worse_by.value
    if not largest.is_certain:
        return f"No stage alone has a significant effect; {stages} has the largest share, {share:.0%}."
    return f"The cause: {stages}, with {share:.0%} of the difference."
