"""`ratchet compare-logs`."""

from pathlib import Path
from typing import Annotated

import typer


def compare_logs(
    logs: Annotated[
        list[Path],
        typer.Argument(help="Logs of inspect-ai or lm-evaluation-harness, or lines of scores: files or folders."),
    ],
    group: Annotated[
        str | None, typer.Option(help="A field of the items: those that share its value are not independent.")
    ] = None,
    measure: Annotated[list[str] | None, typer.Option(help="Only this measure; may be given several times.")] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Each log with each, in place of all with the first.")
    ] = False,
    page: Annotated[Path | None, typer.Option(help="Write a page of HTML to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for other programs.")] = False,
) -> None:
    """Compare the scores of other harnesses' logs item by item: intervals, exact tests, corrected for their number, and power.

    Works in any folder.

    Example: ratchet compare-logs small.eval large.eval --group subject --page comparison.html
    """
    import json

    from flows.experiments.logs import comparison, rendering
    from tasks.io.system.files import write_atomically

    report = comparison.compare(logs, group=group, measures=measure or (), all_pairs=all_pairs)
    if page is not None:
        from flows.experiments.logs.page import page as render_page

        write_atomically(page, render_page(report))
    typer.echo(
        json.dumps(rendering.record(report), indent=2, ensure_ascii=False) if as_json else rendering.text(report)
    )
