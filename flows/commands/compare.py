"""`ratchet compare`."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.estimates import Range, Source


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
    from flows import comparison, ledger, standings
    from tasks.io import progress

    name, recipe = comparison.read(names, seeds=seeds, tokens=tokens)
    comparison.check(recipe)
    searched = len(comparison.search(recipe))
    finals = len(recipe.compositions) * recipe.seeds
    cost = searched * (recipe.search_tokens or recipe.tokens) + finals * recipe.tokens
    progress.say(
        f"{name}: {len(recipe.compositions)} compositions, {searched} trainings to choose learning rates, {finals} to measure, "
        f"at least {cost:,} tokens in all: a search goes on where the best rate is the first or last one tried, "
        "or none beats no training. "
        f"{_time(comparison.duration(recipe))}The bar tells the time that is left once the first is done."
    )
    if dry:
        return
    with ledger.parent(title=f"compare · {name}") as run:
        results = comparison.choose(recipe, name, run.id)
        best = comparison.best_rates(recipe, results)
        results |= comparison.execute(recipe, name, comparison.finals(recipe, best), run.id)
    rows = standings.lines(recipe, best, results)
    folder = standings.keep(name, standings.figures(recipe, results))
    open_ends = [
        f"{composition}: {rate:g} is the outermost learning rate tried; {further:g} may do better."
        if comparison.learned(composition, results)
        else f"{composition}: no learning rate tried does better than no training; {further:g} may."
        for composition, rate in best.items()
        if (further := comparison.beyond(composition, rate, results))
    ]
    text = "\n".join([standings.table(rows), standings.of_base(results, recipe.stage), *open_ends])
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    (folder / "pareto.svg").write_text(standings.plot(rows), encoding="utf-8")
    typer.echo(text)
    typer.echo(f"\nTable, plot and the figures of each training: {folder}")


def _time(found: "tuple[Range, Source] | None") -> str:
    from flows import estimates

    if found is None:
        return ""
    seconds, source = found
    return f"Time: {estimates.as_time(seconds)}, by {estimates.WORDS[source]}. "
