"""`ratchet methods`."""

from typing import Annotated

import typer


def methods(
    names: Annotated[list[str] | None, typer.Argument(help="Families or methods; all where none is named.")] = None,
) -> None:
    """List the methods: what each is, its paper, whether it merges, the library class it wraps, what is known of its claims.

    Example: ratchet methods adapters
    """
    from flows import claims
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
            found = registry.describe(family, name)
            merges = {True: "merges", False: "does not merge", None: ""}[found.mergeable]
            facts = [found.paper, merges, found.wraps and f"wraps {found.wraps}", claims.state(name)]
            typer.echo(f"  {name:<16} {found.title}")
            if facts := [fact for fact in facts if fact]:
                typer.echo(f"  {'':<16} {' · '.join(facts)}")
