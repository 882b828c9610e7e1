"""`ratchet methods`."""

from typing import Annotated

import typer


def methods(
    names: Annotated[list[str] | None, typer.Argument(help="Families or methods; all where none is named.")] = None,
) -> None:
    """List the methods: what each is, its paper, whether it merges, the library class it wraps, what is known of its claims.

    Example: ratchet methods adapters
    """
    from flows.experiments import claims
    from tasks import methods as registry

    wanted = set(names or [])
    for name in wanted:
        registry.check(name)
    for family in registry.families():
        shown = [name for name in registry.names(family) if not wanted or wanted & {family, name}]
        if not shown:
            continue
        typer.echo(family)
        for name in shown:
            card = registry.describe(family, name)
            merges = {True: "merges", False: "does not merge", None: ""}[card.mergeable]
            facts = [card.paper, merges, card.wraps and f"wraps {card.wraps}", claims.summary(name)]
            typer.echo(f"  {name:<16} {card.title}")
            if facts := [fact for fact in facts if fact]:
                typer.echo(f"  {'':<16} {' · '.join(facts)}")
