"""`ratchet forget`."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.registry.forgetting import Reach


def forget(
    what: Annotated[
        str,
        typer.Argument(
            help="The id of an example or document, a data file or folder, or a value of column `source` (or its part before a colon)."
        ),
    ],
    dry: Annotated[bool, typer.Option("--dry", help="Only list what it reached.")] = False,
) -> None:
    """List what an example or a source reached, and exclude it from later runs.

    Adds it to `ingest.exclude` in params.yaml: the next run trains every model again without it, and the evidence of a new model says what
    was excluded. Versions that were trained on it stay until you remove them.

    Example: ratchet forget 3f2a9c10d4e5b687 --dry, or ratchet forget data/raw/chats.jsonl
    """
    from flows.commands import _terminal
    from flows.execution import workspace_lease
    from flows.registry import forgetting

    with workspace_lease.acquired():
        reach = forgetting.find(what)
        _show(reach)
        if dry:
            return
        new = forgetting.exclude(reach.exclude)
    _terminal.show(
        f"ingest.exclude names {', '.join(new)} now. `ratchet run` trains without it."
        if new
        else "ingest.exclude named it already."
    )


def _show(reach: "Reach") -> None:
    from flows.commands import _terminal

    for match in reach.matches:
        _terminal.show(f"{match.table}: {len(match.ids)} rows")
    _terminal.show(f"rounds: {', '.join(reach.rounds) or 'none'}")
    _terminal.show(f"models trained on it: {', '.join(reach.models) or 'none'}")
    if reach.unknown:
        _terminal.show(f"models of which no record says what they were trained on: {', '.join(reach.unknown)}")
    for number, is_reached in reach.versions.items():
        reached = {
            True: "was trained on it",
            False: "was not trained on it",
            None: "not known: what it was trained on is not recorded, or not in DVC's cache",
        }
        _terminal.show(f"version {number}: {reached[is_reached]}")
    for place, contents in reach.caches:
        _terminal.show(f"{place}: {contents}")
