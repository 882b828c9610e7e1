"""`ratchet sweep`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.commands import _completion
from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.commands._comparisons import SweepReport, SweptPoint
    from flows.experiments.sweeps.outcome import Tested
    from flows.experiments.sweeps.sweep import Row, Sweep


def sweep(
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="SETTING=VALUES",
            help="Values of a training setting: `8,16,32`; `0..4`, integers; `1e-4..1e-2`, a span to sample from. For `tune.seed`: "
            "the seeds that each point is trained with.",
            autocompletion=_completion.settings,
        ),
    ],
    metric: Annotated[
        str, typer.Option(help="The figure that selects the best; never one of the test set.")
    ] = "validation",
    stop: Annotated[
        str | None,
        typer.Option(
            help="Begin no further point after a time (`30m`), or once a point reaches a value (`validation=2.1`)."
        ),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of each training.")] = None,
    sampler: Annotated[
        Literal["grid", "random", "tpe"],
        typer.Option(help="grid: all points. random: some. tpe: an optimiser's choice."),
    ] = "grid",
    trials: Annotated[int | None, typer.Option(min=1, help="Points to draw (20).")] = None,
    take: Annotated[bool, typer.Option("--take", help="Write the best into params.yaml.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Print the cost and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Vary settings of a training, and find the best by its validation loss.

    The cost is printed first. Each trial is trained once: an interrupted sweep resumes where it stopped. Only the best is measured on
    the test set.

    Example: ratchet sweep --set methods.lora.rank=8,16,32 --set tune.seed=0..2
    """
    from flows.experiments import recipes
    from flows.experiments.sweeps import axes
    from flows.experiments.sweeps import sweep as sweeps

    made = sweeps.make(axes.read(settings), metric=metric, stop=stop, tokens=tokens, sampler=sampler, trials=trials)
    report = _cost(made)
    if dry:
        return report
    recipes.check_test(made.stage)
    return _run(made, report, take=take, as_json=as_json)


def _cost(made: "Sweep") -> "SweepReport":
    """Print the cost of a sweep, and return its report so far."""
    from flows.commands._comparisons import SweepReport
    from flows.execution.cost import estimates
    from flows.experiments.logs.records import counted
    from flows.experiments.sweeps import sweep as sweeps
    from tasks.io.system import progress

    points = sweeps.number_of_points(made)
    left = len(sweeps.missing(made))
    duration = sweeps.duration(made)
    time = f" Time: {estimates.as_time(duration[0])}, by {estimates.BASIS_IN_WORDS[duration[1]]}." if duration else ""
    done = 0 if made.adapts else len(sweeps.different(made)) - left
    progress.say(
        f"{made.name}: {points} points, each with {len(made.seeds)} {'seeds' if len(made.seeds) > 1 else 'seed'}; {counted(left, 'training')}"
        f"{f' ({done} are there)' if done > 1 else ' (1 is there)' if done else ''}, and the best is measured on the test set.{time}"
    )
    return SweepReport(
        name=made.name,
        stage=made.stage,
        metric=made.metric,
        seeds=list(made.seeds),
        trainings=left,
        seconds=duration[0] if duration else None,
        points=None,
        best=None,
        test=None,
        taken=False,
        folder=None,
    )


def _run(made: "Sweep", report: "SweepReport", *, take: bool, as_json: bool) -> "SweepReport":
    """Run the trials, write and show their table, and return the whole report."""
    from dataclasses import replace

    from flows.commands import _terminal
    from flows.commands._comparisons import Interval, SweptTest
    from flows.execution import flow_runs
    from flows.experiments.sweeps import outcome
    from flows.experiments.sweeps import sweep as sweeps

    with flow_runs.recorded(title=f"sweep · {made.name}", command=f"ratchet sweep {made.name}") as run:
        rows = sweeps.run(made, run.id)
        winner = sweeps.best(made, rows)
        tested = outcome.test(made, *sweeps.measure(made, winner, run.id)) if winner else None
    below = [*outcome.notes(made, rows), _conclusion(winner, tested)]
    folder = outcome.save(made, rows, below)
    if winner and take:
        outcome.take(made, winner.point)
    if not as_json:
        table = outcome.table(made, rows)
        width = _terminal.columns()
        is_narrow = width is not None and max(map(len, table.splitlines())) > width
        _terminal.show(_terminal.stacked(table) if is_narrow else table)
        for line in ("", *below, "", f"Table, picture and figures: {folder}", *_next(winner, made, taken=take)):
            _terminal.show(line, hanging=0)
    return replace(
        report,
        points=[_point(row, winner) for row in outcome.ranked(made, rows)],
        best=winner.point if winner else None,
        test=SweptTest(Interval.of(tested.loss), Interval.of(tested.gain)) if tested else None,
        taken=take and winner is not None,
        folder=str(folder),
    )


def _conclusion(winner: "Row | None", tested: "Tested | None") -> str:
    from flows.experiments.sweeps import outcome

    return (
        outcome.test_line(tested) if tested else "Every point diverged: there is no best. Try smaller learning rates."
    )


def _next(winner: "Row | None", made: "Sweep", *, taken: bool) -> Sequence[str]:
    from flows.experiments.sweeps import sweep as sweeps

    if winner is None:
        return []
    if taken:
        return [f"params.yaml has {sweeps.in_words(winner.point)} now. `ratchet plan` shows what that changes."]
    return [f"The best is {sweeps.in_words(winner.point)}. The same command with --take writes it into params.yaml."]


def _point(row: "Row", winner: "Row | None") -> "SweptPoint":
    from flows.commands._comparisons import Interval, SweptPoint
    from flows.experiments.sweeps import outcome

    interval = outcome.spread(row.values)
    difference = outcome.against_best(row, winner) if winner else None
    return SweptPoint(
        settings=row.point,
        value=row.mean,
        by_seed=row.values,
        interval=Interval.of(interval) if interval else None,
        against_best=Interval.of(difference) if difference else None,
        folders=[str(folder) for folder in row.folders],
    )
