"""`ratchet data search`."""

from typing import Annotated, Literal

import typer

from flows.commands._reports import Report


def search(
    text: Annotated[str, typer.Argument(help="The text to find, in upper or lower case.")],
    kind: Annotated[
        Literal["examples", "rounds", "benchmark", "documents", "quarantine"] | None,
        typer.Option(
            "--in", metavar="KIND", help="Only in these: examples, rounds, benchmark, documents or quarantine."
        ),
    ] = None,
    is_regex: Annotated[bool, typer.Option("--regex", help="A regular expression (RE2).")] = False,
    number: Annotated[int, typer.Option("--rows", "-n", min=1, help="Matches to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Find a text in prompts, responses, calls, tests, documents and refused records.

    Example: ratchet data search "refund" --in examples
    """
    from flows.commands import _terminal
    from flows.commands._data_reports import DataSearchReport
    from flows.project.data import browse

    total, matches = browse.search(text, number, is_regex=is_regex, kind=kind)
    if not as_json:
        for match in matches:
            place = " · ".join(map(_terminal.cell, (match.id, match.split, match.part, match.source)))
            _terminal.show(f"── {place}")
            _terminal.show(_terminal.cell(match.excerpt), indent=2, hanging=0)
        _terminal.show(
            f"{total:,} texts hold it."
            if total == len(matches)
            else f"{total:,} texts hold it; the first {len(matches)}."
        )
    return DataSearchReport(total, matches)
