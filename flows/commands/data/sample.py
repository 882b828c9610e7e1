"""`ratchet data sample`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.project.data.browse import Drawn

SHOWN = 600
"""Characters of a text that are shown."""


def sample(
    kind: Annotated[
        Literal["examples", "rounds", "benchmark", "documents", "quarantine"],
        typer.Option("--in", metavar="KIND", help="One of: examples, rounds, benchmark, documents or quarantine."),
    ] = "examples",
    number: Annotated[int, typer.Option("--rows", "-n", min=1, help="Records to show.")] = 5,
    split: Annotated[
        str | None, typer.Option(help="Only this split; for rounds a round, for quarantine a reason.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only sources whose names contain this text.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the sample.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Show a few records, drawn at random with a seed.

    Example: ratchet data sample --in quarantine --split leak
    """
    from flows.commands import _terminal
    from flows.commands._data_reports import DataSampleReport
    from flows.project.data import browse

    total, drawn = browse.sample(kind, number, seed, split=split, source=source)
    if not as_json:
        for record in drawn:
            _show(record)
        _terminal.show(f"{len(drawn)} of {total:,} {kind}.")
    return DataSampleReport(total, drawn)


def _show(record: "Drawn") -> None:
    from flows.commands import _terminal

    _terminal.show(
        f"── {_terminal.cell(record.id)} · {record.split} · {_terminal.cell(record.about)} · {_terminal.cell(record.source)}"
    )
    for text, mark in ((record.first, ""), (record.last, "→ ")):
        if text:
            _terminal.show_data(mark + text, SHOWN)
