"""`ratchet methods`."""

import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands import _completion
from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.commands._reports import MethodCard, SelectorFit

UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def methods(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Families or methods; all where none is named.", autocompletion=_completion.method_names),
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(
            help="A model's folder: instead, show how much of it each selector would train, and the bytes this takes."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="With --fit: the available memory, such as 8GB or 6GiB. Says which selectors fit, the largest first."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """List the methods, each with its paper.

    Each line says whether the method merges, the library class it wraps, and what is known of its claims.

    Example: ratchet methods adapters, or ratchet methods selectors --fit models/base --memory 4GB
    """
    from flows.commands._reports import MethodsReport
    from tasks import methods as registry

    budget = _bytes(memory) if memory else None
    if budget and not fit:
        raise ValueError("--memory is about the training of a model. Name its folder: --fit models/base")
    wanted = set(names or [])
    for name in wanted:
        registry.check(name)
    cards = list(_cards(wanted))
    if fit:
        rows = list(_fit(fit, [card.name for card in cards if card.family == "selectors"], budget))
        if budget:
            rows.sort(key=_place)
        if not as_json:
            _show_fit(rows, budget)
        return MethodsReport(cards, rows, budget)
    if not as_json:
        _show(cards)
    return MethodsReport(cards)


def _bytes(size: str) -> int:
    """Return the bytes of a size such as `8GB`. Raises ValueError if the text is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMGT]i?)B", size.strip())
    if match is None or not float(match[1]):
        raise ValueError(f"--memory {size} is not a size. Write a number above 0 with its unit: 8GB, 500MB, 6GiB.")
    return int(float(match[1]) * UNITS[match[2]])


def _place(row: "SelectorFit") -> tuple[bool, int]:
    """Return the sort key: fitting selectors, the largest first; then those that lack least; last those that cannot train the model."""
    size = sys.maxsize if row.memory_bytes is None else row.memory_bytes
    return (False, -size) if row.fits else (True, size)


def _fit(folder: Path, selectors: list[str], budget: int | None) -> "Iterator[SelectorFit]":
    from flows.commands._reports import SelectorFit
    from tasks import configuration
    from tasks.core.training import Training
    from tasks.forkserver import imports

    with imports.of_models():
        from tasks.engine.training import fit  # torch: not needed to list methods

    if not selectors:
        raise ValueError(
            "--fit is about selectors. Name some of them, or `selectors`: ratchet methods selectors --fit MODEL"
        )
    config = configuration.for_stage("tune", configuration.load()) if configuration.PARAMS.is_file() else None
    sections = config.methods if config else {}
    pack_tokens = config.tune.pack_tokens if config else Training().pack_tokens
    for name in selectors:
        try:
            size = fit.of_selector(folder, name, sections, pack_tokens)
        except ValueError as error:
            yield SelectorFit(name, "", None, None, None, None, None, None, None, None, str(error))
        else:
            fits = None if budget is None else size.memory_bytes <= budget
            yield SelectorFit(name, **asdict(size), fits=fits, reason="")


def _show_fit(rows: "list[SelectorFit]", budget: int | None) -> None:
    from flows.commands import _terminal

    head = ("selector", "over", "trains", "at once", "gradients and AdamW", "memory", "checkpoint", "saved", "")
    table = [
        (
            row.selector,
            row.adapter,
            *map(_number, (row.trains, row.at_once)),
            *map(_megabytes, (row.optimizer_bytes, row.memory_bytes, row.checkpoint_bytes, row.saved_bytes)),
            row.reason or {True: "fits", False: f"does not fit {_megabytes(budget)}", None: ""}[row.fits],
        )
        for row in rows
    ]
    _terminal.show_table([head, *table], {row.selector: "cyan" for row in rows})


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.1f} MB"


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
