"""`ratchet data show`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.project.data.show import Shown

SHOWN = 4_000
"""Characters of a text that are shown."""


def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="An id, or its first characters, four or more.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Trace one record: source, rewrites, rounds and models, signals, results.

    Results on the gate set are not shown: `ratchet why` has them after the decision.

    Example: ratchet data show 3f2a9c10
    """
    from flows.commands import _terminal
    from flows.commands._data_reports import DataShowReport
    from flows.project.data import show

    record = show.show(name)
    if not as_json:
        _terminal.show_table([(title, _terminal.cell(text)) for title, text in _facts(record) if text])
        for part in record.parts:
            _terminal.show(f"── {_terminal.cell(part.role)}")
            _terminal.show_data(part.text, SHOWN)
    return DataShowReport(record)


def _facts(record: "Shown") -> Iterator[tuple[str, str]]:
    """Yield the known facts about a record, each as a title and a line."""
    yield record.kind, record.id
    yield "source", record.source
    yield "license", record.license
    yield "domain", record.domain
    yield "group", record.group
    yield "split", record.split
    yield "task", record.task
    yield "made from", ", ".join(record.parents)
    yield "rounds", ", ".join(record.rounds)
    yield "trains", ", ".join(record.models)
    for merged in record.merged:
        yield merged.reason, f"{merged.where}: {merged.detail}"
    for refused in record.refused:
        yield f"refused: {refused.reason}", f"{refused.where}: {refused.detail}"
    for place in record.sensitive:
        yield place.action, f"{place.rule} in {place.part}: {place.masked}"
    for step in record.lineage:
        verdict = "accepted" if step.accepted else f"refused: {step.reason}"
        yield (
            f"turn {step.turn}",
            f"{step.operator} by {step.generator}: {', '.join(step.parents)} → {step.result}, {verdict}",
        )
    for signals in record.signals:
        yield (
            f"signals {signals.turn}",
            signals.excluded
            or _figures(
                {
                    "loss before": signals.loss_before,
                    "after": signals.loss_after,
                    "likeness to neighbours": signals.neighbour_similarity,
                    "quality": signals.quality,
                }
            )
            + (f" ({', '.join(signals.flags)})" if signals.flags else ""),
        )
    for result in record.results:
        yield f"result {result.model}", f"{result.measure} {result.value:.3g} {result.outcome}".rstrip()
    for decision in record.decisions:
        yield "review", f"{decision.decision} by {decision.author} {decision.reason}".rstrip()


def _figures(named: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in named.items() if value is not None)
