"""`ratchet compare-logs`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands._reports import Report


def compare_logs(
    logs: Annotated[
        list[Path],
        typer.Argument(help="Logs of inspect-ai or lm-evaluation-harness, or lines of scores: files or folders."),
    ],
    group: Annotated[
        str | None, typer.Option(help="A field of the items; items that share its value are not independent.")
    ] = None,
    measure: Annotated[list[str] | None, typer.Option(help="Only this measure; may be given several times.")] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Compare every two logs, instead of each log with the first.")
    ] = False,
    page: Annotated[Path | None, typer.Option(help="Write a page of HTML to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Compare the scores of other harnesses' logs item by item.

    Gives intervals, exact tests corrected for multiple comparisons, and their power. Works in any folder.

    Example: ratchet compare-logs small.eval large.eval --group subject --page comparison.html
    """
    from flows.commands._comparisons import CompareLogsReport
    from flows.experiments.logs import comparison, rendering
    from tasks.io.system.files import write_atomically

    if page is not None and page.is_dir():
        raise ValueError(f"{page} is a folder, and the page is a file: --page {page / 'comparison.html'}")
    report = comparison.compare(logs, group=group, measures=measure or (), all_pairs=all_pairs)
    if page is not None:
        from flows.experiments.logs.page import page as render_page

        write_atomically(page, render_page(report))
    if not as_json:
        typer.echo(rendering.text(report))
    return CompareLogsReport(**rendering.record(report))
