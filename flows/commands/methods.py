"""`ratchet methods`."""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands import _completion
from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.commands._reports import MethodCard


def methods(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Families or methods; all where none is named.", autocompletion=_completion.method_names),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """List the methods, each with its paper.

    Each line says whether the method merges, the library class it wraps, and what is known of its claims.

    Example: ratchet methods adapters
    """
    from flows.commands._reports import MethodsReport
    from tasks import methods as registry

    wanted = set(names or [])
    for name in wanted:
        registry.check(name)
    cards = list(_cards(wanted))
    if not as_json:
        _show(cards)
    return MethodsReport(cards)


def _cards(wanted: set[str]) -> "Iterator[MethodCard]":
    from flows.commands._reports import MethodCard
    from flows.experiments import claims
    from tasks import methods as registry

    for family in registry.families():
        for name in registry.names(family):
            if not wanted or wanted & {family, name}:
                card = registry.describe(family, name)
                yield MethodCard(family, name, card.title, card.paper, card.mergeable, card.wraps, claims.summary(name))


def _show(cards: "list[MethodCard]") -> None:
    from flows.commands import _terminal

    width = _terminal.columns()
    indent = 19 if width is None or width >= 60 else 4
    for family, members in groupby(cards, key=lambda card: card.family):
        _terminal.show(family)
        for card in members:
            merges = {True: "merges", False: "does not merge", None: ""}[card.merges]
            facts = [card.paper, merges, card.wraps and f"wraps {card.wraps}", card.claims]
            _terminal.show(f"  {card.name:<16} {card.title}", hanging=indent, colours={card.name: "cyan"})
            if facts := [fact for fact in facts if fact]:
                _terminal.show(" · ".join(facts), indent=indent, hanging=0)
