"""`ratchet compare`."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands import _completion
from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.commands._comparisons import ComparedComposition, CompareReport
    from flows.execution.cost.estimates import Basis, Range
    from flows.experiments.recipes import Recipe
    from flows.experiments.results_table import Row


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            help="A file of params/compare, or methods to compare.", autocompletion=_completion.compositions
        ),
    ],
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each at its best learning rate.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of each training.")] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Print the cost and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Compare compositions of methods on this workspace's data, at equal tokens.

    Each gets its own best learning rate, chosen on validation. The cost is printed first. An interrupted comparison resumes. Each
    trial is a run in MLflow.

    Example: ratchet compare lora loldu s2ft lisa --seeds 3
    """
    from flows.experiments import recipes
    from tasks.io.system import progress

    name, recipe = recipes.read(names, seeds=seeds, tokens=tokens)
    recipes.check_inputs(recipe.stage, recipe.profile)
    report = _cost(name, recipe)
    if not recipes.has_data_of(recipe.profile):
        progress.say(
            f"{name} is written for profile {recipe.profile}, but params.yaml has other data or another model, and the figures are for those."
        )
    if dry:
        return report
    recipes.check_test(recipe.stage, recipe.profile)
    return _measure(name, recipe, report, as_json=as_json)


def _cost(name: str, recipe: "Recipe") -> "CompareReport":
    """Print the cost of a comparison, and return its report so far."""
    from flows.commands._comparisons import CompareReport
    from flows.experiments import search, trials
    from flows.experiments.logs.records import counted
    from tasks.io.system import progress

    searched = len(search.grid(recipe))
    finals = len(recipe.compositions) * len(recipe.seeds)
    cost = searched * (recipe.search_tokens or recipe.tokens) + finals * recipe.tokens
    duration = trials.duration(recipe)
    progress.say(
        f"{name}: {counted(len(recipe.compositions), 'composition')}, {searched} trainings to choose learning rates, {finals} to measure, "
        f"at least {cost:,} tokens in all: a search tries more rates if the best is the first or last, "
        "or none beats no training. "
        f"{_time(duration)}The progress bar shows the remaining time after the first training."
    )
    seconds = duration[0] if duration else None
    return CompareReport(
        name, searched, finals, cost, seconds, compositions=None, diverged=[], open_ends=[], folder=None
    )


def _measure(name: str, recipe: "Recipe", report: "CompareReport", *, as_json: bool) -> "CompareReport":
    """Run the trials, write and show their table, and return the whole report."""
    from dataclasses import replace

    from flows.commands import _terminal
    from flows.execution import flow_runs
    from flows.experiments import results_rendering, results_table, search, trials

    with flow_runs.recorded(title=f"compare · {name}", command=f"ratchet compare {name}") as run:
        results = search.choose(recipe, name, run.id)
        best = search.best_rates(recipe, results)
        results |= trials.execute(recipe, name, search.finals(recipe, best), run.id, results.values())
    folder = results_table.save_figures(name, results_table.figures(recipe, results))
    rows = results_table.rows(recipe, best, results)
    diverged = results_rendering.diverged_lines(results_table.diverged(recipe, best, results), best)
    open_ends = [
        f"{composition}: {rate:g} is the outermost learning rate tried; {further:g} may do better."
        if search.learned(composition, results)
        else f"{composition}: no learning rate tried does better than no training; {further:g} may."
        for composition, rate in best.items()
        if (further := search.beyond(composition, rate, results))
    ]
    table, notes = results_rendering.table(rows), results_rendering.notes()
    base_line = results_rendering.base_line(results_table.base_losses(results, recipe.stage))
    below = [notes, base_line, *diverged, *open_ends]
    (folder / "table.md").write_text("\n".join([table, "", *below]) + "\n", encoding="utf-8")
    written = "Table, plot" if results_rendering.save_plot(rows, folder / "pareto.svg") else "Table"
    if not as_json:
        width = _terminal.columns()
        is_narrow = width is not None and max(map(len, table.splitlines())) > width
        _terminal.show(_terminal.stacked(table) if is_narrow else table)
        for line in ("", *below, "", f"{written} and the figures of each training: {folder}"):
            _terminal.show(line, hanging=0)
    return replace(
        report,
        compositions=[_composition(row) for row in rows],
        diverged=diverged,
        open_ends=open_ends,
        folder=str(folder),
    )


def _composition(row: "Row") -> "ComparedComposition":
    from flows.commands._comparisons import ComparedComposition, Interval

    return ComparedComposition(
        name=row.name,
        rate=row.rate,
        losses=row.losses,
        domain=Interval.of(row.domain),
        gain=Interval.of(row.gain),
        against_first=Interval.of(row.against_first) if row.against_first else None,
        forgetting=Interval.of(row.forgetting) if row.forgetting else None,
        passed=Interval.of(row.passed) if row.passed else None,
        trainable=row.trainable,
        peak_memory_mb=row.peak_memory_mb,
        tokens_per_s=row.tokens_per_s,
        bytes=row.bytes,
    )


def _time(estimate: "tuple[Range, Basis] | None") -> str:
    from flows.execution.cost import estimates

    if estimate is None:
        return ""
    seconds, basis = estimate
    return f"Time: {estimates.as_time(seconds)}, by {estimates.BASIS_IN_WORDS[basis]}. "
