"""`ratchet compare`."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.execution.estimates import Basis, Range


def compare(
    names: Annotated[list[str], typer.Argument(help="A file of params/compare, or methods to compare.")],
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each with its best learning rate.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of each training.")] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Say what it costs and stop.")] = False,
) -> None:
    """Compare compositions of methods on this workspace's data, at equal tokens, each with its own best learning rate.

    Says first what it costs. Interrupted, it goes on where it stopped. Each trial is a run in MLflow.

    Example: ratchet compare lora loldu s2ft lisa --seeds 3
    """
    from flows.execution import flow_runs
    from flows.experiments import recipes, results_rendering, results_table, search, trials
    from tasks.io.system import progress

    name, recipe = recipes.read(names, seeds=seeds, tokens=tokens)
    recipes.check(recipe)
    searched = len(search.grid(recipe))
    finals = len(recipe.compositions) * recipe.seeds
    cost = searched * (recipe.search_tokens or recipe.tokens) + finals * recipe.tokens
    progress.say(
        f"{name}: {len(recipe.compositions)} compositions, {searched} trainings to choose learning rates, {finals} to measure, "
        f"at least {cost:,} tokens in all: a search goes on where the best rate is the first or last one tried, "
        "or none beats no training. "
        f"{_time(trials.duration(recipe))}The bar tells the time that is left once the first is done."
    )
    if dry:
        return
    with flow_runs.recorded(title=f"compare · {name}") as run:
        results = search.choose(recipe, name, run.id)
        best = search.best_rates(recipe, results)
        results |= trials.execute(recipe, name, search.finals(recipe, best), run.id)
    rows = results_table.rows(recipe, best, results)
    folder = results_table.save_figures(name, results_table.figures(recipe, results))
    open_ends = [
        f"{composition}: {rate:g} is the outermost learning rate tried; {further:g} may do better."
        if search.learned(composition, results)
        else f"{composition}: no learning rate tried does better than no training; {further:g} may."
        for composition, rate in best.items()
        if (further := search.beyond(composition, rate, results))
    ]
    text = "\n".join(
        [
            results_rendering.table(rows),
            results_rendering.base_line(results_table.base_losses(results, recipe.stage)),
            *open_ends,
        ]
    )
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    (folder / "pareto.svg").write_text(results_rendering.plot(rows), encoding="utf-8")
    typer.echo(text)
    typer.echo(f"\nTable, plot and the figures of each training: {folder}")


def _time(estimate: "tuple[Range, Basis] | None") -> str:
    from flows.execution import estimates

    if estimate is None:
        return ""
    seconds, basis = estimate
    return f"Time: {estimates.as_time(seconds)}, by {estimates.BASIS_IN_WORDS[basis]}. "
