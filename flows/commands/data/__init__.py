"""`ratchet data`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.project.data.counts import Counts, ReasonCount


def data(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report | None:
    """Look at the data: counts by source, split and reason of refusal.

    The subcommands show samples, search, trace one record, compare, and run SQL.

    Example: ratchet data, or ratchet data show 3f2a
    """
    if context.invoked_subcommand is not None:
        return None
    from flows.commands import _terminal
    from flows.commands._data_reports import DataReport
    from flows.project.data import counts

    counted = counts.count()
    if not as_json:
        for title, rows in _tables(counted):
            if rows:
                _terminal.show(title)
                _terminal.show_table([("", *row) for row in rows])
    return DataReport(counted)


def _tables(counts: "Counts") -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield the tables of the counts, each with its title."""
    yield (
        "Sources: records read, kept, merged with a duplicate, refused",
        [
            (
                _cell(row.source),
                f"{row.read:,}",
                f"{row.kept:,}",
                f"{row.merged:,}",
                _reasons(row.refused) or "none refused",
            )
            for row in counts.sources
        ],
    )
    yield (
        "Splits: examples",
        [(row.split, f"{row.examples:,}", f"{row.share:.1%}", f"{row.groups:,} groups") for row in counts.splits],
    )
    yield (
        "Domains: examples of train, valid, test, gate",
        [
            (_cell(row.domain), f"{row.train:,}", f"{row.valid:,}", f"{row.test:,}", f"{row.gate:,}")
            for row in counts.domains
        ],
    )
    yield (
        "Corpora: documents, characters",
        [(row.corpus, row.split, f"{row.documents:,}", f"{row.characters:,}") for row in counts.corpora],
    )
    yield "Refused", [(f"{row.records:,}", _cell(row.reason)) for row in counts.reasons]
    yield (
        "Secrets and personal data: places, records",
        [
            (f"{row.rule} {row.action}", f"{row.places:,}", f"{row.records:,}", _cell(row.source))
            for row in counts.sensitive
        ],
    )
    yield (
        "Rounds: examples",
        [(_cell(row.round), f"{row.examples:,}", f"{row.rewritten:,} rewritten") for row in counts.rounds],
    )


def _reasons(refused: "Sequence[ReasonCount]") -> str:
    return ", ".join(f"{row.records:,} {_cell(row.reason)}" for row in refused)


def _cell(text: str) -> str:
    from flows.commands import _terminal

    return _terminal.cell(text)
